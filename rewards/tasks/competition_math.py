r"""Competition style counting, probability, geometry and number theory with one exact number as the answer.

Area: reasoning. Reward type: rule.
Verified: the answer is written as an integer or as a fraction in lowest terms (`a/b`, `\frac{a}{b}`) and equals the
reference exactly.
Known hacks (seen to pass a library that compares LaTeX): an equation with the value on one side (`0=7`), a percent sign
(`700\%`), a unit (`5 km`), a list of guesses or a set, unsolved powers and sums, a fraction that is left to reduce.
Guard: an own reader of integers and reduced fractions that refuses every other text; one box, or the whole answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from fractions import Fraction

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot, parse_integer
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.worked_steps import Steps, Value, follow

Problem = tuple[str, Steps]

_DIGITS = r"[0-9]{1,40}"
_FRACTION = re.compile(
    rf"([+-]?)(?:(-?{_DIGITS})\s*/\s*({_DIGITS})|\\[dt]?frac\s*\{{\s*(-?{_DIGITS})\s*\}}\s*\{{\s*({_DIGITS})\s*\}})"
)
_STATED = re.compile(r"(?:(?:so|thus|hence|therefore),? )?the (?:final )?answer is:? (.{1,100})", re.IGNORECASE)
_FORM = " Answer with an integer or a reduced fraction."


# --- level 0: two steps at most, two digits ------------------------------------------------------------------------


def _perimeter(rng: random.Random) -> Problem:
    steps, a, b = Steps(), rng.randint(3, 40), rng.randint(3, 29)
    steps.add("*", steps.add("+", a, b), 2)
    return f"A rectangle has sides {a} and {b}. Find its perimeter.", steps


def _area(rng: random.Random) -> Problem:
    """Tens and units apart, as one multiplies on paper."""
    steps, a, b = Steps(), rng.randint(3, 9), rng.randint(11, 79)
    if b % 10 == 0:
        b += 1
    tens, units = steps.add("*", b - b % 10, a), steps.add("*", b % 10, a)
    steps.add("+", tens, units)
    return f"A rectangle has sides {a} and {b}. Find its area.", steps


def _count_inclusive(rng: random.Random) -> Problem:
    steps, low = Steps(), rng.randint(2, 60)
    high = low + rng.randint(10, 39)
    steps.add("+", steps.add("-", high, low), 1)
    return f"How many integers are there from {low} to {high}, both included?", steps


# --- level 1: one idea ---------------------------------------------------------------------------------------------


def _third_angle(rng: random.Random) -> Problem:
    steps, a, b = Steps(), rng.randint(15, 85), rng.randint(15, 85)
    steps.add("-", 180, steps.add("+", a, b))
    return f"Two angles of a triangle have {a} and {b} degrees. How many degrees has the third?", steps


def _remainder(rng: random.Random) -> Problem:
    steps, divisor, quotient = Steps(), rng.randint(13, 40), rng.randint(5, 30)
    number = divisor * quotient + rng.randint(2, divisor - 1)
    steps.add("-", number, steps.add("*", steps.add("//", number, divisor), divisor))
    return f"Find the remainder of {number} divided by {divisor}.", steps


def _one_draw(rng: random.Random) -> Problem:
    steps, red, blue = Steps(), rng.randint(2, 15), rng.randint(2, 15)
    steps.add("/", red, steps.add("+", red, blue))
    return f"A bag holds {red} red and {blue} blue balls. Find the probability that one drawn at random is red.", steps


def _handshakes(rng: random.Random) -> Problem:
    steps, people = Steps(), rng.randint(6, 99)
    steps.add("//", steps.add("*", people, people - 1), 2)
    return f"Each two of {people} people shake hands once. How many handshakes are there?", steps


# --- level 2: a known formula --------------------------------------------------------------------------------------


def _lattice_paths(rng: random.Random) -> Problem:
    steps, x, y = Steps(), rng.randint(0, 9), rng.randint(0, 9)
    to_x, to_y = x + rng.randint(2, 7), y + rng.randint(2, 7)
    right, up = steps.add("-", to_x, x), steps.add("-", to_y, y)
    steps.add("C", steps.add("+", right, up), up)
    return f"How many paths of unit steps right or up lead from ({x},{y}) to ({to_x},{to_y})?", steps


def _divisors(rng: random.Random) -> Problem:
    steps = Steps()
    (p, q), a, b = rng.sample((2, 3, 5, 7, 11), 2), rng.randint(2, 9), rng.randint(2, 9)
    steps.add("*", steps.add("+", a, 1), steps.add("+", b, 1))
    return f"How many positive divisors has {p}^{a} * {q}^{b}?", steps


def _two_dice(rng: random.Random) -> Problem:
    steps, sides = Steps(), rng.randint(4, 20)
    total = rng.randint(3, 2 * sides - 1)
    ways = steps.add("-", min(total - 1, sides) + 1, max(1, total - sides))
    steps.add("/", ways, steps.add("*", sides, sides))
    return f"Two fair dice have the faces 1 to {sides} each. Find the probability that the sum is {total}.", steps


def _diagonals(rng: random.Random) -> Problem:
    steps, corners = Steps(), rng.randint(7, 99)
    steps.add("-", steps.add("C", corners, 2), corners)
    return f"How many diagonals has a convex polygon with {corners} corners?", steps


# --- level 3: two ideas --------------------------------------------------------------------------------------------


def _divisible_by_either(rng: random.Random) -> Problem:
    steps, limit = Steps(), rng.randint(100, 999)
    a, b = sorted(rng.sample(range(3, 20), 2))
    first, second = steps.add("//", limit, a), steps.add("//", limit, b)
    both = steps.add("//", limit, steps.add("lcm", a, b))
    steps.add("-", steps.add("+", first, second), both)
    return f"How many integers from 1 to {limit} are divisible by {a} or by {b}?", steps


def _two_draws(rng: random.Random) -> Problem:
    steps, red, blue = Steps(), rng.randint(3, 12), rng.randint(3, 12)
    wanted = steps.add("C", red, 2)
    steps.add("/", wanted, steps.add("C", steps.add("+", red, blue), 2))
    return (
        f"A bag holds {red} red and {blue} blue balls. Two are drawn at random without putting back. "
        "Find the probability that both are red.",
        steps,
    )


def _last_digits(rng: random.Random) -> Problem:
    steps, base, exponent = Steps(), rng.choice([n for n in range(3, 60) if n % 2 and n % 5]), rng.randint(3, 7)
    residue: int | str = base
    for _ in range(exponent - 1):
        residue = steps.add("mod", steps.add("*", residue, base), 100)
    return f"Find the remainder of {base}^{exponent} divided by 100.", steps


def _interior_angle(rng: random.Random) -> Problem:
    steps, corners = Steps(), rng.randint(7, 120)
    steps.add("/", steps.add("*", corners - 2, 180), corners)
    return f"How many degrees has each angle of a regular polygon with {corners} corners?", steps


# --- level 4: several steps, large numbers -------------------------------------------------------------------------


def _shoelace(rng: random.Random) -> Problem:
    """Triangle with one corner at the origin, the others ordered against the clock."""
    steps = Steps()
    while True:
        a, b, c, d = (rng.randint(1, 20) for _ in range(4))
        if a * d > b * c:
            break
    left, right = steps.add("*", a, d), steps.add("*", b, c)
    steps.add("/", steps.add("-", left, right), 2)
    return f"Find the area of the triangle with the corners (0,0), ({a},{b}) and ({c},{d}).", steps


def _stars_and_bars(rng: random.Random) -> Problem:
    steps, total, parts = Steps(), rng.randint(9, 30), rng.randint(3, 5)
    steps.add("C", steps.add("-", total, 1), parts - 1)
    return f"In how many ways is {total} the sum of {parts} positive integers, where their order counts?", steps


def _at_least_one(rng: random.Random) -> Problem:
    steps, sides, throws = Steps(), rng.randint(3, 12), rng.randint(2, 4)
    none = steps.add("/", steps.add("^", sides - 1, throws), steps.add("^", sides, throws))
    steps.add("-", 1, none)
    return (
        f"A fair die has the faces 1 to {sides}. Find the probability of at least one {sides} in {throws} throws.",
        steps,
    )


def _mixed_committee(rng: random.Random) -> Problem:
    steps, women, men, seats = Steps(), rng.randint(4, 9), rng.randint(4, 9), rng.randint(3, 4)
    every = steps.add("C", steps.add("+", women, men), seats)
    one_sided = steps.add("+", steps.add("C", women, seats), steps.add("C", men, seats))
    steps.add("-", every, one_sided)
    return (
        f"A committee of {seats} is chosen from {women} women and {men} men. "
        "How many committees have at least one woman and at least one man?",
        steps,
    )


def _last_common_multiple(rng: random.Random) -> Problem:
    steps, limit = Steps(), rng.randint(1000, 9999)
    a, b, c = rng.sample(range(4, 16), 3)
    common = steps.add("lcm", steps.add("lcm", a, b), c)
    steps.add("*", steps.add("//", limit, common), common)
    return f"Find the largest integer up to {limit} that is divisible by {a}, {b} and {c}.", steps


_LEVELS: tuple[tuple[Callable[[random.Random], Problem], ...], ...] = (
    (_perimeter, _area, _count_inclusive),
    (_third_angle, _remainder, _one_draw, _handshakes),
    (_lattice_paths, _divisors, _two_dice, _diagonals),
    (_divisible_by_either, _two_draws, _last_digits, _interior_angle),
    (_shoelace, _stars_and_bars, _at_least_one, _mixed_committee, _last_common_multiple),
)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """One problem of the level's kinds; answers are fractions or integers of at least 2, at level 0 of at least 10."""
    smallest = 10 if difficulty == 0 else 2
    while True:
        question, steps = rng.choice(_LEVELS[difficulty])(rng)
        if isinstance(steps.result, Fraction) or steps.result >= smallest:
            break
    reference = {"answer": str(steps.result), "steps": steps.listed}
    text = question + (_FORM if difficulty > 0 else "")
    return TaskItem(({"role": "user", "content": text},), reference, domain="competition mathematics")


def _latex(value: Value) -> str:
    if value.denominator == 1:
        return str(value)
    return f"{'-' if value < 0 else ''}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def answer(item: TaskItem) -> str:
    """The boxed reference."""
    return f"\\boxed{{{_latex(Fraction(item.reference['answer']))}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One calculation a line; a wrong step is a slip (`rewards.worked_steps.slip`) that the rest goes on from."""
    lines, value = follow(rng, item.reference["steps"], error_rate)
    return Worked("\n".join(lines), f"\\boxed{{{_latex(value)}}}")


def exact_value(text: str) -> Fraction | None:
    r"""The value of a text that is an integer or a fraction in lowest terms with a denominator above 1, else None.

    One sign, before the fraction or in the numerator; dollar signs around the text and a closing period are allowed.
    """
    text = text.strip().removesuffix(".").strip().strip("$").strip()
    integer = parse_integer(text)
    if integer is not None:
        return Fraction(integer)
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    sign, plain_top, plain_bottom, latex_top, latex_bottom = found.groups()
    top, bottom = int(plain_top or latex_top), int(plain_bottom or latex_bottom)
    if bottom < 2 or (sign and top < 0):
        return None
    value = Fraction(-top if sign == "-" else top, bottom)
    return value if value.denominator == bottom else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Exact comparison of values, each written in the one form that is left when the work is done."""
    expected = exact_value(str(request.reference["answer"]))
    if expected is None:
        raise ValueError(
            f"competition_math reference {request.reference['answer']!r} is no integer or reduced fraction"
        )
    slot = answer_slot(parsed.answer)
    stated = _STATED.fullmatch(slot) if slot is not None else None
    found = exact_value(stated.group(1) if stated else slot) if slot is not None else None
    if found is None:
        return Score.incorrect("no single integer or reduced fraction")
    return Score.correct() if found == expected else Score.incorrect(f"{found} is not {expected}")


def _example(completion: str, gold: str, note: str) -> Example:
    return Example(completion, {"answer": gold}, note=note)


TASK = Task(
    name="competition_math",
    area="reasoning",
    reward_type="rule",
    summary="counting, probability, geometry, number theory; an exact integer or reduced fraction",
    hack="equations, percent signs, units, lists, unsolved expressions, fractions left to reduce",
    guard="own reader that knows integers and reduced fractions alone; one box or the whole answer",
    generate=generate,
    max_difficulty=len(_LEVELS) - 1,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\n17+25=42\n42*2=84\n</think>\n\n\\boxed{84}", "84", "after thinking"),
        _example("3/8", "3/8", "bare fraction"),
        _example("The probability is \\boxed{\\dfrac{3}{8}}.", "3/8", "LaTeX fraction in a box"),
        _example("-\\frac{1}{2}", "-1/2", "sign before the fraction"),
        _example("\\boxed{\\frac{-1}{2}}", "-1/2", "sign in the numerator"),
        _example("The answer is $\\frac{3}{8}$.", "3/8", "stated"),
        _example("1,024", "1024", "thousands comma"),
    ),
    known_bad=(
        _example("\\boxed{0=7}", "7", "equation"),
        _example("\\boxed{ABC=7}", "7", "equation with letters"),
        _example("\\boxed{7\\%}", "7", "percent sign"),
        _example("\\boxed{700\\%}", "7", "percent sign with the factor"),
        _example("\\boxed{5 km}", "5", "unit"),
        _example("\\boxed{75^\\circ}", "75", "degree sign"),
        _example("\\boxed{7, 8}", "7", "list"),
        _example("\\boxed{\\{7\\}}", "7", "set"),
        _example("7 or 8", "7", "two candidates"),
        _example("\\boxed{1} no wait \\boxed{2}", "2", "two boxes"),
        _example("\\boxed{6/16}", "3/8", "not reduced"),
        _example("\\boxed{14/2}", "7", "division left to do"),
        _example("\\boxed{7/1}", "7", "integer as a fraction"),
        _example("\\boxed{1/0}", "1", "division by zero"),
        _example("\\boxed{0.375}", "3/8", "decimal for a fraction"),
        _example("\\boxed{7.0000001}", "7", "nearly"),
        _example("\\boxed{5^2}", "25", "power left to do"),
        _example("\\boxed{9^{9^{9^9}}}", "7", "power tower"),
        _example("\\boxed{" + "{" * 3000 + "7" + "}" * 3000 + "}", "7", "deep brackets"),
        _example("\\boxed{3/8/1}", "3/8", "two divisions"),
        _example("\\boxed{--3/8}", "3/8", "two signs"),
        _example("\\frac{3}{8", "3/8", "fraction never closes"),
        _example("<think>\n\\boxed{7}", "7", "answer inside unfinished thinking"),
        _example("<think>\n\\boxed{7}\n</think>\n\n", "7", "answer only inside the block"),
    ),
)
