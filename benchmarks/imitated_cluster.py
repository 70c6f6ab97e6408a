"""Engines and a learner that take an accelerator's time and compute nothing, behind the product's own interfaces.

Several imitated engines live in one process (200 processes would not fit on a small machine). The pool knows them by
handles with the methods of a rollout worker's actor, and every call and answer goes through Ray as a real one does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from data.records import Completion, StepResult, TrainingSample, VersionSpan
from rollout.policy import GenerationRequest
from rollout.workers import RolloutPool, Slice
from stages.services import Services

ENGINES_PER_PROCESS = 25
WORDS = ("add", "sum", "then", "check", "zero", "wait", "so", "the", "answer", "is")


@dataclasses.dataclass(frozen=True)
class Imitation:
    """How fast an imitated engine is, how many requests it runs at once, and how long completions are on average."""

    slots: int
    step_s: float
    mean_tokens: int


class ImitatedEngine:
    """Requests in flight as times at which they end; each waits for a free slot."""

    def __init__(self, imitation: Imitation) -> None:
        self.imitation, self.version = imitation, 0
        self._waiting: deque[GenerationRequest] = deque()
        self._running: list[tuple[float, int, GenerationRequest, int, int]] = []
        self._serial = itertools.count()
        self._busy_s = 0.0

    def busy_slot_s(self, now: float) -> float:
        """Seconds for which slots have held a request until `now`, those in flight included."""
        left = (max(0.0, end - now) for end, *_ in self._running)
        return self._busy_s + sum(entry[3] for entry in self._running) * self.imitation.step_s - sum(left)

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        self._waiting.extend(requests)
        self._fill(time.monotonic())

    def _fill(self, now: float) -> None:
        while self._waiting and len(self._running) < self.imitation.slots:
            request = self._waiting.popleft()
            # Log-normal with mean 1 and sigma 0.5: half of all within 0.6 to 1.2, one in a hundred above 2.8.
            factor = random.Random(request.seed).lognormvariate(-0.125, 0.5)
            num_tokens = max(1, round(self.imitation.mean_tokens * factor))
            seconds = num_tokens * self.imitation.step_s
            heapq.heappush(self._running, (now + seconds, next(self._serial), request, num_tokens, self.version))

    def take(self) -> Slice:
        finished, now = [], time.monotonic()
        while self._running and self._running[0][0] <= now:
            ended, _, request, num_tokens, version = heapq.heappop(self._running)
            self._busy_s += num_tokens * self.imitation.step_s
            finished.append(completion_of(request, num_tokens, version))
            self._fill(ended)  # a real engine gives the slot away at once, not when it is asked
        return Slice(finished, len(self._running) + len(self._waiting), sum(c.num_tokens for c in finished))

    async def advance(self, max_seconds: float) -> Slice:
        """What is over after `max_seconds`, or when nothing is left."""
        deadline = time.monotonic() + max_seconds
        last = max((entry[0] for entry in self._running), default=0.0)
        await asyncio.sleep(max(0.0, min(deadline, last) - time.monotonic()))
        return self.take()


def completion_of(request: GenerationRequest, num_tokens: int, version: int) -> Completion:
    """A completion of the size of a real one; the text differs, so that every group has rewards that do."""
    rng = random.Random(request.seed)
    words = " ".join(rng.choices(WORDS, k=num_tokens // 2))
    return Completion(
        prompt_uid=request.prompt_uid,
        sample_index=request.sample_index,
        prompt_token_ids=request.prompt_token_ids,
        token_ids=tuple(rng.choices(range(1000), k=num_tokens)),
        logprobs=tuple(-rng.random() for _ in range(num_tokens)),
        forced=(False,) * num_tokens,
        finish_reason="stop",
        weight_versions=(VersionSpan(version, 0, num_tokens),),
        text=words,
    )


class EngineHost:
    """A process with several imitated engines; the body of an asynchronous Ray actor."""

    def __init__(self, imitation: Imitation, count: int) -> None:
        self.engines = [ImitatedEngine(imitation) for _ in range(count)]

    async def ready(self, index: int) -> int:
        return index

    async def begin(self, index: int, requests: Sequence[GenerationRequest], episodes: Any) -> None:
        self.engines[index].submit(requests)

    async def submit(self, index: int, requests: Sequence[GenerationRequest], episodes: Any) -> None:
        self.engines[index].submit(requests)

    async def advance(self, index: int, max_seconds: float) -> Slice:
        return await self.engines[index].advance(max_seconds)

    async def update_weights(self, index: int, weights: Any, version: int) -> int:
        self.engines[index].version = version
        return 0

    async def score(self, index: int, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[0.0] * len(row) for row in rows]

    async def busy_slot_s(self) -> float:
        now = time.monotonic()
        return sum(engine.busy_slot_s(now) for engine in self.engines)


class EngineHandle:
    """One imitated engine as the pool calls it: `handle.method.remote(…)`."""

    def __init__(self, host: Any, index: int) -> None:
        self._host, self._index = host, index

    def __getattr__(self, method: str) -> Any:
        return _Method(getattr(self._host, method), self._index)


@dataclasses.dataclass(frozen=True)
class _Method:
    method: Any
    index: int

    def remote(self, *args: Any) -> Any:
        return self.method.remote(self.index, *args)


class ImitatedPool(RolloutPool):
    """The pool over imitated engines."""

    hosts: list[Any]
    imitation: Imitation

    def _start_workers(self, model_folder: str) -> list[Any]:
        count = self.config.num_workers
        actor = ray.remote(EngineHost).options(num_cpus=0, max_concurrency=10_000)
        sizes = [min(ENGINES_PER_PROCESS, count - first) for first in range(0, count, ENGINES_PER_PROCESS)]
        self.hosts = [actor.remote(self.imitation, size) for size in sizes]
        return [EngineHandle(host, i) for host, size in zip(self.hosts, sizes, strict=True) for i in range(size)]

    def busy_slot_s(self) -> float:
        return float(sum(ray.get([host.busy_slot_s.remote() for host in self.hosts])))

    def close(self) -> None:
        for host in self.hosts:
            ray.kill(host)
        self._workers = []


class LearnerProcess:
    """The imitated learner; the body of a Ray actor."""

    def step(self, samples: Sequence[TrainingSample], seconds: float) -> int:
        began = time.monotonic()
        tokens = sum(len(sample.token_ids_T) for sample in samples)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        return tokens


class ImitatedLearner:
    """A learner in a process of its own, which takes its samples out of the object store and a set time."""

    def __init__(self, learn_s: float) -> None:
        self.learn_s, self.num_steps = learn_s, 0
        self._actor = ray.remote(LearnerProcess).options(num_cpus=0).remote()

    def load(self, folder: Path | str, config: Any, *, seed: int) -> None:
        del folder, config, seed

    def load_state(self, folder: Path | str) -> list[str]:
        del folder
        return []

    def rl_step(self, samples: Sequence[TrainingSample], **options: Any) -> StepResult:
        del options
        tokens = ray.get(self._actor.step.remote(ray.put(list(samples)), self.learn_s))
        self.num_steps += 1
        zero = dict.fromkeys(("loss", "entropy", "step_skipped", "engine_gap_max", "ratio_max"), 0.0)
        return StepResult(self.num_steps, {**zero, "num_tokens": float(tokens), "num_loss_tokens": float(tokens)})

    def weights_reference(self, *, max_lora_rank: int = 0) -> Any:
        del max_lora_rank
        return ray.put({})

    def logprobs(self, rows: Sequence[Sequence[int]], **options: Any) -> list[list[float]]:
        del options
        return [[0.0] * len(row) for row in rows]

    def close(self) -> None:
        ray.kill(self._actor)


class ImitatedServices(Services):
    """Services whose engines and learner are imitated."""

    imitation: Imitation
    learn_s: float

    def policy(self, folder: str | Path) -> RolloutPool:
        if self._pool is None:
            self._start_ray()
            ImitatedPool.imitation = self.imitation
            self._pool = ImitatedPool(folder, self.config.rollout, log_folder=self.run_dir / "logs")
        return self._pool

    @property
    def learner(self) -> Any:
        if self._learner is None:
            self._start_ray()
            self._learner = ImitatedLearner(self.learn_s)  # type: ignore[assignment]
        return self._learner
