"""Compares the rule by which tool calls are rewarded with BFCL's AST checker, an independent implementation.

    python -m pip install --no-deps --target DIR -r requirements/reward_checks.txt
    python benchmarks/rewards_bfcl.py --bfcl DIR --write benchmarks/rewards_bfcl.md

For each item of BFCL's simple (Python), multiple and parallel sets one gold answer is made from its possible answers:
the first value of every argument that has to be there. It is the reference of our rule (`match_calls` of the task
tool_call); then both judge it, and mutants of it. The checker's module of model settings, of which it needs one flag,
is replaced by an empty one, because it imports clients of every provider. Nothing of BFCL is part of this project.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rewards.tasks.tool_call import match_calls  # noqa: E402  (the project is found by its path)

SETS = {"simple": "simple_python", "multiple": "multiple", "parallel": "parallel"}
Call = dict[str, Any]

LENIENT_TEXT = (
    "BFCL compares strings without case, blanks and , . / - _ * ^; ours compares them exactly, because the prompts of "
    "tool_call give the text that belongs into the call."
)
EXPLANATIONS = {
    "gold": "Both accept.",
    "reversed calls": "Both compare calls without order. BFCL's greedy matching fails where a call fits two answers.",
    "number as string": "Both refuse.",
    "integer as float": "Both refuse.",
    "float as integer": "BFCL converts an integer to a float where its definition says float; ours keeps them apart.",
    "boolean as integer": "Both refuse.",
    "string in capitals": LENIENT_TEXT,
    "another possible value": "BFCL lists several values that are as good for an argument; ours has one reference, "
    "because the prompts of tool_call leave no choice.",
    "optional argument given": "BFCL lets an optional argument be left out or given with a listed value; in tool_call "
    "every argument is required.",
    "another value": "Both refuse.",
    "missing argument": "Both refuse.",
    "extra argument": "Both refuse.",
    "other name": "Both refuse.",
    "duplicate call": "Both refuse: the number of calls counts.",
    "call left out": "Both refuse.",
    "arguments are a list": "Both refuse.",
}


def load_checker(folder: Path) -> tuple[Callable[..., dict[str, Any]], Any]:
    """BFCL's checker and its language constant, with the module of model settings replaced by one without any."""
    sys.path.insert(0, str(folder))
    settings = types.ModuleType("bfcl_eval.constants.model_config")
    settings.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))  # type: ignore[attr-defined]
    sys.modules[settings.__name__] = settings
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
    return checker.ast_checker, importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON


def items_of(folder: Path, name: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Items of one set with their possible answers."""
    data = folder / "bfcl_eval" / "data"
    questions = [json.loads(line) for line in (data / f"BFCL_v4_{name}.json").read_text().splitlines()]
    answers = [
        json.loads(line) for line in (data / "possible_answer" / f"BFCL_v4_{name}.json").read_text().splitlines()
    ]
    for question, answer in zip(questions, answers, strict=True):
        assert question["id"] == answer["id"]
        yield question, answer["ground_truth"]


def first_value(options: list[Any]) -> Any:
    """One value of an argument out of those that are possible; "" stands for leaving it out."""
    return resolved(next(option for option in options if option != ""))


def resolved(value: Any) -> Any:
    """A possible value as it would be called: inside objects every key has a list of options of its own."""
    if isinstance(value, dict):
        return {key: first_value(options) for key, options in value.items() if options[0] != "" or len(options) > 1}
    if isinstance(value, list):
        return [resolved(entry) for entry in value]
    return value


def gold_calls(functions: list[dict[str, Any]], truth: list[dict[str, Any]]) -> list[Call]:
    """The first possible value of each argument that is required or may not be left out."""
    required = {function["name"]: function["parameters"]["required"] for function in functions}
    calls = []
    for entry in truth:
        ((name, arguments),) = entry.items()
        given = {
            key: first_value(options)
            for key, options in arguments.items()
            if key in required[name] or "" not in options
        }
        calls.append({"name": name, "arguments": given})
    return calls


def mutants(gold: list[Call], truth: list[dict[str, Any]]) -> Iterator[tuple[str, list[Call]]]:
    """Changed answers by class, one for each place where the class applies in the first call."""
    yield "gold", gold
    if len(gold) > 1:
        yield "reversed calls", gold[::-1]
        yield "call left out", gold[:-1]
    yield "duplicate call", [*gold, gold[0]]
    yield "other name", changed(gold, lambda call: call.update(name=f"{call['name']}_"))
    yield "extra argument", changed(gold, lambda call: call["arguments"].update(zz_extra=1))
    yield "arguments are a list", changed(gold, lambda call: call.update(arguments=list(call["arguments"].values())))
    options = truth[0][gold[0]["name"]]
    for key, value in gold[0]["arguments"].items():
        yield "missing argument", changed(gold, lambda call, key=key: call["arguments"].pop(key))
        for name, other in other_values(value):
            yield name, with_value(gold, key, other)
        for other in options[key]:
            if other != "" and resolved(other) != value:
                yield "another possible value", with_value(gold, key, resolved(other))
    for key, values in options.items():
        if key not in gold[0]["arguments"] and any(value != "" for value in values):
            yield "optional argument given", with_value(gold, key, first_value(values))


def other_values(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, bool):
        yield "boolean as integer", int(value)
        yield "another value", not value
    elif isinstance(value, int):
        yield "number as string", str(value)
        yield "integer as float", float(value)
        yield "another value", value + 7919
    elif isinstance(value, float):
        yield "number as string", str(value)
        if value == int(value):
            yield "float as integer", int(value)
        yield "another value", value + 7919.5
    elif isinstance(value, str):
        if value.upper() != value:
            yield "string in capitals", value.upper()
        yield "another value", f"{value}qqq"
    elif isinstance(value, list):
        yield "another value", [*value, "qqq"]
    elif isinstance(value, dict):
        yield "another value", {**value, "zz_extra": 1}


def changed(gold: list[Call], change: Callable[[Call], Any]) -> list[Call]:
    calls = copy.deepcopy(gold)
    change(calls[0])
    return calls


def with_value(gold: list[Call], key: str, value: Any) -> list[Call]:
    return changed(gold, lambda call: call["arguments"].update({key: value}))


def compare(folder: Path) -> tuple[dict[tuple[str, str], dict[str, int]], list[str], dict[str, float]]:
    """Counts by (class, set), the gold answers that BFCL refuses, and seconds spent in each of the two."""
    checker, language = load_checker(folder)
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    refused: list[str] = []
    seconds = {"ours": 0.0, "bfcl": 0.0}
    for category, name in SETS.items():
        for question, truth in items_of(folder, name):
            gold = gold_calls(question["function"], truth)
            for kind, calls in mutants(gold, truth):
                began = time.perf_counter()
                ours = match_calls(calls, gold) == ""
                seconds["ours"] += time.perf_counter() - began
                began = time.perf_counter()
                theirs, why = bfcl_verdict(checker, language, question["function"], calls, truth, category)
                seconds["bfcl"] += time.perf_counter() - began
                found = counts[kind, category]
                found["n"] += 1
                found["ours"] += ours
                found["bfcl"] += theirs
                found["agree"] += ours == theirs
                found["raised"] += why.startswith("raised")
                if kind in ("gold", "reversed calls") and not theirs:
                    refused.append(f"{question['id']}, {kind}: {json.dumps(calls)}")
    return counts, refused, seconds


def bfcl_verdict(
    checker: Callable[..., dict[str, Any]],
    language: Any,
    functions: list[Any],
    calls: list[Call],
    truth: list[dict[str, Any]],
    category: str,
) -> tuple[bool, str]:
    output = [{call["name"]: call["arguments"]} for call in copy.deepcopy(calls)]
    try:
        verdict = checker(functions, output, truth, language, category, "model")
    except (TypeError, AttributeError, KeyError) as error:
        return False, f"raised {type(error).__name__}: {error}"
    return bool(verdict["valid"]), str(verdict["error"])


def table(
    counts: dict[tuple[str, str], dict[str, int]], refused: list[str], seconds: dict[str, float], command: str
) -> str:
    total = {name: sum(found[name] for found in counts.values()) for name in ("n", "agree")}
    differing = dict.fromkeys(kind for (kind, _), found in counts.items() if found["agree"] < found["n"])
    golds = [found for (kind, _), found in counts.items() if kind == "gold"]
    lines = [
        "# Tool calls: our rule against BFCL's AST checker",
        "",
        f"`{command}`",
        "",
        f"bfcl-eval {importlib.metadata.version('bfcl-eval')}, Python {platform.python_version()}, commit {commit()}. "
        "Ours is `match_calls` of `rewards/tasks/tool_call.py`; references and mutants are described in the script.",
        "",
        f"Gold answers: ours accepts {sum(f['ours'] for f in golds)} and BFCL {sum(f['bfcl'] for f in golds)} of "
        f"{sum(f['n'] for f in golds)}. Judgements in all: {total['n']}, in agreement {total['agree']} "
        f"({100 * total['agree'] / total['n']:.1f} %); every difference lies in these classes: {', '.join(differing)}. "
        f"Our rule took {1e6 * seconds['ours'] / total['n']:.0f} µs a "
        f"judgement, the checker {1e6 * seconds['bfcl'] / total['n']:.0f} µs.",
        "",
        "| class | set | judged | ours accepts | BFCL accepts | agree | what the difference is |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for kind, explanation in EXPLANATIONS.items():
        for category in SETS:
            found = counts.get((kind, category))
            if found is None:
                continue
            raised = f" ({found['raised']} raised)" if found["raised"] else ""
            cells = [kind, category, found["n"], found["ours"], f"{found['bfcl']}{raised}", found["agree"], explanation]
            lines.append(f"| {' | '.join(map(str, cells))} |")
            explanation = "as above"
    lines += ["", "Gold answers that the checker refuses, in either order:", ""]
    lines += [f"- {line}" for line in refused] or ["- none"]
    return "\n".join(lines) + "\n"


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bfcl", type=Path, required=True, help="folder into which bfcl-eval was installed")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    counts, refused, seconds = compare(arguments.bfcl)
    unexplained = {kind for kind, _ in counts} - EXPLANATIONS.keys()
    assert not unexplained, unexplained
    text = table(
        counts, refused, seconds, "python benchmarks/rewards_bfcl.py --bfcl DIR --write benchmarks/rewards_bfcl.md"
    )
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
