"""Competition mathematics: formulas against brute force, the reader of exact values, worked solutions."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks import competition_math
from rewards.tasks.competition_math import exact_value

TASK = get_task("competition_math")


def _dice_sum(sides: int, total: int) -> Fraction:
    pairs = list(itertools.product(range(1, sides + 1), repeat=2))
    return Fraction(sum(a + b == total for a, b in pairs), len(pairs))


def _both_red(red: int, blue: int) -> Fraction:
    pairs = list(itertools.combinations([1] * red + [0] * blue, 2))
    return Fraction(sum(a and b for a, b in pairs), len(pairs))


def _some_top_face(sides: int, throws: int) -> Fraction:
    rolls = list(itertools.product(range(1, sides + 1), repeat=throws))
    return Fraction(sum(sides in roll for roll in rolls), len(rolls))


def _mixed(seats: int, women: int, men: int) -> int:
    people = "w" * women + "m" * men
    return sum(len(set(chosen)) == 2 for chosen in itertools.combinations(people, seats))


def _paths(right: int, up: int) -> int:
    return 1 if 0 in (right, up) else _paths(right - 1, up) + _paths(right, up - 1)


BRUTE_FORCE: dict[str, Callable[..., int | Fraction]] = {
    "_perimeter": lambda a, b: a + b + a + b,
    "_area": lambda a, b: a * b,
    "_count_inclusive": lambda low, high: len(range(low, high + 1)),
    "_third_angle": lambda a, b: 180 - a - b,
    "_remainder": lambda number, divisor: number % divisor,
    "_one_draw": lambda red, blue: Fraction(red, red + blue),
    "_handshakes": lambda people: len(list(itertools.combinations(range(people), 2))),
    "_lattice_paths": lambda x, y, to_x, to_y: _paths(to_x - x, to_y - y),
    "_divisors": lambda p, a, q, b: len({p**i * q**j for i in range(a + 1) for j in range(b + 1)}),
    "_two_dice": lambda _one, sides, total: _dice_sum(sides, total),
    "_diagonals": lambda corners: corners * (corners - 3) // 2,
    "_divisible_by_either": lambda _one, limit, a, b: sum(n % a == 0 or n % b == 0 for n in range(1, limit + 1)),
    "_two_draws": _both_red,
    "_last_digits": lambda base, exponent, _hundred: base**exponent % 100,
    "_interior_angle": lambda corners: 180 - Fraction(360, corners),
    "_shoelace": lambda _x, _y, a, b, c, d: Fraction(abs(a * d - b * c), 2),
    "_stars_and_bars": lambda total, parts: comb(total - 1, parts - 1),
    "_at_least_one": lambda _one, sides, _face, throws: _some_top_face(sides, throws),
    "_mixed_committee": _mixed,
    "_last_common_multiple": lambda limit, a, b, c: next(
        n for n in range(limit, -1, -1) if not (n % a or n % b or n % c)
    ),
}


FAMILIES = [family for families in competition_math._LEVELS for family in families]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_formula_agrees_with_brute_force_on_the_numbers_of_the_question(
    family: Callable[[random.Random], competition_math.Problem],
) -> None:
    for seed in range(15):
        question, steps = family(random.Random(seed))
        numbers = [int(digits) for digits in re.findall(r"[0-9]+", question)]
        assert steps.result == BRUTE_FORCE[family.__name__](*numbers), question


def test_stars_and_bars_is_the_number_of_compositions() -> None:
    found = sum(sum(parts) == 9 for parts in itertools.product(range(1, 10), repeat=3))
    assert found == comb(8, 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-7", -7), ("3/8", Fraction(3, 8)), (" 3 / 8 ", Fraction(3, 8)), ("$\\tfrac{3}{8}$", Fraction(3, 8)),
     ("\\frac{ 3 }{ 8 }", Fraction(3, 8)), ("-3/8", Fraction(-3, 8)), ("+3/8", Fraction(3, 8)), ("1,024", 1024),
     ("6/16", None), ("8/2", None), ("-\\frac{-3}{8}", None), ("--3/8", None), ("3/-8", None), ("3/0", None),
     ("0/8", None), ("3/8 km", None), ("38", 38), ("\\frac38", None), ("3/8%", None), ("x=3/8", None), ("٣/٨", None),
     ("3//8", None), ("1 3/8", None), ("(3/8)", None), ("", None), ("1" * 50 + "/7", None)],
)  # fmt: skip
def test_exact_values_are_read_strictly(text: str, value: Fraction | int | None) -> None:
    assert exact_value(text) == value


@given(st.fractions(), st.sampled_from(["plain", "latex"]))
def test_every_reduced_fraction_is_read_back_and_no_multiple_of_it_is(value: Fraction, form: str) -> None:
    top, bottom = value.numerator, value.denominator
    write = {"plain": "{}/{}".format, "latex": "\\frac{{{}}}{{{}}}".format}[form]
    assert exact_value(str(top) if bottom == 1 else write(top, bottom)) == value
    assert exact_value(write(2 * top, 2 * bottom)) is None


def test_the_worked_solution_and_its_slips() -> None:
    item = TaskItem((), {"answer": "84", "steps": [["+", 17, 25], ["*", "#0", 2]]})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("17+25=42\n42*2=84", "\\boxed{84}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    # The carry is lost (32), then 32 is taken three times.
    assert (wrong.reasoning, wrong.answer) == ("17+25=32\n32*2=96", "\\boxed{96}")


def test_level_0_is_short_and_has_thousands_of_prompts() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(1500)]
    assert len({prompt.messages[0]["content"] for prompt in prompts}) > 900
    assert all(len(prompt.messages[0]["content"]) <= 120 for prompt in prompts)
    assert all(10 <= int(prompt.reference["answer"]) <= 999 for prompt in prompts)
    for prompt in prompts[:100]:
        assert len(TASK.work(random.Random(0), item_of(prompt), 0.0).reasoning) < 100  # type: ignore[misc]


def test_no_single_answer_is_frequent_at_level_0() -> None:
    golds = [make_prompt(TASK, seed=0, index=index, difficulty=0).reference["answer"] for index in range(1000)]
    assert max(golds.count(gold) for gold in set(golds)) / 1000 < 0.05


def test_a_reference_that_cannot_be_read_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="competition_math reference"):
        TASK.score(ScoreRequest("competition_math", (), {"answer": "pi"}, "3"))
