"""The sections of the page that are made here: from a run's rows to HTML, each saying what it lacks.

Numbers are worked out in small functions that return plain rows; the templates only lay them out, and escape every
text that comes from a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evals import markdown
from evals.markdown import NOT_MEASURED, Row
from evals.page import charts
from evals.page.charts import Line
from evals.page.results import accuracy_tables, budget, full_tables
from evals.report_inputs import Curve, ReportInputs, by_stage, points, stage_seconds, stage_times, sum_or_none
from evals.summary import BUDGET_CURVE, summary_rows
from evals.time_split import PHASES, StageTime, time_facts

TEMPLATES = Path(__file__).parent

RL_PANELS = (
    Curve("reward", "reward", "mean reward (0 to 1)"),
    Curve("entropy", "policy entropy", "nats per token"),
    Curve("mean_length", "completion length", "mean tokens"),
    Curve("truncated_share", "truncated completions", "share"),
)
SFT_PANELS = (
    Curve("loss", "training loss", "negative log-likelihood, nats per token"),
    Curve("entropy", "policy entropy", "nats per token"),
)
GAP_PANELS = (
    Curve("engine_gap_mean", "mean gap on the batch", "mean |log π − log μ|, nats"),
    Curve("engine_gap_max", "largest gap on the batch", "max |log π − log μ|, nats"),
    Curve("sync_gap_max", "largest gap after a weight sync", "max |log π − log μ|, nats"),
)
_TASK = "batch/task/"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its anchor, its heading and what stands below it."""

    id: str
    title: str
    html: Markup


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The page's templates: every value is escaped, an unknown name fails."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def build_sections(inputs: ReportInputs) -> list[Section]:
    """All sections that need no script, in the order of the page."""
    parts: Mapping[str, Any] = vars(templates().get_template("sections.html.jinja").module)
    rl = {stage: rows for stage, rows in by_stage(inputs.metrics).items() if is_rl(rows)}
    times = [time for time in stage_times(inputs) if time.num_steps]
    return [
        Section("missing", "What is missing", parts["missing"](missing_parts(inputs))),
        Section("pipeline", "Pipeline", parts["pipeline"](lineage(inputs.pipeline))),
        Section(
            "accuracy", "Accuracy", parts["accuracy"](accuracy_tables(inputs.summary), *full_tables(inputs.summary))
        ),
        Section("budget", "Thinking budget", parts["budget"](*budget(inputs.summary))),
        Section("curves", "Training curves", parts["curves"](curve_panels(inputs))),
        Section("gap", "Engine and learner", parts["gap"](gap_panels(rl))),
        Section("tasks", "Tasks", parts["tasks"](task_panels(rl))),
        Section("errors", "Verifier errors", parts["errors"](verifier_errors(rl), error_tasks(rl))),
        Section("time", "Where the time goes", parts["time"](*time_split(times, stage_seconds(inputs)))),
        Section("filters", "Data filters", parts["filters"](filter_rows(inputs.filters))),
        Section("cost", "Cost", parts["cost"](cost_rows(inputs.pipeline))),
    ]


def is_rl(rows: Sequence[Row]) -> bool:
    """Whether these are the rows of a stage that samples and scores."""
    return any("reward" in row or "engine_gap_mean" in row for row in rows)


def missing_parts(inputs: ReportInputs) -> list[str]:
    """What an unfinished or partial run does not have yet, a sentence each."""
    found = []
    if not inputs.pipeline:
        found.append("No stage is planned.")
    for row in inputs.pipeline:
        if row.get("state") != "done":
            step = f" after step {row['step']:,}" if row.get("step") is not None else ""
            found.append(f"Stage {row.get('stage')} is not finished: {row.get('state', NOT_MEASURED)}{step}.")
    if not any(summary_rows(inputs.summary)):
        found.append("No checkpoint was evaluated, so there is no table of benchmarks.")
    if not inputs.summary.get(BUDGET_CURVE):
        found.append("The thinking-budget curve was not measured.")
    if not inputs.metrics:
        found.append("No step was recorded, so there are no curves.")
    elif not any(time.num_steps for time in stage_times(inputs)):
        found.append("The steps do not say where their time went.")
    if not inputs.samples:
        found.append("No rollout was recorded.")
    elif not any(row.get("rendered") for row in inputs.samples):
        found.append("The rollouts hold no tokens and no loss mask.")
    return found


def lineage(pipeline: Sequence[Row]) -> list[dict[str, Any]]:
    """A row a stage: what it came from, how far it is, what it took."""
    names = {row.get("key"): row.get("stage") for row in pipeline}
    rows = []
    for row in pipeline:
        parent = row.get("parent")
        rows.append(
            {
                "stage": row.get("stage"),
                "state": row.get("state", NOT_MEASURED),
                "step": row.get("step"),
                "key": str(row.get("key") or NOT_MEASURED)[:12],
                "parent": names.get(parent) or (str(parent)[:12] if parent else ""),
                "commit": str(row.get("commit") or "")[:12],
                "time": markdown.duration(markdown.number(row.get("seconds"))),
                "tokens": markdown.count(row.get("tokens")),
            }
        )
    return rows


# -- curves ------------------------------------------------------------------------------------------------------------


def curve_panels(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Of each stage its charts and the titles of those that it did not record; stages without rows too."""
    rows_of = by_stage(inputs.metrics)
    stages = dict.fromkeys([str(row.get("stage")) for row in inputs.pipeline] + list(rows_of))
    return [
        {"stage": stage, **_charts(rows_of.get(stage, ()), RL_PANELS if is_rl(rows_of.get(stage, ())) else SFT_PANELS)}
        for stage in stages
    ]


def gap_panels(rl: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Of each RL stage how far engine and learner were apart."""
    return [{"stage": stage, **_charts(rows, GAP_PANELS)} for stage, rows in rl.items()]


def _charts(rows: Sequence[Row], curves: Sequence[Curve]) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    absent: list[str] = []
    for curve in curves:
        xs, ys = points(rows, curve.column)
        if not xs:
            absent.append(curve.title)
            continue
        line = Line(curve.title, xs, ys)
        chart = charts.line_chart([line], title=curve.title, x_label="optimizer step", y_label=curve.label)
        panels.append({"title": curve.title, "unit": curve.label, "chart": chart})
    return {"panels": panels, "absent": absent}


def task_panels(rl: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Of each RL stage a panel a task: mean reward by step, first and last value, completions and failed scores."""
    stages = []
    for stage, rows in rl.items():
        panels = []
        for task in _tasks(rows):
            xs, ys = points(rows, f"{_TASK}{task}/mean_reward")
            if not xs:
                continue
            label = f"{task}: mean reward {ys[0]:.2f} at step {xs[0]:.0f}, {ys[-1]:.2f} at step {xs[-1]:.0f}"
            panels.append(
                {
                    "task": task,
                    "chart": charts.spark(xs, ys, label=label),
                    "first": f"{ys[0]:.2f}",
                    "last": f"{ys[-1]:.2f}",
                    "completions": markdown.count(_sum(rows, f"{_TASK}{task}/num_completions")),
                    "errors": markdown.count(_sum(rows, f"{_TASK}{task}/num_errors")),
                }
            )
        stages.append({"stage": stage, "panels": panels})
    return stages


def verifier_errors(rl: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Of each RL stage the failed scores by step, and their share of all completions."""
    found = []
    for stage, rows in rl.items():
        xs, ys = points(rows, "verifier_errors")
        completions = _sum(rows, "batch/completions")
        number = sum(ys)
        line = Line("failed scores", xs, ys)
        found.append(
            {
                "stage": stage,
                "measured": bool(xs),
                "errors": markdown.count(number),
                "share": markdown.percent(number / completions if completions else None),
                "chart": charts.line_chart(
                    [line], title=f"failed scores, {stage}", x_label="optimizer step", y_label="failed scores a step",
                    from_zero=True,
                )
                if number
                else None,
            }
        )  # fmt: skip
    return found


def error_tasks(rl: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Tasks with failed scores, the most first."""
    counts: Counter[tuple[str, str]] = Counter()
    for stage, rows in rl.items():
        for task in _tasks(rows):
            counts[stage, task] = int(_sum(rows, f"{_TASK}{task}/num_errors") or 0)
    return [
        {"stage": stage, "task": task, "failed scores": markdown.count(number)}
        for (stage, task), number in counts.most_common()
        if number
    ]


def _tasks(rows: Sequence[Row]) -> list[str]:
    names = {column for row in rows for column in row if column.startswith(_TASK)}
    return sorted({name.removeprefix(_TASK).rsplit("/", 1)[0] for name in names})


def _sum(rows: Sequence[Row], column: str) -> float | None:
    values = points(rows, column)[1]
    return sum(values) if values else None


# -- time, data, cost --------------------------------------------------------------------------------------------------


def time_split(
    times: Sequence[StageTime], whole: Mapping[str, float]
) -> tuple[Markup | None, list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Bars, phases in percent, throughput and memory, and the phases that any stage spent time in."""
    if not times:
        return None, [], [], []
    phases = [name for name in PHASES if any(time.seconds.get(name, 0.0) > 0 for time in times)]
    bars = charts.share_bars(
        [(f"{time.stage}, {markdown.duration(time.total_s)}", time.shares()) for time in times],
        title="share of the wall time of each stage's steps by phase",
    )
    split = []
    for time in times:
        seconds = whole.get(time.stage)
        row = {"stage": time.stage, "steps": markdown.count(time.num_steps), "time": markdown.duration(time.total_s)}
        row["of the stage"] = markdown.percent(min(1.0, time.total_s / seconds) if seconds else None)
        split.append(row | {name: markdown.percent(time.shares().get(name, 0.0)) for name in phases})
    facts = [{"stage": time.stage, **time_facts(time)} for time in times]
    known = [name for name in facts[0] if any(row[name] != NOT_MEASURED for row in facts)]
    return bars, split, [{name: row[name] for name in known} for row in facts], phases


def filter_rows(filters: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """A row a filter of each stage's data."""
    return [
        {"stage": stage, "filter": name, "rows": markdown.count(number)}
        for stage, counts in filters.items()
        for name, number in counts.items()
    ]


def cost_rows(pipeline: Sequence[Row]) -> list[dict[str, Any]]:
    """Time and tokens a stage, and their sums where no stage leaves a hole."""
    whole = sum_or_none(row.get("seconds") for row in pipeline)
    rows = []
    for row in pipeline:
        seconds, tokens = markdown.number(row.get("seconds")), markdown.number(row.get("tokens"))
        rows.append(
            {
                "stage": row.get("stage"),
                "time": markdown.duration(seconds),
                "share of time": markdown.percent(seconds / whole if seconds is not None and whole else None),
                "tokens": markdown.count(tokens),
                "tokens/s": markdown.count(tokens / seconds if tokens is not None and seconds else None),
            }
        )
    if rows:
        all_tokens = markdown.count(sum_or_none(row.get("tokens") for row in pipeline))
        rows.append(
            {
                "stage": "all",
                "time": markdown.duration(whole),
                "share of time": "",
                "tokens": all_tokens,
                "tokens/s": "",
            }
        )
    return rows
