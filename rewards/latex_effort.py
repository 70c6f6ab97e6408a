"""Which expressions an algebra system must not be handed: it would work them out until it is killed.

A hostile answer that only ends by a kill costs seconds of a worker and turns a wrong answer into an error, which leaves
its group unpunished. Each form here was seen to run for more than five seconds in math-verify 0.9.0.
"""

from __future__ import annotations

import math
import re

MAX_EXPONENT = 200
"""`(x+1)^{200}` is compared in 0.6 s, `(x+1)^{400}` in 2.2 s, `(x+1)^{99999}` not within a minute."""

_EXPONENT = re.compile(r"\^\s*\{?\s*([0-9]+)")
_POWER_OF_POWER = re.compile(r"\^\s*\{?\s*[0-9]+\s*\}?\s*(?:\)|\}|\\right\))+\s*\^")


def out_of_reach(latex: str, gold: str) -> str | None:
    """Why comparing `latex` with `gold` would not end in time, or None. What the reference itself holds is allowed."""
    if latex.count("!") > gold.count("!"):
        return "a factorial"
    if _is_tower(latex) and not _is_tower(gold):
        return "a tower of powers"
    exponents, own = _exponents(latex), _exponents(gold)
    degree = math.prod(exponents) if _POWER_OF_POWER.search(latex) else max(exponents, default=0)
    return "an exponent out of reach" if degree > max(MAX_EXPONENT, 2 * max(own, default=0)) else None


def _exponents(latex: str) -> list[int]:
    """The exponents that are written as integers; one of ten digits or more counts as 10^9."""
    return [int(digits) if len(digits) < 10 else 10**9 for digits in _EXPONENT.findall(latex)]


def _is_tower(latex: str) -> bool:
    """Whether an exponent holds an exponent: `9^{9^9}`, `9^9^9`."""
    depth, inside = 0, []
    for index, character in enumerate(latex):
        if character == "{":
            depth += 1
            if latex[:index].rstrip().endswith("^"):
                inside.append(depth)
        elif character == "}":
            if inside and inside[-1] == depth:
                inside.pop()
            depth -= 1
        elif character == "^" and inside:
            return True
    return bool(re.search(r"\^\s*\w+\s*\^", latex))
