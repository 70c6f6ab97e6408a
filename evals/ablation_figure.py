"""The ablation table as one picture: a panel for each benchmark, variants from left to right, a colour for each mode.

AblationTable -> scores_figure -> PNG beside the other formats of the table
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evals.ablation import AblationTable, Row
from evals.summary import EvalMode

_COLOURS: Mapping[EvalMode, str] = {"thinking": "#2a6fbb", "non_thinking": "#d17a22", "mixed": "#5a5a5a"}
_NAMES: Mapping[EvalMode, str] = {"thinking": "thinking", "non_thinking": "non-thinking", "mixed": "mode of the flags"}
_MOST_COLUMNS = 4
_SHIFT = 0.12
"""How far apart the modes of one variant stand, in units of the distance between variants."""


def scores_figure(table: AblationTable) -> Figure:
    """Scores in percent with the intervals of the table; filled where the difference to the baseline is significant.

    No line joins the variants: some ablations are a scale, others a list, and their order is the file's.
    Raises ValueError for a table without rows.
    """
    panels = list(dict.fromkeys((row.area, row.benchmark) for row in table.rows))
    if not panels:
        raise ValueError("scores_figure: the table has no rows")
    num_columns = min(_MOST_COLUMNS, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    width = 0.9 + 0.3 * len(table.columns)
    figure = Figure(figsize=(max(2.6, width) * num_columns, 2.6 * num_rows + 0.6), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, table, [row for row in table.rows if (row.area, row.benchmark) == panel], title=panel[1])
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    modes = [mode for mode in _NAMES if any(row.mode == mode for row in table.rows)]
    marks = [Line2D([], [], linestyle="none", marker="o", color=_COLOURS[mode], label=_NAMES[mode]) for mode in modes]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(modes), frameon=False, fontsize="small")
    return figure


def _draw_panel(axis: Axes, table: AblationTable, rows: list[Row], *, title: str) -> None:
    for position, row in enumerate(rows):
        shift = _SHIFT * (position - (len(rows) - 1) / 2)
        for place, cell in enumerate(row.cells):
            if cell is None:
                continue
            estimate, colour = cell.estimate, _COLOURS[row.mode]
            below, above = estimate.mean - estimate.low, estimate.high - estimate.mean
            axis.errorbar(
                place + shift,
                100 * estimate.mean,
                yerr=([100 * max(0.0, below)], [100 * max(0.0, above)]),
                color=colour,
                marker="o",
                markersize=4,
                markerfacecolor=colour if cell.delta is not None and cell.delta.significant else "white",
                elinewidth=1,
                capsize=2,
            )
    axis.set_title(title, fontsize="small")
    axis.set_xticks(range(len(table.columns)), [column.name for column in table.columns], rotation=60, ha="right")
    axis.tick_params(labelsize="x-small")
    axis.set_ylim(-3, 103)
    axis.set_ylabel("%", fontsize="x-small")
    axis.grid(alpha=0.3, axis="y")
    axis.spines[["top", "right"]].set_visible(False)


def figure_png(figure: Figure) -> bytes:
    """The picture as PNG, the same bytes for the same table."""
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=130)
    return buffer.getvalue()
