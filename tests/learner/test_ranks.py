"""One rank, several that replicate the model and several that shard it take the same step; real processes over gloo."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.records import TrainingSample
from learner.learner import Learner, LearnerConfig
from learner.ranks import BUCKET_BYTES, Ranks, _buckets
from learner.sharding import whole
from tests.learner.rank_processes import run_on_ranks
from tests.learner.tiny_models import random_samples, save_tiny_model, tiny_tokenizer

SHARDINGS = ("replicate", "full")
CONFIG = LearnerConfig(lr=1e-2, eps=1e-2, max_grad_norm=1e9, microbatch_tokens=24, weight_decay=0.1)
"""A large epsilon makes the update smooth in the gradient: AdamW's is close to a sign, which rounding may turn."""

BATCHES: dict[str, list[TrainingSample]] = {
    "ragged": random_samples([9, 17, 5, 12, 21, 3, 8]),
    "one sample": random_samples([9]),  # ranks beyond the first have nothing to do
    "masked": [*random_samples([9]), *random_samples([20, 22], seed=1, prompt=22)],  # micro-batches without any loss
    "shared prompts": [
        replace(sample, token_ids_T=(*range(40, 50), *sample.token_ids_T[10:]))
        for sample in random_samples([14, 12, 13, 16], prompt=10)
    ],
}


def gradients_of(subject: Learner) -> dict[str, torch.Tensor]:
    return {
        name: whole(parameter.grad).clone()
        for name, parameter in subject.parameters.items()
        if parameter.grad is not None
    }


def steps(ranks: Ranks, model: Path, sharding: str, **config: Any) -> dict[str, Any]:
    """Gradients and metrics of a step on each batch, then weights after two steps."""
    found: dict[str, Any] = {}
    for name, samples in BATCHES.items():
        subject = Learner(model, replace(CONFIG, **config), ranks=ranks, sharding=sharding)  # type: ignore[arg-type]
        result = subject.rl_step(samples)
        found[name] = (gradients_of(subject), dict(result.metrics))
        found[f"{name}: timing"] = dict(result.timing)
    subject = Learner(model, replace(CONFIG, **config), ranks=ranks, sharding=sharding)  # type: ignore[arg-type]
    subject.sft_step(BATCHES["ragged"])
    bad = [replace(sample, advantages_T=(math.nan,) * len(sample.token_ids_T)) for sample in BATCHES["ragged"][:1]]
    found["skipped"] = dict(subject.rl_step([*bad, *BATCHES["ragged"][1:]]).metrics)
    subject.sft_step(BATCHES["ragged"])
    found["weights"] = subject.weights()
    found["logprobs"] = subject.logprobs([sample.token_ids_T for sample in BATCHES["ragged"]])
    return found


def balanced_step(ranks: Ranks, mixture: Path, sharding: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A step of a mixture of experts whose balance loss needs the choices of all ranks in each."""
    config = replace(CONFIG, train_router=True, router_balance_coef=0.5)
    subject = Learner(mixture, config, ranks=ranks, sharding=sharding)  # type: ignore[arg-type]
    metrics = dict(subject.sft_step(BATCHES["ragged"]).metrics)
    gradients = gradients_of(subject)
    subject.sft_step(BATCHES["one sample"])  # ranks beyond the first run along
    subject.weights()
    return gradients, metrics


def save_then_step(ranks: Ranks, model: Path, sharding: str, folder: Path) -> list[list[float]]:
    subject = Learner(model, CONFIG, ranks=ranks, sharding=sharding)  # type: ignore[arg-type]
    subject.sft_step(BATCHES["ragged"])
    subject.save_state(folder / f"{sharding}-{ranks.size}")
    subject.sft_step(BATCHES["ragged"])
    subject.export(folder / f"{sharding}-{ranks.size}-export", tiny_tokenizer())
    return subject.logprobs([sample.token_ids_T for sample in BATCHES["ragged"]])


def load_then_step(ranks: Ranks, model: Path, sharding: str, folder: Path) -> dict[str, list[list[float]]]:
    found = {}
    for state in sorted(path for path in folder.iterdir() if not path.name.endswith("export")):
        subject = Learner(model, CONFIG, ranks=ranks, sharding=sharding)  # type: ignore[arg-type]
        subject.load_state(state)
        subject.sft_step(BATCHES["ragged"])
        found[state.name] = subject.logprobs([sample.token_ids_T for sample in BATCHES["ragged"]])
    return found


def scenario(ranks: Ranks, model: Path, mixture: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {sharding: steps(ranks, model, sharding) for sharding in SHARDINGS}
    found["checkpointing"] = steps(ranks, model, "full", gradient_checkpointing=True, offload_activations=True)
    found["mixture"] = {sharding: balanced_step(ranks, mixture, sharding) for sharding in SHARDINGS}
    found["saved"] = {sharding: save_then_step(ranks, model, sharding, folder) for sharding in SHARDINGS}
    return found


def second_scenario(ranks: Ranks, model: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {sharding: steps(ranks, model, sharding) for sharding in SHARDINGS}
    found["loaded"] = {sharding: load_then_step(ranks, model, sharding, folder) for sharding in SHARDINGS}
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What each rank found, by number of ranks: two save their states, one and three load them."""
    folder = tmp_path_factory.mktemp("ranks")
    model = save_tiny_model(folder / "model")
    states = folder / "states"
    states.mkdir()
    mixture = save_tiny_model(folder / "mixture", "qwen3_moe")
    two = run_on_ranks(2, scenario, folder / "two", model, mixture, states)
    one = run_on_ranks(1, second_scenario, folder / "one", model, states)
    three = run_on_ranks(3, second_scenario, folder / "three", model, states)
    alone = steps(Ranks(), model, "replicate")
    alone_balanced = balanced_step(Ranks(), mixture, "replicate")
    return {0: [{"replicate": alone, "mixture": alone_balanced}], 1: one, 2: two, 3: three}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_gradient_and_metrics_are_those_of_one_rank(
    results: dict[int, list[dict[str, Any]]], size: int, sharding: str, name: str
) -> None:
    expected, expected_metrics = results[0][0]["replicate"][name]
    for rank in results[size]:
        found, metrics = rank[sharding][name]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        for key in ("loss", "grad_norm", "num_tokens", "num_loss_tokens", "entropy", "engine_gap_max"):
            assert metrics[key] == pytest.approx(expected_metrics[key], rel=1e-5), key
        assert metrics == results[size][0][sharding][name][1]  # every rank reports the same


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_weights_and_logprobs_after_two_steps_are_those_of_one_rank(
    results: dict[int, list[dict[str, Any]]], size: int, sharding: str
) -> None:
    expected = results[0][0]["replicate"]
    first, *others = (rank[sharding] for rank in results[size])
    assert first["weights"].keys() == expected["weights"].keys()
    torch.testing.assert_close(first["weights"], expected["weights"], rtol=1e-5, atol=2e-6)
    assert all(other["weights"] == {} for other in others)
    for found in (first, *others):
        torch.testing.assert_close(
            [torch.tensor(row) for row in found["logprobs"]],
            [torch.tensor(row) for row in expected["logprobs"]],
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_ranks_skip_a_step_whose_gradient_is_not_finite_on_one(
    results: dict[int, list[dict[str, Any]]], size: int, sharding: str
) -> None:
    assert [rank[sharding]["skipped"]["step_skipped"] for rank in results[size]] == [1.0] * size


def test_checkpointing_and_offloading_change_no_sharded_gradient(results: dict[int, list[dict[str, Any]]]) -> None:
    for rank in results[2]:
        torch.testing.assert_close(
            rank["checkpointing"]["ragged"][0], results[0][0]["replicate"]["ragged"][0], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_the_balance_loss_of_a_mixture_takes_the_choices_of_all_ranks(
    results: dict[int, list[dict[str, Any]]], sharding: str
) -> None:
    expected, expected_metrics = results[0][0]["mixture"]
    for rank in results[2]:
        found, metrics = rank["mixture"][sharding]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        for key in ("loss", "expert_load_max", "router_balance_loss"):
            assert metrics[key] == pytest.approx(expected_metrics[key], rel=1e-5), key


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("saved", SHARDINGS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_state_of_two_ranks_is_resumed_by_one_and_by_three_sharded_or_not(
    results: dict[int, list[dict[str, Any]]], size: int, saved: str, sharding: str
) -> None:
    expected = results[2][0]["saved"][saved]
    for rank in results[size]:
        found = rank["loaded"][sharding][f"{saved}-2"]
        for row, expected_row in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.tensor(row), torch.tensor(expected_row), rtol=0, atol=1e-5)


def test_every_phase_of_a_step_is_timed(results: dict[int, list[dict[str, Any]]]) -> None:
    timing = results[0][0]["replicate"]["ragged: timing"]
    assert timing.keys() == {"pack_s", "forward_s", "backward_s", "update_s", "learner_peak_bytes"}
    assert all(seconds > 0 for seconds in timing.values())


def test_gradients_travel_in_pieces_of_one_type() -> None:
    tensors = [torch.zeros(10), torch.zeros(BUCKET_BYTES // 4), torch.zeros(3), torch.zeros(2, dtype=torch.float64)]
    assert [[tensor.numel() for tensor in bucket] for bucket in _buckets(tensors)] == [
        [10],
        [BUCKET_BYTES // 4],
        [3],
        [2],
    ]
    assert list(_buckets([])) == []
