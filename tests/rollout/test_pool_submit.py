"""Where the pool sends requests that are begun beside others; its workers are handles that note what they are asked."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from rollout.config import EngineConfig, RolloutConfig
from rollout.policy import GenerationRequest, SamplingConfig
from rollout.workers import RolloutPool


class Handle:
    """A worker's actor that answers nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self._serial = itertools.count()

    def __getattr__(self, method: str) -> Any:
        return _Method(self, method)


class _Method:
    def __init__(self, handle: Handle, name: str) -> None:
        self.handle, self.name = handle, name

    def remote(self, *args: Any) -> Any:
        self.handle.asked.append((self.name, args))
        return object()


class Pool(RolloutPool):
    def _start_workers(self, model_folder: str) -> list[Any]:
        return [Handle() for _ in range(self.config.num_workers)]

    def _await_start(self) -> None: ...


def pool_of(num_workers: int) -> Pool:
    return Pool("model", RolloutConfig(num_workers=num_workers, engine=EngineConfig()), log_folder=Path("logs"))


def group(uid: str, size: int = 2) -> list[GenerationRequest]:
    return [GenerationRequest(uid, index, (1, 2), SamplingConfig(), seed=index) for index in range(size)]


def submitted(handle: Handle) -> list[list[str]]:
    return [[request.prompt_uid for request in args[0]] for name, args in handle.asked if name == "submit"]


def test_a_worker_gets_all_its_requests_in_one_call_and_a_prompt_stays_together() -> None:
    pool = pool_of(3)
    pool.submit([request for uid in "abcdefg" for request in group(uid)], episodes={})
    shares = [submitted(handle) for handle in pool._workers]
    assert shares == [[["a", "a", "d", "d", "g", "g"]], [["b", "b", "e", "e"]], [["c", "c", "f", "f"]]]
    assert pool.num_in_flight == 14
    pool.submit(group("h", size=4) + group("i"), episodes={})  # those with the fewest first
    assert [submitted(handle)[1:] for handle in pool._workers] == [[], [["h"] * 4], [["i", "i"]]]
    # An engine is asked for slices after its requests, and for no more of them the second time.
    assert [[name for name, _ in handle.asked] for handle in pool._workers] == [
        ["submit", "advance", "advance"],
        ["submit", "advance", "advance", "submit"],
        ["submit", "advance", "advance", "submit"],
    ]


def test_each_worker_gets_the_episodes_of_its_own_prompts() -> None:
    pool = pool_of(2)
    setups: dict[str, Any] = {"a": "episode of a", "c": "episode of c"}
    pool.submit([request for uid in "abc" for request in group(uid)], episodes=setups)
    first, second = ([args[1] for name, args in handle.asked if name == "submit"] for handle in pool._workers)
    assert (first, second) == ([setups], [{}])
