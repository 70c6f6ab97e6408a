"""The seconds and the memory of a whole GRPO step: fourstage's `run_rl` against TRL's `GRPOTrainer`.

    python -m benchmarks.grpo_step A B V [--precision float32] [--sides fourstage trl trl-stock] [--repeats 3]
    python -m benchmarks.grpo_step A --sweep            # which settings of TRL are the fastest here
    python -m benchmarks.grpo_step --table              # benchmarks/grpo_step.md again from the recorded lines

One step: sample all groups, score them, log-probabilities, loss, one update, and the new weights in the sampler. The
weights are float32 on both sides; `bfloat16` means autocast on both, `trl-pure-bfloat16` keeps TRL's weights in it too.
`trl` runs with the fastest settings that `--sweep` found for the workload (or the nearest one), `trl-stock` with TRL's
defaults. `--fourstage key=value` and `--trl key=value` change settings of a side.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, Plan, Side, read_results, run_case
from benchmarks.options import (
    case_name,
    case_rows,
    cases_of,
    comparison_parser,
    make_workload,
    parsed_values,
    plan_of,
    run_as_program,
)
from benchmarks.tables import cell, gib, head_of, markdown_table, ratio, settings_text, sides_of
from benchmarks.workloads import TASK_FILE, WORKLOADS, Workload

CLAIM = "grpo_step"
TARGETS = {
    ("A", "trl"): "at most 0.75",
    ("B", "trl"): "at most 0.70",
    ("A", "trl-stock"): "at most 0.45",
    ("B", "trl-stock"): "at most 0.45",
}
"""fourstage's seconds over the peer's; memory: at most 0.5 on B and V."""

FALLBACK = {"attention": "eager", "per_device": 32, "preload": True}
"""TRL's settings where no sweep was recorded: the fastest ones found on another two-core machine."""

SIDES = (
    "fourstage", "fourstage-preload", "trl", "trl-stock", "trl-stock-float32", "trl-pure-bfloat16", "trl-vllm",
)  # fmt: skip


def candidates(batch: int) -> list[dict[str, Any]]:
    """Settings of TRL to try: attention, rows of a device batch, preloaded libraries, compilation, cache, batching."""
    grid = [
        {"attention": attention, "per_device": size}
        for size in (16, 32, 64, 128)
        if size <= batch
        for attention in ("sdpa", "eager")
    ]
    others: list[dict[str, Any]] = [
        {"preload": True},
        {"preload": True, "attention": "sdpa"},
        {"preload": True, "compile": True},
        {"preload": True, "cache": "static"},
        {"preload": True, "environment": {"OMP_WAIT_POLICY": "passive"}},
        {"preload": True, "continuous": True, "attention": "sdpa_paged"},
    ]
    base = {"attention": "eager", "per_device": min(32, batch)}
    return [*grid, *({**base, **other} for other in others)]


def trl_side(name: str, given: dict[str, Any], base: dict[str, Any]) -> Side:
    """A TRL side from its settings, of which `preload` and `environment` are the process's."""
    own = dict(given)
    preload, environment = bool(own.pop("preload", False)), own.pop("environment", {})
    return Side(
        name=name, module="trl_grpo", settings={**base, **own}, peer=True, preload=preload, environment=environment
    )


def fastest(workload: str, precision: str, results: Path) -> dict[str, Any]:
    """The settings of TRL with the least median seconds in the sweep of this workload, of A's, or the fallback."""
    for name in (workload, "A"):
        rows = case_rows(read_results(results / f"{CLAIM}.jsonl"), f"{name} {precision} sweep")
        timed = [(side.seconds(), side) for side in (sides_of(rows) if rows else [])]
        whole = [(seconds.median, side) for seconds, side in timed if seconds and not side.failure]
        if whole:
            best = min(whole, key=lambda pair: pair[0])[1].settings
            keys = ("attention", "per_device", "preload", "compile", "cache", "continuous", "environment")
            return {key: best[key] for key in keys if best.get(key)}
    return dict(FALLBACK)


def sides_for(chosen: Workload, folder: Path, precision: str, parsed: argparse.Namespace) -> list[Side]:
    """The sides that were asked for, for one workload and precision."""
    base: dict[str, Any] = {
        "workload": str(folder), "max_new_tokens": chosen.max_new_tokens, "bf16": precision == "bfloat16",
    }  # fmt: skip
    batch = chosen.num_prompts * chosen.group_size
    if parsed.sweep:
        tried = [trl_side(settings_text(one), {**one, **parsed_values(parsed.trl)}, base) for one in candidates(batch)]
        return tried if parsed.only is None else [tried[index] for index in parsed.only]
    best = fastest(chosen.name, precision, parsed.results)
    best["per_device"] = min(best["per_device"], batch)
    if parsed.no_preload:
        best["preload"] = False
    best |= parsed_values(parsed.trl)
    ours = {**base, "task": str(TASK_FILE), "dtype": precision, "fourstage": parsed.fourstage}
    made = {
        "fourstage": Side(name="fourstage", module="fourstage_grpo", settings=ours),
        "fourstage-preload": Side(name="fourstage-preload", module="fourstage_grpo", settings=ours, preload=True),
        "trl": trl_side("trl", best, base),
        # TRL's default precision is bfloat16 autocast, whatever the processor can do.
        "trl-stock": trl_side("trl-stock", {"stock": True, "bf16": True}, base),
        "trl-stock-float32": trl_side("trl-stock-float32", {"stock": True, "bf16": False}, base),
        "trl-pure-bfloat16": trl_side("trl-pure-bfloat16", {**best, "pure_bf16": True, "bf16": False}, base),
        "trl-vllm": trl_side("trl-vllm", {**best, "vllm": True}, base),
    }
    return [made[name] for name in parsed.sides]


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """One case as a table with its head."""
    sides = sides_of(rows)
    ours = next((side for side in sides if side.name == "fourstage"), None)
    workload = rows[0]["case"].split()[0]
    lines = []
    for side in sides:
        seconds, generate = side.seconds(), side.part("generate_s")
        learn = side.part("learn_s")
        if learn is None and seconds and generate is not None:
            learn = seconds.median - generate - (side.part("score_s") or 0.0)
        versus = ratio(ours.seconds(), seconds) if ours and side is not ours else None
        memory = ours.peak_bytes / side.peak_bytes if ours and ours.peak_bytes and side.peak_bytes else None
        lines.append(
            [
                side.name, seconds.text() if seconds else side.why_untimed(), cell(generate),
                cell(side.part("score_s")), cell(learn), cell(side.part("sync_s")), cell(versus),
                TARGETS.get((workload, side.name), ""), gib(side.peak_bytes),
                cell(memory if side is not ours else None), settings_text(side.settings),
            ]
        )  # fmt: skip
    header = (
        "side", "step, s (least to most)", "generate", "score", "learn", "sync", "fourstage / side", "target",
        "peak GiB", "memory: fourstage / side", "settings",
    )  # fmt: skip
    return f"## {rows[0]['case']}\n\n{head_of(rows)}\n\n{markdown_table(header, lines)}\n"


NOTES = """# A whole GRPO step

Made by `benchmarks/grpo_step.py`, which says what a step is and how to run it. Medians with the least and the greatest
step; "learn" of TRL is what generation and scoring leave of its step. Peak memory is the sum of proportional set sizes
over the process and all it started, Ray's daemons included.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = comparison_parser(__doc__, CLAIM, workloads=tuple(WORKLOADS), sides=SIDES, default=("fourstage", "trl"))
    parser.add_argument("--trl", action="append", default=[], metavar="key=value", help="a setting of the trl sides")
    parser.add_argument("--sweep", action="store_true", help="time TRL alone, with one setting after the other")
    parser.add_argument("--only", type=int, nargs="+", help="with --sweep: these settings, by number from 0")
    parser.add_argument("--no-preload", action="store_true", help="no preloaded libraries on the trl side")
    parsed = parser.parse_args(arguments)
    for name, precision in cases_of(parsed):
        folder = make_workload(name)
        plan = plan_of(parsed)
        if parsed.sweep:
            plan = Plan(repeats=1, steps=parsed.steps, warmup=1, memory=False)
        case = case_name(name, precision, parsed) + (" sweep" if parsed.sweep else "")
        sides = sides_for(WORKLOADS[name], folder, precision, parsed)
        print(table_of(run_case(CLAIM, case, sides, plan, peers=parsed.peers, results=parsed.results)), flush=True)
    rows = read_results(parsed.results / f"{CLAIM}.jsonl")
    cases = dict.fromkeys(row["case"] for row in rows)
    text = "\n".join([NOTES, *(table_of(case_rows(rows, case)) for case in cases)])
    target = RESULTS.parent if parsed.results == RESULTS else parsed.results
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{CLAIM}.md").write_text(text)


if __name__ == "__main__":
    run_as_program(main)
