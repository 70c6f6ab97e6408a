"""Bits of episodes on the engine, which `test_agent_loop.py` runs in a process of its own with one thread.

With more threads the last bit of a log-probability hangs on the batch, because kernels share the work otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from data.records import Completion
from rollout.agent_loop import run_to_end
from rollout.engine import Engine
from rollout.policy import GenerationRequest
from tests.integration.engine_pairs import Pair, Pairs
from tests.integration.test_agent_loop import episodes, talkative_pair

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def pair(pairs: Pairs) -> Pair:
    return talkative_pair(pairs)


@dataclass
class Rounds:
    """The engine in lockstep: the next turns of all episodes are one batch, which waits for its slowest."""

    engine: Engine
    waiting: list[GenerationRequest] = field(default_factory=list)

    def generate(self, requests: Sequence[GenerationRequest], **options: Any) -> list[Completion]:
        return run_to_end(self, requests, tokenizer=self.engine.tokenizer, **options)

    @property
    def num_pending(self) -> int:
        return len(self.waiting)

    def submit(self, request: GenerationRequest) -> None:
        self.waiting.append(request)

    def step(self) -> list[Completion]:
        batch, self.waiting = self.waiting, []
        return self.engine.generate(batch)


def test_the_process_has_one_thread() -> None:
    assert torch.get_num_threads() == 1


def test_turns_that_wait_for_nobody_have_the_bits_of_turns_in_lockstep(pair: Pair) -> None:
    found = episodes(pair)
    assert found == episodes(pair, policy=Rounds(pair.engine))
    assert len({len(episode.token_ids) for episode in found}) > 8  # of many lengths, so that the batches differ


def test_an_episode_has_the_same_bits_alone(pair: Pair) -> None:
    found = episodes(pair)
    assert [episodes(pair, only=slice(index, index + 1)) for index in range(0, 32, 5)] == [[e] for e in found[::5]]
