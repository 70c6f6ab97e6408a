"""`fourstage ablate`: makes the runs of an ablation one after the other in one set of services, then the tables.

    ABLATION/.lock, ablation.json            the plan as it stood
    ABLATION/stages/<stage>-<key>/           every stage output once, whichever variants have it; with `stages_of` they
                                             lie in that folder instead
    ABLATION/variants/<variant>-seed<n>/     each run with its configuration, metrics, summary and report
    ABLATION/tables/variants.*               the variants side by side: md, csv, json, tex, and as a figure: png
    ABLATION/tables/stages-<variant>.*       the stages of one variant side by side

A stage is made, resumed or reused as in any run, so an interrupted ablation goes on with the same command. A variant
that cannot be finished, for its policy collapsed or its filters left nothing, is named, and the others go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from configs.load import to_dict
from data.files import atomic_write, read_json, write_json
from data.records import UserError
from evals.ablation import AblationTable, Column, Cost, Measured, ablation_table, with_baselines
from evals.ablation_figure import figure_png, scores_figure
from evals.ablation_formats import FORMATS
from evals.evaluate import BenchmarkConfig, category_of
from evals.measurement import BOOTSTRAP_SEED
from evals.summary import BenchmarkResult
from learner.checkpoint import read_manifest
from rewards.registry import get_task
from stages.ablation_config import AblationConfig, PlannedRun, plan_ablation, plan_summary, planned_outputs
from stages.metrics_sinks import require_trackers
from stages.pipeline import PlannedStage
from stages.progress import Progress, format_duration
from stages.run import run_all
from stages.run_config import RunConfig
from stages.run_dir import RunDir
from stages.run_report import evaluation_file, result_of_record
from stages.services import Services
from stages.task_needs import check_task_needs

MakeServices = Callable[[RunConfig, Path, Progress], Any]
"""What starts the services that all runs share; a fake in tests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an ablation ended: its tables by file name without ending, and why runs were not finished, by their title."""

    tables: Mapping[str, AblationTable]
    failed: Mapping[str, str]


def run_ablation(
    config: AblationConfig, *, plain: bool | None = None, make_services: MakeServices = Services
) -> Outcome:
    """Make every run of the ablation that is not there yet, then write the tables of those that are."""
    plan = plan_ablation(config)
    for planned in plan:  # what would stop a variant later on had better stop the ablation now
        check_task_needs(planned.config, planned.config.stages)
        require_trackers(planned.config.tracking)
    folder = Path(config.run_dir)
    num_parts = sum(2 * len(run.stages) + (run.config.embedded_preference is not None) for run in plan)
    with _locked({folder.resolve(), config.stages_home.path.resolve()}), Progress(num_parts, plain=plain) as progress:
        write_json(folder / "ablation.json", [output.row() for output in planned_outputs(plan)])
        progress.say(f"ablation {config.name}: {plan_summary(planned_outputs(plan))}")
        services = make_services(plan[0].config, folder, progress)
        try:
            failed = _Runs(plan, services, progress).make_all()
        finally:
            services.close()
        tables = ablation_tables(config, [run for run in plan if run.title not in failed])
        for name, table in tables.items():
            write_table(folder / "tables", name, table)
        if (variants := tables.get("variants")) is not None and variants.rows:
            atomic_write(folder / "tables" / "variants.png", figure_png(scores_figure(variants)))
        progress.say(f"tables: {folder / 'tables'}")
    return Outcome(tables, failed)


@contextlib.contextmanager
def _locked(folders: Iterable[Path]) -> Iterator[None]:
    """The locks of all folders that the runs write into, taken in one order whoever takes them."""
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders):
            stack.enter_context(RunDir(folder).lock())
        yield


def write_table(folder: Path, name: str, table: AblationTable) -> None:
    """Write a table in every format, as `name` with the format's ending."""
    for ending, text in FORMATS.items():
        atomic_write(folder / f"{name}.{ending}", text(table))


# ---- the runs


@dataclass(slots=True)
class Pace:
    """How long stages took so far, and what a run spends besides them on each stage: evaluation and starting."""

    by_stage: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    other_s: float = 0.0
    num_stages: int = 0

    def took(self, stages: Mapping[str, float], wall_s: float) -> None:
        """A run made these stages, by name with their seconds, in `wall_s` altogether."""
        for name, seconds in stages.items():
            self.by_stage[name].append(seconds)
        self.other_s += max(0.0, wall_s - sum(stages.values()))
        self.num_stages += len(stages)

    def seconds_for(self, stages: Iterable[str]) -> float | None:
        """Estimate for these stages; None while one of them has not been timed."""
        stages = list(stages)
        if any(not self.by_stage.get(name) for name in stages):
            return None
        besides = self.other_s / self.num_stages if self.num_stages else 0.0
        return sum(sum(self.by_stage[name]) / len(self.by_stage[name]) + besides for name in stages)


class _Runs:
    """The runs of a plan, one after the other."""

    def __init__(self, plan: Sequence[PlannedRun], services: Any, progress: Progress) -> None:
        self.plan = plan
        self.services = services
        self.progress = progress
        self.pace = Pace()
        self.failed: dict[str, str] = {}
        self.failed_stages: dict[str, str] = {}
        for stage in _by_key(plan).values():
            if stage.checkpoint_folder.exists():
                self.pace.by_stage[stage.name].append(_seconds(stage))

    def make_all(self) -> dict[str, str]:
        """Make them; returns why some were not finished."""
        before: PlannedRun | None = None
        for position, run in enumerate(self.plan):
            broken = next((stage for stage in run.stages if stage.key in self.failed_stages), None)
            if broken is not None:
                self._give_up(run, f"needs {broken.name} of {self.failed_stages[broken.key]}, which was not finished")
                continue
            self._announce(position)
            if before is not None:
                # Same base output, same shape and tokenizer in every stage after it.
                self.services.serve(run.config, same_model=run.stages[0].key == before.stages[0].key)
            before = run
            self._make(run)
        return self.failed

    def _make(self, run: PlannedRun) -> None:
        unmade = [stage for stage in run.stages if not stage.checkpoint_folder.exists()]
        spent = {stage.name: _seconds(stage) for stage in unmade}
        began = time.monotonic()
        run.run_dir.share_stages(run.stages[0].folder.parents[1])
        try:
            with run.run_dir.lock():
                run_all(run.config, run.run_dir, self.services)
        except UserError as error:
            stopped = next((stage for stage in run.stages if not stage.checkpoint_folder.exists()), None)
            if stopped is None:  # the stages are there: what failed is of the machine or of the evaluation
                raise
            self.failed_stages[stopped.key] = run.title
            self._give_up(run, str(error))
            self.services.close()  # whatever it left half done in the engines is gone; they start anew
            return
        # Of a stage that was resumed only what this session worked on it tells how fast stages go in it.
        seconds = {stage.name: _seconds(stage) - spent[stage.name] for stage in unmade}
        self.pace.took(seconds, time.monotonic() - began)

    def _announce(self, position: int) -> None:
        run = self.plan[position]
        unmade = [stage for stage in run.stages if not stage.checkpoint_folder.exists()]
        left = {
            key: stage.name
            for key, stage in _by_key(self.plan[position:]).items()
            if not stage.checkpoint_folder.exists() and key not in self.failed_stages
        }
        estimate = self.pace.seconds_for(left.values())
        when = "time left not known yet" if estimate is None else f"about {format_duration(estimate)} left"
        self.progress.say(
            f"variant {position + 1} of {len(self.plan)}: {run.title}, {len(unmade)} of {len(run.stages)} stages to "
            f"make; {len(left)} in all runs, {when}"
        )

    def _give_up(self, run: PlannedRun, reason: str) -> None:
        self.failed[run.title] = reason
        self.progress.warn(f"{run.title}: not finished: {reason}")


def _by_key(plan: Iterable[PlannedRun]) -> dict[str, PlannedStage]:
    return {stage.key: stage for run in plan for stage in run.stages}


def _seconds(stage: PlannedStage) -> float:
    """What was worked on a stage so far, over all sessions."""
    path = stage.folder / "stage.json"
    return float(read_json(path)["seconds"]) if path.exists() else 0.0


# ---- the tables


def ablation_tables(config: AblationConfig, runs: Sequence[PlannedRun]) -> dict[str, AblationTable]:
    """The table of the variants, and one of the stages of each variant, from runs that are finished."""
    by_variant: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_variant.setdefault(run.variant, []).append(run)
    if not by_variant:
        return {}
    table = partial(
        ablation_table,
        confidence=config.confidence,
        alpha=config.alpha,
        num_resamples=config.num_resamples,
        seed=BOOTSTRAP_SEED,
    )
    columns = [_variant_column(config, variant, found, by_variant) for variant, found in by_variant.items()]
    tables = {"variants": table(f"Ablation {config.name}: variants", columns)}
    for variant, found in by_variant.items():
        columns = [_stage_column(config, name, found) for name in found[0].config.stages]
        stages = [column for column in columns if column.measured]
        tables[f"stages-{variant}"] = table(f"Ablation {config.name}: stages of {variant}", with_baselines(stages))
    return tables


def _variant_column(
    config: AblationConfig, variant: str, runs: Sequence[PlannedRun], known: Mapping[str, Any]
) -> Column:
    """The last checkpoint of a variant; its cost is that of all stages but the base, as if it had run alone."""
    baseline = config.baseline(variant)
    costs = [_summed([_cost(stage) for stage in run.stages if stage.name != "base"]) for run in runs]
    last = [(run, run.stages[-1]) for run in runs]
    return Column(variant, _measured(config, last), _mean(costs), baseline if baseline in known else None)


def _stage_column(config: AblationConfig, name: str, runs: Sequence[PlannedRun]) -> Column:
    found = [(run, stage) for run in runs for stage in run.stages if stage.name == name]
    return Column(name, _measured(config, found), _mean([_cost(stage) for _, stage in found]))


def _measured(config: AblationConfig, stages: Sequence[tuple[PlannedRun, PlannedStage]]) -> tuple[Measured, ...]:
    """The results of one stage with every seed, benchmark by benchmark, with its separate scores if they are wanted."""
    scores: dict[tuple[str, str, Any], dict[int, dict[str, float]]] = {}
    for run, stage in stages:
        for part, result in _results(run, stage, separate_scores=config.separate_scores):
            area = _area(run.config.evaluation.benchmarks[result.benchmark])
            line = result.benchmark if part is None else f"{result.benchmark}: {part}"
            by_seed = scores.setdefault((area, line, result.mode), {})
            by_seed[run.seed] = dict(zip(result.prompt_uids, result.per_prompt, strict=True))
    return tuple(Measured(*place, by_seed) for place, by_seed in scores.items())


def _area(benchmark: BenchmarkConfig) -> str:
    """The line of the table under which a benchmark stands; a file that is given no category has its scorer's area."""
    if (category := category_of(benchmark)) is not None:
        return category
    from evals.benchmarks.registry import get_benchmark

    assert benchmark.standard is not None
    return get_task(get_benchmark(benchmark.standard).task).area


def _results(
    run: PlannedRun, stage: PlannedStage, *, separate_scores: bool
) -> list[tuple[str | None, BenchmarkResult]]:
    """The results of a stage, each with the name of its part; None for the score itself."""
    path = evaluation_file(stage.folder, to_dict(run.config.evaluation), stage.key, run.seed)
    if not path.exists():
        return []
    record = read_json(path)
    found: list[tuple[str | None, BenchmarkResult]] = [(None, result_of_record(row)) for row in record["results"]]
    if separate_scores:
        found += [(row["part"], result_of_record(row["result"])) for row in record["parts"]]
    return found


def _cost(stage: PlannedStage) -> Cost:
    cost = read_manifest(stage.checkpoint_folder).cost
    seconds = cost.get("seconds")
    return Cost(cost.get("tokens"), cost.get("flops"), None if seconds is None else seconds / 3600)


def _summed(costs: Sequence[Cost]) -> Cost:
    """The sum of costs; a part that one of them lacks is not known."""
    return Cost(*(_total([getattr(cost, item.name) for cost in costs]) for item in dataclasses.fields(Cost)))


def _mean(costs: Sequence[Cost]) -> Cost:
    total = _summed(costs)
    names = [item.name for item in dataclasses.fields(Cost)]
    return Cost(*(None if (value := getattr(total, name)) is None else value / len(costs) for name in names))


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
