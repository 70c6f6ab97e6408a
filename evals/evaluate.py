"""Evaluates one checkpoint: held-out prompts of every benchmark, in both modes, through the same engine as training.

    BenchmarkConfig -> held-out prompts -> requests of all benchmarks at once -> scores -> BenchmarkResult

Sampling is the report's (section 4.6): thinking with temperature 0.6, top-p 0.95, top-k 20; non-thinking with 0.7, 0.8,
20. Non-thinking is the hard switch (the empty block is prefilled); `mixed` leaves the mode to the prompts' own flags.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from data.records import Completion, Prompt, Score, UserError
from data.sample_rows import TokenPieces, rollout_row
from evals.statistics import bootstrap_interval
from evals.summary import BenchmarkResult, EvalMode
from rewards.registry import get_task
from rewards.task import make_prompt
from rollout.groups import build_requests
from rollout.policy import GenerationRequest, SamplingConfig

OnProgress = Callable[[int, int], None]


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


BOOTSTRAP_SEED = 20260101


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """One benchmark: prompts of a reward task at these levels, in turn, asked in these modes.

    `stages` are the checkpoints it is measured on, of those that the evaluation names; null: on all of them.
    """

    task: str
    levels: tuple[int, ...] = (0,)
    modes: tuple[EvalMode, ...] = ("thinking", "non_thinking")
    num_prompts: int = 512
    num_samples: int = 1
    stages: tuple[str, ...] | None = None

    def validate(self) -> None:
        task = get_task(self.task)
        for name in ("num_prompts", "num_samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if not self.levels or not self.modes:
            raise UserError("levels, modes: give at least one of each")
        for level in self.levels:
            if not 0 <= level <= task.max_difficulty:
                raise UserError(f"levels: {level} is no level of task {self.task!r}; use 0 to {task.max_difficulty}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What every checkpoint is measured on. `stages` are the checkpoints that are measured. `seed` draws the
    held-out prompts and is not the run's seed.

    `budget_shares` are thinking budgets as shares of the median thinking length, measured on `budget_benchmarks` with
    the last checkpoint.
    """

    benchmarks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    stages: tuple[str, ...] = ("cold_start", "reasoning_rl", "thinking_fusion", "general_rl")
    seed: int = 987654321
    decontamination_ngram: int = 13
    thinking: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.6, top_p=0.95, top_k=20))
    non_thinking: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.7, top_p=0.8, top_k=20))
    budget_shares: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    budget_benchmarks: tuple[str, ...] = ()

    def validate(self) -> None:
        for name in self.budget_benchmarks:
            if name not in self.benchmarks:
                raise UserError(f"budget_benchmarks: {name!r} is none of the benchmarks ({', '.join(self.benchmarks)})")
        if any(share < 0 for share in self.budget_shares):
            raise UserError(f"budget_shares: {self.budget_shares} must be 0 or more")
        if self.decontamination_ngram < 1:
            raise UserError(f"decontamination_ngram: {self.decontamination_ngram} must be 1 or more")

    def benchmarks_at(self, stage: str) -> dict[str, BenchmarkConfig]:
        """What is measured on the checkpoint of `stage`; empty when nothing is."""
        if stage not in self.stages:
            return {}
        return {
            name: benchmark
            for name, benchmark in self.benchmarks.items()
            if benchmark.stages is None or stage in benchmark.stages
        }


def held_out_prompts(config: EvaluationConfig) -> dict[str, list[Prompt]]:
    """The distinct held-out prompts of each benchmark; the same for every run and seed."""
    return {name: _prompts(name, benchmark, config.seed) for name, benchmark in config.benchmarks.items()}


def _prompts(name: str, benchmark: BenchmarkConfig, seed: int) -> list[Prompt]:
    task = get_task(benchmark.task)
    found: dict[str, Prompt] = {}
    for index in range(8 * benchmark.num_prompts + 64):
        if len(found) == benchmark.num_prompts:
            break
        level = benchmark.levels[index % len(benchmark.levels)]
        prompt = make_prompt(task, seed=seed, index=index, difficulty=level)
        found.setdefault(repr((prompt.messages, prompt.tools)), dataclasses.replace(prompt, uid=f"eval/{prompt.uid}"))
    if len(found) < benchmark.num_prompts:
        raise UserError(
            f"evaluation.benchmarks.{name}.num_prompts: {benchmark.num_prompts} distinct prompts were asked for, task "
            f"{benchmark.task!r} has {len(found)} at levels {list(benchmark.levels)}; lower it or add levels"
        )
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Job:
    """One benchmark in one mode, with the requests that belong to it."""

    benchmark: str
    mode: EvalMode
    prompts: tuple[Prompt, ...]
    requests: tuple[GenerationRequest, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of one checkpoint and some rollouts to read."""

    results: tuple[BenchmarkResult, ...]
    rollouts: tuple[dict[str, Any], ...]
    median_thinking_tokens: int
    num_tokens: int


def evaluate(
    stage: str,
    config: EvaluationConfig,
    *,
    roll_out: RollOut,
    tokenizer: Any,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a policy on the benchmarks of its stage in their modes; `roll_out` samples and scores, `seed` seeds the
    sampling."""
    prompts = held_out_prompts(config)
    jobs = [
        _job(stage, name, mode, prompts[name], config, tokenizer, seed, sampling=None)
        for name, benchmark in config.benchmarks_at(stage).items()
        for mode in benchmark.modes
    ]
    return _run(stage, jobs, roll_out, tokenizer, on_progress)


def budget_curve(
    stage: str,
    config: EvaluationConfig,
    median_thinking_tokens: int,
    *,
    roll_out: RollOut,
    tokenizer: Any,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Accuracy under thinking budgets of set shares of the median thinking length, pooled over the budget benchmarks.

    The same sampling seeds serve every budget, so that points differ by the budget alone.
    """
    prompts = held_out_prompts(config)
    points = []
    for share in config.budget_shares:
        budget = round(share * median_thinking_tokens)
        sampling = dataclasses.replace(config.thinking, thinking_budget=budget)
        jobs = [
            _job(stage, name, "thinking", prompts[name], config, tokenizer, seed, sampling=sampling)
            for name in config.budget_benchmarks
        ]
        evaluation = _run(stage, jobs, roll_out, tokenizer, on_progress)
        values = [value for result in evaluation.results for value in result.per_prompt]
        interval = bootstrap_interval(values, seed=BOOTSTRAP_SEED)
        points.append(
            {
                "budget_share": share,
                "budget_tokens": budget,
                "mean": interval.mean,
                "interval": [interval.low, interval.high],
                "n": interval.n,
                "mean_tokens": sum(r.mean_tokens * r.n for r in evaluation.results) / max(1, len(values)),
                "per_prompt": values,
            }
        )
    return points


def _job(
    stage: str,
    name: str,
    mode: EvalMode,
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    tokenizer: Any,
    seed: int,
    *,
    sampling: SamplingConfig | None,
) -> _Job:
    # One call serves all jobs: prompts that two benchmarks of one task share need names of their own.
    same_task = [other for other in config.benchmarks.values() if other.task == config.benchmarks[name].task]
    place = mode if len(same_task) == 1 else f"{name}/{mode}"
    asked = [
        dataclasses.replace(p, uid=f"{p.uid}@{place}", enable_thinking=False) if mode == "non_thinking"
        else dataclasses.replace(p, uid=f"{p.uid}@{place}")
        for p in prompts
    ]  # fmt: skip
    requests = build_requests(
        asked,
        tokenizer=tokenizer,
        group_size=config.benchmarks[name].num_samples,
        sampling=sampling or (config.non_thinking if mode == "non_thinking" else config.thinking),
        run_seed=seed,
        purpose="evaluation",
        want_logprobs=False,
    )
    return _Job(name, mode, tuple(asked), tuple(requests))


def _run(
    stage: str,
    jobs: Sequence[_Job],
    roll_out: RollOut,
    tokenizer: Any,
    on_progress: Callable[[int, int], None] | None,
) -> Evaluation:
    completions, all_scores = roll_out(
        [prompt for job in jobs for prompt in job.prompts],
        [request for job in jobs for request in job.requests],
        on_progress,
    )
    results: list[BenchmarkResult] = []
    rollouts: list[dict[str, Any]] = []
    thinking_lengths: list[int] = []
    pieces = TokenPieces(tokenizer)
    close_id = tokenizer.convert_tokens_to_ids("</think>")
    begin = 0
    for job in jobs:
        mine = completions[begin : begin + len(job.requests)]
        scores = all_scores[begin : begin + len(job.requests)]
        begin += len(job.requests)
        results.append(_result(stage, job, mine, scores))
        rollouts += [_rollout(stage, job, index, mine, scores, pieces) for index in range(min(8, len(mine)))]
        if job.mode == "thinking" and get_task(job.prompts[0].task).area == "reasoning":
            thinking_lengths += [c.token_ids.index(close_id) - 1 for c in mine if close_id in c.token_ids[1:]]
    return Evaluation(
        results=tuple(results),
        rollouts=tuple(rollouts),
        median_thinking_tokens=round(median(thinking_lengths)) if thinking_lengths else 0,
        num_tokens=sum(completion.num_tokens for completion in completions),
    )


def _result(stage: str, job: _Job, completions: Sequence[Completion], scores: Sequence[Score]) -> BenchmarkResult:
    """Mean of the per-prompt means; a failed verifier is counted and leaves the mean."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for completion, score in zip(completions, scores, strict=True):
        if score.reward is not None:
            rewards[completion.prompt_uid].append(score.reward)
    uids = [prompt.uid for prompt in job.prompts if rewards[prompt.uid]]
    per_prompt = tuple(sum(rewards[uid]) / len(rewards[uid]) for uid in uids)
    interval = bootstrap_interval(per_prompt, seed=BOOTSTRAP_SEED)
    return BenchmarkResult(
        stage=stage,
        mode=job.mode,
        benchmark=job.benchmark,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        num_samples=len(completions),
        mean_tokens=sum(completion.num_tokens for completion in completions) / len(completions),
        truncated_share=sum(completion.truncated for completion in completions) / len(completions),
        error_count=sum(score.outcome == "error" for score in scores),
        per_prompt=per_prompt,
        prompt_uids=tuple(uids),
    )


def _rollout(
    stage: str,
    job: _Job,
    index: int,
    completions: Sequence[Completion],
    scores: Sequence[Score],
    pieces: TokenPieces,
) -> dict[str, Any]:
    prompt = next(p for p in job.prompts if p.uid == completions[index].prompt_uid)
    row = rollout_row(
        prompt,
        completions[index],
        scores[index],
        stage=f"evaluation of {stage}",
        step=0,
        pieces=pieces,
        benchmark=job.benchmark,
    )
    return row | {"mode": job.mode}
