"""Rollout workers: engines in Ray actors, and the pool that makes one policy of them.

A worker advances in short slices, so the controller hears of finished completions while the rest still runs, can show
progress, and can put a weight update between two slices. Weights arrive as one reference into the object store that
every worker reads; the controller never holds them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from data.adapter import AdapterWeights
from data.process_memory import peak_memory_bytes
from data.records import Completion, UserError
from data.weight_arrays import to_tensors
from rollout.agent_loop import EpisodeLoop
from rollout.config import EngineConfig, RolloutConfig
from rollout.engine_trace import EngineTrace
from rollout.policy import EpisodeSetup, GenerationRequest, require_distinct

_SLICE_S = 1.0
"""How long a worker generates before it reports what has finished."""

_SHORT_SLICE_S = 0.1
_SLICES_AHEAD = 2
"""While others than the rollouts keep the controller busy: a weight update waits for the slices that are asked for, and
an engine that has none left is idle."""

_SLICES_PER_S = 200
"""So many answers a second the controller takes at ease; more workers than a tenth of that get longer slices."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What a worker did at one go: completions that are over, how many are not, tokens of the turns that ended."""

    finished: list[Completion]
    num_pending: int
    num_sampled: int


class RolloutWorker:
    """One engine in one process; the body of the Ray actor, usable without Ray."""

    def __init__(self, model_folder: str, config: EngineConfig, log_path: str | None = None) -> None:
        if log_path is not None:
            _write_output_to(log_path)
        from rollout.engine import Engine

        self.engine = Engine(model_folder, config)
        self.loop = EpisodeLoop(self.engine, self.engine.tokenizer)
        self.trace = EngineTrace()

    def ready(self) -> int:
        """The number of the process that holds the engine, once the engine has started."""
        return os.getpid()

    def begin(self, requests: Sequence[GenerationRequest], episodes: Mapping[str, EpisodeSetup]) -> None:
        """Begin a batch; the same batch gives the same bits whatever ran before it."""
        self.engine.reset_prefix_cache()
        self.submit(requests, episodes)

    def submit(self, requests: Sequence[GenerationRequest], episodes: Mapping[str, EpisodeSetup]) -> None:
        """Begin requests beside those in flight."""
        for request in requests:
            self.loop.submit(request, episodes.get(request.prompt_uid))

    def advance(self, max_seconds: float) -> Slice:
        """Run engine steps for `max_seconds` or to the end."""
        deadline = time.monotonic() + max_seconds
        before = self.loop.num_sampled
        finished: list[Completion] = []
        while self.loop.num_pending and time.monotonic() < deadline:
            with self.trace.step():
                finished += self.loop.step()
        return Slice(finished, self.loop.num_pending, self.loop.num_sampled - before)

    def begin_trace(self, path: str, num_steps: int) -> None:
        self.trace.begin(Path(path), num_steps)

    def end_trace(self) -> None:
        self.trace.end()

    def update_weights(self, weights: dict[str, Any], version: int) -> int:
        """Load the weights; returns the most memory that this process has held so far, in bytes."""
        self.engine.update_weights(_readable(weights), version=version)
        return peak_memory_bytes()

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        return self.engine.score(rows)

    def differing_tensors(self, weights: dict[str, Any]) -> list[str]:
        return self.engine.differing_tensors(_readable(weights))


def _write_output_to(log_path: str) -> None:
    """Send this process's output to a file, so that an engine that dies leaves its last lines behind."""
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


class RolloutPool:
    """All rollout workers of a run as one policy (`rollout.policy.Policy`)."""

    def __init__(self, model_folder: str | Path, config: RolloutConfig, *, log_folder: str | Path) -> None:
        self.config = config
        self._log_paths = [str(Path(log_folder) / f"engine-{index}.log") for index in range(config.num_workers)]
        self._workers = self._start_workers(str(model_folder))
        self._in_flight = [0] * config.num_workers
        self._slices: dict[Any, int] = {}  # calls that are not answered yet, and their worker
        self._num_asked = [0] * config.num_workers  # of these, by worker
        self._slice_s = max(_SHORT_SLICE_S, config.num_workers / _SLICES_PER_S)
        self._submitted: dict[Any, tuple[int, int]] = {}  # the same, and how many requests
        self._last_answers = [0.0] * config.num_workers
        self.process_ids: list[int] = []
        self.peak_bytes = 0  # of the engine that held most, as of the last weight update
        self._await_start()

    def _start_workers(self, model_folder: str) -> list[Any]:
        """A handle on each worker's actor."""
        config = self.config
        threads = config.num_threads or max(1, (os.cpu_count() or 1) // config.num_workers)
        actor = ray.remote(RolloutWorker).options(
            num_cpus=0,
            num_gpus=config.num_gpus_per_worker,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
        )
        return [actor.remote(model_folder, config.engine, path) for path in self._log_paths]

    def _await_start(self) -> None:
        references = [worker.ready.remote() for worker in self._workers]
        for index, reference in enumerate(references):
            try:
                self.process_ids.append(ray.get(reference, timeout=self.config.start_timeout_s))
            except ray.exceptions.GetTimeoutError as error:
                self.close()
                raise RuntimeError(
                    f"rollout: engine {index} was not ready within start_timeout_s={self.config.start_timeout_s:g}; "
                    f"{self._cause(index)}"
                ) from error
            except ray.exceptions.RayError as error:
                self.close()
                raise UserError(f"rollout: engine {index} died at start; {self._cause(index, error)}") from error

    def _cause(self, index: int, error: BaseException | None = None) -> str:
        """What an engine said last, in its log and in the error that Ray hands on, in one line."""
        log = Path(self._log_paths[index])
        text = log.read_text(errors="replace") if log.exists() else ""
        own = [line.strip() for line in text.splitlines() if line.strip()][-3:]
        raised = [line.strip() for line in str(error or "").splitlines() if "Error: " in line][-1:]
        if raised and "UserError: " in raised[0]:
            return raised[0].split("UserError: ", 1)[1]  # it says what to mend; a log adds nothing
        last = own + [line for line in raised if line not in own]
        return f"its last lines ({log}): {' | '.join(last) or 'none'}"

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        episodes: Mapping[str, EpisodeSetup] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_finished: Callable[[Sequence[Completion]], None] | None = None,
    ) -> list[Completion]:
        """Sample all `requests`; completions come in their order. Requests of one prompt go to one worker."""
        if self.num_in_flight:
            raise RuntimeError(f"rollout: {self.num_in_flight} requests are in flight; poll() them before generate()")
        require_distinct(requests)
        shards = _shards(requests, len(self._workers))
        done: dict[tuple[str, int], Completion] = {}
        tokens = 0
        setups = dict(episodes or {})
        self._get_all([worker.begin.remote(shard, setups) for worker, shard in zip(self._workers, shards, strict=True)])
        running = {worker.advance.remote(_SLICE_S): index for index, worker in enumerate(self._workers)}
        while running:
            ready, waiting = ray.wait(list(running), num_returns=1, timeout=self.config.answer_timeout_s)
            if not ready:
                raise self._silence(running[waiting[0]])
            index = running.pop(ready[0])
            part: Slice = self._get(ready[0], index)
            done |= {(completion.prompt_uid, completion.sample_index): completion for completion in part.finished}
            tokens += part.num_sampled
            if part.num_pending:
                running[self._workers[index].advance.remote(_SLICE_S)] = index
            if on_finished and part.finished:
                on_finished(part.finished)
            if on_progress:
                on_progress(len(done), tokens)
        return [done[request.prompt_uid, request.sample_index] for request in requests]

    @property
    def capacity(self) -> int:
        return self.config.num_workers * self.config.engine.max_num_seqs

    @property
    def num_in_flight(self) -> int:
        return sum(self._in_flight)

    def submit(self, requests: Sequence[GenerationRequest], *, episodes: Mapping[str, EpisodeSetup]) -> None:
        """Begin requests beside those in flight (`ContinuousPolicy`): each prompt's on the worker that has the fewest.

        A worker gets all of its requests in one call, for a step may begin thousands of groups. The call is not waited
        for: it is carried out after the slices that are asked for, and `poll` raises what it raises.
        """
        shares: dict[int, list[GenerationRequest]] = {}
        for _, group in itertools.groupby(requests, key=lambda request: request.prompt_uid):
            index = min(range(len(self._workers)), key=self._in_flight.__getitem__)
            if not self._in_flight[index]:
                self._last_answers[index] = time.monotonic()  # it was not asked for any
            share = shares.setdefault(index, [])
            num_before = len(share)
            share.extend(group)
            self._in_flight[index] += len(share) - num_before
        for index, share in shares.items():
            setups = {
                request.prompt_uid: episodes[request.prompt_uid] for request in share if request.prompt_uid in episodes
            }
            self._submitted[self._workers[index].submit.remote(share, setups)] = (index, len(share))
            self._ask_for_slices(index)

    def poll(self, timeout_s: float) -> list[Completion]:
        """Completions that are over by now (`ContinuousPolicy`)."""
        if not self._slices:
            return []
        ray.wait(list(self._slices), num_returns=1, timeout=timeout_s)
        for reference in _answered(self._submitted):
            index, num_requests = self._submitted.pop(reference)
            self._in_flight[index] -= num_requests
            self._get(reference, index)
            self._in_flight[index] += num_requests
        finished: list[Completion] = []
        for reference in _answered(self._slices):
            index = self._slices.pop(reference)
            self._num_asked[index] -= 1
            part: Slice = self._get(reference, index)
            self._in_flight[index] -= len(part.finished)
            self._last_answers[index] = time.monotonic()
            finished += part.finished
        for index, num_asked in enumerate(self._num_asked):
            if num_asked and time.monotonic() - self._last_answers[index] > self.config.answer_timeout_s:
                raise self._silence(index)
            self._ask_for_slices(index)
        return finished

    def _ask_for_slices(self, index: int) -> None:
        while self._in_flight[index] and self._num_asked[index] < _SLICES_AHEAD:
            self._slices[self._workers[index].advance.remote(self._slice_s)] = index
            self._num_asked[index] += 1

    def update_weights(self, weights: Any, *, version: int) -> None:
        """Give every worker `weights` (a dictionary or a reference to one) under the name `version`."""
        held = self._get_all([worker.update_weights.remote(weights, version) for worker in self._workers])
        self.peak_bytes = max(held)

    def begin_trace(self, path: str | Path, *, num_steps: int) -> None:
        """Record the next `num_steps` steps of the first engine and write them to `path` (`.json.gz`)."""
        self._get(self._workers[0].begin_trace.remote(str(path), num_steps), 0)

    def end_trace(self) -> None:
        """Write what was recorded, when the engine took fewer steps than were asked for."""
        self._get(self._workers[0].end_trace.remote(), 0)

    def score(self, rows: Sequence[Sequence[int]]) -> list[list[list[float]]]:
        """Each worker's log-probabilities of `rows` at temperature 1: [worker][row][token]."""
        return self._get_all([worker.score.remote(rows) for worker in self._workers])

    def differing_tensors(self, weights: Any) -> list[str]:
        """Names of the tensors with which any worker computes something else than `weights` say."""
        found = self._get_all([worker.differing_tensors.remote(weights) for worker in self._workers])
        return sorted({name for names in found for name in names})

    def _get_all(self, references: Sequence[Any]) -> list[Any]:
        """The answers of all workers, one reference each, in their order."""
        return [self._get(reference, index) for index, reference in enumerate(references)]

    def _get(self, reference: Any, index: int) -> Any:
        try:
            return ray.get(reference, timeout=self.config.answer_timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            raise self._silence(index) from error
        except ray.exceptions.ActorDiedError as error:
            raise RuntimeError(f"rollout: engine {index} died; {self._cause(index, error)}") from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise

    def _silence(self, index: int) -> RuntimeError:
        return RuntimeError(
            f"rollout: engine {index} did not answer within answer_timeout_s={self.config.answer_timeout_s:g}; "
            f"{self._cause(index)}"
        )

    def close(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ray.exceptions.RayError):  # it may be dead already, which is what is wanted
                ray.kill(worker)
        self._workers = []


def _readable(weights: Any) -> Any:
    """Weights as the engine takes them, whichever way they came."""
    return weights if isinstance(weights, AdapterWeights) else to_tensors(weights)


def _answered(references: Mapping[Any, Any]) -> list[Any]:
    return ray.wait(list(references), num_returns=len(references), timeout=0)[0] if references else []


def _shards(requests: Sequence[GenerationRequest], num_workers: int) -> list[list[GenerationRequest]]:
    """Requests dealt to workers prompt by prompt, in turn, so that a group stays together."""
    order: dict[str, int] = {}
    shards: list[list[GenerationRequest]] = [[] for _ in range(num_workers)]
    for request in requests:
        worker = order.setdefault(request.prompt_uid, len(order) % num_workers)
        shards[worker].append(request)
    return shards
