"""What every form of a run's report shows: the rows that the run left behind, and how they are read.

Plain dicts as they come out of the run's JSON files; `evals.report` makes Markdown of them and `evals.page` a page for
a browser. A column that a stage did not record stays "not measured"; no number is estimated, filled in or carried over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals import markdown
from evals.markdown import NOT_MEASURED, Row
from evals.time_split import StageTime, stage_time


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel of a stage's figure: the column of the metrics rows, what it is, and the label with its unit."""

    column: str
    title: str
    label: str


RL_CURVES = (
    Curve("reward", "reward", "mean reward (0 to 1)"),
    Curve("entropy", "policy entropy", "entropy (nats per token)"),
    Curve("mean_length", "completion length", "mean length (tokens)"),
    Curve("engine_gap_mean", "engine gap", "mean |log π − log μ| (nats/token)"),
)
"""What tells a healthy RL stage from a collapsing one. π is the learner, μ the engine that sampled."""

SFT_CURVES = (Curve("loss", "training loss", "negative log-likelihood (nats/token)"),)

ONLY_RL = ("reward", "engine_gap_mean")


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """Everything a report shows, as plain rows in the order of the run.

    pipeline: one row a stage with "stage", "key", "parent", "state", "seconds", "tokens" and optionally "step" (the
    last one recorded), "commit" and "cost", a mapping of more numbers to show. summary: the document of
    `evals.summary`. metrics: rows with "stage" and "step". samples: rows with "stage", "step", "task", "prompt",
    "completion", "reward", "outcome", "reason" and what else `data.sample_rows` writes. filters: stage -> filter ->
    number of rows, in the order in which they were applied.
    """

    title: str
    pipeline: Sequence[Row] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Row] = ()
    samples: Sequence[Row] = ()
    filters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def by_stage(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each stage, stages in the order in which they first come."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(str(row.get("stage", f"stage {NOT_MEASURED}")), []).append(row)
    return stages


def measured_curves(rows: Sequence[Row]) -> tuple[list[Curve], list[Curve]]:
    """The curves that these rows hold points for, and those of the same kind of stage that they do not."""
    is_rl = any(column in row for row in rows for column in ONLY_RL)
    curves = RL_CURVES if is_rl else SFT_CURVES
    measured = [curve for curve in curves if points(rows, curve.column)[0]]
    return measured, [curve for curve in curves if curve not in measured]


def points(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Steps and values of a column, rows without it left out; a non-finite value stays, as a gap."""
    pairs = [(markdown.number(row.get("step")), markdown.number(row.get(column))) for row in rows]
    kept = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def sum_or_none(values: Iterable[Any]) -> float | None:
    """The sum, None when one of the values is no number: a sum with a hole is not given."""
    numbers = [markdown.number(value) for value in values]
    return None if None in numbers else sum(value for value in numbers if value is not None)


def stage_seconds(inputs: ReportInputs) -> dict[str, float]:
    """What each stage took as a whole, for those that say so."""
    found = {str(row.get("stage")): markdown.number(row.get("seconds")) for row in inputs.pipeline}
    return {stage: seconds for stage, seconds in found.items() if seconds is not None}


def stage_times(inputs: ReportInputs) -> list[StageTime]:
    """Where the time of each stage's steps went."""
    return [stage_time(stage, rows) for stage, rows in by_stage(inputs.metrics).items()]
