"""An ablation's table on its side has the same numbers, variants below each other."""

from __future__ import annotations

import pytest

from benchmarks.ablation_rows import markdown, places_of, rows
from evals.ablation_formats import to_document
from tests.evals.test_ablation import TINY

DOCUMENT = to_document(TINY)


def test_variants_are_rows_and_benchmarks_columns() -> None:
    assert markdown(rows(DOCUMENT, places_of(DOCUMENT))) == (
        "| variant | against | think_follow, mixed | math, thinking | hours |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| cold_start | – | – | 50.0 | 0.50 |\n"
        "| reasoning_rl | cold_start | 50.0 | 75.0, +25.0* (+25.0 to +25.0) | 1.25 |\n"
        "| fusion | reasoning_rl | 100.0, +50.0* (+50.0 to +50.0) | 50.0, -25.0* (-25.0 to -25.0) | 0.00 |\n"
    )


def test_columns_are_those_that_were_asked_for() -> None:
    found = rows(DOCUMENT, [("math", "non_thinking")])
    assert [row[2] for row in found] == ["math, non-thinking", "25.0", "25.0, +0.0 (+0.0 to +0.0)", "–"]
    short = rows(DOCUMENT, [("math", "non_thinking")], short=True)
    assert [row[2] for row in short] == ["math, non-thinking", "25.0", "25.0, +0.0", "–"]
    with pytest.raises(ValueError, match="the table has no"):
        rows(DOCUMENT, [("maths", "thinking")])
