r"""The `math` task against math-verify's own judgement, on pairs of a reference and an answer whose truth is known.

    python -m benchmarks.rewards_math

Prints a Markdown table by class. math-verify is used as its README shows: `verify(parse("$gold$"), parse(text))` with
the default extraction on the whole completion. Both judges run in processes that are killed after 5 seconds. A class in
which the two differ needs an entry in `EXPLANATIONS`, or the script fails.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from multiprocessing import get_context

from pebble import ProcessExpired, ProcessPool

from benchmarks.math_pairs import Pair, pairs
from rewards.task import ScoreRequest
from rewards.verifier_pool import VerifierPool

TIMEOUT_S = 5.0
SEED = 0

_TASK, _LIBRARY = "the task", "math-verify"

EXPLANATIONS: dict[str, tuple[str, str]] = {
    "almost equal decimal": (_TASK, "math-verify rounds floats to 6 places: 1.7500001 passes for 7/4; the task to 12"),
    "unevaluated calculation": (_TASK, "the question again; math-verify works out `60-1+1` and `\\sqrt{49}` itself"),
    "unsolved sum, integral or derivative": (_TASK, "math-verify does the work that was the question"),
    "inequality as an interval": (
        _LIBRARY, "a comma that the reference does not have counts as several values; write references as "
        "intervals, which is the form both read",
    ),
    "equation with the value": (_TASK, "math-verify takes one side of any equation: `0=43`, `ABC=43`"),
    "percent sign": (_TASK, "math-verify takes `43\\%` both as 43 and as 0.43, so that `4300\\%` passes too"),
    "unit": (_TASK, "math-verify drops units; the reference has none, so that km and hours would pass alike"),
    "two values in one box": (_TASK, "math-verify takes `\\pm 0` for the value; the answer states two"),
    "guesses in prose": (_TASK, "math-verify takes the last number of a text without a box: a list of guesses passes"),
    "value inside unfinished thinking": (_TASK, "math-verify reads the whole text; no answer was given"),
    "value only inside the block": (_TASK, "math-verify reads the whole text; the answer has no value"),
    "value in prose without a box": (
        _LIBRARY, "the value is right; the task pays a box, a tag, a whole answer or \"the answer is N\", because "
        "the last number of a text is also how guesses pass",
    ),
    "answer tag": (_TASK, "math-verify does not read `<answer>` without a number format that it knows"),
    "hostile expressions": (_TASK, "towers, factorials and large powers are refused by form; math-verify is killed"),
}  # fmt: skip
"""Class -> (who is right where the two differ, why)."""


def judged_by_the_task(everything: Sequence[Pair]) -> list[str]:
    """What the `math` task says of each pair: right, wrong or error."""
    requests = [ScoreRequest("math", (), {"answer": pair.gold}, pair.completion) for pair in everything]
    with VerifierPool(num_workers=2, timeout_s=TIMEOUT_S) as pool:
        scores = pool.score_all(requests)
    return [
        "error" if score is None or score.outcome == "error" else "right" if score.reward else "wrong"
        for score in scores
    ]


def judged_by_math_verify(everything: Sequence[Pair]) -> list[str]:
    """What math-verify says of each pair: right, wrong, killed or an error."""
    with ProcessPool(max_workers=2, initializer=_warm, context=get_context("spawn")) as pool:
        futures = [pool.schedule(_verify, args=(pair.gold, pair.completion), timeout=TIMEOUT_S) for pair in everything]
        verdicts = []
        for future in futures:
            try:
                verdicts.append("right" if future.result() else "wrong")
            except (TimeoutError, FutureTimeoutError):
                verdicts.append("killed")
            except ProcessExpired:
                verdicts.append("killed")
            except Exception as error:  # the library is under test: whatever it raises is its verdict
                verdicts.append(f"error ({type(error).__name__})")
    return verdicts


def _warm() -> None:
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    _verify("\\frac{1}{2}", "\\boxed{0.5}")


def _verify(gold: str, completion: str) -> bool:
    from math_verify import parse, verify

    target = parse(completion, parsing_timeout=None)
    return bool(verify(parse(f"${gold}$", parsing_timeout=None), target, timeout_seconds=None))


def table(everything: Sequence[Pair], ours: Sequence[str], theirs: Sequence[str]) -> str:
    """One row per class; ValueError for a class with differences that nobody explained."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(everything):
        groups[pair.kind].append(index)
    lines = [
        "| class | pairs | deserve reward | math task agrees with the truth | math-verify agrees | the two differ | "
        "example of a difference: reference, answer, task, math-verify | who is right, and why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    unexplained = []
    for kind, indices in groups.items():
        truth = ["right" if everything[index].right else "wrong" for index in indices]
        differing = [index for index in indices if ours[index] != theirs[index]]
        who, why = EXPLANATIONS.get(kind, ("", ""))
        if differing and not why:
            unexplained.append(kind)
        example = ""
        if differing:
            pair = everything[differing[0]]
            example = f"{_code(pair.gold)}, {_code(pair.completion)}, {ours[differing[0]]}, {theirs[differing[0]]}"
        agree = [sum(said[i] == true for i, true in zip(indices, truth, strict=True)) for said in (ours, theirs)]
        why_shown = f"{who}: {why}" if differing else ""
        lines.append(
            f"| {kind} | {len(indices)} | {truth.count('right')} | {agree[0]} | {agree[1]} | {len(differing)} | "
            f"{example} | {why_shown} |"
        )
    if unexplained:
        print("\n".join(lines))
        raise ValueError(f"classes with differences and no explanation: {unexplained}")
    return "\n".join(lines)


def _code(text: str) -> str:
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 60 else f"{shown[:45]}…{shown[-8:]}"
    return "`" + shown.replace("|", "\\|") + "`"


def main() -> None:
    everything = pairs(SEED)
    start = time.perf_counter()
    ours = judged_by_the_task(everything)
    middle = time.perf_counter()
    theirs = judged_by_math_verify(everything)
    end = time.perf_counter()
    truth = ["right" if pair.right else "wrong" for pair in everything]
    print(
        f"{len(everything)} pairs, seed {SEED}; math-verify {version('math-verify')}, sympy {version('sympy')}, "
        f"Python {sys.version.split()[0]}. Task {middle - start:.1f} s, math-verify {end - middle:.1f} s.\n"
    )
    for name, said in (("math task", ours), ("math-verify", theirs)):
        wrongly_paid = sum(s == "right" and t == "wrong" for s, t in zip(said, truth, strict=True))
        wrongly_refused = sum(s != "right" and t == "right" for s, t in zip(said, truth, strict=True))
        failed = sum(s not in ("right", "wrong") for s in said)
        print(f"* {name}: {wrongly_paid} paid wrongly, {wrongly_refused} refused wrongly, {failed} killed or failed")
    differences = sum(left != right for left, right in zip(ours, theirs, strict=True))
    print(f"* the two differ on {differences} pairs\n")
    print(table(everything, ours, theirs))


if __name__ == "__main__":
    main()
