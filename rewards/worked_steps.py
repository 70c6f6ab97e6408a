"""Chains of exact arithmetic steps as data: what a worked solution writes down, and how a slip is carried on.

    generator -> Steps -> reference["steps"] (JSON) -> follow(rng, error_rate) -> lines of reasoning and the final value

A step is `[operation, left, right]`. An operand is a whole number or "#2", the result of step 2. A wrong step is a
typical slip (a forgotten carry, one factor too many), and every later step works with the wrong value.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction

Operand = int | str
Step = list[Operand]
Value = int | Fraction


class Steps:
    """A chain under construction: `add` appends a step and returns the name of its result."""

    def __init__(self) -> None:
        self.listed: list[Step] = []
        self._values: list[Value] = []

    def add(self, operation: str, left: Operand, right: Operand = 0) -> str:
        """Append a step; `right` is left out for "!"."""
        self.listed.append([operation, left, right])
        self._values.append(apply(operation, self.value(left), self.value(right)))
        return f"#{len(self.listed) - 1}"

    def value(self, operand: Operand) -> Value:
        """What an operand stands for."""
        return _value(operand, self._values)

    @property
    def result(self) -> Value:
        """The value of the last step."""
        return self._values[-1]


def apply(operation: str, left: Value, right: Value) -> Value:
    """The exact value of one step; fractions with denominator 1 become int.

    Operations on whole numbers floor their operands first, and C, ! and ^ see negative ones as 0, because a slip may
    have spoilt them. Raises ValueError for an unknown operation, ZeroDivisionError as usual.
    """
    exact = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}
    a, b = math.floor(left), math.floor(right)
    whole = {
        "//": lambda: a // b,
        "mod": lambda: a % b,
        "gcd": lambda: math.gcd(a, b),
        "lcm": lambda: math.lcm(a, b),
        "C": lambda: math.comb(max(a, 0), max(b, 0)),
        "!": lambda: math.factorial(max(a, 0)),
    }
    if operation == "/":
        result: Value = Fraction(left) / Fraction(right)
    elif operation == "^":
        result = left ** max(b, 0)
    elif operation in exact:
        result = exact[operation]()
    elif operation in whole:
        result = whole[operation]()
    else:
        raise ValueError(f"worked step: unknown operation {operation!r}")
    return int(result) if result == int(result) else result


def slip(operation: str, left: Value, right: Value, value: Value) -> Value:
    """A typical wrong result: the carry or borrow forgotten, one factor too many, otherwise one too many. Never 0."""
    if operation == "+" and left % 10 + right % 10 >= 10:
        wrong = value - 10
    elif operation == "-" and left % 10 < right % 10:
        wrong = value + 10
    elif operation == "*":
        wrong = value + (left if left > 0 else 1)
    elif isinstance(value, Fraction):
        wrong = Fraction(value.numerator + 1, value.denominator)
    else:
        wrong = value + 1
    return wrong if wrong != 0 else value + 1


def follow(rng: random.Random, steps: Sequence[Step], error_rate: float) -> tuple[list[str], Value]:
    """One line a step, and the value of the last; each step slips with probability `error_rate`."""
    lines: list[str] = []
    values: list[Value] = []
    for operation, left_operand, right_operand in steps:
        left, right = _value(left_operand, values), _value(right_operand, values)
        value = apply(str(operation), left, right)
        if rng.random() < error_rate:
            value = slip(str(operation), left, right, value)
        lines.append(_written(str(operation), left, right, value))
        values.append(value)
    return lines, values[-1]


def _value(operand: Operand, values: Sequence[Value]) -> Value:
    return values[int(operand[1:])] if isinstance(operand, str) else operand


def _written(operation: str, left: Value, right: Value, value: Value) -> str:
    if operation == "!":
        return f"{left}!={value}"
    if operation in ("C", "gcd", "lcm"):
        return f"{operation}({left},{right})={value}"
    if operation == "mod":
        return f"{left} mod {right}={value}"
    symbol = {"//": "/"}.get(operation, operation)
    first, second = (f"({side})" if _needs_brackets(side) else str(side) for side in (left, right))
    line = f"{first}{symbol}{second}"
    return line if line == str(value) else f"{line}={value}"


def _needs_brackets(side: Value) -> bool:
    return isinstance(side, Fraction) or side < 0
