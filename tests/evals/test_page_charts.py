"""Charts are well-formed pictures of the very points they are given, and say in words what they show."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.page import charts
from evals.page.charts import Line, thinned, ticks


def svg(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(text))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.0, 8.0, [0, 2, 4, 6, 8]),
        (3.0, 47.0, [20, 40]),
        (-1e-6, 1e-6, [-1e-6, -5e-7, 0, 5e-7, 1e-6]),
        (5.0, 5.0, [5.0]),
        (0.0, 1000.0, [0, 500, 1000]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected, abs=1e-18)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_within_the_range_in_order_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    room = 1e-6 * (abs(low) + width)
    assert all(low - room <= tick <= low + width + room for tick in found)


def test_a_long_line_keeps_its_spike_and_real_points_alone() -> None:
    ys = [float(index % 3) for index in range(1000)]
    ys[501], ys[777] = 90.0, -40.0
    xs, kept = thinned(list(range(1000)), ys, 20)
    assert len(xs) <= 20
    assert xs == sorted(xs)
    assert all(ys[int(x)] == y for x, y in zip(xs, kept, strict=True))
    assert (max(kept), min(kept)) == (90.0, -40.0)


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=300), st.integers(2, 40))
def test_thinning_keeps_both_extremes_and_never_adds(ys: list[float], most: int) -> None:
    xs, kept = thinned(list(range(len(ys))), ys, most)
    assert len(xs) <= max(most, 1)
    finite = [y for y in ys if math.isfinite(y)]
    if finite:
        shown = [y for y in kept if math.isfinite(y)]
        assert (min(shown), max(shown)) == (min(finite), max(finite))


def test_a_line_lies_where_its_numbers_say_and_breaks_at_what_is_not_finite() -> None:
    chart = svg(
        charts.line_chart(
            [Line("loss", [0, 1, 2, 3], [0.0, 1.0, math.nan, 1.0])], title="loss", x_label="step", y_label="nats"
        )
    )
    path = next(part.attrib["d"] for part in chart.iter("path") if part.attrib["class"] == "line s0")
    assert [move[0] for move in re.findall(r"[ML][^ML]+", path)] == ["M", "L", "M"]
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in chart.iter("circle")]
    assert len(dots) == 3
    # x: -0.12 to 3.12 on 46 to 350; y: -0.04 to 1.04 on 160 down to 10.
    assert dots[0] == pytest.approx((46 + 304 * 0.12 / 3.24, 160 - 150 * 0.04 / 1.08), abs=0.06)
    assert dots[2] == pytest.approx((46 + 304 * 3.12 / 3.24, 160 - 150 * 1.04 / 1.08), abs=0.06)
    assert chart.attrib["aria-label"] == "loss: loss from 0 to 1 over 4 points, lowest 0, highest 1"
    (line,) = json.loads(chart.attrib["data-points"])["lines"]
    assert line["ys"] == [0.0, 1.0, None, 1.0]


def test_texts_in_a_chart_cannot_become_markup() -> None:
    hostile = '"><script>alert(1)</script>'
    for text in (
        charts.line_chart([Line(hostile, [1], [1.0])], title=hostile, x_label=hostile, y_label=hostile),
        charts.share_bars([(hostile, {"generate": 1.0})], title=hostile),
        charts.spark([1.0], [0.5], label=hostile),
    ):
        assert "<script" not in text
        assert svg(text).attrib["aria-label"].count(hostile) >= 1


def test_intervals_are_whiskers_around_means_in_the_order_of_the_budget() -> None:
    points = [
        {"x": 512, "mean": 50.0, "low": 40.0, "high": 60.0},
        {"x": 0, "mean": 10.0, "low": 5.0, "high": 15.0},
    ]
    chart = svg(charts.interval_chart(points, title="budget", x_label="tokens", y_label="%"))
    assert chart.attrib["aria-label"] == "budget: 0: 10.0 (5.0 to 15.0); 512: 50.0 (40.0 to 60.0)"
    first, second = [part.attrib["d"] for part in chart.iter("path") if part.attrib["class"] == "whisker"]
    assert float(re.findall(r"M([\d.]+)", first)[0]) < float(re.findall(r"M([\d.]+)", second)[0])


def test_bars_are_as_wide_as_their_shares_and_say_them() -> None:
    chart = svg(charts.share_bars([("rl", {"generate": 0.75, "other": 0.25})], title="split"))
    rects = list(chart.iter("rect"))
    assert [float(rect.attrib["width"]) for rect in rects] == [540.0, 180.0]
    assert [rect.findtext("title") for rect in rects] == ["rl, generate: 75.0%", "rl, other: 25.0%"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (1200, "1,200"), (35_000, "35k"), (2_500_000, "2.5M"), (4e-7, "4e-07"), (math.inf, "not finite")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert charts.short_number(value) == text
