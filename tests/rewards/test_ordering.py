"""Ordering puzzles: one order fits, nothing that ignores the clues wins, strict reading."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks.ordering import holds, orders_that_fit, read_names

TASK = get_task("ordering")


def _items(level: int, count: int) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


@pytest.mark.parametrize("level", range(5))
def test_exactly_one_order_fits_the_clues_and_it_answers_the_question(level: int) -> None:
    for item in _items(level, 12 if level < 4 else 5):
        reference = item.reference
        assert orders_that_fit(sorted(reference["order"]), reference["clues"]) == [tuple(reference["order"])]
        asked = reference["asked"]
        assert reference["answer"] == (reference["order"] if asked is None else [reference["order"][asked]])


@pytest.mark.parametrize("level", [2, 3, 4])
def test_every_clue_of_a_race_is_needed(level: int) -> None:
    for item in _items(level, 5 if level < 4 else 2):
        clues = item.reference["clues"]
        for clue in clues if len(clues) > 2 else []:
            assert len(orders_that_fit(item.reference["order"], [kept for kept in clues if kept is not clue])) > 1


@pytest.mark.parametrize(
    ("clue", "truth"),
    [
        (["above", "Ann", "Cy"], True), (["above", "Cy", "Ann"], False), (["apart", "Ann", "Cy", 2], True),
        (["apart", "Cy", "Ann", 2], False), (["next", "Cy", "Bob"], True), (["next", "Ann", "Cy"], False),
        (["place", "Bob", 2], True), (["place", "Bob", 1], False), (["not_place", "Bob", 1], True),
        (["not_place", "Bob", 2], False), (["between", "Bob", "Cy", "Ann"], True),
        (["between", "Ann", "Bob", "Cy"], False),
    ],
)  # fmt: skip
def test_clues_say_what_they_mean(clue: list[object], truth: bool) -> None:
    assert holds(clue, ["Ann", "Bob", "Cy"]) is truth


def test_an_unknown_kind_of_clue_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind of clue 'maybe'"):
        holds(["maybe", "Ann"], ["Ann"])


def test_the_comparisons_of_level_0_are_told_as_they_are() -> None:
    questions = set()
    for item in _items(0, 1000):
        question = item.messages[0]["content"]
        told = re.findall(r"(\w+) is (taller|older|shorter|younger) than (\w+)\.", question)
        pairs = [(a, b) if word in ("taller", "older") else (b, a) for a, word, b in told]
        assert [["above", *pair] for pair in pairs] == item.reference["clues"]
        assert len(question) <= 120
        assert len(TASK.answer(item)) <= 60  # type: ignore[misc]
        questions.add(question)
    assert len(questions) > 950


def _mentioned(item: TaskItem) -> list[str]:
    names = re.findall(r"Ann|Bob|Cy|Dee|Eve|Fay|Gus|Hal", item.messages[0]["content"])
    return list(dict.fromkeys(names))


@pytest.mark.parametrize(
    "habit", [lambda names: names[0], lambda names: names[-1], lambda names: "Ann", lambda names: names[1]]
)
def test_no_habit_earns_much_more_than_a_guess_where_one_name_is_asked_for(habit: Callable[[list[str]], str]) -> None:
    items = _items(1, 600)
    earned = sum(habit(_mentioned(item)) in item.reference["answer"] for item in items)
    assert earned / 600 < 1 / 6 + 0.055  # a sixth each, three and a half standard deviations


def test_the_order_of_mention_is_seldom_the_order_at_level_0() -> None:
    items = _items(0, 600)
    for direction in (1, -1):
        assert sum(_mentioned(item)[::direction] == item.reference["order"] for item in items) / 600 < 0.15


def test_every_place_is_asked_for_about_as_often() -> None:
    counts = Counter(item.reference["asked"] for item in _items(1, 1000))
    assert sorted(counts) == [0, 1, 2, 3, 4, 5]
    assert all(120 < count < 215 for count in counts.values())  # 167 each, four standard deviations


def test_the_worked_chain_and_its_slips() -> None:
    reference = {
        "answer": ["Eve", "Ann", "Bob"], "order": ["Eve", "Ann", "Bob"], "asked": None,
        "clues": [["above", "Ann", "Bob"], ["above", "Eve", "Ann"]],
    }  # fmt: skip
    right = TASK.work(random.Random(0), TaskItem((), reference), 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("Ann>Bob\nEve>Ann", "Eve, Ann, Bob")
    wrong = TASK.work(random.Random(0), TaskItem((), reference), 1.0)  # type: ignore[misc]
    assert (wrong.reasoning, wrong.answer) == ("Bob>Ann\nAnn>Eve", "Bob, Ann, Eve")


def test_the_worked_race_and_its_slips() -> None:
    reference = {
        "answer": ["Cy"], "order": ["Eve", "Ann", "Cy"], "asked": 2,
        "clues": [["place", "Eve", 1], ["above", "Ann", "Cy"]],
    }  # fmt: skip
    right = TASK.work(random.Random(0), TaskItem((), reference), 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("1: Eve\n2: Ann\n3: Cy\nEve>Ann>Cy", "Cy")
    wrong = TASK.work(random.Random(0), TaskItem((), reference), 1.0)  # type: ignore[misc]
    # The second in line each time: Ann, then Cy, then Eve is left.
    assert (wrong.reasoning, wrong.answer) == ("1: Ann\n2: Cy\n3: Eve\nAnn>Cy>Eve", "Eve")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Ann", ["Ann"]), ("Ann.", ["Ann"]), ("Ann, Bob", ["Ann", "Bob"]), ("Ann>Bob", ["Ann", "Bob"]),
        ("Ann, and Bob", ["Ann", "Bob"]), ("Ann and Bob", ["Ann", "Bob"]), ("Ann\nBob", ["Ann", "Bob"]),
        ("Ann,,Bob", None), ("AnnBob", None), ("Ann Bob", None), ("Anna", None), ("", None), (",", None),
    ],
)  # fmt: skip
def test_names_are_read_strictly(text: str, names: list[str] | None) -> None:
    assert read_names(text) == names


def test_a_reference_with_an_unknown_name_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="ordering reference"):
        TASK.score(ScoreRequest("ordering", (), {"answer": ["Nobody"]}, "Ann"))
