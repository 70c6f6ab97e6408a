"""Turns finished quickstart runs into the results table of the README: one column a run, one row a claim.

    python benchmarks/quickstart_table.py runs/quickstart runs/seed-1 runs/seed-2

Every figure is computed from the per-prompt results that the runs stored; intervals are 95 % bootstrap intervals over
prompts, differences are paired by prompt. A second table has each task of the first run before and after general RL, in
both modes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.files import read_json
from evals.measurement import BOOTSTRAP_SEED
from evals.statistics import bootstrap_interval, paired_difference
from evals.summary import BenchmarkResult
from stages.run_dir import RunDir
from stages.run_report import result_of_record

REASONING = ("arithmetic", "math")
GENERAL = ("json_answer", "length", "tool_call")


def load(run_dir: Path) -> tuple[dict[tuple[str, str, str], BenchmarkResult], list[dict[str, object]], float]:
    """Results by (stage, mode, benchmark), the budget curve, and the seconds of all stages together."""
    run = RunDir(run_dir)
    results: dict[tuple[str, str, str], BenchmarkResult] = {}
    curve: list[dict[str, object]] = []
    seconds = 0.0
    for stage, key in run.plan():
        folder = run.stage_dir(stage, key)
        seconds += read_json(folder / "stage.json")["seconds"]
        for path in sorted((folder / "evaluations").glob("*.json")):
            record = read_json(path)
            if path.name.startswith("budget-"):
                curve = record
                continue
            for row in record["results"]:
                result = result_of_record(row)
                results[result.stage, result.mode, result.benchmark] = result
    return results, curve, seconds


def pooled(
    results: dict[tuple[str, str, str], BenchmarkResult], stage: str, modes: tuple[str, ...], names: tuple[str, ...]
) -> tuple[list[str], list[float]]:
    """Prompt uids and per-prompt values of several benchmarks and modes of one stage."""
    found = [results[stage, mode, name] for mode in modes for name in names]
    return [u for r in found for u in r.prompt_uids], [v for r in found for v in r.per_prompt]


def accuracy(results, stage: str, modes: tuple[str, ...], names: tuple[str, ...]) -> str:  # type: ignore[no-untyped-def]
    """Mean in percent with its interval."""
    interval = bootstrap_interval(pooled(results, stage, modes, names)[1], seed=BOOTSTRAP_SEED)
    return f"{100 * interval.mean:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def difference(results, later: str, earlier: str, modes: tuple[str, ...], names: tuple[str, ...]) -> str:  # type: ignore[no-untyped-def]
    """Paired difference in points with its interval."""
    uids_a, a = pooled(results, later, modes, names)
    uids_b, b = pooled(results, earlier, modes, names)
    interval = paired_difference(a, b, uids_a=uids_a, uids_b=uids_b, seed=BOOTSTRAP_SEED)
    return f"{100 * interval.mean:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def token_ratio(results, stage: str) -> str:  # type: ignore[no-untyped-def]
    """Tokens of non-thinking answers over tokens of thinking ones, on the reasoning benchmarks."""
    tokens = {
        mode: sum(results[stage, mode, name].mean_tokens for name in REASONING) for mode in ("thinking", "non_thinking")
    }
    return f"{tokens['non_thinking'] / tokens['thinking']:.2f}"


def rows(run_dir: Path) -> dict[str, str]:
    """The claims of one run by name."""
    results, curve, seconds = load(run_dir)
    thinking, both, mixed = ("thinking",), ("thinking", "non_thinking"), ("mixed",)
    table = {f"reasoning, thinking: {s}": accuracy(results, s, thinking, REASONING) for s in _stages(results)}
    table |= {
        f"reasoning, non-thinking: {s}": accuracy(results, s, ("non_thinking",), REASONING) for s in _stages(results)
    }
    table["reasoning RL over cold start (points)"] = difference(
        results, "reasoning_rl", "cold_start", thinking, REASONING
    )
    table |= {f"ThinkFollow: {s}": accuracy(results, s, mixed, ("think_follow",)) for s in _stages(results)}
    table["non-thinking / thinking tokens after fusion"] = token_ratio(results, "thinking_fusion")
    table |= {f"format, length, tools: {s}": accuracy(results, s, both, GENERAL) for s in _stages(results)}
    table["general RL over fusion: format, length, tools"] = difference(
        results, "general_rl", "thinking_fusion", both, GENERAL
    )
    table["general RL over reasoning RL: reasoning, thinking"] = difference(
        results, "general_rl", "reasoning_rl", thinking, REASONING
    )
    for point in curve:
        low, high = point["interval"]  # type: ignore[misc]
        value = f"{100 * float(point['mean']):.1f} ({100 * low:.1f} to {100 * high:.1f})"  # type: ignore[arg-type]
        table[f"thinking budget {point['budget_share']:g} × median"] = f"{value}, {point['budget_tokens']} tokens"
    table["seconds in the stages"] = f"{seconds:.0f}"
    return table


def task_lines(run_dir: Path) -> list[str]:
    """A Markdown table: each benchmark of one run before and after general RL, in both modes."""
    results, _, _ = load(run_dir)
    lines = ["| task | thinking: before | after | points | non-thinking: before | after | points |", "|---" * 7 + "|"]
    names = [name for stage, mode, name in results if stage == "general_rl" and mode == "thinking"]
    for name in names:
        cells = [name]
        for mode in ("thinking", "non_thinking"):
            before, after = results["thinking_fusion", mode, name], results["general_rl", mode, name]
            points = difference(results, "general_rl", "thinking_fusion", (mode,), (name,))
            cells += [f"{100 * before.mean:.1f}", f"{100 * after.mean:.1f}", points]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _stages(results: dict[tuple[str, str, str], BenchmarkResult]) -> list[str]:
    return list(dict.fromkeys(stage for stage, _, _ in results))


def main() -> None:
    columns = {path: rows(Path(path)) for path in sys.argv[1:]}
    print("| | " + " | ".join(Path(path).name for path in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(name for table in columns.values() for name in table):
        print(f"| {name} | " + " | ".join(table.get(name, "") for table in columns.values()) + " |")
    print()
    print("\n".join(task_lines(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
