"""The ablation table: what each stage or variant adds, benchmark by benchmark, and whether that would hold up.

    Column (scores of every prompt and seed) -> ablation_table -> AblationTable -> Markdown, CSV, JSON, LaTeX

The shape is that of the Qwen3 report's Table 22: benchmarks by area as rows, stages (or variants) by thinking mode as
columns, each with its difference to the one before. Added to it are intervals, significance over the whole table, and
what each column cost. The formats are in `evals.ablation_formats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from evals.significance import Estimate, Floats, crossed_bootstrap, holm
from evals.summary import EvalMode

MODES: tuple[EvalMode, ...] = ("thinking", "non_thinking", "mixed")

Scores = Mapping[int, Mapping[str, float]]
"""Mean score of each prompt by its uid, for each seed; a prompt whose scores all failed is absent."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One benchmark of one column in one mode."""

    area: str
    benchmark: str
    mode: EvalMode
    scores: Scores

    @property
    def place(self) -> tuple[str, str, EvalMode]:
        return self.area, self.benchmark, self.mode


@dataclass(frozen=True, slots=True)
class Cost:
    """What a column cost, mean over its seeds; None where it was not recorded.

    `tokens` trained on by supervision or generated; `flops` model FLOPs of training and generating; `hours` of wall
    time on the machine of the run.
    """

    tokens: float | None = None
    flops: float | None = None
    hours: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A stage or a variant: its scores, its cost, and the column that it is compared with (None: with none)."""

    name: str
    measured: tuple[Measured, ...]
    cost: Cost = field(default_factory=Cost)
    baseline: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The paired difference to the baseline; `adjusted` is the p-value after Holm's correction over the table."""

    baseline: str
    estimate: Estimate
    adjusted: float
    significant: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """The mean score of one column on one benchmark in one mode, and its difference to the baseline if it has one."""

    estimate: Estimate
    delta: Delta | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark in one mode: a cell for each column, None where it was not measured."""

    area: str
    benchmark: str
    mode: EvalMode
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class AblationTable:
    """All cells, with what is needed to read them: confidence of the intervals, alpha and the number of deltas."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    confidence: float
    alpha: float
    num_resamples: int

    @property
    def num_deltas(self) -> int:
        return sum(cell is not None and cell.delta is not None for row in self.rows for cell in row.cells)


def ablation_table(
    title: str,
    columns: Sequence[Column],
    *,
    confidence: float = 0.95,
    alpha: float = 0.05,
    num_resamples: int = 20_000,
    seed: int,
) -> AblationTable:
    """The table of these columns.

    A delta pairs by prompt and seed: what one of both columns lacks leaves it. Its interval is a bootstrap over seeds
    and prompts (`crossed_bootstrap`); `significant` holds after Holm's correction over all deltas of the table. Raises
    ValueError for columns of one name, a baseline that is none of the columns, or a benchmark that comes twice.
    """
    names = [column.name for column in columns]
    if len(set(names)) != len(names):
        raise ValueError(f"columns: a name occurs twice in {names}")
    for column in columns:
        if column.baseline is not None and column.baseline not in names:
            raise ValueError(f"columns: the baseline {column.baseline!r} of {column.name!r} is none of {names}")
    scores = {column.name: _by_place(column) for column in columns}
    bootstrap = partial(crossed_bootstrap, confidence=confidence, num_resamples=num_resamples, seed=seed)
    places = _ordered_places(columns)
    held = [(place, column) for place in places for column in columns if place in scores[column.name]]
    grids = [_grid(scores[column.name][place]) for place, column in held]
    means = dict(zip([(place, column.name) for place, column in held], bootstrap(grids), strict=True))
    differences = {
        (place, column.name): difference
        for place, column in held
        if column.baseline is not None and place in scores[column.baseline]
        if (difference := _difference(scores[column.name][place], scores[column.baseline][place])) is not None
    }
    estimates = bootstrap(list(differences.values()))
    adjusted = holm([estimate.p_value for estimate in estimates])
    deltas = dict(zip(differences, zip(estimates, adjusted, strict=True), strict=True))

    def cell(place: tuple[str, str, EvalMode], column: Column) -> Cell | None:
        if (place, column.name) not in means:
            return None
        delta = None
        if (place, column.name) in deltas and column.baseline is not None:
            estimate, p_value = deltas[place, column.name]
            delta = Delta(column.baseline, estimate, p_value, p_value <= alpha)
        return Cell(means[place, column.name], delta)

    rows = tuple(Row(*place, tuple(cell(place, column) for column in columns)) for place in places)
    return AblationTable(title, tuple(columns), rows, confidence, alpha, num_resamples)


def with_baselines(columns: Sequence[Column]) -> list[Column]:
    """Each column compared with the one before it, unless it names another baseline; the first with none."""
    filled: list[Column] = []
    for column in columns:
        before = filled[-1].name if filled else None
        filled.append(Column(column.name, column.measured, column.cost, column.baseline or before))
    return filled


def _by_place(column: Column) -> dict[tuple[str, str, EvalMode], Scores]:
    found: dict[tuple[str, str, EvalMode], Scores] = {}
    for item in column.measured:
        if item.place in found:
            raise ValueError(f"column {column.name!r}: {item.benchmark} ({item.mode}) is given twice")
        if any(item.scores.values()):
            found[item.place] = item.scores
    return found


def _ordered_places(columns: Sequence[Column]) -> list[tuple[str, str, EvalMode]]:
    """Places by area, then benchmark, each in alphabetical order, so that no order of columns changes the table."""
    found = {item.place for column in columns for item in column.measured if any(item.scores.values())}
    return sorted(found, key=lambda place: (place[0], place[1], MODES.index(place[2])))


def _grid(scores: Scores) -> Floats:
    """Scores as [S, P] in the order of seeds and uids, NaN where there is none."""
    seeds = sorted(seed for seed, values in scores.items() if values)
    uids = sorted({uid for seed in seeds for uid in scores[seed]})
    return np.array([[scores[seed].get(uid, np.nan) for uid in uids] for seed in seeds], dtype=np.float64)


def _difference(ours: Scores, theirs: Scores) -> Floats | None:
    """Ours minus theirs where both have a score, None when they share none."""
    paired = {
        seed: {uid: value - theirs[seed][uid] for uid, value in ours[seed].items() if uid in theirs[seed]}
        for seed in ours
        if seed in theirs
    }
    return _grid(paired) if any(paired.values()) else None
