"""A steady load on a policy with a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from data.records import Completion, VersionSpan
from rollout.policy import GenerationRequest, SamplingConfig
from serving.load import steady_load


class ClockedPolicy:
    """Finishes every request two ticks after it was submitted; a poll is a tick."""

    capacity = 100

    def __init__(self) -> None:
        self.now = 0.0
        self.running: dict[GenerationRequest, float] = {}
        self.most_at_once = 0

    @property
    def num_in_flight(self) -> int:
        return len(self.running)

    def submit(self, requests: Sequence[GenerationRequest], *, episodes: object) -> None:
        self.running |= dict.fromkeys(requests, self.now + 2.0)
        self.most_at_once = max(self.most_at_once, len(self.running))

    def poll(self, timeout_s: float) -> list[Completion]:
        self.now += 1.0
        over = [request for request, end in self.running.items() if end <= self.now]
        for request in over:
            del self.running[request]
        return [
            Completion(
                request.prompt_uid, 0, (1,), (2, 3), (0.0, 0.0), (False, False), "length", (VersionSpan(0, 0, 2),), ""
            )
            for request in over
        ]


def requests(count: int) -> list[GenerationRequest]:
    return [GenerationRequest(f"p{index}", 0, (1,), SamplingConfig(), seed=0) for index in range(count)]


@pytest.mark.parametrize(("count", "concurrency", "seconds"), [(6, 2, 6.0), (5, 2, 6.0), (3, 8, 2.0), (1, 1, 2.0)])
def test_so_many_requests_are_in_flight_and_each_is_timed(count: int, concurrency: int, seconds: float) -> None:
    policy = ClockedPolicy()
    found = steady_load(policy, requests(count), concurrency=concurrency, clock=lambda: policy.now)
    assert found.latencies_s == (2.0,) * count
    assert (found.num_tokens, found.seconds) == (2 * count, seconds)
    assert policy.most_at_once == min(count, concurrency)
    assert found.tokens_per_s == pytest.approx(2 * count / seconds)


def test_two_requests_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="asked for twice"):
        steady_load(ClockedPolicy(), requests(1) * 2, concurrency=2)
