"""Results of evaluations as the page shows them: accuracy by stage and mode, counts, differences, the budget curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from evals import markdown
from evals.page import charts
from evals.summary import BUDGET_CURVE, COMPARISONS, format_delta, summary_rows


def accuracy_tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table a mode: {"mode", "stages", "rows": [{"benchmark", "cells": [cell or None a stage]}]}."""
    rows = list(summary_rows(summary))
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault(row["mode"], {}).setdefault(row["benchmark"], {})[row["stage"]] = _cell(row)
    return [
        {
            "mode": mode.replace("_", "-"),
            "stages": stages,
            "rows": [
                {"benchmark": name, "cells": [cells.get(stage) for stage in stages]} for name, cells in found.items()
            ],
        }
        for mode, found in tables.items()
    ]


def _cell(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["interval"]
    delta, between = row["delta"], row["delta_interval"]
    sure = between is not None and (between[0] > 0 or between[1] < 0)
    return {
        "mean": f"{100 * row['mean']:.1f}",
        "interval": f"{100 * low:.1f}–{100 * high:.1f}",
        "glyph": charts.interval_glyph(row["mean"], low, high),
        "delta": "" if delta is None else f"{100 * delta:+.1f}",
        "direction": "" if delta is None or not sure else "up" if delta > 0 else "down",
    }


def full_tables(summary: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every result with its counts, and the paired differences, in points of a percent."""
    results = [
        {
            "stage": row["stage"],
            "mode": row["mode"].replace("_", "-"),
            "benchmark": row["benchmark"],
            "accuracy (%)": f"{100 * row['mean']:.1f}",
            "95% interval": markdown.percents(row["interval"]),
            "against the stage before": format_delta(row),
            "prompts": markdown.count(row["n"]),
            "tokens": markdown.count(row.get("mean_tokens")),
            "truncated": markdown.percent(row.get("truncated")),
            "failed scores": markdown.count(row.get("errors")),
        }
        for row in summary_rows(summary)
    ]
    return results, paired_rows(summary)


def paired_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paired differences, in points of a percent."""
    return [
        {
            "stage": item["stage"],
            "minus": item["baseline"],
            "mode": item["mode"].replace("_", "-"),
            "benchmark": item["benchmark"],
            "points": f"{100 * item['mean']:+.1f}",
            "95% interval": markdown.percents(item["interval"], sign="+"),
            "prompts": markdown.count(item["n"]),
        }
        for item in summary.get(COMPARISONS, {}).values()
    ]


def budget(summary: Mapping[str, Any]) -> tuple[Markup | None, list[dict[str, Any]]]:
    """The budget curve as a chart (None without one) and as rows."""
    found = summary.get(BUDGET_CURVE) or ()
    if not found:
        return None, []
    spots = [
        {
            "x": p["budget_tokens"],
            "mean": 100 * p["mean"],
            "low": 100 * p["interval"][0],
            "high": 100 * p["interval"][1],
        }
        for p in found
    ]
    chart = charts.interval_chart(
        spots, title="accuracy by thinking budget", x_label="thinking budget (tokens)", y_label="accuracy (%)"
    )
    rows = [
        {
            "share of the full budget": markdown.percent(point["budget_share"]),
            "budget (tokens)": markdown.count(point["budget_tokens"]),
            "accuracy (%)": f"{100 * point['mean']:.1f}",
            "95% interval": markdown.percents(point["interval"]),
            "prompts": markdown.count(point["n"]),
        }
        for point in found
    ]
    return chart, rows
