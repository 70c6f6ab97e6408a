"""Induction: the rules by hand, one possible answer in the whole family, strict reading of numbers and lists."""

from __future__ import annotations

import random
import re

import pytest

from rewards.list_rules import LIST_OPERATIONS, SEQUENCE_RULES, next_terms, rules_that_fit, transform
from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks.induction import read_list

TASK = get_task("induction")


def _items(level: int, count: int) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


@pytest.mark.parametrize(
    ("terms", "rule", "term"),
    [
        ((2, 5, 8, 11, 14), "add a constant", 17),
        ((2, 5, 8, 11, 15), "add a constant", None),
        ((1, 2, 4, 7, 11), "add a number that grows or shrinks by a constant", 16),
        ((1, 2, 4, 7, 12), "add a number that grows or shrinks by a constant", None),
        ((1, 4, 2, 5, 3), "add two constants in turn", 6),
        ((1, 4, 2, 5, 4), "add two constants in turn", None),
        ((1, 3, 7, 15, 31), "multiply by a whole constant and add another", 63),
        ((1, 3, 7, 15, 32), "multiply by a whole constant and add another", None),
        ((5, 5, 5, 5, 5), "multiply by a whole constant and add another", None),
        ((1, 1, 2, 3, 5), "add the last two terms", 8),
        ((1, 1, 2, 3, 6), "add the last two terms", None),
        ((1, 10, 3, 20, 5, 30), "two interleaved sequences that each add a constant", 7),
        ((1, 10, 3, 20, 5, 30, 7), "two interleaved sequences that each add a constant", 40),
        ((1, 10, 3, 20, 5), "two interleaved sequences that each add a constant", None),
    ],
)
def test_sequence_rules_fit_what_they_should(terms: tuple[int, ...], rule: str, term: int | None) -> None:
    assert SEQUENCE_RULES[rule](terms) == term


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        ("reverse", (5, 2, 2, 9)), ("sort ascending", (2, 2, 5, 9)), ("sort descending", (9, 5, 2, 2)),
        ("drop the first", (2, 2, 5)), ("drop the last", (9, 2, 2)), ("move the first to the end", (2, 2, 5, 9)),
        ("move the last to the front", (5, 9, 2, 2)), ("keep the even numbers", (2, 2)),
        ("keep the odd numbers", (9, 5)), ("keep every second, from the first on", (9, 2)),
        ("keep every second, from the second on", (2, 5)), ("drop repeats", (9, 2, 5)),
        ("running sums", (9, 11, 13, 18)), ("differences of neighbours", (-7, 0, 3)),
        ("append the sum", (9, 2, 2, 5, 18)), ("append the length", (9, 2, 2, 5, 4)),
        ("add 3 to each", (12, 5, 5, 8)), ("multiply each by 3", (27, 6, 6, 15)),
    ],
)  # fmt: skip
def test_list_operations_do_what_their_names_say(rule: str, made: tuple[int, ...]) -> None:
    assert transform([rule], (9, 2, 2, 5)) == made


def test_operations_run_in_the_order_of_the_rule_and_also_on_empty_lists() -> None:
    assert transform(["add 1 to each", "multiply each by 2"], (1, 2)) == (4, 6)
    assert transform(["multiply each by 2", "add 1 to each"], (1, 2)) == (3, 5)
    for name in LIST_OPERATIONS:
        transform([name], ())


@pytest.mark.parametrize("level", [0, 1, 2])
def test_all_rules_that_fit_a_sequence_agree_on_the_answer(level: int) -> None:
    for item in _items(level, 100):
        assert next_terms(item.reference["terms"]) == {item.reference["answer"]}
        assert item.reference["answer"] not in item.reference["terms"]
        assert item.reference["answer"] >= 12


@pytest.mark.parametrize(("level", "depth"), [(3, 1), (4, 2)])
def test_all_rules_that_fit_the_shown_lists_agree_on_the_answer(level: int, depth: int) -> None:
    for item in _items(level, 12):
        question = item.messages[0]["content"]
        lists = [tuple(map(int, found.split(","))) if found else () for found in re.findall(r"\[([^\]]*)\]", question)]
        *pairs, asked = lists
        examples = list(zip(pairs[::2], pairs[1::2], strict=True))
        made = {transform(rule, asked) for rule in rules_that_fit(depth, examples)}
        assert made == {tuple(item.reference["answer"])}
        assert tuple(item.reference["answer"]) not in lists
        assert all(name in question for name in LIST_OPERATIONS)


def test_level_0_is_short_and_repeating_the_last_difference_is_not_enough() -> None:
    items = _items(0, 1000)
    constant = 0
    for item in items:
        question = item.messages[0]["content"]
        terms = item.reference["terms"]
        assert question == f"Next number: {', '.join(map(str, terms))}, ?"
        assert len(terms) == 5
        assert len(TASK.work(random.Random(0), item, 0.0).reasoning) < 100  # type: ignore[misc]
        constant += terms[-1] + terms[-1] - terms[-2] == item.reference["answer"]
    assert len({item.messages[0]["content"] for item in items}) > 600
    assert constant / 1000 < 0.6


def test_the_worked_sequence_and_its_slips() -> None:
    item = TaskItem((), {"terms": [20, 18, 15, 11], "answer": 6})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("-2 -3 -4\nnext -5\n11-5=6", "\\boxed{6}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    assert (wrong.reasoning, wrong.answer) == ("-2 -3 -4\nnext -4\n11-4=17", "\\boxed{17}")


def test_the_worked_list_and_its_slips() -> None:
    item = TaskItem((), {"rule": ["reverse", "add 1 to each"], "asked": [1, 2, 3], "answer": [4, 3, 2]})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("reverse: [3, 2, 1]\nadd 1 to each: [4, 3, 2]", "[4, 3, 2]")
    for seed in range(20):
        first = TASK.work(random.Random(seed), item, 1.0).reasoning.split("\n")[0]  # type: ignore[misc]
        assert not first.endswith(": [3, 2, 1]")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("[1]", [1]), ("[ 1 , -2 ]", [1, -2]), ("$[1,2]$", [1, 2]), ("[1, 2].", [1, 2]), ("[]", None), ("[1 2]", None),
     ("[1,,2]", None), ("(1, 2)", None), ("[1, 2", None), ("[1, 2] ", [1, 2]), ("[+1]", None), ("[1, x]", None)],
)  # fmt: skip
def test_a_list_is_read_strictly(text: str, numbers: list[int] | None) -> None:
    assert read_list(text) == numbers


@pytest.mark.parametrize("gold", ["soon", [], [1, "2"], [True]])
def test_a_reference_that_is_no_number_or_list_is_a_failure_of_the_verifier(gold: object) -> None:
    with pytest.raises(ValueError, match="induction reference"):
        TASK.score(ScoreRequest("induction", (), {"answer": gold}, "3"))
