"""The picture of an ablation table shows the numbers of the table, each in the place of its benchmark and variant."""

from __future__ import annotations

import dataclasses

import pytest
from matplotlib.axes import Axes

from evals.ablation_figure import figure_png, scores_figure
from tests.evals.test_ablation import TINY


def drawn(axis: Axes) -> list[tuple[float, float, bool]]:
    """The markers of a panel: place, percent, and whether it is filled."""
    return [
        (
            round(float(container.lines[0].get_xdata()[0]), 2),
            float(container.lines[0].get_ydata()[0]),
            container.lines[0].get_markerfacecolor() != "white",
        )
        for container in axis.containers
    ]


def test_every_score_stands_in_the_panel_of_its_benchmark_at_the_place_of_its_variant() -> None:
    follow, math = scores_figure(TINY).axes
    assert [axis.get_title() for axis in (follow, math)] == ["think_follow", "math"]
    assert [label.get_text() for label in math.get_xticklabels()] == ["cold_start", "reasoning_rl", "fusion"]
    # One mode stands in the middle; of two the thinking one to the left. Significant: the three that moved.
    assert drawn(follow) == [(1.0, 50.0, False), (2.0, 100.0, True)]
    assert drawn(math) == [
        (-0.06, 50.0, False), (0.94, 75.0, True), (1.94, 50.0, True), (0.06, 25.0, False), (1.06, 25.0, False),
    ]  # fmt: skip


def test_the_legend_names_the_modes_that_were_measured() -> None:
    (legend,) = scores_figure(TINY).legends
    assert [text.get_text() for text in legend.get_texts()] == ["thinking", "non-thinking", "mode of the flags"]


def test_the_same_table_gives_the_same_bytes() -> None:
    first, second = (figure_png(scores_figure(TINY)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_a_table_without_rows_is_no_picture() -> None:
    with pytest.raises(ValueError, match="the table has no rows"):
        scores_figure(dataclasses.replace(TINY, rows=()))
