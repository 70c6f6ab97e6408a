"""Compares the scorer of BFCL (`rewards/possible_calls.py`) with BFCL's own AST checker, on the whole of its data.

    python -m pip install --no-deps --target DIR -r requirements/reward_checks.txt
    python benchmarks/possible_calls.py --bfcl DIR --write benchmarks/possible_calls.md

Every item of the categories with possible answers is loaded as `fourstage` loads it. The gold answer and the mutants
that `benchmarks/rewards_bfcl.py` makes of it are judged by both. Any difference is listed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from collections import Counter
from pathlib import Path

from rewards_bfcl import bfcl_verdict, commit, gold_calls, load_checker, mutants

from evals.benchmarks.registry import read_benchmark
from rewards.possible_calls import calls_fault

LANGUAGE_CATEGORY = {"live_simple": "simple", "simple_python": "simple"}


def compare(folder: Path) -> tuple[Counter[tuple[str, bool, bool]], list[str], list[str]]:
    """Counts by (category, ours, theirs), differences, and what the loader notes."""
    checker, language = load_checker(folder)
    loaded = read_benchmark("bfcl", folder / "bfcl_eval" / "data")
    counts: Counter[tuple[str, bool, bool]] = Counter()
    differences = []
    for prompt in loaded.prompts:
        functions, truth = prompt.reference["functions"], prompt.reference["possible"]
        if not truth:
            continue
        for kind, calls in mutants(gold_calls(functions, truth), truth):
            if kind == "arguments are a list":  # no call with named arguments, which the chat format refuses before
                continue
            ours = calls_fault(calls, functions, truth) is None
            category = LANGUAGE_CATEGORY.get(prompt.domain, prompt.domain)
            theirs, why = bfcl_verdict(checker, language, functions, calls, truth, category)
            counts[prompt.domain, ours, theirs] += 1
            if ours != theirs:
                differences.append(f"{prompt.domain}, {kind}: ours {ours}, theirs {theirs} ({why}): {calls}")
    return counts, differences, list(loaded.notes)


def table(counts: Counter[tuple[str, bool, bool]], differences: list[str], notes: list[str]) -> str:
    """The run as Markdown."""
    total = counts.total()
    lines = [
        "# BFCL's scorer against BFCL's AST checker", "",
        "`python benchmarks/possible_calls.py --bfcl DIR --write benchmarks/possible_calls.md`", "",
        f"bfcl-eval {importlib.metadata.version('bfcl-eval')}, Python {platform.python_version()}, commit {commit()}. "
        f"{total} judgements, {total - len(differences)} in agreement. What the loader notes: {'; '.join(notes)}.", "",
        "| category | judged | both accept | both refuse | differ |", "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for category in sorted({category for category, *_ in counts}):
        both, neither = counts[category, True, True], counts[category, False, False]
        differ = counts[category, True, False] + counts[category, False, True]
        lines.append(f"| {category} | {both + neither + differ} | {both} | {neither} | {differ} |")
    lines += ["", "Differences:", "", *(f"- {difference}" for difference in differences[:50])]
    return "\n".join(lines if differences else [*lines, "none"]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bfcl", type=Path, required=True, help="folder into which bfcl-eval was installed")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    text = table(*compare(arguments.bfcl))
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
