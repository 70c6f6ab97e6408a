"""How the cost of a GRPO step grows when one dimension of its work is doubled again and again.

    python -m benchmarks.scaling [prompts group length vocabulary workers] [--steps 2] [--fourstage key=value]
    python -m benchmarks.scaling --table        # scaling.md and scaling.png again from the recorded lines

Every point is a run of the product's RL loop (`benchmarks/sides/fourstage_grpo.py`) on a workload that differs from the
base (8 prompts x 8 completions x 64 forced tokens, vocabulary 1024) in one number. The work of generating is the tokens
sampled, that of learning the operations which the model needs (attention's squares included); seconds divided by work
must not grow. With more workers the work stays the same and seconds should fall until the cores are used up.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, SCRATCH, Plan, Side, read_results, run_side, write_results
from benchmarks.machine import describe_machine
from benchmarks.options import run_as_program
from benchmarks.tables import markdown_table
from benchmarks.workloads import TASK_FILE, Workload, write_workload
from data.records import UserError

CLAIM = "scaling"
BASE = Workload(name="scaling", num_prompts=8, group_size=8, new_tokens=64)
POINTS: dict[str, tuple[int, ...]] = {
    "prompts": (8, 16, 32, 64),
    "group": (8, 16, 32),
    "length": (64, 128, 256, 512),
    "vocabulary": (1024, 16384, 32768, 65536, 131072),
    "workers": (1, 2, 4),
}
FIELDS = {"prompts": "num_prompts", "group": "group_size", "length": "new_tokens", "vocabulary": "vocab_size"}
PARTS = ("generate_s", "learn_s", "sync_s", "check_s")

NOTES = """# How the cost of a step grows

Made by `benchmarks/scaling.py`, which says what is measured. Each row is one workload: medians of the counted steps,
and in brackets the growth over the row before. The last two columns divide by the work: where they do not grow, cost
grows no faster than the work does.

![seconds over work](scaling.png)
"""


def workload_of(axis: str, value: int) -> Workload:
    """The base with one number changed."""
    if axis == "workers":
        return BASE
    return dataclasses.replace(BASE, name=f"{BASE.name}-{axis}-{value}", **{FIELDS[axis]: value})


def measure(axis: str, value: int, parsed: argparse.Namespace) -> dict[str, Any]:
    """The median step of one point."""
    chosen = workload_of(axis, value)
    folder = write_workload(chosen, SCRATCH / "workloads")
    overrides = list(parsed.fourstage)
    if axis == "workers":
        overrides += [
            f"{part}.{key}" for part in ("rollout", "learner") for key in (f"num_workers={value}", "num_threads=1")
        ]
    settings = {
        "workload": str(folder), "max_new_tokens": chosen.max_new_tokens, "task": str(TASK_FILE), "dtype": "float32",
        "fourstage": overrides,
    }  # fmt: skip
    plan = Plan(repeats=1, steps=parsed.steps, warmup=1, memory=False)
    side = Side(name="fourstage", module="fourstage_grpo", settings=settings)
    lines = run_side(side, plan, scratch=SCRATCH / CLAIM, python=Path(sys.executable), sample_memory=False)
    failed = [line for line in lines if line["event"] == "failed"]
    if failed:
        raise UserError(f"{axis}={value}: the run failed ({failed[0]['code']}): {failed[0]['said']}")
    steps = [line for line in lines if line["event"] == "step"][plan.warmup :]
    return {
        "axis": axis,
        "value": value,
        **{
            name: statistics.median(step[name] for step in steps)
            for name in ("seconds", *PARTS, "completion_tokens", "model_flops")
        },
    }


def per_work(row: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds of generation a thousand tokens, and of learning a GFLOP."""
    return 1e6 * row["generate_s"] / row["completion_tokens"], 1e12 * row["learn_s"] / row["model_flops"]


def axis_table(axis: str, rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for index, row in enumerate(rows):
        before = rows[index - 1] if index else None

        def grown(name: str, row: dict[str, Any] = row, before: dict[str, Any] | None = before) -> str:
            return f"{row[name]:.2f}" + (f" (×{row[name] / before[name]:.2f})" if before else "")

        generate, learn = per_work(row)
        lines.append(
            [f"{row['value']:,}", f"{row['completion_tokens']:,.0f}", f"{row['model_flops'] / 1e9:,.0f}",
             grown("seconds"), grown("generate_s"), grown("learn_s"), grown("sync_s"), grown("check_s"),
             f"{generate:.0f}", f"{learn:.1f}"]
        )  # fmt: skip
    header = (
        axis, "tokens", "GFLOP", "step, s", "generate", "learn", "sync", "check", "generate, ms/1,000 tokens",
        "learn, ms/GFLOP",
    )  # fmt: skip
    return markdown_table(header, lines)


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds over the doubled number, one panel an axis, both on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    drawing, panels = pyplot.subplots(
        1, len(axes), figsize=(3.4 * len(axes), 3.4), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, axis in zip(panels[0], axes, strict=True):
        mine = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in mine]
        for name, label in (("seconds", "step"), ("generate_s", "generate"), ("learn_s", "learn"), ("sync_s", "sync")):
            panel.plot(values, [row[name] for row in mine], marker="o", label=label)
        slope = -1 if axis == "workers" else 1
        ideal = [mine[0]["seconds"] * (value / values[0]) ** slope for value in values]
        panel.plot(values, ideal, color="gray", linestyle="--", label="in proportion")
        panel.set(
            xscale="log", yscale="log", xlabel=axis, xticks=values, xticklabels=[f"{value:,}" for value in values]
        )
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.tick_params(axis="x", labelrotation=45)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("seconds")
    drawing.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize="small")
    drawing.savefig(path, dpi=110)
    pyplot.close(drawing)


def write_page(recorded: Sequence[dict[str, Any]], folder: Path) -> str:
    """The page and its figure from all recorded lines."""
    parts = [NOTES]
    for case in dict.fromkeys(row["case"] for row in recorded):
        about, *rows = [row for row in recorded if row["case"] == case]
        head = (
            f"{about['processor']}, {about['cores']} cores; commit {about['commit']}, "
            f"load before {about['load_before']:.1f}"
        )
        parts.append(f"## {case}\n\n{head}. `{about['command']}`\n\n{axis_table(case, rows)}\n")
    text = "\n".join(parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{CLAIM}.md").write_text(text)
    figure([row for row in recorded if "axis" in row], folder / f"{CLAIM}.png")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="axis", help=f"of {', '.join(POINTS)}; none: all")
    parser.add_argument("--steps", type=int, default=2, help="counted steps of each point, after one to warm up")
    parser.add_argument("--fourstage", action="append", default=[], metavar="key=value", help="a setting of the recipe")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only write the page again")
    parsed = parser.parse_args(arguments)
    unknown = [axis for axis in parsed.axes if axis not in POINTS]
    if unknown:
        raise UserError(f"axis {unknown[0]!r} does not exist: choose from {', '.join(POINTS)}")
    path = parsed.results / f"{CLAIM}.jsonl"
    for axis in [] if parsed.table else parsed.axes or POINTS:
        overrides = "".join(f" --fourstage {item}" for item in parsed.fourstage)
        about = {
            "case": axis, "command": f"python -m benchmarks.{CLAIM} {axis} --steps {parsed.steps}{overrides}",
            "load_before": os.getloadavg()[0], **describe_machine(),
        }  # fmt: skip
        rows = [about]
        for value in POINTS[axis]:
            print(f"{CLAIM}: {axis} {value}", file=sys.stderr, flush=True)
            rows.append({"case": axis, **measure(axis, value, parsed)})
            # After every point: what a time limit cuts off keeps what it has.
            write_results(path, [*(row for row in read_results(path) if row["case"] != axis), *rows])
    folder = RESULTS.parent if parsed.results == RESULTS else parsed.results
    print(write_page(read_results(path), folder))


if __name__ == "__main__":
    run_as_program(main)
