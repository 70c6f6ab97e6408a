"""Sums: the generator's levels, the slip of the worked solution, exact answers."""

from __future__ import annotations

import random
import re

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt

TASK = get_task("arithmetic")
ITEM = TaskItem(({"role": "user", "content": "Compute 7 + 5 + 9 + 3."},), {"answer": 24})


def test_the_worked_solution_has_one_partial_sum_a_line() -> None:
    worked = TASK.work(random.Random(0), ITEM, 0.0)  # type: ignore[misc]
    assert (worked.reasoning, worked.answer) == ("7+5=12\n12+9=21\n21+3=24", "\\boxed{24}")


def test_a_slip_forgets_the_carry_or_adds_one_and_is_carried_on() -> None:
    worked = TASK.work(random.Random(0), ITEM, 1.0)  # type: ignore[misc]
    # 7+5 carries: 2. 2+9 carries: 1. 1+3 does not: 5.
    assert (worked.reasoning, worked.answer) == ("7+5=2\n2+9=1\n1+3=5", "\\boxed{5}")


@pytest.mark.parametrize("level", range(10))
def test_levels_set_the_number_and_size_of_terms(level: int) -> None:
    extra = level if level <= 4 else level - 5
    for index in range(30):
        item = item_of(make_prompt(TASK, seed=0, index=index, difficulty=level))
        terms = [int(digits) for digits in re.findall(r"\d+", item.messages[0]["content"])]
        assert 4 + extra <= len(terms) <= 6 + extra
        assert all(1 <= term <= 9 if level <= 4 else 10 <= term <= 99 for term in terms)
        assert item.reference["answer"] == sum(terms)


def test_the_error_rate_is_per_step() -> None:
    wrong_steps = 0
    for index in range(2000):
        worked = TASK.work(random.Random(index), ITEM, 0.25)  # type: ignore[misc]
        for line in worked.reasoning.split("\n"):
            left, right, result = map(int, re.findall(r"-?\d+", line))
            wrong_steps += left + right != result
    assert abs(wrong_steps / 6000 - 0.25) < 0.02  # 3.6 standard deviations


@pytest.mark.parametrize("completion", ["024", "+24", "\\boxed{24}.", "thus the answer is 24"])
def test_spellings_of_the_same_integer_are_right(completion: str) -> None:
    assert TASK.score(ScoreRequest("arithmetic", (), {"answer": 24}, completion)).reward == 1.0
