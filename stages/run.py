"""A whole run: the stages in order, each evaluated, then the summary and the report.

What the command line calls. Everything that is finished is reused; everything that was interrupted resumes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.load import config_hash, to_dict
from data.files import read_json, require_free_space, write_json
from data.records import UserError
from evals.evaluate import EvaluationConfig, budget_curve, evaluate
from evals.measurement import BOOTSTRAP_SEED
from evals.summary import BenchmarkResult, BudgetPoint, compare_stages, summary_dict, write_summary
from stages.evaluate_checkpoint import roll_out_of
from stages.metrics_sinks import MetricsSink, open_sinks
from stages.pipeline import MIN_FREE_BYTES, Checkpoint, Pipeline, PlannedStage, plan_stages, prepare_run, start_of
from stages.preference_model import check_preference_folder, train_preference_model
from stages.progress import Progress
from stages.prompts import require_readable_files
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir
from stages.run_report import budget_points, evaluation_file, report_run, result_of_record
from stages.services import Services
from stages.task_needs import check_task_needs, needs_preference_model, task_uses


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which part of the pipeline to run: up to and including `until`, again from `rerun_from`, or `only` one stage."""

    rerun_from: str | None = None
    until: str | None = None
    only: str | None = None
    start: Path | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the run goes to its last stage."""
        return self.until is None and self.only is None

    def stages_of(self, stages: Sequence[str]) -> tuple[str, ...]:
        """The selected stages in order; UserError for a stage that is not in the pipeline."""
        for option, value in (("--from", self.rerun_from), ("--until", self.until), ("--only", self.only)):
            if value is not None and value not in (STAGES if option == "--only" else stages):
                raise UserError(f"{option}: {value!r} is no stage of this run; choose from {', '.join(stages)}")
        if self.rerun_from is not None and self.only is not None:
            raise UserError(f"--from: {self.rerun_from!r} does not go with --only {self.only}; give one of the two")
        if self.until is not None and self.only is not None:
            raise UserError(f"--until: {self.until!r} does not go with --only {self.only}; give one of the two")
        both = self.rerun_from is not None and self.until is not None
        if both and stages.index(self.rerun_from) > stages.index(self.until):
            raise UserError(f"--from: {self.rerun_from!r} comes after --until {self.until}; swap them or drop one")
        if self.start is not None and self.only is None:
            raise UserError("--start: a checkpoint to start from goes with --only STAGE")
        if self.only is not None:
            return (self.only,)
        return tuple(stages[: stages.index(self.until) + 1] if self.until else stages)


def run_pipeline(config: RunConfig, selection: Selection, *, plain: bool | None = None) -> dict[str, Any]:
    """Run the selected stages and evaluations; returns the summary. Holds the run directory's lock meanwhile."""
    run = RunDir(config.run_dir)
    names = selection.stages_of(config.stages)
    if config.promotion is not None and selection.is_whole:
        from stages.promotion import check_promotion

        check_promotion(config.promotion)  # days before its gates are asked
    num_parts = 2 * len(names) + (config.embedded_preference is not None)
    tracked = open_sinks(config.tracking, run_dir=run.path, name=config.name, settings=to_dict(config))
    with run.lock(), Progress(num_parts, plain=plain) as progress, tracked as sinks:
        services = Services(config, run.path, progress)
        try:
            return _run(config, selection, names, run, services, sinks)
        finally:
            services.close()


def promote_finished(config: RunConfig, selection: Selection, *, plain: bool | None = None) -> bool:
    """The last step of a recipe that asks for it: the last checkpoint goes to staging, then through the gates.

    Comes after `run_pipeline`, whose checkpoint is finished whatever comes of this. Returns whether every alias that
    was asked for has, or once had, the checkpoint; holds the run directory's lock meanwhile.
    """
    if config.promotion is None or not selection.is_whole:
        return True
    from stages.promotion import promote_run

    run = RunDir(config.run_dir)
    with run.lock():
        last = plan_stages(config, run, config.stages)[-1]
        lines, refused = promote_run(config.promotion, last.checkpoint_folder, run.path, plain=plain)
    with Progress(1, plain=plain) as progress:
        for line in lines:
            progress.say(line)
        for line in refused:
            progress.warn(line)
    return not refused


def run_all(config: RunConfig, run: RunDir, services: Services) -> dict[str, Any]:
    """Run all stages and evaluations of `config` in services that are there already; returns the summary.

    The caller holds the lock of `run` and closes `services`.
    """
    with open_sinks(config.tracking, run_dir=run.path, name=config.name, settings=to_dict(config)) as sinks:
        return _run(config, Selection(), config.stages, run, services, sinks)


def _run(
    config: RunConfig,
    selection: Selection,
    names: Sequence[str],
    run: RunDir,
    services: Services,
    sinks: Sequence[MetricsSink],
) -> dict[str, Any]:
    start, plan = _planned(config, selection, names, run)
    check_task_needs(config, [planned.name for planned in plan])
    for planned in plan:  # what would stop a stage later on had better stop the run now
        if not planned.checkpoint_folder.exists():
            require_free_space(run.path, MIN_FREE_BYTES)
            require_readable_files(config.of_stage(planned.name))
    prepare_run(config, run, plan)
    if selection.rerun_from is not None:
        _discard(plan[names.index(selection.rerun_from) :])
    pipeline = Pipeline(config, run, services, sinks)
    results: list[BenchmarkResult] = []
    evaluation: dict[str, Any] = {}
    checkpoint: Checkpoint | None = None
    for planned in plan:
        if start is not None:
            _provide_preference_model(config, plan, start, run, services)
        checkpoint = pipeline.make(planned, start, plan)
        start = checkpoint.path
        _provide_preference_model(config, plan, start, run, services)  # which the evaluation may need
        run.assemble([stage.folder for stage in plan])
        if config.evaluation.benchmarks_at(planned.name):
            evaluation = _evaluated(config.evaluation, planned, checkpoint, services, config.seed)
            results += [result_of_record(row) for row in evaluation["results"]]
    points: list[BudgetPoint] = []
    if (
        checkpoint is not None
        and config.evaluation.budget_benchmarks
        and config.evaluation.benchmarks_at(plan[-1].name)
    ):
        curve = _budget(config.evaluation, plan[-1], checkpoint, services, config.seed, evaluation)
        points = budget_points(curve)
    summary = _summary(results, points)
    write_summary(run.path / "summary.json", summary)
    _, page = report_run(run.path)
    services.progress.say(f"report: {page}")
    return summary


def _planned(
    config: RunConfig, selection: Selection, names: Sequence[str], run: RunDir
) -> tuple[Path | None, list[PlannedStage]]:
    if selection.only is None:
        if names[0] != "base":
            raise UserError(
                f"stages: the pipeline starts with {names[0]!r}; start with base, "
                f"or use --only {names[0]} --start CHECKPOINT"
            )
        return None, plan_stages(config, run, names)
    if selection.start is not None:
        start, key = start_of(selection.start)
        return start, plan_stages(config, run, names, start_key=key)
    if selection.only == "base":
        return None, plan_stages(config, run, names)
    if selection.only not in config.stages:
        raise UserError(f"--only: {selection.only!r} is not among this run's stages; give --start CHECKPOINT")
    whole = plan_stages(config, run, config.stages)
    position = [planned.name for planned in whole].index(selection.only)
    parent = whole[position - 1]
    if not parent.checkpoint_folder.exists():
        raise UserError(
            f"--only: the parent stage {parent.name!r} is not finished in {run.path}; "
            f"run it first (--until {parent.name}) or give --start"
        )
    return parent.checkpoint_folder, [whole[position]]


def _discard(plan: Sequence[PlannedStage]) -> None:
    """Forget the outputs of these stages, so that they run again."""
    import shutil

    for planned in plan:
        if planned.folder.exists():
            shutil.rmtree(planned.folder)


def _provide_preference_model(
    config: RunConfig, plan: Sequence[PlannedStage], start: Path, run: RunDir, services: Services
) -> None:
    """Train the embedded preference model from the first checkpoint at hand, once, when a task needs one."""
    needed = any(needs_preference_model(use) for use in task_uses(config, [planned.name for planned in plan]))
    if services.preference_folder is not None or config.embedded_preference is None or not needed:
        return
    settings = to_dict(config.embedded_preference)
    _, key = start_of(start)
    folder = run.shared_path / f"preference_model-{config_hash([settings, key, config.seed])[:12]}"
    if folder.exists():
        check_preference_folder(folder)
        services.progress.say(f"preference model: {folder.name}, trained before, reused")
    else:
        train_preference_model(config.embedded_preference, start, folder, seed=config.seed, progress=services.progress)
    services.preference_folder = str(folder)


# ---- evaluation


def _evaluated(
    config: EvaluationConfig, planned: PlannedStage, checkpoint: Checkpoint, services: Services, seed: int
) -> dict[str, Any]:
    """The evaluation of a stage's checkpoint, cached beside it by content."""
    path = evaluation_file(planned.folder, to_dict(config), checkpoint.key, seed)
    title = f"evaluate {planned.name}"
    if path.exists():
        services.progress.skip_stage(title, "measured before, reused")
        return read_json(path)
    progress = services.progress
    found = evaluate(
        planned.name,
        config,
        roll_out=roll_out_of(services, checkpoint.path),
        tokenizer=services.tokenizer(checkpoint.path),
        seed=seed,
        on_progress=lambda done, tokens: progress.update(done, tokens=tokens),
        on_jobs=lambda jobs: progress.stage(title, total_steps=sum(len(job.requests) for job in jobs)),
    )
    record = {
        "results": [dataclasses.asdict(result) for result in found.results],
        "parts": [{"part": part, "result": dataclasses.asdict(result)} for part, result in found.parts],
        "rollouts": list(found.rollouts),
        "median_thinking_tokens": found.median_thinking_tokens,
        "tokens": found.num_tokens,
    }
    write_json(path, record)
    return record


def _budget(
    config: EvaluationConfig,
    planned: PlannedStage,
    checkpoint: Checkpoint,
    services: Services,
    seed: int,
    evaluation: dict[str, Any],
) -> list[dict[str, Any]]:
    path = evaluation_file(planned.folder, to_dict(config), checkpoint.key, seed, prefix="budget-")
    if path.exists():
        return read_json(path)
    services.progress.say("measuring the thinking-budget curve")
    points = budget_curve(
        planned.name,
        config,
        evaluation["median_thinking_tokens"],
        roll_out=roll_out_of(services, checkpoint.path),
        tokenizer=services.tokenizer(checkpoint.path),
        seed=seed,
    )
    write_json(path, points)
    return points


def _summary(results: Sequence[BenchmarkResult], points: Sequence[BudgetPoint]) -> dict[str, Any]:
    """Results, budget curve, and the paired differences of each stage to each one before it."""
    order = list(dict.fromkeys(result.stage for result in results))
    comparisons = [
        comparison
        for later, stage in enumerate(order)
        for baseline in order[:later]
        for comparison in compare_stages(results, stage=stage, baseline=baseline, seed=BOOTSTRAP_SEED)
    ]
    return summary_dict(results, budget_curve=points, comparisons=comparisons)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, ensure_ascii=False))
