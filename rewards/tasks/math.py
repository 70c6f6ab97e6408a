r"""Algebra and calculus with a LaTeX answer, compared by a computer algebra system.

Area: reasoning. Reward type: rule.
Verified: the one answer committed to is mathematically equal to the reference, and it is worked out.
Known hacks (seen to pass the library alone): an equation with the value on one side (`0=7`, `ABC=7`), a percent sign or
a unit, an unsolved sum, integral or power, "7 or 8", a list of guesses, expressions that hang the comparison.
Guard: the box is extracted here and handed over alone; integers are compared without the library; letters, operators
and commands that the reference does not need are refused before it is asked; length cap; killable worker.

The library's own timeouts use signals and work in the main thread only. They are off: the worker is killed instead.
"""

from __future__ import annotations

import functools
import logging
import random
import re
from fractions import Fraction
from math import gcd, isqrt

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot, integer_answer, parse_integer
from rewards.latex_effort import out_of_reach
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MAX_LATEX_CHARS = 300
"""Final answers are short; the time and memory of the parser grow steeply with the length."""

FLOAT_DIGITS = 12
"""Decimals are rounded to this many places before they are compared; the library's 6 lets 0.5000001 pass for 1/2."""

_ASSIGNED = re.compile(r"[a-zA-Z]\s*=\s*(?=[^=]*$)")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_UNSOLVED = re.compile(
    r"\\(?:sum|int|iint|oint|prod|lim|partial|binom|text\w*|mathrm|operatorname|bmod|pmod)(?![a-zA-Z])|['′]"
)
_OPERATION = re.compile(r"(?<=[^\s({\[,=])\s*-|[+*^!/,;|]|(?<=[0-9)}])\s*(?:\(|\\[dt]?frac)|(?<=[0-9])\s+(?=[0-9])")
_SEVERAL = re.compile(r"[,;:]|\\(?:pm|mp|cup|lor|vee)(?![a-zA-Z])")
_PLUS = re.compile(r"(^|[(\[{,=])\s*\+(?=[0-9a-zA-Z\\])")  # a sign, no sum: `[1, +\infty)`
_FRACTIONS = {"\\frac", "\\dfrac", "\\tfrac"}
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|quad|displaystyle)(?![a-zA-Z])|~")


class UnreadableReference(ValueError):
    """The reference is no LaTeX that math-verify can compare; generated ones always are."""


# --- prompts -------------------------------------------------------------------------------------------------------


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Signed sums (level 0), linear equations with an integer root (1) or a fraction (2), sums of fractions (3),
    quadratics (4), derivatives of polynomials (5).
    """
    kind = (_signed_sum, _linear, _rational_linear, _fraction_sum, _quadratic, _derivative)[difficulty]
    question, gold, domain = kind(rng)
    return TaskItem(({"role": "user", "content": question},), {"answer": gold}, domain=domain)


def _signed_sum(rng: random.Random) -> tuple[str, str, str]:
    """Four to seven single digits with signs, every partial result from 0 to 30."""
    total = rng.randint(1, 9)
    text = str(total)
    for _ in range(rng.randint(3, 6)):
        digit = rng.randint(1, 9)
        sign = rng.choice([s for s in (1, -1) if 0 <= total + s * digit <= 30])
        total += sign * digit
        text += f"{'+' if sign > 0 else '-'}{digit}"
    return f"Evaluate ${text}$.", str(total), "algebra"


def _linear(rng: random.Random) -> tuple[str, str, str]:
    """a x + b = c or a x - b = c with a root from 1 to 9 and a right-hand side that is not negative."""
    a, root, b = rng.randint(2, 9), rng.randint(1, 9), rng.randint(1, 20)
    sign = rng.choice((1, -1)) if a * root >= b else 1
    return f"Solve {a}x{'+' if sign > 0 else '-'}{b}={a * root + sign * b} for x.", str(root), "algebra"


def _rational_linear(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(2, 9), rng.randint(1, 9)
    right = rng.choice([value for value in range(1, 40) if gcd(value, a) < a])
    return f"Solve {a}x+{b}={right + b} for x.", _latex(Fraction(right, a)), "algebra"


def _fraction_sum(rng: random.Random) -> tuple[str, str, str]:
    p, r = rng.randint(1, 9), rng.randint(1, 9)
    q, s = rng.randint(2, 9), rng.randint(2, 9)
    gold = _latex(Fraction(p, q) + Fraction(r, s))
    return f"Compute {p}/{q} + {r}/{s} as a reduced fraction.", gold, "arithmetic"


def _quadratic(rng: random.Random) -> tuple[str, str, str]:
    low, high = sorted(rng.sample(range(1, 10), 2))
    return f"Find the larger root of x^2-{low + high}x+{low * high}=0.", str(high), "algebra"


def _derivative(rng: random.Random) -> tuple[str, str, str]:
    coefficients = [rng.randint(2, 9) for _ in range(rng.randint(2, 3))]
    terms = _terms(coefficients)
    return f"Differentiate {'+'.join(terms)} with respect to x.", "+".join(_differentiated(coefficients)), "calculus"


def _terms(coefficients: list[int]) -> list[str]:
    """Terms a x^n + … + b x of descending power, without a constant."""
    powers = range(len(coefficients), 0, -1)
    return [f"{a}x" if power == 1 else f"{a}x^{power}" for a, power in zip(coefficients, powers, strict=True)]


def _differentiated(coefficients: list[int]) -> list[str]:
    powers = range(len(coefficients), 0, -1)
    return [_power_term(a * power, power - 1) for a, power in zip(coefficients, powers, strict=True)]


def _power_term(coefficient: int, power: int) -> str:
    return str(coefficient) + ("" if power == 0 else "x" if power == 1 else f"x^{power}")


def _latex(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


# --- worked solutions ----------------------------------------------------------------------------------------------


def answer(item: TaskItem) -> str:
    """The boxed reference."""
    return f"\\boxed{{{item.reference['answer']}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The school method, one step a line; a wrong step is a typical slip and the rest goes on from it."""
    question = item.messages[-1]["content"]
    numbers = [int(digits) for digits in re.findall(r"[0-9]+", question)]
    if question.startswith("Evaluate"):
        lines, final = _work_signed_sum(rng, question, error_rate)
    elif question.startswith("Solve"):
        lines, final = _work_linear(rng, numbers, -1 if "x-" in question else 1, error_rate)
    elif question.startswith("Compute"):
        lines, final = _work_fraction_sum(rng, numbers, error_rate)
    elif question.startswith("Find"):
        lines, final = _work_quadratic(rng, numbers[-3:], error_rate)  # the first number is the exponent 2
    else:
        lines, final = _work_derivative(rng, question.split()[1], error_rate)
    return Worked("\n".join(lines), f"\\boxed{{{final}}}")


def _slips(rng: random.Random, error_rate: float) -> bool:
    return rng.random() < error_rate


def _work_signed_sum(rng: random.Random, question: str, error_rate: float) -> tuple[list[str], str]:
    first, *terms = re.findall(r"[+-]?[0-9]+", question)
    lines, total = [], int(first)
    for term in terms:
        result = total + int(term)
        if _slips(rng, error_rate):
            result += 1 if result < 10 else -10  # counted one too far, or lost the ten
        lines.append(f"{total}{term}={result}")
        total = result
    return lines, str(total)


def _work_linear(rng: random.Random, numbers: list[int], sign: int, error_rate: float) -> tuple[list[str], str]:
    a, b, c = numbers
    right = c - sign * b
    if _slips(rng, error_rate):
        right += a  # a slip in the subtraction that still divides, so nothing but checking shows it
    root = Fraction(right, a)
    if _slips(rng, error_rate):
        root += 1
    operator = "+" if sign > 0 else "-"
    inverse = "-" if sign > 0 else "+"
    return [f"{a}x{operator}{b}={c}", f"{a}x={c}{inverse}{b}={right}", f"x={right}/{a}={_latex(root)}"], _latex(root)


def _work_fraction_sum(rng: random.Random, numbers: list[int], error_rate: float) -> tuple[list[str], str]:
    p, q, r, s = numbers
    bottom = q * s
    left, right = p * s, r * q
    if _slips(rng, error_rate):
        left, right = p, r  # numerators not expanded
        if (q, s) == (1, 1):
            left += 1
    top = left + right
    if _slips(rng, error_rate):
        top += 1
    total = Fraction(top, bottom)
    return [f"{left}/{bottom}+{right}/{bottom}", f"={top}/{bottom}", f"={_latex(total)}"], _latex(total)


def _work_quadratic(rng: random.Random, numbers: list[int], error_rate: float) -> tuple[list[str], str]:
    total, product = numbers[0], numbers[1]
    root = isqrt(total * total - 4 * product)
    if _slips(rng, error_rate):
        root += 2
    low, high = (total - root) // 2, (total + root) // 2
    chosen = low if _slips(rng, error_rate) else high
    return [f"{total}^2-4*{product}={root * root}", f"root {root}", f"x={low} or x={high}"], str(chosen)


def _work_derivative(rng: random.Random, polynomial: str, error_rate: float) -> tuple[list[str], str]:
    lines, result = [], []
    for term in polynomial.split("+"):
        coefficient, _, exponent = term.replace("^", "").partition("x")
        power = int(exponent or 1)
        factor = 1 if _slips(rng, error_rate) and power > 1 else power  # the exponent is not brought down
        result.append(_power_term(int(coefficient) * factor, power - 1))
        lines.append(f"{term}: {result[-1]}")
    return lines, "+".join(result)


# --- verification --------------------------------------------------------------------------------------------------


def candidate(answer_text: str) -> str | None:
    r"""The LaTeX an answer commits to, as `plain_latex` leaves it.

    None without a single box, tag or short whole answer. A whole answer in prose is not a commitment unless it is "the
    answer is N".
    """
    stated = integer_answer(answer_text)
    if stated is not None:
        return str(stated)
    slot = answer_slot(answer_text)
    if slot is None or len(slot) > MAX_LATEX_CHARS:
        return None
    return plain_latex(slot)


def plain_latex(text: str) -> str:
    """LaTeX without dollar signs, spacing commands, plus signs, closing period and the letter of an assignment."""
    latex = _PLUS.sub(r"\1", _SPACING.sub(" ", text.strip().removesuffix(".").strip("$ \n")).strip())
    assigned = _ASSIGNED.match(latex)
    return latex[assigned.end() :].strip() if assigned else latex


def refused_form(latex: str, gold: str) -> str | None:
    """Why a candidate is no final answer, whatever its value, or None.

    Letters have to occur in the reference too. So have operations and commands, when the reference is a number: what
    they leave to do is the task. With variables they are free, because equal expressions are written in many ways.
    """
    if "=" in latex and "=" not in gold:
        return "an equation, not a value"
    if "%" in latex and "%" not in gold:
        return "a percentage"
    if (found := _SEVERAL.search(latex)) and found.group() not in gold:
        return "several values"
    found = _UNSOLVED.search(latex)
    if found and found.group() not in gold:
        return f"left unsolved or in words ({found.group()})"
    letters, gold_letters = (set(re.findall(r"[^\W\d_]", _COMMAND.sub(" ", text))) for text in (latex, gold))
    if not letters <= gold_letters:
        return "letters or units that the answer does not have"
    if not gold_letters and not _operations(latex) <= _operations(gold):
        return "left unevaluated"
    return out_of_reach(latex, gold)


def _operations(latex: str) -> set[str]:
    """The operations and commands in a text; every way to write a fraction counts as "/"."""
    symbols = {found.strip() or "*" for found in _OPERATION.findall(latex)}
    return symbols | {"/" if command in _FRACTIONS else command for command in _COMMAND.findall(latex)}


def quick_check(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """Everything that text alone decides: form, integers, identical text. None when algebra is needed."""
    gold = plain_latex(str(request.reference["answer"]))
    latex = candidate(parsed.answer)
    if latex is None:
        return Score.incorrect("no single answer")
    if latex == gold:
        return Score.correct()
    expected, found = parse_integer(gold), parse_integer(latex)
    if expected is not None and found is not None:
        return Score.correct() if expected == found else Score.incorrect(f"{found} is not {expected}")
    refused = refused_form(latex, gold)
    return Score.incorrect(refused) if refused else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Equality by math-verify with a single target. A reference that it cannot read raises UnreadableReference."""
    from math_verify import verify as equal

    quick = quick_check(request, parsed)
    if quick is not None:
        return quick
    gold = _read(str(request.reference["answer"]).strip().strip("$"))
    if not gold:
        raise UnreadableReference(f"math reference {request.reference['answer']!r} is not LaTeX that can be compared")
    target = _read(candidate(parsed.answer) or "")
    if not target:
        return Score.incorrect("answer is not LaTeX that can be compared")
    same = equal(gold[0], target[0], timeout_seconds=None, raise_on_error=True, float_rounding=FLOAT_DIGITS)
    return Score.correct() if same else Score.incorrect("not equal to the reference")


@functools.lru_cache(maxsize=512)
def _read(latex: str) -> tuple[object, ...]:
    """What math-verify makes of LaTeX. Kept, because reading is the slow part and a group shares its reference."""
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=0)
    return tuple(
        parse(f"\\boxed{{{latex}}}", [config], fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
    )


def prepare_worker() -> None:
    """Import the algebra system and run it once, so that its caches and tables are built before a timeout counts."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off, which is meant
    request = ScoreRequest("math", (), {"answer": "\\frac{1}{2}"}, "\\boxed{0.5}")
    TASK.score(request)


def _example(completion: str, gold: str, note: str = "") -> Example:
    return Example(completion, {"answer": gold}, note=note)


TASK = Task(
    name="math",
    area="reasoning",
    reward_type="rule",
    summary="a LaTeX answer equal to the reference",
    hack="equations, percent signs, units, unsolved sums, lists of guesses, expressions that hang the checker",
    guard="own extraction, integers compared exactly, form checks before algebra, killable worker",
    generate=generate,
    max_difficulty=5,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    in_worker=True,
    quick_check=quick_check,
    prepare_worker=prepare_worker,
    known_good=(
        _example("<think>\n3x=15\nx=5\n</think>\n\n\\boxed{5}", "5"),
        _example("\\boxed{x=5}", "5", "assignment to the unknown"),
        _example("\\boxed{0.5}", "\\frac{1}{2}", "decimal for a fraction"),
        _example("\\boxed{\\frac{2}{4}}", "\\frac{1}{2}", "fraction that is not reduced"),
        _example("\\boxed{-\\frac{1}{2}}", "\\frac{-1}{2}", "sign in another place"),
        _example("\\boxed{4+6x}", "6x+4", "terms in another order"),
        _example("\\boxed{(x+1)^2}", "x^2+2x+1", "factored"),
        _example("$\\frac{3}{4}$", "\\frac{3}{4}", "whole answer"),
        _example("\\boxed{[1, +\\infty)}", "[1,\\infty)", "plus as a sign"),
        _example("<answer>7</answer>", "7", "answer tag"),
    ),
    known_bad=(
        _example("\\boxed{0=7}", "7", "equation"),
        _example("\\boxed{x+y=7}", "7", "equation with letters"),
        _example("\\boxed{ABC=7}", "7", "several letters"),
        _example("\\boxed{7\\%}", "7", "percent"),
        _example("\\boxed{700\\%}", "7", "percent of the value"),
        _example("\\boxed{5 km}", "5", "unit"),
        _example("\\boxed{5\\text{ km}}", "5", "unit in text"),
        _example("\\boxed{\\sum_{i=1}^{3} i}", "6", "unsolved sum"),
        _example("\\boxed{\\int_0^1 2x dx}", "1", "unsolved integral"),
        _example("\\boxed{5^2}", "25", "unevaluated power"),
        _example("\\boxed{3+4}", "7", "unevaluated sum"),
        _example("\\boxed{8-1}", "7", "unevaluated difference"),
        _example("\\boxed{\\frac{14}{2}}", "7", "unevaluated quotient"),
        _example("\\boxed{\\sqrt{49}}", "7", "unevaluated root"),
        _example("\\boxed{\\frac{1}{2}+\\frac{1}{4}}", "\\frac{3}{4}", "unevaluated fractions"),
        _example("\\boxed{\\frac{d}{dx}(3x^2+4x)}", "6x+4", "unsolved derivative"),
        _example("It is 7 or 8", "7", "two candidates"),
        _example("\\boxed{7 or 8}", "7", "two candidates in a box"),
        _example("\\boxed{7, 8}", "7", "list"),
        _example("\\boxed{6x+4, 6x+5}", "6x+4", "list of expressions"),
        _example("\\boxed{6x+4 \\pm 0}", "6x+4", "two signs"),
        _example("\\boxed{0.5000001}", "\\frac{1}{2}", "almost equal"),
        _example("\\boxed{\\frac{1}{2}\\frac{3}{2}}", "\\frac{3}{4}", "unevaluated product"),
        _example("\\boxed{1} no wait \\boxed{2}", "2", "two boxes"),
        _example("\\boxed{6}", "7", "wrong integer"),
        _example("\\boxed{\\frac{1}{3}}", "\\frac{1}{2}", "wrong fraction"),
        _example("\\boxed{9^{9^{9^9}}}", "7", "power tower"),
        _example("\\boxed{x^{9^{9^9}}}", "6x+4", "power tower against a polynomial"),
        _example("\\boxed{(x+1)^{99999}}", "6x+4", "power without end"),
        _example("\\boxed{(((x+1)^9)^9)^9}", "6x+4", "powers of powers"),
        _example("\\boxed{((9!)!)!}", "6x+4", "factorials"),
        _example("\\boxed{" + "(" * 3000 + "7" + ")" * 3000 + "}", "7", "deep brackets"),
        _example("<think>\n\\boxed{7}", "7", "answer inside unfinished thinking"),
        _example("<think>\n\\boxed{7}\n</think>\n\n", "7", "answer only inside the block"),
    ),
)
