"""A run as one text to read, `report.md` with its figures, and beside it the page for a browser (`evals.page`).

Takes plain dicts as they come out of the run's JSON files and only ever shows what is in them: a column that a stage
did not record is called "not measured", and no number is estimated, filled in or carried over.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.chat import parse_completion
from data.files import atomic_write
from evals import markdown
from evals.markdown import NOT_MEASURED, Row
from evals.page.document import write_page
from evals.report_inputs import (
    Curve,
    ReportInputs,
    by_stage,
    measured_curves,
    points,
    stage_seconds,
    stage_times,
    sum_or_none,
)
from evals.summary import BUDGET_CURVE, COMPARISONS, format_delta, summary_rows
from evals.time_split import time_figure, time_section

_MOST_MARKED_POINTS = 40
_BLUE, _GREY = "#1f5fa8", "#8a8a8a"


def write_report(run_dir: str | os.PathLike[str], inputs: ReportInputs) -> Path:
    """Write `report.md`, `figures/*.png` and `report.html` into `run_dir` and return the path of the first.

    Figures are written first and each file is replaced atomically, so a page never points at what is not there.
    """
    run_dir = Path(run_dir)
    for name, figure in report_figures(inputs).items():
        atomic_write(run_dir / "figures" / f"{name}.png", _png(figure))
    atomic_write(run_dir / "report.md", report_markdown(inputs).encode("utf-8", "replace"))
    write_page(run_dir / "report.html", inputs)
    return run_dir / "report.md"


def report_markdown(inputs: ReportInputs) -> str:
    """The page as Markdown, which refers to `figures/<name>.png` for every name in `report_figures`."""
    sections = (
        ("Pipeline", _pipeline_section(inputs.pipeline)),
        ("Accuracy", _accuracy_section(inputs.summary)),
        ("Thinking budget", _budget_section(inputs.summary)),
        ("Training curves", _curves_section(inputs)),
        ("Where the time goes", time_section(stage_times(inputs), stage_seconds(inputs))),
        ("Data filters", _filters_section(inputs.filters)),
        ("Rollouts to read", _rollouts_section(inputs.samples)),
        ("Cost", _cost_section(inputs.pipeline)),
    )
    return f"# {inputs.title}\n\n" + "\n".join(f"## {heading}\n\n{body}\n" for heading, body in sections)


def report_figures(inputs: ReportInputs) -> dict[str, Figure]:
    """The figures of the page by file name without ending."""
    figures = {}
    for stage, rows in by_stage(inputs.metrics).items():
        curves, _ = measured_curves(rows)
        if curves:
            figures[f"{stage}-curves"] = _curves_figure(stage, rows, curves)
    if inputs.summary.get(BUDGET_CURVE):
        figures["budget-curve"] = _budget_figure(inputs.summary[BUDGET_CURVE])
    split = time_figure(stage_times(inputs))
    return figures | ({"time-split": split} if split is not None else {})


# -- sections ----------------------------------------------------------------------------------------------------------


def _pipeline_section(pipeline: Sequence[Row]) -> str:
    rows = [
        {
            "stage": row.get("stage"),
            "state": row.get("state"),
            "key": markdown.short(row.get("key")),
            "parent": "base model" if row.get("parent", "") is None else markdown.short(row.get("parent")),
            "time": markdown.duration(markdown.number(row.get("seconds"))),
            "tokens": markdown.count(row.get("tokens")),
        }
        for row in pipeline
    ]
    return markdown.table(rows, num_text=4)


def _accuracy_section(summary: Mapping[str, Any]) -> str:
    rows = [
        {
            "stage": row["stage"],
            "mode": row["mode"],
            "benchmark": row["benchmark"],
            "accuracy": f"**{100 * row['mean']:.1f}**",
            "95% interval": markdown.percents(row["interval"]),
            "against the stage before": format_delta(row),
            "prompts": row["n"],
            "tokens": markdown.count(row.get("mean_tokens")),
            "truncated": markdown.percent(row.get("truncated")),
            "errors": markdown.count(row.get("errors")),
        }
        for row in summary_rows(summary)
    ]
    if not rows:
        return NOT_MEASURED
    text = (
        "Accuracy is the mean over prompts, in percent, with a bootstrap interval over prompts. A difference in "
        "brackets has its own interval, paired by prompt. Tokens are the mean per completion; errors are scores that "
        "failed, which count neither as right nor as wrong.\n\n"
        + "\n\n".join(_stages_side_by_side(summary))
        + "\n\nIn full:\n\n"
        + markdown.table(rows, num_text=3)
    )
    paired = [
        {
            "stage": item["stage"],
            "minus": item["baseline"],
            "mode": item["mode"],
            "benchmark": item["benchmark"],
            "difference": f"{100 * item['mean']:+.1f}",
            "95% interval": markdown.percents(item["interval"], sign="+"),
            "prompts": item["n"],
        }
        for item in summary.get(COMPARISONS, {}).values()
    ]
    return text + (
        "\n\nPaired differences, in points of a percent:\n\n" + markdown.table(paired, num_text=4) if paired else ""
    )


def _stages_side_by_side(summary: Mapping[str, Any]) -> list[str]:
    """A table for each mode: a line a benchmark, a column a stage, points against the stage before in brackets."""
    tables: dict[str, dict[str, Row]] = {}
    stages = list(dict.fromkeys(row["stage"] for row in summary_rows(summary)))
    for row in summary_rows(summary):
        empty = {"benchmark": row["benchmark"], **dict.fromkeys(stages, "")}
        line = tables.setdefault(row["mode"], {}).setdefault(row["benchmark"], empty)
        delta = "" if row["delta"] is None else f" ({100 * row['delta']:+.1f})"
        line[row["stage"]] = f"{100 * row['mean']:.1f}{delta}"  # type: ignore[index]
    return [
        f"**{mode.replace('_', '-')}**\n\n{markdown.table(list(lines.values()), num_text=1)}"
        for mode, lines in tables.items()
    ]


def _budget_section(summary: Mapping[str, Any]) -> str:
    rows = [
        {
            "share of the full budget": markdown.percent(point["budget_share"]),
            "budget (tokens)": markdown.count(point["budget_tokens"]),
            "accuracy": f"{100 * point['mean']:.1f}",
            "95% interval": markdown.percents(point["interval"]),
            "prompts": point["n"],
        }
        for point in summary.get(BUDGET_CURVE, ())
    ]
    figure = "![accuracy against thinking budget](figures/budget-curve.png)\n\n" if rows else ""
    return figure + markdown.table(rows, num_text=0)


def _curves_section(inputs: ReportInputs) -> str:
    rows_of = by_stage(inputs.metrics)
    parts = []
    for stage in dict.fromkeys([str(row.get("stage")) for row in inputs.pipeline] + list(rows_of)):
        curves, missing = measured_curves(rows_of.get(stage, ()))
        parts.append(f"### {stage}\n")
        if curves:
            titles = ", ".join(curve.title for curve in curves)
            parts.append(f"![{stage}: {titles}](figures/{stage}-curves.png)\n")
        if missing:
            parts.append("Not measured: " + ", ".join(f"{curve.title} (`{curve.column}`)" for curve in missing) + ".\n")
    return "\n".join(parts) if parts else NOT_MEASURED


def _filters_section(filters: Mapping[str, Mapping[str, int]]) -> str:
    counts = [(stage, name, count) for stage, by_filter in filters.items() for name, count in by_filter.items()]
    rows = [{"stage": stage, "filter": name, "rows": markdown.count(count)} for stage, name, count in counts]
    return markdown.table(rows, num_text=2)


def _rollouts_section(samples: Sequence[Row]) -> str:
    parts = []
    for stage, rows in by_stage(samples).items():
        outcomes = Counter(str(row.get("outcome", f"outcome {NOT_MEASURED}")) for row in rows)
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
        parts.append(f"### {stage}\n\nOf {len(rows):,} recorded: {counts}.\n")
        for outcome in ("correct", "incorrect"):
            first = next((row for row in rows if row.get("outcome") == outcome), None)
            parts.append(f"**First {outcome}:** " + ("none recorded.\n" if first is None else _rollout(first)))
    return "\n".join(parts) if parts else NOT_MEASURED


def _rollout(row: Row) -> str:
    facts = [f"{name} {row.get(name, NOT_MEASURED)}" for name in ("step", "task", "reward")]
    if row.get("reason"):
        facts.append(f"reason: {markdown.cell(row['reason'])}")
    prompt, completion = row.get("prompt", NOT_MEASURED), row.get("completion", NOT_MEASURED)
    parsed = parse_completion(markdown.text(completion))
    text = "; ".join(facts) + f"\n\n{markdown.fence(markdown.text(prompt))}\n\n"
    if parsed.reasoning:
        summary = f"thinking, {len(parsed.reasoning):,} characters" + (", never closed" * (parsed.block == "unclosed"))
        text += f"<details><summary>{summary}</summary>\n\n{markdown.fence(parsed.reasoning)}\n\n</details>\n\n"
    return text + (markdown.fence(parsed.answer) if parsed.answer else "No answer.") + "\n"


def _cost_section(pipeline: Sequence[Row]) -> str:
    extra = list(dict.fromkeys(name for row in pipeline for name in row.get("cost") or {}))
    whole = sum_or_none(row.get("seconds") for row in pipeline)
    rows = []
    for row in pipeline:
        seconds, tokens, cost = (
            markdown.number(row.get("seconds")),
            markdown.number(row.get("tokens")),
            row.get("cost") or {},
        )
        cells = {
            "stage": row.get("stage"),
            "time": markdown.duration(seconds),
            "share of time": markdown.percent(seconds / whole if seconds is not None and whole else None),
            "tokens": markdown.count(tokens),
            "tokens/s": markdown.count(tokens / seconds if tokens is not None and seconds else None),
        }
        rows.append(cells | {name.replace("_", " "): markdown.count(cost.get(name)) for name in extra})
    if rows:
        total = {"stage": "**all**", "time": markdown.duration(whole), "share of time": "", "tokens/s": ""}
        total |= {"tokens": markdown.count(sum_or_none(row.get("tokens") for row in pipeline))}
        sums = {name: sum_or_none((row.get("cost") or {}).get(name) for row in pipeline) for name in extra}
        rows.append(total | {name.replace("_", " "): markdown.count(value) for name, value in sums.items()})
    return markdown.table(rows, num_text=1)


# -- figures -----------------------------------------------------------------------------------------------------------


def _curves_figure(stage: str, rows: Sequence[Row], curves: Sequence[Curve]) -> Figure:
    num_columns = min(2, len(curves))
    num_rows = math.ceil(len(curves) / num_columns)
    figure = Figure(figsize=(5.2 * num_columns, 3.2 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axis, curve in zip(axes, curves, strict=False):
        steps, values = points(rows, curve.column)
        marker = "o" if len(steps) <= _MOST_MARKED_POINTS else None
        axis.plot(steps, values, color=_BLUE, linewidth=1.4, marker=marker, markersize=3)
        axis.set(title=curve.title, xlabel="optimizer step", ylabel=curve.label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axis)
    for unused in axes[len(curves) :]:
        unused.set_visible(False)
    figure.suptitle(stage)
    return figure


def _budget_figure(points: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    points = sorted(points, key=lambda point: point["budget_tokens"])
    tokens = [point["budget_tokens"] for point in points]
    means, lows, highs = 100 * np.array([(point["mean"], *point["interval"]) for point in points]).T
    axis.errorbar(tokens, means, yerr=(means - lows, highs - means), color=_BLUE, ecolor=_GREY, marker="o", capsize=3)
    if min(tokens) > 0:
        axis.set_xscale("log", base=2)
    axis.set_xticks(tokens, [f"{count:,}" for count in tokens])
    axis.minorticks_off()
    axis.set(title="accuracy and its 95% interval", xlabel="thinking budget (tokens)", ylabel="accuracy (%)")
    axis.set_ylim(bottom=max(0.0, lows.min() - 5))
    _tidy(axis)
    return figure


def _tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=130)
    return buffer.getvalue()
