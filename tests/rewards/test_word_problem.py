"""Word problems: the steps lead to the answer, the number of steps by level, the traps of first-number scorers."""

from __future__ import annotations

import random
import re

import pytest

from rewards.extract import parse_integer
from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.worked_steps import follow

TASK = get_task("word_problem")


def _items(level: int, count: int = 60) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


@pytest.mark.parametrize(("level", "num_steps"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4), (5, 6)])
def test_levels_set_the_number_of_steps_and_the_last_step_is_the_answer(level: int, num_steps: int) -> None:
    for item in _items(level):
        assert len(item.reference["steps"]) == num_steps
        assert follow(random.Random(0), item.reference["steps"], 0.0)[1] == item.reference["answer"]


@pytest.mark.parametrize("level", range(6))
def test_the_answer_is_no_number_of_the_question_and_not_small(level: int) -> None:
    for item in _items(level):
        shown = [parse_integer(number) for number in re.findall(r"\d+(?:,\d{3})*", item.messages[0]["content"])]
        assert item.reference["answer"] not in shown
        assert item.reference["answer"] >= 12


def test_level_0_says_what_its_step_computes() -> None:
    signs = set()
    for item in _items(0, 300):
        question = item.messages[0]["content"]
        found = re.fullmatch(
            r"(\w+) has (\d+) (\w+)\. \1 (buys|finds|gets|sells|loses|gives away) (\d)( more)? \3\. "
            r"How many \3 does \1 have now\?",
            question,
        )
        assert found, question
        sign = 1 if found[6] else -1
        assert (sign > 0) == (found[4] in ("buys", "finds", "gets"))
        assert item.reference["answer"] == int(found[2]) + sign * int(found[5])
        assert len(question) <= 120
        signs.add(sign)
    assert signs == {1, -1}


def test_level_0_has_thousands_of_prompts() -> None:
    assert len({item.messages[0]["content"] for item in _items(0, 2000)}) > 1900


@pytest.mark.parametrize("level", [4, 5])
def test_asides_are_told_and_take_no_part_in_the_steps(level: int) -> None:
    asides = re.compile(r"years old|minutes away|hats|degrees|at number")
    for item in _items(level):
        assert len(asides.findall(item.messages[0]["content"])) == level - 3


def test_the_worked_solution_and_its_slips() -> None:
    # 12 boxes of 5, minus 25, a third of the rest to each of 3.
    steps = [["*", 12, 5], ["-", "#0", 25], ["//", "#1", 5]]
    item = TaskItem((), {"answer": 7, "steps": steps})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("12*5=60\n60-25=35\n35/5=7", "\\boxed{7}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    # One 12 too many (72); 72-25=47 without the borrow is 57; 57/5 is 11 and one too many.
    assert (wrong.reasoning, wrong.answer) == ("12*5=72\n72-25=57\n57/5=12", "\\boxed{12}")


@pytest.mark.parametrize(
    ("completion", "gold", "reward"),
    [("1,000", 1000, 1.0), ("1000", 1000, 1.0), ("+18", 18, 1.0), ("-18", 18, 0.0), ("18", -18, 0.0),
     ("288 or 1 or 2", 288, 0.0), ("1 or 2 or 288", 288, 0.0), ("18 km", 18, 0.0)],
)  # fmt: skip
def test_sign_commas_and_lists(completion: str, gold: int, reward: float) -> None:
    assert TASK.score(ScoreRequest("word_problem", (), {"answer": gold}, completion)).reward == reward


def test_a_reference_that_is_no_integer_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="word_problem reference"):
        TASK.score(ScoreRequest("word_problem", (), {"answer": "many"}, "3"))
