"""A steady load on a policy with a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from data.records import Completion, VersionSpan
from rollout.policy import GenerationRequest, SamplingConfig
from serving.load import steady_load

TICKS = {"first0": 1.0, "first1": 1.0, "first2": 1.0, "first3": 1.0, "late0": 5.0}


class ClockedPolicy:
    """Finishes a request two ticks after it was submitted, or after the ticks that `TICKS` says; a poll is a tick."""

    capacity = 100

    def __init__(self) -> None:
        self.now = 0.0
        self.running: dict[GenerationRequest, float] = {}
        self.most_at_once = 0

    @property
    def num_in_flight(self) -> int:
        return len(self.running)

    def submit(self, requests: Sequence[GenerationRequest], *, episodes: object) -> None:
        self.running |= {request: self.now + TICKS.get(request.prompt_uid, 2.0) for request in requests}
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


def requests(count: int, name: str = "p") -> list[GenerationRequest]:
    return [GenerationRequest(f"{name}{index}", 0, (1,), SamplingConfig(), seed=0) for index in range(count)]


@pytest.mark.parametrize(("count", "concurrency", "seconds"), [(6, 2, 6.0), (5, 2, 6.0), (3, 8, 2.0), (1, 1, 2.0)])
def test_so_many_requests_are_in_flight_and_each_is_timed(count: int, concurrency: int, seconds: float) -> None:
    policy = ClockedPolicy()
    found = steady_load(policy, requests(count), concurrency=concurrency, clock=lambda: policy.now)
    assert found.latencies_s == (2.0,) * count
    assert (found.num_tokens, found.seconds) == (2 * count, seconds)
    assert policy.most_at_once == min(count, concurrency)
    assert found.tokens_per_s == pytest.approx(2 * count / seconds)


def test_a_request_for_one_token_comes_with_each_that_takes_a_finished_ones_place() -> None:
    policy = ClockedPolicy()
    found = steady_load(policy, requests(6), concurrency=2, first_tokens=requests(4, "first"), clock=lambda: policy.now)
    assert found.first_token_s == (1.0,) * 4
    assert found.latencies_s == (2.0,) * 6
    assert (found.num_tokens, found.seconds) == (2 * 6, 6.0)  # they are not among the tokens
    assert policy.most_at_once == 2 + 2


def test_a_first_token_that_is_late_is_waited_for() -> None:
    policy = ClockedPolicy()
    found = steady_load(policy, requests(2), concurrency=1, first_tokens=requests(1, "late"), clock=lambda: policy.now)
    assert (found.first_token_s, policy.num_in_flight) == ((5.0,), 0)


def test_two_requests_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="asked for twice"):
        steady_load(ClockedPolicy(), requests(1) * 2, concurrency=2)
