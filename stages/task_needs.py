"""What the reward tasks of a run need besides the policy, checked before anything starts.

A task that needs a judge, a preference model or a sandbox must not find out after an hour of training that there is
none, and a task of several turns must not be handed to a stage that only knows single answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.records import UserError
from evals.evaluate import BenchmarkConfig, benchmark_prompts
from evals.generated import benchmark_task
from rewards.registry import get_task
from rewards.sandbox import require_sandbox
from rewards.task import Task
from stages.prompts import PromptMix
from stages.run_config import RunConfig
from stages.services_config import NeedsConfig

SINGLE_TURN_STAGES = ("cold_start", "thinking_fusion")
"""Their data are pairs of one question and one answer."""


@dataclass(frozen=True, slots=True)
class TaskUse:
    """One task at one place of the configuration; `levels` None: rows of a file, which may be of any level."""

    where: str
    task: Task
    levels: tuple[int, ...] | None


def task_uses(config: RunConfig, stages: Sequence[str]) -> list[TaskUse]:
    """Every task that these stages and the evaluation of their checkpoints will score."""
    uses = [use for stage in stages for use in _uses_in(config.of_stage(stage), stage)]
    measured = {name: item for stage in stages for name, item in config.evaluation.benchmarks_at(stage).items()}
    return uses + benchmark_uses(measured, config.evaluation.seed)


def benchmark_uses(benchmarks: Mapping[str, BenchmarkConfig], seed: int) -> list[TaskUse]:
    """Every task that these benchmarks will score; the tasks of a file are those of its rows."""
    uses = []
    for name, benchmark in benchmarks.items():
        where = f"evaluation.benchmarks.{name}"
        if benchmark.task is not None:
            uses.append(TaskUse(where, benchmark_task(benchmark.task), benchmark.levels))
        else:
            tasks = dict.fromkeys(prompt.task for prompt in benchmark_prompts(name, benchmark, seed))
            uses += [TaskUse(where, get_task(task), None) for task in tasks]
    return uses


def _uses_in(settings: Any, where: str) -> Iterator[TaskUse]:
    if isinstance(settings, PromptMix):
        if settings.file is not None:
            yield TaskUse(f"{where}.file", get_task(settings.file.task), None)
            return
        for name, share in settings.tasks.items():
            yield TaskUse(f"{where}.tasks.{name}", get_task(name), None if share.file else share.levels)
    elif dataclasses.is_dataclass(settings):
        for item in dataclasses.fields(settings):
            yield from _uses_in(getattr(settings, item.name), f"{where}.{item.name}")


def needs_judge(use: TaskUse) -> bool:
    """Whether rules alone may leave an answer of this use undecided."""
    task = use.task
    return task.judge_question is not None and (use.levels is None or max(use.levels) >= task.judged_from_level)


def needs_preference_model(use: TaskUse) -> bool:
    return use.task.reward_type == "preference_model"


def check_task_needs(
    config: RunConfig, stages: Sequence[str], *, probe_sandbox: Callable[[], object] = require_sandbox
) -> None:
    """Raise a UserError that names the setting when a task of these stages lacks what it needs."""
    uses = [use for use in task_uses(config, stages) if not use.where.startswith("base.")]  # which scores nothing
    check_uses(uses, config, probe_sandbox=probe_sandbox)


def check_uses(
    uses: Sequence[TaskUse], config: NeedsConfig, *, probe_sandbox: Callable[[], object] = require_sandbox
) -> None:
    """Raise a UserError that names the place when a task in use lacks what it needs."""
    for use in uses:
        stage = use.where.split(".")[0]
        if use.task.environment is not None and stage in SINGLE_TURN_STAGES:
            raise UserError(
                f"{use.where}: task {use.task.name!r} is an episode of several turns, and {stage} trains on single "
                "answers; leave it to base, reasoning_rl and general_rl"
            )
        levels = use.levels or range(use.task.max_difficulty + 1)
        turns = max((use.task.turns_needed[level] for level in levels), default=0) if use.task.turns_needed else 0
        if turns > config.rollout.episodes.max_turns:
            raise UserError(
                f"{use.where}: task {use.task.name!r} takes up to {turns} turns at these levels, and "
                f"rollout.episodes.max_turns is {config.rollout.episodes.max_turns}; raise it, and max_calls to twice "
                "as many"
            )
        if needs_judge(use) and not config.judge.configured:
            below = use.task.judged_from_level
            mend = f", or use levels below {below}, which rules decide" if below else ""
            raise UserError(
                f"{use.where}: task {use.task.name!r} needs a judge; give judge.base_url and judge.model, or "
                f"judge.folder{mend}"
            )
        if needs_preference_model(use) and config.preference.folder is None and config.embedded_preference is None:
            raise UserError(
                f"{use.where}: task {use.task.name!r} needs a preference model; give preference.folder (`fourstage "
                "preference-model` writes one), or embedded_preference.num_pairs=4000 to train one on the way"
            )
    if any(use.task.sandboxed for use in uses):
        probe_sandbox()
