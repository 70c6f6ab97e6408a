"""One benchmark in one mode with one seed: the unit in which an evaluation is sampled, kept and resumed.

    Job (prompts + requests) -> RollOut -> completions + scores -> Measurement -> BenchmarkResult, evals.pooling

A pipeline runs the jobs of all benchmarks in one call, so that engines stay full; `fourstage eval` runs one job after
the other and writes each measurement when it is there. A request is seeded by its prompt and sample, so that both give
the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data.records import Completion, Prompt, Score
from data.sample_rows import TokenPieces, rollout_row
from evals.part_scores import part_scores
from evals.statistics import bootstrap_interval
from evals.summary import BenchmarkResult, EvalMode
from rewards.registry import get_task
from rewards.task import score_request
from rollout.policy import GenerationRequest

OnProgress = Callable[[int, int], None]

BOOTSTRAP_SEED = 20260101
ROLLOUTS_KEPT = 8
"""Completions of each measurement that are kept to read."""


class RollOut(Protocol):
    """Samples requests, in several turns where the task has an environment, and scores what comes back."""

    def __call__(
        self,
        prompts: Sequence[Prompt],
        requests: Sequence[GenerationRequest],
        on_progress: OnProgress | None,
    ) -> tuple[Sequence[Completion], Sequence[Score]]:
        """Completions and scores in the order of `requests`."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One benchmark in one mode with one seed, under a thinking budget in tokens or none, with its requests."""

    benchmark: str
    mode: EvalMode
    seed: int
    budget: int | None
    prompts: tuple[Prompt, ...]
    requests: tuple[GenerationRequest, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """What is kept of a completion: its prompt, its reward (None: the verifier failed), and its length in tokens.

    `parts` are separate scores in [0, 1] of what makes an answer right (`evals.part_scores`), empty for most tasks.
    """

    uid: str
    reward: float | None
    num_tokens: int
    truncated: bool
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The samples of a job, those of one prompt next to each other.

    `domains` names the kind of each prompt by its uid. `thinking_tokens` are the lengths of finished think blocks,
    measured where reasoning tasks are asked in thinking mode. `rollouts` are some completions to read.
    """

    benchmark: str
    mode: EvalMode
    seed: int
    budget: int | None
    samples: tuple[Sample, ...]
    domains: Mapping[str, str]
    thinking_tokens: tuple[int, ...]
    rollouts: tuple[Mapping[str, Any], ...]

    @property
    def num_tokens(self) -> int:
        return sum(sample.num_tokens for sample in self.samples)

    @property
    def rewards(self) -> dict[str, list[float | None]]:
        """The rewards of each prompt's samples, prompts in the order in which they were asked."""
        by_prompt: dict[str, list[float | None]] = {}
        for sample in self.samples:
            by_prompt.setdefault(sample.uid, []).append(sample.reward)
        return by_prompt


def measure(
    jobs: Sequence[Job], *, roll_out: RollOut, tokenizer: Any, on_progress: OnProgress | None = None
) -> list[Measurement]:
    """Sample and score the requests of all jobs in one call."""
    completions, scores = roll_out(
        [prompt for job in jobs for prompt in job.prompts],
        [request for job in jobs for request in job.requests],
        on_progress,
    )
    close_id, pieces = tokenizer.convert_tokens_to_ids("</think>"), TokenPieces(tokenizer)
    measured, begin = [], 0
    for job in jobs:
        end = begin + len(job.requests)
        measured.append(_measurement(job, completions[begin:end], scores[begin:end], close_id, pieces))
        begin = end
    return measured


def _measurement(
    job: Job, completions: Sequence[Completion], scores: Sequence[Score], close_id: int, pieces: TokenPieces
) -> Measurement:
    prompts = {prompt.uid: prompt for prompt in job.prompts}
    samples = []
    for completion, score in zip(completions, scores, strict=True):
        prompt = prompts[completion.prompt_uid]
        parts = part_scores(score_request(prompt, completion)) if score.outcome != "error" else {}
        samples.append(Sample(prompt.uid, score.reward, completion.num_tokens, completion.truncated, parts))
    thinking_tokens: list[int] = []
    if job.mode == "thinking" and get_task(job.prompts[0].task).area == "reasoning":
        thinking_tokens = [c.token_ids.index(close_id) - 1 for c in completions if close_id in c.token_ids[1:]]
    return Measurement(
        benchmark=job.benchmark,
        mode=job.mode,
        seed=job.seed,
        budget=job.budget,
        samples=tuple(samples),
        domains={prompt.uid: prompt.domain for prompt in job.prompts},
        thinking_tokens=tuple(thinking_tokens),
        rollouts=tuple(
            _rollout(job, prompts[completion.prompt_uid], completion, score, pieces)
            for completion, score in zip(completions[:ROLLOUTS_KEPT], scores[:ROLLOUTS_KEPT], strict=True)
        ),
    )


def _rollout(job: Job, prompt: Prompt, completion: Completion, score: Score, pieces: TokenPieces) -> dict[str, Any]:
    row = rollout_row(prompt, completion, score, stage="evaluation", step=0, pieces=pieces, benchmark=job.benchmark)
    return row | {"mode": job.mode}


def benchmark_result(stage: str, measurements: Sequence[Measurement]) -> BenchmarkResult:
    """Mean of the per-prompt means over one or several seeds of one benchmark and mode.

    A failed verifier is counted and leaves the mean. Raises ValueError when no sample was scored or the measurements
    are not of one benchmark and mode.
    """
    first = measurements[0]
    if {(m.benchmark, m.mode, m.budget) for m in measurements} != {(first.benchmark, first.mode, first.budget)}:
        raise ValueError("measurements: all must be of one benchmark, mode and budget")
    samples = [sample for measurement in measurements for sample in measurement.samples]
    rewards: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.reward is not None:
            rewards[sample.uid].append(sample.reward)
    uids = [uid for uid in first.rewards if rewards[uid]]
    per_prompt = tuple(sum(rewards[uid]) / len(rewards[uid]) for uid in uids)
    interval = bootstrap_interval(per_prompt, seed=BOOTSTRAP_SEED)
    return BenchmarkResult(
        stage=stage,
        mode=first.mode,
        benchmark=first.benchmark,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        num_samples=len(samples),
        mean_tokens=sum(sample.num_tokens for sample in samples) / len(samples),
        truncated_share=sum(sample.truncated for sample in samples) / len(samples),
        error_count=sum(sample.reward is None for sample in samples),
        per_prompt=per_prompt,
        prompt_uids=tuple(uids),
    )


def part_results(stage: str, measurement: Measurement) -> dict[str, BenchmarkResult]:
    """The separate scores of a measurement by name, each over the completions that have it; empty for most tasks."""
    names = sorted({name for sample in measurement.samples for name in sample.parts})
    return {
        name: benchmark_result(
            stage,
            [
                dataclasses.replace(
                    measurement,
                    samples=tuple(
                        dataclasses.replace(sample, reward=sample.parts[name])
                        for sample in measurement.samples
                        if name in sample.parts
                    ),
                )
            ],
        )
        for name in names
    }


def measurement_record(measurement: Measurement) -> dict[str, Any]:
    """The measurement as JSON."""
    return dataclasses.asdict(measurement)


def measurement_of_record(record: Mapping[str, Any]) -> Measurement:
    """The measurement that `measurement_record` wrote."""
    values = dict(record)
    values["samples"] = tuple(Sample(**sample) for sample in values["samples"])
    values["thinking_tokens"] = tuple(values["thinking_tokens"])
    values["rollouts"] = tuple(values["rollouts"])
    return Measurement(**values)
