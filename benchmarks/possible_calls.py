"""Compares the scorer of BFCL (`rewards/possible_calls.py`) with BFCL's own AST checker, on the whole of its data.

    python -m pip install --no-deps --target DIR -r requirements/reward_checks.txt
    python benchmarks/possible_calls.py --bfcl DIR --write benchmarks/possible_calls.md

Every item of the categories with possible answers is loaded as an evaluation loads it. One answer is made of the first
possible value of each argument, and from it mutants: calls left out, repeated, in another order or with another name;
arguments left out, added, of another type or value, or of another possible value. Both judge each; any difference is
listed. The published checker is loaded as in `benchmarks/rewards_bfcl.py`.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards_bfcl import bfcl_verdict, commit, load_checker, other_values

from evals.benchmarks.registry import read_benchmark
from rewards.possible_calls import calls_fault

Call = dict[str, Any]
CHECKED_AS = {"live_simple": "simple", "simple_python": "simple"}
"""Category -> the name that makes the checker compare one call with one."""


def plain(option: Any) -> Any:
    """A possible value as it would be written in a call: objects have a list of values for each key, one level deep."""
    if isinstance(option, Mapping):
        return {key: value for key, values in option.items() if (value := first(values)) is not None}
    if isinstance(option, list):
        return [plain(item) if isinstance(item, Mapping) else item for item in option]
    return option


def first(values: Any) -> Any:
    """The first value that is no "leave it out"; None when there is none."""
    return next((value for value in values if value != ""), None) if isinstance(values, list) else values


def gold_calls(truth: Sequence[Mapping[str, Any]]) -> list[Call]:
    """The first possible value of each argument that may not be left out."""
    calls = []
    for entry in truth:
        ((name, arguments),) = entry.items()
        given = {key: plain(first(options)) for key, options in arguments.items() if "" not in options}
        calls.append({"name": name, "arguments": given})
    return calls


def mutants(gold: list[Call], truth: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Call]]]:
    """Answers by class, gold first."""
    yield "gold", gold
    yield "no call", []
    yield "duplicate call", [*gold, gold[0]]
    if len(gold) > 1:
        yield "reversed calls", gold[::-1]
        yield "call left out", gold[:-1]
        yield "one call for all", [gold[0]] * len(gold)
    for index, (call, entry) in enumerate(zip(gold, truth, strict=True)):
        ((name, arguments),) = entry.items()
        yield "other name", changed(gold, index, name=f"{name}_")
        yield "extra argument", with_argument(gold, index, "zz_extra", 1)
        for key, value in call["arguments"].items():
            rest = {other: given for other, given in call["arguments"].items() if other != key}
            yield "missing argument", changed(gold, index, arguments=rest)
            for kind, other in other_values(value):
                yield kind, with_argument(gold, index, key, other)
            yield "null", with_argument(gold, index, key, None)
            yield "in a list", with_argument(gold, index, key, [value])
        for key, options in arguments.items():
            for option in options:
                if option != "":
                    yield "a possible value", with_argument(gold, index, key, plain(option))


def changed(gold: list[Call], index: int, **changes: Any) -> list[Call]:
    calls = copy.deepcopy(gold)
    calls[index] |= changes
    return calls


def with_argument(gold: list[Call], index: int, key: str, value: Any) -> list[Call]:
    return changed(gold, index, arguments={**gold[index]["arguments"], key: value})


def compare(folder: Path) -> tuple[Counter[tuple[str, bool, bool]], list[str], list[str]]:
    """Counts by (category, ours, theirs), differences, and what the loader notes."""
    checker, language = load_checker(folder)
    loaded = read_benchmark("bfcl", folder / "bfcl_eval" / "data")
    counts: Counter[tuple[str, bool, bool]] = Counter()
    differences = []
    for prompt in loaded.prompts:
        functions, truth = prompt.reference["functions"], prompt.reference["possible"]
        for kind, calls in mutants(gold_calls(truth), truth) if truth else ():
            ours = calls_fault(calls, functions, truth) is None
            category = CHECKED_AS.get(prompt.domain, prompt.domain)
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
    lines += ["", "Differences:", "", *([f"- {difference}" for difference in differences[:50]] or ["- none"])]
    return "\n".join(lines) + "\n"


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
