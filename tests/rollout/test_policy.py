"""Requests: seeds that name them, settings that cannot be trained on, and names that must differ."""

from __future__ import annotations

import pytest

from data.records import UserError
from rollout.policy import GenerationRequest, SamplingConfig, request_seed, require_distinct, sampling_for_training


def test_a_seed_is_the_same_on_every_machine_and_in_every_release() -> None:
    # The first 8 bytes of sha256("0/train/3/math-17/2"), without the sign bit; another value breaks resumption.
    assert request_seed(0, "train", 3, "math-17", 2) == 6178067040709647707
    assert request_seed(1) == 3874038210105081456


def test_every_part_of_the_name_changes_the_seed() -> None:
    names = [(0, "train", 3, "p", 2), (1, "train", 3, "p", 2), (0, "eval", 3, "p", 2), (0, "train", 4, "p", 2),
             (0, "train", 3, "q", 2), (0, "train", 3, "p", 3)]  # fmt: skip
    seeds = {request_seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"top_p": 0.95}, "top_p=0.95"),
        ({"top_k": 20}, "top_k=20"),
        ({"temperature": 0.0}, "temperature"),
        ({"presence_penalty": 1.5}, "presence_penalty=1.5"),
    ],
)
def test_sampling_that_renormalises_or_is_greedy_cannot_be_trained_on(settings: dict[str, float], field: str) -> None:
    with pytest.raises(UserError, match=field) as caught:
        sampling_for_training(SamplingConfig(**settings))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.4])
def test_plain_sampling_at_any_temperature_can_be_trained_on(temperature: float) -> None:
    sampling_for_training(SamplingConfig(temperature=temperature, thinking_budget=5))


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("top_p", 0.0), ("top_p", 1.1),
     ("presence_penalty", 2.1), ("presence_penalty", float("nan")), ("top_k", -1),
     ("max_tokens", 0), ("thinking_budget", -1)],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{field}: {value}"):
        SamplingConfig(**{field: value}).validate()  # type: ignore[arg-type]


def test_greedy_and_budget_zero_are_valid_settings() -> None:
    SamplingConfig(temperature=0.0, thinking_budget=0, max_tokens=1, top_p=1.0).validate()


def test_two_requests_for_the_same_sample_are_refused() -> None:
    requests = [
        GenerationRequest(uid, index, (1,), SamplingConfig(), 0) for uid, index in (("a", 0), ("a", 1), ("b", 0))
    ]
    require_distinct(requests)
    with pytest.raises(ValueError, match="sample 1 of prompt 'a' is asked for twice"):
        require_distinct([*requests, requests[1]])
