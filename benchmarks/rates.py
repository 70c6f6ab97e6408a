"""Tables and files of the comparisons that are measured in tokens a second."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks.comparison import RESULTS, Row, Side, read_results, run_case
from benchmarks.options import case_name, case_rows, cases_of, make_workload, plan_of
from benchmarks.tables import SideResult, cell, gib, head_of, markdown_table, ratio, settings_text, sides_of


def rate_table(rows: Sequence[Row], *, tokens: str, targets: str) -> str:
    """One case: tokens a second of every side, and fourstage's sides over each of the others."""
    sides = sides_of(rows)
    ours = [side for side in sides if side.name.startswith("fourstage")]
    peers = [side for side in sides if side not in ours]
    fastest = max(
        (side for side in peers if side.rate(tokens) is not None),
        key=lambda side: getattr(side.rate(tokens), "median", 0.0),
        default=None,
    )
    lines = []
    for side in sides:
        rate = side.rate(tokens)
        padding = side.part("padding_share")
        versus = [
            cell(ratio(rate, fastest.rate(tokens))) if fastest and side in ours else "",
            _memory_ratio(side, fastest) if fastest and side in ours else "",
        ]
        name = f"{side.name} (the fastest peer)" if side is fastest else side.name
        lines.append(
            [
                name, rate.text(-1) if rate else side.why_untimed(), versus[0],
                "" if padding is None else f"{100 * padding:.1f} %", gib(side.peak_bytes), versus[1],
                settings_text(side.settings),
            ]
        )  # fmt: skip
    header = (
        "side", "tokens/s (least to most)", "fourstage / fastest peer", "padding", "peak GiB", "memory ratio",
        "settings",
    )  # fmt: skip
    return f"## {rows[0]['case']}\n\n{head_of(rows)} {targets}\n\n{markdown_table(header, lines)}\n"


def _memory_ratio(side: SideResult, fastest: SideResult) -> str:
    return cell(side.peak_bytes / fastest.peak_bytes) if side.peak_bytes and fastest.peak_bytes else ""


def run_claim(
    claim: str,
    parsed: argparse.Namespace,
    *,
    sides: Callable[[str, str, str], list[Side]],
    tokens: str,
    targets: str,
    notes: str,
) -> None:
    """Run the cases that were asked for, then write the tables of all recorded ones.

    `sides` makes the sides from a workload's name, its folder and the precision.
    """
    for name, precision in cases_of(parsed):
        made = sides(name, str(make_workload(name)), precision)
        chosen = [side for side in made if side.name in parsed.sides]
        rows = run_case(
            claim,
            case_name(name, precision, parsed),
            chosen,
            plan_of(parsed),
            peers=parsed.peers,
            results=parsed.results,
        )
        print(rate_table(rows, tokens=tokens, targets=targets), flush=True)
    recorded = read_results(parsed.results / f"{claim}.jsonl")
    tables = [
        rate_table(case_rows(recorded, case), tokens=tokens, targets=targets)
        for case in dict.fromkeys(row["case"] for row in recorded)
    ]
    folder = RESULTS.parent if parsed.results == RESULTS else parsed.results
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{claim}.md").write_text("\n".join([notes, *tables]))
