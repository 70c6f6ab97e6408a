"""The ablation table as Markdown, CSV, JSON and LaTeX: the same numbers, rounded in one place.

Markdown and LaTeX are to be read: benchmarks by area, a group of columns for each stage or variant with its modes side
by side, scores in percent, differences in points with their interval, `*` where one is significant. CSV and JSON are to
be computed with: one row (object) for each cell, scores as shares, nothing rounded. LaTeX needs the package `booktabs`
and is taken in with `\\input`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals import markdown
from evals.ablation import MODES, AblationTable, Cell, Column, Row
from evals.significance import Estimate
from evals.summary import EvalMode

_MODE_NAMES: Mapping[EvalMode, str] = {"thinking": "thinking", "non_thinking": "non-thinking", "mixed": "mixed"}
_DASH = "–"


# ---- what is shown where


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a table to read: for each column and each of the table's modes a cell, or None."""

    area: str
    label: str
    cells: tuple[tuple[Cell | None, ...], ...]


def shown_modes(table: AblationTable) -> tuple[EvalMode, ...]:
    """The modes that have columns of their own; "mixed" has them only where nothing else was measured."""
    present = {row.mode for row in table.rows}
    own = tuple(mode for mode in MODES if mode != "mixed" and mode in present)
    return own or ("mixed",)


def _lines(table: AblationTable) -> list[_Line]:
    """Lines by area and benchmark; a benchmark that leaves the mode to its prompts has a line with one value."""
    modes = shown_modes(table)
    lines: list[_Line] = []
    for place in dict.fromkeys((row.area, row.benchmark) for row in table.rows):
        by_mode: dict[EvalMode, Row] = {row.mode: row for row in table.rows if (row.area, row.benchmark) == place}
        if any(mode in by_mode for mode in modes):
            lines.append(_Line(*place, _grouped(table, [by_mode.get(mode) for mode in modes])))
        if "mixed" in by_mode and "mixed" not in modes:
            rows = [by_mode["mixed"], *[None] * (len(modes) - 1)]
            lines.append(_Line(place[0], f"{place[1]} (mixed)", _grouped(table, rows)))
    return lines


def _grouped(table: AblationTable, rows: Sequence[Row | None]) -> tuple[tuple[Cell | None, ...], ...]:
    return tuple(
        tuple(None if row is None else row.cells[index] for row in rows) for index in range(len(table.columns))
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(value: float) -> str:
    """A difference in points with its sign; what rounds to nothing has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text


def _star(cell: Cell) -> str:
    return "*" if cell.delta is not None and cell.delta.significant else ""


COSTS: Mapping[str, Callable[[Column], str]] = {
    "tokens": lambda column: _DASH if column.cost.tokens is None else _scaled(column.cost.tokens),
    "FLOPs": lambda column: _DASH if column.cost.flops is None else f"{column.cost.flops:.2e}",
    "hours": lambda column: _DASH if column.cost.hours is None else f"{column.cost.hours:.2f}",
}
"""The lines about cost, by name."""


def _scaled(count: float) -> str:
    """A count with three digits: 950, 1.23k, 4.56M, 7.89B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def table_notes(table: AblationTable) -> str:
    """What one has to know to read the table, in one paragraph."""
    cells = [cell.estimate for row in table.rows for cell in row.cells if cell is not None]
    if not cells:
        return "Nothing was measured."
    seeds, prompts = _range([e.num_seeds for e in cells], "seed"), _range([e.num_prompts for e in cells], "prompt")
    one_seed = min(e.num_seeds for e in cells) == 1
    return (
        f"Scores in %; differences in points to the column named under the heading, with {_share(table.confidence)} "
        f"intervals from a bootstrap over seeds and prompts ({table.num_resamples:,} resamples), paired by both; "
        f"{seeds} and {prompts} a benchmark. * significant at {table.alpha:g} after Holm's correction over all "
        f"{table.num_deltas} differences of the table."
        + (" With one seed an interval does not cover what another seed would do." if one_seed else "")
        + " Cost: tokens trained on or generated, model FLOPs, hours of wall time."
    )


def _share(value: float) -> str:
    return f"{100 * value:g} %"


def _range(counts: Sequence[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return f"{low}{'' if low == high else f' to {high}'} {noun}{'' if high == 1 else 's'}"


# ---- to read


def to_markdown(table: AblationTable) -> str:
    """A heading, the table and a paragraph on how to read it."""
    modes = shown_modes(table)
    heads = [_heading(column, mode, modes) for column in table.columns for mode in modes]
    width = len(heads)
    lines = [["benchmark", *heads], ["---", *["---:"] * width]]
    if any(column.baseline for column in table.columns):
        lines.append(["*compared with*", *_once(table, modes, lambda column: column.baseline or _DASH)])
    area = None
    for line in _lines(table):
        if line.area != area:
            area = line.area
            lines.append([f"**{markdown.cell(area)}**", *[""] * width])
        lines.append([markdown.cell(line.label), *(_markdown_cell(cell) for group in line.cells for cell in group)])
    lines.append(["**cost**", *[""] * width])
    lines += [[name, *_once(table, modes, text)] for name, text in COSTS.items()]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"# {table.title}\n\n{body}\n\n{table_notes(table)}\n"


def _heading(column: Column, mode: EvalMode, modes: Sequence[EvalMode]) -> str:
    name = markdown.cell(column.name)
    return name if len(modes) == 1 else f"{name}, {_MODE_NAMES[mode]}"


def _once(table: AblationTable, modes: Sequence[EvalMode], text: Callable[[Column], str]) -> list[str]:
    """What a column says about itself, in the first of its modes."""
    return [
        markdown.cell(text(column)) if position == 0 else ""
        for column in table.columns
        for position in range(len(modes))
    ]


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return _DASH
    if cell.delta is None:
        return _percent(cell.estimate.mean)
    found = cell.delta.estimate
    interval = f"{_points(found.low)} to {_points(found.high)}"
    return f"{_percent(cell.estimate.mean)}, {_points(found.mean)}{_star(cell)} ({interval})"


def to_latex(table: AblationTable) -> str:
    """A `tabular` with booktabs rules: each benchmark has a line of scores and below it one of differences."""
    modes = shown_modes(table)
    num_modes, num_columns = len(modes), len(table.columns)
    lines = [f"% {_one_line(table.title)}", f"% {table_notes(table)}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (num_modes * num_columns)}}}", r"\toprule"]
    lines.append(_latex_line(["", *_spanned(table, num_modes, lambda column: column.name)]))
    lines.append(
        " ".join(rf"\cmidrule(lr){{{2 + i * num_modes}-{1 + (i + 1) * num_modes}}}" for i in range(num_columns))
    )
    if any(column.baseline for column in table.columns):
        lines.append(_latex_line(["compared with", *_spanned(table, num_modes, lambda c: c.baseline or _DASH)]))
    if num_modes > 1:
        lines.append(_latex_line(["", *[_MODE_NAMES[mode] for mode in modes] * num_columns]))
    area = None
    for line in _lines(table):
        if line.area != area:
            area = line.area
            lines += [
                r"\midrule",
                rf"\multicolumn{{{1 + num_modes * num_columns}}}{{l}}{{\textit{{{latex(area)}}}}} \\",
            ]
        cells = [cell for group in line.cells for cell in group]
        lines.append(_latex_line([latex(line.label), *(_latex_mean(cell) for cell in cells)]))
        if any(cell is not None and cell.delta is not None for cell in cells):
            lines.append(_latex_line(["", *(_latex_delta(cell) for cell in cells)]))
    lines.append(r"\midrule")
    lines += [_latex_line([name, *_spanned(table, num_modes, text)]) for name, text in COSTS.items()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
}  # fmt: skip


def latex(text: str) -> str:
    """Text in which nothing is a command of LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _spanned(table: AblationTable, num_modes: int, text: Callable[[Column], str]) -> list[str]:
    return [rf"\multicolumn{{{num_modes}}}{{c}}{{{latex(text(column))}}}" for column in table.columns]


def _latex_mean(cell: Cell | None) -> str:
    return "--" if cell is None else _percent(cell.estimate.mean)


def _latex_delta(cell: Cell | None) -> str:
    if cell is None or cell.delta is None:
        return ""
    found, star = cell.delta.estimate, "^{*}" if cell.delta.significant else ""
    return rf"{{\scriptsize ${_points(found.mean)}{star}$ $[{_points(found.low)}, {_points(found.high)}]$}}"


# ---- to compute with


def cell_records(table: AblationTable) -> list[dict[str, Any]]:
    """One flat record for each cell, in the order of the table."""
    return [
        {"area": row.area, "benchmark": row.benchmark, "mode": row.mode, "column": column.name}
        | _estimate_record(cell.estimate)
        | _delta_record(cell)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None
    ]


def _estimate_record(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": estimate.mean, "low": estimate.low, "high": estimate.high,
        "num_seeds": estimate.num_seeds, "num_prompts": estimate.num_prompts,
    }  # fmt: skip


def _delta_record(cell: Cell) -> dict[str, Any]:
    names = ("baseline", "delta", "delta_low", "delta_high", "num_pairs", "p_value", "p_holm", "significant")
    if cell.delta is None:
        return dict.fromkeys(names)
    found = cell.delta.estimate
    values = (
        cell.delta.baseline, found.mean, found.low, found.high, found.num_prompts,
        found.p_value, cell.delta.adjusted, cell.delta.significant,
    )  # fmt: skip
    return dict(zip(names, values, strict=True))


def to_csv(table: AblationTable) -> str:
    """One row for each cell, with the cost of its column; an empty field is one that was not measured."""
    costs = {
        column.name: {"tokens": column.cost.tokens, "flops": column.cost.flops, "hours": column.cost.hours}
        for column in table.columns
    }
    rows = [record | costs[record["column"]] for record in cell_records(table)]
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def to_document(table: AblationTable) -> dict[str, Any]:
    """The table as plain JSON types: how it was computed, the columns with their cost, and the cells."""
    return {
        "title": table.title,
        "confidence": table.confidence,
        "alpha": table.alpha,
        "num_resamples": table.num_resamples,
        "num_deltas": table.num_deltas,
        "columns": [
            {
                "name": column.name,
                "baseline": column.baseline,
                "cost": {"tokens": column.cost.tokens, "flops": column.cost.flops, "hours": column.cost.hours},
            }
            for column in table.columns
        ],
        "cells": cell_records(table),
    }


def to_json(table: AblationTable) -> str:
    return json.dumps(to_document(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[AblationTable], str]] = {
    "md": to_markdown, "csv": to_csv, "json": to_json, "tex": to_latex,
}  # fmt: skip
"""The text of a table by the ending of its file."""
