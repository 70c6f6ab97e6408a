"""Values as Markdown: tables, counts, percentages, durations, text that cannot break out of its block."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

NOT_MEASURED = "not measured"
MAX_CHARACTERS = 6000
"""Longest text in a block; the middle of a longer one is left out."""


def number(value: Any) -> float | None:
    """A number as it is, the strings that stand for non-finite numbers in JSON as those, anything else as None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else None


def table(rows: Sequence[Row], *, num_text: int) -> str:
    """A Markdown table with the columns of the first row; all but the first `num_text` columns hold numbers."""
    if not rows:
        return NOT_MEASURED
    columns = list(rows[0])
    lines = [columns, ["---"] * num_text + ["---:"] * (len(columns) - num_text)]
    lines += [[cell(row[column]) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: Any) -> str:
    """Any value on one line that cannot end its cell or begin a tag."""
    if value is None:
        return NOT_MEASURED
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def short(key: Any) -> str:
    """The first characters of a content key."""
    return f"`{str(key)[:12]}`" if key else NOT_MEASURED


def count(value: Any) -> str:
    """A number with thousands set apart; small fractions keep two digits."""
    known = number(value)
    if known is None:
        return NOT_MEASURED
    return f"{known:,.0f}" if abs(known) >= 100 or known.is_integer() else f"{known:,.2f}"


def percent(value: Any) -> str:
    """A share in percent."""
    known = number(value)
    return NOT_MEASURED if known is None else f"{100 * known:.1f}%"


def percents(interval: Sequence[float], *, sign: str = "") -> str:
    """An interval of shares in percent."""
    low, high = (format(100 * bound, f"{sign}.1f") for bound in interval)
    return f"{low} to {high}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), round(seconds / 60) // 60
    return f"{minutes} min" if not hours else f"{hours} h {minutes % 60:02d} min"


def text(value: Any) -> str:
    """A string as it is, chat messages with their roles, anything else as JSON."""
    if isinstance(value, list) and all(isinstance(item, Mapping) and "role" in item for item in value):
        return "\n\n".join(f"{item['role']}: {text(item.get('content', ''))}" for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def fence(text: str) -> str:
    """Text as a code block that nothing in the text can close, its middle left out when it is very long."""
    if len(text) > MAX_CHARACTERS:
        head, tail = 2 * MAX_CHARACTERS // 3, MAX_CHARACTERS // 3
        text = f"{text[:head]}\n[… {len(text) - head - tail:,} characters left out …]\n{text[-tail:]}"
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"
