"""Charts as SVG text: small pure functions from numbers to a picture that scales and follows the page's colours.

Colours are classes of the page's style sheet, so dark mode needs no second picture. What a chart shows also stands in
its label, for people who do not see it, and its points lie in an attribute, which the page's script reads out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MAX_POINTS = 400
"""Most points of a line; a longer one keeps the lowest and the highest of each stretch."""

_WIDTH, _HEIGHT = 360.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 10.0, 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; a value that is not finite leaves a gap."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that lie within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)]


def thinned(xs: Sequence[float], ys: Sequence[float], most: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """At most `most` of the points, in order: of each of most/2 stretches the lowest and the highest, so spikes stay.

    Points whose value is not finite go only when their stretch has others. All points are real ones, none is a mean.
    """
    if len(xs) <= most:
        return list(xs), list(ys)
    stretches = max(1, most // 2)
    kept: list[int] = []
    for number in range(stretches):
        begin, end = number * len(xs) // stretches, (number + 1) * len(xs) // stretches
        finite = [index for index in range(begin, end) if math.isfinite(ys[index])]
        chosen = {min(finite, key=lambda i: ys[i]), max(finite, key=lambda i: ys[i])} if finite else {begin}
        kept += sorted(chosen)
    return [xs[index] for index in kept], [ys[index] for index in kept]


def short_number(value: float) -> str:
    """A number for an axis or a label: 0.25, 1,200, 35k, 4e-07."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1e6:g}M" if size >= 1e6 else f"{value / 1e3:.4g}k"
    return f"{value:,.0f}" if size >= 100 and float(value).is_integer() else f"{value:.3g}"


def padded_range(values: Sequence[float], *, from_zero: bool = False) -> tuple[float, float]:
    """The lowest and highest of finite values with a little room; a constant gets room on both sides."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    low = min(low, 0.0) if from_zero else low
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - (0.0 if from_zero and low == 0 else room), high + room
    room = 0.04 * (high - low)
    return low if from_zero and low == 0 else low - room, high + room


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, y_label: str, from_zero: bool = False) -> Markup:
    """Lines over a common x axis; the label says where each starts, ends, and how far it reaches."""
    short = [Line(line.name, *thinned(line.xs, line.ys)) for line in lines]
    x_low, x_high = padded_range([x for line in short for x in line.xs])
    y_low, y_high = padded_range([y for line in short for y in line.ys], from_zero=from_zero)
    place_x = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    place_y = _scale(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)
    parts = _axes(place_x, place_y, ticks(x_low, x_high), ticks(y_low, y_high), x_label, y_label)
    for number, line in enumerate(short):
        spots = [(place_x(x), place_y(y)) if math.isfinite(y) else None for x, y in zip(line.xs, line.ys, strict=True)]
        parts.append(f'<path class="line s{number}" d="{_path(spots)}"/>')
        if len(spots) <= 40:
            parts += [
                f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in filter(None, spots)
            ]
    label = f"{title}: " + "; ".join(_described(line) for line in lines)
    return _svg(parts, label=label, points=_points_attribute(short, x_label))


def interval_chart(points: Sequence[Mapping[str, float]], *, title: str, x_label: str, y_label: str) -> Markup:
    """Means with whiskers at equal distances in the order of "x"; each point has "x", "mean", "low" and "high"."""
    points = sorted(points, key=lambda point: point["x"])
    y_low, y_high = padded_range([p[name] for p in points for name in ("low", "high")], from_zero=True)
    xs = list(range(len(points)))
    place_x = _scale(-0.4, max(0.4, len(points) - 0.6), _LEFT, _WIDTH - _RIGHT)
    place_y = _scale(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)
    names = [short_number(point["x"]) for point in points]
    parts = _axes(place_x, place_y, xs, ticks(y_low, y_high), x_label, y_label, x_names=names)
    means = [(place_x(x), place_y(point["mean"])) for x, point in zip(xs, points, strict=True)]
    parts.append(f'<path class="line s0" d="{_path(means)}"/>')
    for x, point in zip(xs, points, strict=True):
        low, high, mean, at = place_y(point["low"]), place_y(point["high"]), place_y(point["mean"]), place_x(x)
        ends = f"M{at - 4:.1f} {low:.1f}h8M{at - 4:.1f} {high:.1f}h8"
        parts.append(f'<path class="whisker" d="M{at:.1f} {low:.1f}V{high:.1f}{ends}"/>')
        parts.append(f'<circle class="dot s0" cx="{at:.1f}" cy="{mean:.1f}" r="3.2"/>')
    said = [
        f"{name}: {p['mean']:.1f} ({p['low']:.1f} to {p['high']:.1f})" for name, p in zip(names, points, strict=True)
    ]
    line = Line(y_label, [point["x"] for point in points], [point["mean"] for point in points])
    return _svg(
        parts,
        label=f"{title}: " + "; ".join(said),
        points=_points_attribute([line], x_label, at=[place_x(x) for x in xs]),
    )


def interval_glyph(mean: float, low: float, high: float) -> Markup:
    """A share in [0, 1] and its interval as a small bar under a number; it says nothing that the number does not."""
    place = _scale(0.0, 1.0, 1.0, 79.0)
    left, right = place(low), max(place(high), place(low) + 1)
    return Markup(
        '<svg class="glyph" viewBox="0 0 80 6" aria-hidden="true" focusable="false">'
        f'<path class="rail" d="M1 3H79"/><path class="span" d="M{left:.1f} 3H{right:.1f}"/>'
        f'<circle class="dot s0" cx="{place(mean):.1f}" cy="3" r="2.4"/></svg>'
    )


def share_bars(rows: Sequence[tuple[str, Mapping[str, float]]], *, title: str) -> Markup:
    """One stacked bar a row from shares that add up to 1; each part has the class `phase-<name>` and says its share."""
    bars = []
    for name, shares in rows:
        parts = []
        left = 0.0
        for part, share in shares.items():
            width = 720 * share
            told = escape(f"{name}, {part}: {100 * share:.1f}%")
            box = f'x="{left:.1f}" y="0" width="{max(width, 0.1):.1f}" height="22"'
            parts.append(f'<rect class="phase-{escape(part)}" {box}><title>{told}</title></rect>')
            if width >= 34:
                parts.append(f'<text class="inside" x="{left + width / 2:.1f}" y="15">{100 * share:.0f}%</text>')
            left += width
        bars.append(f'<p class="name">{escape(name)}</p><svg viewBox="0 0 720 22">{"".join(parts)}</svg>')
    said = [f"{name}: " + ", ".join(f"{part} {100 * x:.0f}%" for part, x in shares.items()) for name, shares in rows]
    label = escape(f"{title}. " + ". ".join(said))
    return Markup(f'<div class="bars" role="img" aria-label="{label}">{"".join(bars)}</div>')


def spark(xs: Sequence[float], ys: Sequence[float], *, label: str) -> Markup:
    """A small line without axes, for shares in [0, 1]."""
    xs, ys = thinned(xs, ys, 120)
    x_low, x_high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    place_x = _scale(x_low, x_high if x_high > x_low else x_low + 1, 3.0, 157.0)
    place_y = _scale(0.0, 1.0, 41.0, 3.0)
    spots = [(place_x(x), place_y(y)) if math.isfinite(y) else None for x, y in zip(xs, ys, strict=True)]
    known = [spot for spot in spots if spot is not None]
    last = f'<circle class="dot s0" cx="{known[-1][0]:.1f}" cy="{known[-1][1]:.1f}" r="2.4"/>' if known else ""
    return Markup(
        f'<svg class="spark" viewBox="0 0 160 44" role="img" aria-label="{escape(label)}">'
        f'<path class="rail" d="M3 41H157M3 3H157"/><path class="line s0" d="{_path(spots)}"/>{last}</svg>'
    )


# -- parts -------------------------------------------------------------------------------------------------------------


class _Scale:
    """A straight map from [low, high] to [begin, end]."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def _scale(low: float, high: float, begin: float, end: float) -> _Scale:
    return _Scale(low, high, begin, end)


def _path(spots: Sequence[tuple[float, float] | None]) -> str:
    """A path through the spots that is lifted at each None."""
    parts = []
    down = False
    for spot in spots:
        if spot is not None:
            parts.append(f"{'L' if down else 'M'}{spot[0]:.1f} {spot[1]:.1f}")
        down = spot is not None
    return "".join(parts)


def _axes(
    place_x: _Scale,
    place_y: _Scale,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    x_names: Sequence[str] | None = None,
) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path class="grid" d="M{_LEFT} {place_y(value):.1f}H{right}"/>' for value in y_ticks]
    parts += [
        f'<text class="tick y" x="{_LEFT - 5}" y="{place_y(value) + 3.5:.1f}">{short_number(value)}</text>'
        for value in y_ticks
    ]
    names = x_names or [short_number(value) for value in x_ticks]
    parts += [
        f'<text class="tick x" x="{place_x(value):.1f}" y="{bottom + 13}">{escape(name)}</text>'
        for value, name in zip(x_ticks, names, strict=True)
    ]
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    parts.append(f'<text class="label" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}">{escape(x_label)}</text>')
    parts.append(f"<title>{escape(y_label)}</title>")
    return parts


def _described(line: Line) -> str:
    known = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)]
    if not known:
        return f"{line.name}: no finite value"
    ys = [y for _, y in known]
    return (
        f"{line.name} from {short_number(ys[0])} to {short_number(ys[-1])} over {len(line.xs):,} points, "
        f"lowest {short_number(min(ys))}, highest {short_number(max(ys))}"
    )


def _points_attribute(lines: Sequence[Line], x_label: str, *, at: Sequence[float] | None = None) -> str:
    """The points for the page's script: name, x, y (null: a gap) and place in the picture of each line."""
    x_low, x_high = padded_range([x for line in lines for x in line.xs])
    place = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    return json.dumps(
        {
            "x": x_label,
            "lines": [
                {
                    "name": line.name,
                    "xs": [float(f"{x:.10g}") for x in line.xs],
                    "ys": [float(f"{y:.4g}") if math.isfinite(y) else None for y in line.ys],
                    "at": [round(value, 1) for value in (at if at is not None else map(place, line.xs))],
                }
                for line in lines
            ],
        },
        separators=(",", ":"),
    )


def _svg(parts: Sequence[str], *, label: str, points: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" tabindex="0" '
        f'aria-label="{escape(label)}" data-points="{escape(points)}">{"".join(parts)}</svg>'
    )
