"""The document of `fourstage eval` as tables: Markdown for a file or a pipe, rich for a terminal.

Both are made from the same rows of text, so that a number is rounded in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from evals import markdown

NONE = "–"
_NUM_TEXT = {"Results": 3, "Categories": 2, "Separate scores": 3, "Kinds of prompt": 3}
"""How many columns of each table hold text; the others are numbers and stand to the right."""


def tables(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The rows of each table that has any, by its title. All shares are in percent, with their 95 % intervals."""
    found = {
        "Results": [_result_row(result, document) for result in document["results"]],
        "Categories": [
            {"category": row["category"], "mode": _mode(row["mode"]), "mean": _interval(row),
             "benchmarks": str(len(row["benchmarks"])), "prompts": f"{row['n']:,}"}
            for row in document["categories"]
        ],
        "Separate scores": _inner_rows(document["results"], "parts", "score"),
        "Kinds of prompt": _inner_rows(document["results"], "domains", "kind"),
    }  # fmt: skip
    return {title: rows for title, rows in found.items() if rows}


def _result_row(result: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, str]:
    row = {
        "benchmark": result["benchmark"],
        "mode": _mode(result["mode"]),
        "budget": _budget(result["budget_tokens"]),
        "avg@k": _interval(result),
        "k": str(result["samples_per_prompt"]),
    }
    for k in document["pass_at"]:
        found = result["pass_at"].get(str(k))
        row[f"pass@{k}"] = NONE if found is None else _interval(found)
    if len(document["seeds"]) > 1:
        deviation = result["seed_deviation"]
        row["± seeds"] = NONE if deviation is None else f"{100 * deviation:.1f}"
    row["tokens"] = markdown.count(result["mean_tokens"])
    row["truncated"] = markdown.percent(result["truncated"])
    row["errors"] = f"{result['errors']:,}"
    row["prompts"] = f"{result['n']:,}"
    return row


def _inner_rows(results: Sequence[Mapping[str, Any]], field: str, name: str) -> list[dict[str, str]]:
    return [
        {
            "benchmark": result["benchmark"],
            "mode": f"{_mode(result['mode'])}{_budget_behind(result['budget_tokens'])}",
            name: inner,
            "mean": _interval(found),
            "prompts": f"{found['n']:,}",
        }
        for result in results
        for inner, found in result[field].items()
    ]


def _interval(found: Mapping[str, Any]) -> str:
    return f"{100 * found['mean']:.1f} ({markdown.percents(found['interval'])})"


def _mode(mode: str) -> str:
    return mode.replace("_", "-")


def _budget(tokens: int | None) -> str:
    return NONE if tokens is None else f"{tokens:,}"


def _budget_behind(tokens: int | None) -> str:
    return "" if tokens is None else f", budget {tokens:,}"


def caption(document: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    seeds = ", ".join(map(str, document["seeds"]))
    plural = "s" if len(document["seeds"]) > 1 else ""
    return (
        f"{document['checkpoint']} on suite {document['suite']}, seed{plural} {seeds}; shares in percent with 95 % "
        f"intervals over prompts; {document['tokens']:,} tokens sampled"
    )


def markdown_document(document: Mapping[str, Any]) -> str:
    """All tables as Markdown, one section each."""
    sections = [
        f"## {title}\n\n{markdown.table(rows, num_text=_NUM_TEXT[title])}" for title, rows in tables(document).items()
    ]
    return "\n\n".join([f"# Evaluation\n\n{caption(document)}", *sections]) + "\n"


def rich_tables(document: Mapping[str, Any]) -> list[Table]:
    """All tables for a terminal; the last one has the caption."""
    made = []
    for title, rows in tables(document).items():
        table = Table(title=title)
        for index, column in enumerate(rows[0]):
            table.add_column(column, justify="left" if index < _NUM_TEXT[title] else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row.values()))
        made.append(table)
    if made:
        made[-1].caption = escape(caption(document))
    return made
