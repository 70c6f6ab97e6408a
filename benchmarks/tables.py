"""Turns the lines of compared sides into Markdown: median, spread, ratio of medians, peak memory, machine, command."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of what was measured, and how many measurements there were."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None when there is nothing to summarise."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found)) if found else None

    def text(self, digits: int = 2) -> str:
        if digits < 0:
            return f"{self.median:,.0f} ({self.low:,.0f} to {self.high:,.0f})"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class SideResult:
    """One side of one case: its counted steps, peak memory, settings, versions, and why it failed when it did."""

    name: str
    steps: tuple[Row, ...]
    peak_bytes: int | None
    settings: Row
    versions: Row
    failure: str | None

    def why_untimed(self) -> str:
        """What a table says in place of a time."""
        return f"failed ({self.failure})" if self.failure else "not timed"

    def seconds(self) -> Spread | None:
        return Spread.of(step["seconds"] for step in self.steps)

    def rate(self, tokens: str) -> Spread | None:
        """Tokens a second, `tokens` being the name of the count in each step's line."""
        return Spread.of(step[tokens] / step["seconds"] for step in self.steps)

    def part(self, name: str) -> float | None:
        """The median of one part of a step, in its own unit; None when the side does not report it."""
        values = [step[name] for step in self.steps if name in step]
        return statistics.median(values) if values else None


def sides_of(rows: Sequence[Row]) -> list[SideResult]:
    """The sides of one case in the order in which they ran; the first `warmup` steps of each run are left out."""
    warmup = next(row for row in rows if row["event"] == "case")["plan"]["warmup"]
    names = list(dict.fromkeys(row["side"] for row in rows if "side" in row))
    results = []
    for name in names:
        mine = [row for row in rows if row.get("side") == name]
        timed = [row for row in mine if row["event"] == "step" and row["kind"] == "timed" and row["step"] > warmup]
        failed = [row for row in mine if row["event"] == "failed"]
        results.append(
            SideResult(
                name=name,
                steps=tuple(timed),
                peak_bytes=next((row["peak_bytes"] for row in mine if row["event"] == "memory"), None),
                settings=next((row["settings"] for row in mine if row["event"] == "settings"), {}),
                versions=next((row["versions"] for row in mine if row["event"] == "facts"), {}),
                failure=f"{failed[0]['code']}: {failed[0]['said']}" if failed else None,
            )
        )
    return results


def ratio(mine: Spread | None, theirs: Spread | None) -> float | None:
    """The ratio of two medians; None when either side has none."""
    return mine.median / theirs.median if mine and theirs else None


def cell(value: float | int | None, digits: int = 2) -> str:
    """A number for a table, or nothing."""
    return "" if value is None else f"{value:,.{digits}f}"


def gib(num_bytes: int | None) -> str:
    """Bytes as GiB with two digits."""
    return "" if num_bytes is None else f"{num_bytes / 2**30:.2f}"


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def head_of(rows: Sequence[Row]) -> str:
    """Machine, commit, date, command and versions of one case, as a paragraph."""
    about = next(row for row in rows if row["event"] == "case")
    plan = about["plan"]
    versions: dict[str, str] = {}
    for side in sides_of(rows):
        versions |= side.versions
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"{about['processor']}, {about['cores']} cores ({', '.join(about['instructions']) or 'none of AVX2 to AMX'}), "
        f"{about['memory_gib']:g} GiB; commit {about['commit']}, {about['date']}, load before "
        f"{about['load_before']:.1f}. "
        f"{listed}. Each side ran {plan['repeats']} times in turn with the others, {plan['steps']} steps after "
        f"{plan['warmup']} to warm up; memory in a run of its own. `{about['command']}`"
    )


def settings_text(settings: Row) -> str:
    """What was set for a side, without what the workload and the scratch folder are."""
    left_out = ("workload", "task", "max_new_tokens", "num_steps")
    shown = {name: value for name, value in settings.items() if name not in left_out and value not in (False, None, [])}
    return ", ".join(f"{name}={value}" for name, value in shown.items()) or "as installed"
