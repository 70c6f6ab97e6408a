"""What a checkpoint is measured on, and how: held-out prompts of every benchmark, both modes, thinking budgets.

    BenchmarkConfig -> held-out prompts -> Job -> evals.measurement -> BenchmarkResult

Sampling is the report's (section 4.6): thinking with temperature 0.6, top-p 0.95, top-k 20; non-thinking with 0.7, 0.8,
20. Non-thinking is the hard switch (the empty block is prefilled); `mixed` leaves the mode to the prompts' own flags.
Departure: the report's presence penalty of 1.5 in non-thinking mode is not the default (suite `standard` sets it).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from data.records import Mode, Prompt, UserError
from evals.generated import benchmark_task
from evals.measurement import (
    BOOTSTRAP_SEED,
    Job,
    Measurement,
    RollOut,
    benchmark_result,
    measure,
    part_results,
)
from evals.statistics import bootstrap_interval
from evals.summary import BenchmarkResult, EvalMode
from rewards.task import Task, make_prompt
from rollout.groups import build_requests
from rollout.policy import SamplingConfig

DEFAULT_NUM_PROMPTS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """One benchmark: generated prompts of a task at these levels, in turn, or a file; asked in these modes.

    `task` is a reward task, a generated benchmark (`evals.generated`) or the path of a .py file that defines one.
    `file` with `standard` takes the place of a task: a local file of the standard benchmark of that name, with its own
    format and verifier. `num_prompts` null: 512 of a task, all of a file.
    `thinking_budget` bounds the thinking in tokens whenever this benchmark is asked in thinking mode (the report: 8,192
    for RULER, nowhere else), and `max_tokens` takes the place of the mode's own limit. `category` is the line under
    which results are put together; null: the task's area.
    `stages` are the checkpoints of a pipeline it is measured on, of those that the evaluation names; null: on all.
    """

    task: str | None = None
    file: str | None = None
    standard: str | None = None
    levels: tuple[int, ...] = (0,)
    modes: tuple[EvalMode, ...] = ("thinking", "non_thinking")
    num_prompts: int | None = None
    num_samples: int = 1
    thinking_budget: int | None = None
    max_tokens: int | None = None
    category: str | None = None
    stages: tuple[str, ...] | None = None

    def validate(self) -> None:
        if (self.task is None) == (self.file is None):
            raise UserError("task, file: give one of the two, the name of a task or the path of a file")
        if (self.standard is None) != (self.file is None):
            raise UserError("standard: goes with file, and names the benchmark that the file holds")
        for name in ("num_prompts", "num_samples", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}: {value} must be 1 or more")
        if not self.levels or not self.modes:
            raise UserError("levels, modes: give at least one of each")
        if self.thinking_budget is not None and self.thinking_budget < 0:
            raise UserError(f"thinking_budget: {self.thinking_budget} must be 0 or more, or null for no bound")
        if self.task is None:
            if self.levels != (0,):
                raise UserError(f"levels: {list(self.levels)} are for tasks; a file has no levels, leave them out")
            return
        task = benchmark_task(self.task)
        for level in self.levels:
            if not 0 <= level <= task.max_difficulty:
                raise UserError(f"levels: {level} is no level of task {self.task!r}; use 0 to {task.max_difficulty}")


def category_of(benchmark: BenchmarkConfig) -> str | None:
    """The line under which results of a benchmark are put together; None for a file that is given no category."""
    if benchmark.category is not None or benchmark.task is None:
        return benchmark.category
    return benchmark_task(benchmark.task).area


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


def held_out_settings(config: EvaluationConfig) -> dict[str, Any]:
    """What decides which prompts are held out and kept out of training, and nothing of how they are asked.

    Part of every stage's key: with other prompts held out a stage would train on other data, with other sampling, modes
    or budgets in the evaluation it would not.
    """
    names = ("task", "file", "standard", "levels", "num_prompts")
    return {
        "benchmarks": {
            name: {key: getattr(benchmark, key) for key in names} for name, benchmark in config.benchmarks.items()
        },
        "seed": config.seed,
        "ngram": config.decontamination_ngram,
    }


def held_out_prompts(config: EvaluationConfig) -> dict[str, list[Prompt]]:
    """The distinct held-out prompts of each benchmark; the same for every run and seed."""
    return {name: benchmark_prompts(name, benchmark, config.seed) for name, benchmark in config.benchmarks.items()}


def prompts_by_mode(name: str, benchmark: BenchmarkConfig, seed: int) -> dict[EvalMode, list[Prompt]]:
    """`benchmark_prompts` as each mode asks them: the same questions, which a standard benchmark may word by mode."""
    found = benchmark_prompts(name, benchmark, seed)
    may_differ = benchmark.file is not None and "non_thinking" in benchmark.modes
    other = benchmark_prompts(name, benchmark, seed, mode="non_thinking") if may_differ else found
    return {"thinking": found, "mixed": found, "non_thinking": other}


def benchmark_prompts(name: str, benchmark: BenchmarkConfig, seed: int, *, mode: Mode = "thinking") -> list[Prompt]:
    """The distinct prompts of one benchmark; UserError when its task or file has fewer than were asked for.

    `mode` is the one whose wording a file's prompts get, where the benchmark has two.
    """
    if benchmark.task is not None:
        return _generated_prompts(name, benchmark, benchmark_task(benchmark.task), seed)
    # Imported here: readers of files pull in what generated benchmarks do without.
    from evals.benchmarks.registry import load_benchmark

    assert benchmark.file is not None
    assert benchmark.standard is not None
    found = load_benchmark(benchmark.standard, Path(benchmark.file), limit=benchmark.num_prompts, mode=mode)
    if not found or len(found) < (benchmark.num_prompts or 0):
        raise UserError(
            f"evaluation.benchmarks.{name}.num_prompts: {benchmark.num_prompts or 'all'} prompts were asked for, "
            f"{benchmark.file} has {len(found)}; lower it or give another file"
        )
    return [dataclasses.replace(prompt, uid=f"eval/{prompt.uid}") for prompt in found]


def _generated_prompts(name: str, benchmark: BenchmarkConfig, task: Task, seed: int) -> list[Prompt]:
    wanted = DEFAULT_NUM_PROMPTS if benchmark.num_prompts is None else benchmark.num_prompts
    found: dict[str, Prompt] = {}
    for index in range(8 * wanted + 64):
        if len(found) == wanted:
            break
        level = benchmark.levels[index % len(benchmark.levels)]
        prompt = make_prompt(task, seed=seed, index=index, difficulty=level)
        found.setdefault(repr((prompt.messages, prompt.tools)), dataclasses.replace(prompt, uid=f"eval/{prompt.uid}"))
    if len(found) < wanted:
        raise UserError(
            f"evaluation.benchmarks.{name}.num_prompts: {wanted} distinct prompts were asked for, task "
            f"{benchmark.task!r} has {len(found)} at levels {list(benchmark.levels)}; lower it or add levels"
        )
    return list(found.values())


def build_job(
    name: str,
    mode: EvalMode,
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    *,
    tokenizer: Any,
    seed: int,
    budget: int | None = None,
) -> Job:
    """The requests of benchmark `name` in one mode, sampled with `seed`, under a thinking budget in tokens when given.

    The same seed serves every budget, so that results differ by the budget alone.
    """
    benchmark = config.benchmarks[name]
    # One call may serve many jobs: prompts that two benchmarks of one source share need names of their own.
    source = (benchmark.task, benchmark.file)
    num_of_source = sum((other.task, other.file) == source for other in config.benchmarks.values())
    place = mode if num_of_source == 1 else f"{name}/{mode}"
    asked = [
        dataclasses.replace(p, uid=f"{p.uid}@{place}", enable_thinking=False) if mode == "non_thinking"
        else dataclasses.replace(p, uid=f"{p.uid}@{place}")
        for p in prompts
    ]  # fmt: skip
    sampling = job_sampling(config, benchmark, mode, budget)
    requests = build_requests(
        asked,
        tokenizer=tokenizer,
        group_size=benchmark.num_samples,
        sampling=sampling,
        run_seed=seed,
        purpose="evaluation",
        want_logprobs=False,
    )
    return Job(name, mode, seed, sampling.thinking_budget, tuple(asked), tuple(requests))


def job_sampling(
    config: EvaluationConfig, benchmark: BenchmarkConfig, mode: EvalMode, budget: int | None
) -> SamplingConfig:
    """The report's sampling of a mode, with the budget asked for, else with the benchmark's own in thinking mode."""
    sampling = config.non_thinking if mode == "non_thinking" else config.thinking
    if benchmark.max_tokens is not None:
        sampling = dataclasses.replace(sampling, max_tokens=benchmark.max_tokens)
    bound = budget if budget is not None else benchmark.thinking_budget if mode == "thinking" else None
    return sampling if bound is None else dataclasses.replace(sampling, thinking_budget=bound)


def stage_jobs(stage: str, config: EvaluationConfig, *, tokenizer: Any, seed: int) -> list[Job]:
    """All jobs of the checkpoint of `stage`: its benchmarks, each in its modes."""
    return [
        build_job(name, mode, prompts[mode], config, tokenizer=tokenizer, seed=seed)
        for name, benchmark in config.benchmarks_at(stage).items()
        for prompts in [prompts_by_mode(name, benchmark, config.seed)]
        for mode in benchmark.modes
    ]


def median_thinking_tokens(measurements: Sequence[Measurement]) -> int:
    """The median length of finished thinking on reasoning tasks asked without a budget, 0 when there is none."""
    lengths = [length for m in measurements if m.budget is None for length in m.thinking_tokens]
    return round(median(lengths)) if lengths else 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of one checkpoint and some rollouts to read.

    `parts` are the separate scores of benchmarks that have some (`evals.part_scores`), each by its name.
    """

    results: tuple[BenchmarkResult, ...]
    parts: tuple[tuple[str, BenchmarkResult], ...]
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
    on_jobs: Callable[[Sequence[Job]], None] | None = None,
) -> Evaluation:
    """Measure a policy on the benchmarks of its stage in their modes; `roll_out` samples and scores, `seed` seeds the
    sampling. `on_jobs` hears what will be sampled before it is."""
    jobs = stage_jobs(stage, config, tokenizer=tokenizer, seed=seed)
    if on_jobs is not None:
        on_jobs(jobs)
    measured = measure(jobs, roll_out=roll_out, tokenizer=tokenizer, on_progress=on_progress)
    return Evaluation(
        results=tuple(benchmark_result(stage, [measurement]) for measurement in measured),
        parts=tuple(item for measurement in measured for item in part_results(stage, measurement).items()),
        rollouts=tuple({**row, "stage": f"evaluation of {stage}"} for m in measured for row in m.rollouts),
        median_thinking_tokens=median_thinking_tokens(measured),
        num_tokens=sum(measurement.num_tokens for measurement in measured),
    )


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
    prompts = {name: benchmark_prompts(name, config.benchmarks[name], config.seed) for name in config.budget_benchmarks}
    points = []
    for share in config.budget_shares:
        budget = round(share * median_thinking_tokens)
        jobs = [
            build_job(name, "thinking", asked, config, tokenizer=tokenizer, seed=seed, budget=budget)
            for name, asked in prompts.items()
        ]
        measured = measure(jobs, roll_out=roll_out, tokenizer=tokenizer, on_progress=on_progress)
        results = [benchmark_result(stage, [measurement]) for measurement in measured]
        values = [value for result in results for value in result.per_prompt]
        interval = bootstrap_interval(values, seed=BOOTSTRAP_SEED)
        points.append(
            {
                "budget_share": share,
                "budget_tokens": budget,
                "mean": interval.mean,
                "interval": [interval.low, interval.high],
                "n": interval.n,
                "mean_tokens": sum(r.mean_tokens * r.n for r in results) / max(1, len(values)),
                "per_prompt": values,
            }
        )
    return points
