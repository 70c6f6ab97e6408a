"""Imitated engines take the time that they say and hold no more requests than they have slots."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks.imitated_cluster import ImitatedEngine, Imitation, completion_of
from rollout.policy import GenerationRequest, SamplingConfig


def requests(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"p{i}", 0, (1, 2), SamplingConfig(), seed=i) for i in range(count)]


def test_requests_beyond_the_slots_wait_and_all_come_back_once() -> None:
    engine = ImitatedEngine(Imitation(slots=2, step_s=1e-4, mean_tokens=20))
    engine.submit(requests(5))
    finished = []
    while len(finished) < 5:
        part = asyncio.run(engine.advance(0.01))
        finished += part.finished
        assert part.num_sampled == sum(completion.num_tokens for completion in part.finished)
    assert sorted(completion.prompt_uid for completion in finished) == ["p0", "p1", "p2", "p3", "p4"]
    busy_s = engine.busy_slot_s(time.monotonic())
    assert busy_s == pytest.approx(sum(completion.num_tokens for completion in finished) * 1e-4)


def test_two_slots_take_half_the_time_of_one() -> None:
    def seconds(slots: int) -> float:
        engine = ImitatedEngine(Imitation(slots=slots, step_s=1e-3, mean_tokens=50))
        began = time.monotonic()
        engine.submit(requests(6))
        while asyncio.run(engine.advance(0.005)).num_pending:
            pass
        return time.monotonic() - began

    one, two = seconds(1), seconds(2)
    assert one > 0.1  # about 300 tokens of a millisecond
    assert two < 0.8 * one


def test_a_completion_is_a_function_of_its_request_and_names_its_weights() -> None:
    (request,) = requests(1)
    made = completion_of(request, 7, version=3)
    assert made == completion_of(request, 7, version=3)
    assert made.num_tokens == 7
    assert made.oldest_version == 3
