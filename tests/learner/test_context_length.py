"""YaRN as the paper writes it, in the fields that transformers and the engine read; lengths past the last position."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from data.model_folder import require_positions as require_engine_positions
from data.records import UserError
from learner.context_length import YarnConfig, stretch_positions
from learner.learner import Learner, LearnerConfig
from learner.model_folder import export_model
from tests.learner.tiny_models import random_samples, save_tiny_model, tiny_tokenizer

FACTOR, ORIGINAL = 4.0, 64


def stretched(folder: Path, **yarn: Any) -> Path:
    """The tiny model of `folder` with YaRN, beside it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    stretch_positions(model.config, YarnConfig(**yarn))
    return export_model(model, tiny_tokenizer(), folder.with_name("stretched"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model", max_position_embeddings=ORIGINAL)


def test_the_exported_config_says_what_transformers_and_the_engine_read(folder: Path) -> None:
    config = json.loads((stretched(folder, factor=FACTOR) / "config.json").read_text())
    theta = config["rope_parameters"].pop("rope_theta")
    assert theta == 10000.0
    assert config["rope_parameters"] == {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    assert config["max_position_embeddings"] == 256


def test_the_report_s_extension_by_hand() -> None:
    config = Qwen3Config(max_position_embeddings=40_960)
    stretch_positions(config, YarnConfig(factor=4.0, original_positions=32_768))
    assert config.max_position_embeddings == 131_072
    assert config.rope_parameters["original_max_position_embeddings"] == 32_768


def paper_frequencies(head_dim: int, theta: float, factor: float, original: int) -> list[float]:
    """Section 3.2: h(theta_d) = (1 - gamma) theta_d / s + gamma theta_d, with the ramp gamma over the dimension
    at which a pair turns beta times within the original length (beta 32 and 1), rounded outwards as in the released
    code."""

    def dimension(turns: float) -> float:
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(dimension(32)), 0), min(math.ceil(dimension(1)), head_dim - 1)
    found = []
    for pair in range(head_dim // 2):
        frequency = theta ** (-2 * pair / head_dim)
        gamma = 1 - min(1.0, max(0.0, (pair - low) / (high - low)))
        found.append((1 - gamma) * frequency / factor + gamma * frequency)
    return found


def test_the_learner_turns_positions_as_the_paper_says(folder: Path) -> None:
    rotary = Learner(stretched(folder, factor=FACTOR), LearnerConfig()).model.model.rotary_emb
    expected = paper_frequencies(head_dim=8, theta=10000.0, factor=FACTOR, original=ORIGINAL)
    torch.testing.assert_close(rotary.inv_freq, torch.tensor(expected), rtol=1e-6, atol=0)
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(4.0) + 1.0)  # section 3.4: sqrt(1 / t)


def test_a_checkpoint_of_a_stretched_model_is_stretched_alike(folder: Path, tmp_path: Path) -> None:
    learner = Learner(stretched(folder, factor=FACTOR), LearnerConfig())
    learner.export(tmp_path / "next", tiny_tokenizer())
    again = Learner(tmp_path / "next", LearnerConfig())
    row = random_samples([200])[0].token_ids_T
    assert again.logprobs([row]) == learner.logprobs([row])


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.0, -4.0, math.nan])
def test_a_factor_that_stretches_nothing_is_refused(factor: float) -> None:
    with pytest.raises(UserError, match=r"^yarn.factor: .* stretches nothing; use a number above 1"):
        YarnConfig(factor=factor).validate()


def test_a_model_that_is_stretched_already_is_refused(folder: Path) -> None:
    config = AutoModelForCausalLM.from_pretrained(stretched(folder, factor=2.0)).config
    with pytest.raises(UserError, match=r"^yarn: the model's positions are scaled already \(rope_type 'yarn'\)"):
        stretch_positions(config, YarnConfig(factor=2.0))


def test_rows_beyond_the_last_position_are_refused_by_learner_and_engine(folder: Path) -> None:
    learner = Learner(folder, LearnerConfig())
    with pytest.raises(UserError, match=r"^samples: one has 65 tokens and the model 64 positions"):
        learner.sft_step(random_samples([10, 65]))
    with pytest.raises(UserError, match=r"one has 65 tokens"):
        learner.logprobs([random_samples([65])[0].token_ids_T])
    learner.sft_step(random_samples([64]))
    require_engine_positions(folder, 64)
    with pytest.raises(UserError, match=r"^rollout.engine.max_model_len: 65 is more than the 64 positions of"):
        require_engine_positions(folder, 65)


# ---------------------------------------------------------------------------------------------- past one micro-batch


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_sample_longer_than_a_micro_batch_gives_the_gradient_of_a_larger_one(
    tmp_path: Path, checkpointing: bool
) -> None:
    model = save_tiny_model(tmp_path / "model")
    samples = random_samples([120, 12, 31, 9, 77], prompt=4)
    large = LearnerConfig(microbatch_tokens=256, gradient_checkpointing=checkpointing, max_grad_norm=1e9)
    subject = {
        name: Learner(model, config)
        for name, config in {
            "large": large,
            "alone": replace(large, microbatch_tokens=32, long_samples="alone"),
        }.items()
    }
    found = {name: learner.rl_step(samples).metrics for name, learner in subject.items()}
    for name, parameter in subject["large"].parameters.items():
        torch.testing.assert_close(subject["alone"].parameters[name].grad, parameter.grad, rtol=0, atol=1e-6)
    assert found["alone"]["loss"] == pytest.approx(found["large"]["loss"], abs=1e-6)
    assert (found["alone"]["num_long_samples"], found["large"]["num_long_samples"]) == (2.0, 0.0)
    assert found["alone"]["num_microbatches"] == 4  # 120, 77, 31 and 12 + 9
    assert subject["alone"].model.is_gradient_checkpointing == checkpointing  # and the others run as they are set


def test_long_samples_are_refused_unless_asked_for(tmp_path: Path) -> None:
    learner = Learner(save_tiny_model(tmp_path / "model"), LearnerConfig(microbatch_tokens=32))
    with pytest.raises(UserError, match=r"32 is less than the 40 tokens of sample 1; .* or long_samples to alone"):
        learner.sft_step(random_samples([8, 40]))
    with pytest.raises(UserError, match=r"^learner.long_samples='split': use refuse or alone"):
        LearnerConfig(long_samples="split").validate()  # type: ignore[arg-type]


def test_the_micro_batch_of_a_long_sample_keeps_no_more_than_its_layers_inputs(tmp_path: Path) -> None:
    """What autograd holds between the passes: with recomputation it hangs on layers x tokens x hidden size."""
    length = 200
    folder = save_tiny_model(tmp_path / "model", num_hidden_layers=4)
    held: dict[str, int] = {}
    for name, config in {
        "plain": LearnerConfig(microbatch_tokens=256),
        "alone": LearnerConfig(microbatch_tokens=32, long_samples="alone"),
    }.items():
        learner = Learner(folder, config)
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            learner.sft_step(random_samples([length]))
        held[name] = sum(sizes.values())
    assert held["alone"] < 0.5 * held["plain"]
