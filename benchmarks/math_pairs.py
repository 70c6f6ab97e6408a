r"""Pairs of a reference and an answer whose truth is known, by class, for `rewards_math.py`.

Forms of a right answer, wrong answers, and what math-verify 0.9.0 was seen to get wrong in either direction.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference, a completion that answers it, whether it deserves reward, and the class that it stands for."""

    kind: str
    gold: str
    completion: str
    right: bool


def pairs(seed: int) -> list[Pair]:
    """Every pair; a function of the seed."""
    rng = random.Random(f"math pairs/{seed}")
    return [*_numbers(rng), *_fractions(rng), *_expressions(rng), *_structures(), *_false_positives(rng), *_texts(rng)]


def _box(kind: str, gold: str, latex: str, right: bool) -> Pair:
    return Pair(kind, gold, f"\\boxed{{{latex}}}", right)


def _numbers(rng: random.Random) -> Iterator[Pair]:
    for _ in range(20):
        n = rng.randint(2, 999)
        yield _box("the same integer", f"{n}", f"{n}", True)
        yield _box("integer as a decimal", f"{n}", f"{n}.0", True)
        yield _box("integer with a thousands comma", f"{1000 + n}", f"1,{n:03d}", True)
        yield _box("integer with leading zero or plus", f"{n}", rng.choice((f"0{n}", f"+{n}")), True)
        yield _box("assignment to the unknown", f"{n}", f"x={n}", True)
        yield _box("wrong integer", f"{n}", f"{n + rng.choice((-1, 1, 10, 100))}", False)
        yield _box("sign dropped or added", f"{n}", f"-{n}", False)
        yield _box("sign dropped or added", f"-{n}", f"{n}", False)
        yield _box("digits turned round", f"{n}8", f"9{n}", False)


def _fractions(rng: random.Random) -> Iterator[Pair]:
    for _ in range(20):
        p, q = rng.sample((1, 3, 7, 9, 11, 13), 1)[0], rng.choice((2, 4, 5, 8, 10, 16, 20))
        value = Fraction(p, q)
        gold = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        k = rng.randint(2, 5)
        yield _box("fraction that is not reduced", gold, f"\\frac{{{p * k}}}{{{q * k}}}", True)
        yield _box("fraction in another command", gold, f"\\dfrac{{{p}}}{{{q}}}", True)
        yield _box("fraction with a slash", gold, f"{p}/{q}", True)
        yield _box("fraction as a decimal", gold, str(p / q), True)
        yield _box("minus in another place", f"-{gold}", f"\\frac{{-{p}}}{{{q}}}", True)
        yield _box("fraction turned over", gold, f"\\frac{{{q}}}{{{p}}}", False)
        yield _box("wrong fraction", gold, f"\\frac{{{p + 1}}}{{{q}}}", False)
        yield _box("almost equal decimal", gold, f"{p / q + 1e-7:.7f}", False)
        yield _box("unevaluated calculation", gold, f"\\frac{{{p}}}{{{q}}}+\\frac{{1}}{{2}}-\\frac{{1}}{{2}}", False)


def _expressions(rng: random.Random) -> Iterator[Pair]:
    for _ in range(15):
        a, b, c = (rng.randint(2, 9) for _ in range(3))
        yield _box("terms in another order", f"{a}x^2+{b}x+{c}", f"{c}+{b}x+{a}x^2", True)
        yield _box("factored", f"x^2+{a + b}x+{a * b}", f"(x+{a})(x+{b})", True)
        yield _box("common factor", f"{a * b}x+{a * c}", f"{a}({b}x+{c})", True)
        yield _box("explicit multiplication", f"{a}x+{b}", f"{a} \\cdot x+{b}", True)
        yield _box("wrong coefficient", f"{a}x+{b}", f"{a + 1}x+{b}", False)
        yield _box("term left out", f"{a}x^2+{b}x+{c}", f"{a}x^2+{b}x", False)
        yield _box("another variable", f"{a}x+{b}", f"{a}y+{b}", False)
        yield _box("square root simplified", f"{a}\\sqrt{{2}}", f"\\sqrt{{{2 * a * a}}}", True)
        yield _box("wrong square root", f"{a}\\sqrt{{2}}", f"{a}\\sqrt{{3}}", False)
        yield _box("multiple of pi", f"\\frac{{{a}\\pi}}{{{b + 9}}}", f"\\frac{{{a}}}{{{b + 9}}}\\pi", True)
        yield _box("pi as a decimal", f"{a}\\pi", f"{a * 3.14159265:.2f}", False)
        yield _box("unsolved sum, integral or derivative", f"{a}x+{b}", f"\\frac{{d}}{{dx}}({a}x^2/2+{b}x)", False)


def _structures() -> Iterator[Pair]:
    for a, b in ((1, 2), (3, 5), (0, 7), (-2, 4), (2, 9)):
        yield _box("tuple", f"({a},{b})", f"({a}, {b})", True)
        yield _box("tuple turned round", f"({a},{b})", f"({b}, {a})", False)
        yield _box("set in another order", f"\\{{{a},{b}\\}}", f"\\{{{b},{a}\\}}", True)
        yield _box("set without braces", f"\\{{{a},{b}\\}}", f"{a},{b}", True)
        yield _box("set with an element too many", f"\\{{{a},{b}\\}}", f"\\{{{a},{b},99\\}}", False)
        yield _box("closed for open interval", f"({a},{b}]", f"[{a},{b}]", False)
        yield _box("interval as an inequality", f"({a},{b})", f"{a}<x<{b}", True)
        yield _box("inequality as an interval", f"{a}<x<{b}", f"({a},{b})", True)
        yield _box("infinity in an interval", f"[{a},\\infty)", f"[{a}, +\\infty)", True)


def _false_positives(rng: random.Random) -> Iterator[Pair]:
    for _ in range(10):
        n = rng.randint(3, 60)
        yield _box("equation with the value", f"{n}", f"0={n}", False)
        yield _box("equation with the value", f"{n}", f"x+y={n}", False)
        yield _box("equation with the value", f"{n}", f"ABC={n}", False)
        yield _box("percent sign", f"{n}", f"{n}\\%", False)
        yield _box("percent sign", f"{n}", f"{n}00\\%", False)
        yield _box("unit", f"{n}", f"{n} km", False)
        yield _box("unit", f"{n}", f"{n}\\text{{ km}}", False)
        yield _box("unsolved sum, integral or derivative", f"{n}", f"\\sum_{{i=1}}^{{{n}}} 1", False)
        yield _box("unsolved sum, integral or derivative", f"{n}", f"\\int_0^{{{n}}} 1 dx", False)
        yield _box("unevaluated calculation", f"{n * n}", f"{n}^2", False)
        yield _box("unevaluated calculation", f"{n}", f"{n - 1}+1", False)
        yield _box("unevaluated calculation", f"{n}", f"\\sqrt{{{n * n}}}", False)
        yield _box("two values in one box", f"{n}", f"{n}, {n + 1}", False)
        yield _box("two values in one box", f"{n}", f"{n} \\text{{ or }} {n + 1}", False)
        yield _box("two values in one box", f"{n}", f"{n} \\pm 0", False)


def _texts(rng: random.Random) -> Iterator[Pair]:
    for _ in range(8):
        n = rng.randint(3, 60)
        yield Pair("two boxes", f"{n}", f"\\boxed{{{n + 1}}} no wait \\boxed{{{n}}}", False)
        yield Pair("two boxes", f"{n}", f"\\boxed{{{n}}} or \\boxed{{{n + 1}}}", False)
        yield Pair("guesses in prose", f"{n}", f"It is {n + 1} or {n}", False)
        yield Pair("guesses in prose", f"{n}", f"{n - 1}, {n + 1}, {n}", False)
        yield Pair("value inside unfinished thinking", f"{n}", f"<think>\nso \\boxed{{{n}}}", False)
        yield Pair("value only inside the block", f"{n}", f"<think>\n\\boxed{{{n}}}\n</think>\n\nSee above.", False)
        yield Pair("answer after thinking", f"{n}", f"<think>\n{n + 1}? no\n</think>\n\n\\boxed{{{n}}}", True)
        yield Pair("value in prose without a box", f"{n}", f"After some work I find that it must be {n}", True)
        yield Pair("the answer is N", f"{n}", f"The answer is {n}.", True)
        yield Pair("answer tag", f"{n}", f"<answer>{n}</answer>", True)
        yield Pair("the same box twice", f"{n}", f"\\boxed{{{n}}}. So \\boxed{{{n}}}.", True)
    for gold, text, right in (
        ("7", "\\text{seven}", True), ("\\sqrt{2}", "√2", True), ("1500", "1.5e3", True), ("7", "7.0000001", False),
        ("7", "\\text{Yes}", False), ("7", "VII", False), ("7", "７", False),
    ):  # fmt: skip
        yield _box("other notations", gold, text, right)
    for text in (
        "9^{9^{9^9}}", "((9!)!)!", "(x+1)^{99999}", "(" * 3000 + "7" + ")" * 3000, "1e999999999",
        "\\frac{1}{0}", "9" * 5000,
    ):  # fmt: skip
        yield _box("hostile expressions", "6x+4", text, False)
