"""The tables of an evaluation: the same text as Markdown and for a terminal, with what was not measured said so."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from evals.results_table import markdown_document, rich_tables, tables


def interval(mean: float, low: float, high: float, n: int = 48) -> dict[str, Any]:
    return {"mean": mean, "interval": [low, high], "n": n}


def document(**changes: Any) -> dict[str, Any]:
    sums = {
        "benchmark": "sums", "mode": "thinking", "budget_tokens": None, "samples_per_prompt": 4,
        **interval(0.5, 0.25, 0.75), "pass_at": {"1": interval(0.5, 0.25, 0.75), "4": interval(0.9, 0.8, 1.0)},
        "seed_means": {"0": 0.5}, "seed_deviation": None, "mean_tokens": 1234.5, "truncated": 0.125, "samples": 192,
        "errors": 1, "parts": {}, "domains": {},
    }  # fmt: skip
    tools = sums | {
        "benchmark": "tools", "mode": "non_thinking", "budget_tokens": 2048, "pass_at": {"1": interval(0.1, 0.0, 0.2)},
        "parts": {"intent": interval(1.0, 1.0, 1.0)}, "domains": {"a|b": interval(0.0, 0.0, 0.5, 2)},
    }  # fmt: skip
    return {
        "checkpoint": "base", "suite": "mine", "seeds": [0], "pass_at": [1, 4], "tokens": 123456,
        "results": [sums, tools],
        "categories": [{"category": "x", "mode": "thinking", "benchmarks": ["sums"], **interval(0.5, 0.4, 0.6)}],
    } | changes  # fmt: skip


def test_the_markdown_is_this() -> None:
    assert markdown_document(document()) == (
        "# Evaluation\n\n"
        "base on suite mine, seed 0; shares in percent with 95 % intervals over prompts; 123,456 tokens sampled\n\n"
        "## Results\n\n"
        "| benchmark | mode | budget | avg@k | k | pass@1 | pass@4 | tokens | truncated | errors | prompts |\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| sums | thinking | – | 50.0 (25.0 to 75.0) | 4 | 50.0 (25.0 to 75.0) | 90.0 (80.0 to 100.0) | 1,234 | 12.5% "
        "| 1 | 48 |\n"
        "| tools | non-thinking | 2,048 | 50.0 (25.0 to 75.0) | 4 | 10.0 (0.0 to 20.0) | – | 1,234 | 12.5% | 1 | 48 |\n"
        "\n"
        "## Categories\n\n"
        "| category | mode | mean | benchmarks | prompts |\n| --- | --- | ---: | ---: | ---: |\n"
        "| x | thinking | 50.0 (40.0 to 60.0) | 1 | 48 |\n\n"
        "## Separate scores\n\n"
        "| benchmark | mode | score | mean | prompts |\n| --- | --- | --- | ---: | ---: |\n"
        "| tools | non-thinking, budget 2,048 | intent | 100.0 (100.0 to 100.0) | 48 |\n\n"
        "## Kinds of prompt\n\n"
        "| benchmark | mode | kind | mean | prompts |\n| --- | --- | --- | ---: | ---: |\n"
        "| tools | non-thinking, budget 2,048 | a\\|b | 0.0 (0.0 to 50.0) | 2 |\n"
    )


def test_several_seeds_show_their_spread() -> None:
    found = document(seeds=[0, 1])
    found["results"][0]["seed_deviation"] = 0.0213
    rows = tables(found)["Results"]
    assert [row["± seeds"] for row in rows] == ["2.1", "–"]
    assert "seeds 0, 1;" in markdown_document(found)


def test_a_terminal_shows_the_same_text_and_no_markup_of_a_name() -> None:
    found = document()
    found["results"][0]["benchmark"] = "[red]x[/red]"
    console = Console(file=(text := io.StringIO()), width=200, color_system=None)
    for table in rich_tables(found):
        console.print(table)
    shown = text.getvalue()
    for rows in tables(found).values():
        assert all(value in shown for row in rows for value in row.values())
    assert "base on suite mine" in shown


def test_tables_without_rows_are_left_out() -> None:
    found = document(categories=[])
    for result in found["results"]:
        result["parts"] = result["domains"] = {}
    assert list(tables(found)) == ["Results"]
