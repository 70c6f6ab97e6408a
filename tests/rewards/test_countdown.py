"""Countdown: exact evaluation, numbers used once, nothing executed."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, make_prompt
from rewards.tasks.countdown import NotAnExpression, evaluate, parse_expression

TASK = get_task("countdown")


@given(st.recursive(st.integers(0, 30).map(str), lambda e: st.tuples(e, st.sampled_from("+-*/"), e).map(
    lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"), max_leaves=6))  # fmt: skip
def test_values_agree_with_exact_fractions_of_python(expression: str) -> None:
    exact = "".join(f"Fraction({part})" if part.isdigit() else part for part in _tokens(expression))
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            evaluate(parse_expression(expression))
    else:
        assert evaluate(parse_expression(expression)) == expected


def _tokens(expression: str) -> list[str]:
    for symbol in "+-*/()":
        expression = expression.replace(symbol, f" {symbol} ")
    return expression.split()


@pytest.mark.parametrize(
    "text",
    ["2**3", "7//2", "-3", "+3", "3 3", "1.5", "1e3", "a", "(1", "1,2", "1_0", "03", "()", "", " ", "1\n+2",
     "(" * 110 + "1"],
)  # fmt: skip
def test_other_python_is_no_expression(text: str) -> None:
    with pytest.raises(NotAnExpression):
        parse_expression(text)


def test_all_given_numbers_are_used_by_the_gold_solution_and_the_target_is_none_of_them() -> None:
    for index in range(50):
        reference = make_prompt(TASK, seed=4, index=index, difficulty=5).reference
        assert len(reference["numbers"]) == 6
        assert evaluate(parse_expression(reference["solution"])) == reference["target"]
        assert reference["target"] not in reference["numbers"]


def test_a_slip_writes_another_operator_but_keeps_the_value_it_meant() -> None:
    item = TaskItem((), {"numbers": [2, 3, 4], "target": 14, "solution": "(3+4)*2"})
    worked = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    assert (worked.reasoning, worked.answer) == ("3-4=7\n7+2=14", "\\boxed{(3-4)+2}")


def test_a_reference_of_another_shape_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        TASK.score(ScoreRequest("countdown", (), {"numbers": ["x"], "target": 1}, "1"))
