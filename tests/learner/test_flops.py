"""Model FLOPs against numbers worked out by hand, and against a counter of the products that a real model runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from learner.flops import ModelFlops
from learner.learner import Learner, LearnerConfig
from tests.learner.tiny_models import plain_model, random_samples, save_tiny_model

DENSE = SimpleNamespace(
    hidden_size=8, num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=16, num_hidden_layers=3,
    vocab_size=10,
)  # fmt: skip
MOE = SimpleNamespace(**vars(DENSE), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6)


def test_a_dense_model_by_hand() -> None:
    flops = ModelFlops.of(DENSE)
    # Weights of a layer: q and o 8x8 each, k and v 8x4 each; gate, up and down 8x16 each. Two operations a weight.
    assert flops.per_token == 2 * 3 * ((64 + 64 + 32 + 32) + 3 * 128) == 3456
    # A head: scores and mixing take 2 L^2 d each, of which the causal mask leaves half. Two heads, d 4, three layers.
    assert flops.per_squared_length == 3 * 2 * 2 * 4 == 48
    assert flops.per_prediction == 2 * 8 * 10
    # Samples of 4 and 5 tokens with a prompt of 2 in common: 7 distinct ones, 5 predictions.
    assert flops.forward(7, [4, 5], 5) == 3456 * 7 + 48 * (16 + 25) + 160 * 5 == 26960
    assert flops.train(7, [4, 5], 5) == 3 * 26960


def test_a_mixture_of_experts_by_hand() -> None:
    flops = ModelFlops.of(MOE)
    # Of the four experts of 3 x 8x6 a token is sent to two; the router is 8x4.
    assert flops.per_token == 2 * 3 * ((64 + 64 + 32 + 32) + 2 * 3 * 48 + 32) == 3072
    assert flops.per_squared_length == ModelFlops.of(DENSE).per_squared_length


def test_a_config_without_head_dim_or_key_value_heads_has_as_many_as_heads() -> None:
    plain = SimpleNamespace(**{**vars(DENSE), "head_dim": None, "num_key_value_heads": None})
    assert ModelFlops.of(plain).per_token == 2 * 3 * (4 * 64 + 3 * 128)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_the_count_is_that_of_the_products_which_a_model_runs(tmp_path: Path, family: str) -> None:
    model = plain_model(save_tiny_model(tmp_path / "model", family))
    length = 12
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.arange(length)[None])
    flops = ModelFlops.of(model.config)
    # Eager attention computes the masked half as well.
    whole_attention = 2 * flops.per_squared_length * length**2
    expected = flops.per_token * length + whole_attention + flops.per_prediction * length
    assert counter.get_total_flops() == expected


def test_a_step_reports_forward_and_backward_of_its_samples(tmp_path: Path) -> None:
    learner = Learner(save_tiny_model(tmp_path / "model"), LearnerConfig(microbatch_tokens=32, share_prompts=False))
    samples = random_samples([9, 17, 12], prompt=3)
    metrics = learner.sft_step(samples).metrics
    assert metrics["model_flops"] == learner.flops.train(38, [9, 17, 12], 6 + 14 + 9)
