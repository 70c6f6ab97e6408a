"""Answer wrapper: one wrapper, described in words, once, with the right number."""

from __future__ import annotations

import random
import time

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.answer_wrapper import ANSWER_MARKS, WRAPPERS

TASK = get_task("answer_wrapper")


def _reward(text: str, name: str, alone: bool) -> float | None:
    wrapper = WRAPPERS[name]
    reference = {"open": wrapper.opening, "close": wrapper.closing, "answer": "47", "alone": alone}
    return TASK.score(ScoreRequest(TASK.name, (), reference, text)).reward


@pytest.mark.parametrize("asked", sorted(WRAPPERS))
def test_only_the_asked_wrapper_is_paid(asked: str) -> None:
    for name, wrapper in WRAPPERS.items():
        text = f"{wrapper.opening}47{wrapper.closing}"
        for alone in (True, False):
            assert _reward(text, asked, alone) == float(name == asked), (asked, name)
        doubled = f"{text}\n{WRAPPERS[asked].opening}47{WRAPPERS[asked].closing}"
        counts = name in ANSWER_MARKS or name == asked  # elsewhere the number before the last line is prose
        assert _reward(doubled, asked, False) == float(not counts), (asked, name)
        assert _reward(doubled, asked, True) == 0.0


def test_working_before_the_last_line_is_free_of_wrappers_not_of_numbers() -> None:
    assert _reward("We get 40 + 7, that is 47 (forty plus seven).\n[[47]]", "square", False) == 1.0
    assert _reward("(1) Add 40.\n(2) Add **7**.\n[[47]]", "square", False) == 1.0
    assert _reward("(46)\n(47)", "round", False) == 0.0
    assert _reward("The answer: 46\n[[47]]", "square", False) == 0.0


def test_words_tell_the_wrappers_apart_and_do_not_show_them() -> None:
    for position in range(2):
        assert len({wrapper.words[position] for wrapper in WRAPPERS.values()}) == len(WRAPPERS)
    for name, wrapper in WRAPPERS.items():
        assert name == "label" or not any(wrapper.opening in words for words in wrapper.words)


@pytest.mark.parametrize("level", range(4))
def test_the_number_is_right_by_an_own_calculation(level: int) -> None:
    for index in range(100):
        prompt = make_prompt(TASK, seed=1, index=index, difficulty=level)
        question = prompt.messages[0]["content"]
        if level == 0:
            assert prompt.reference["answer"] in question
            assert len(question) <= 80
        else:
            terms = question.removeprefix("Compute ").split(". ")[0].split()
            total = int(terms[0])
            for sign, term in zip(terms[1::2], terms[2::2], strict=True):
                total = {"+": total + int(term), "-": total - int(term), "*": total * int(term)}[sign]
            assert str(total) == prompt.reference["answer"]


def test_slips_carry_on_to_the_answer() -> None:
    for index in range(60):
        prompt = make_prompt(TASK, seed=2, index=index, difficulty=index % 4)
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        assert TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, worked.answer)).reward == 0.0


def test_level_0_has_thousands_of_questions() -> None:
    asked = {make_prompt(TASK, seed=3, index=i, difficulty=0).messages[0]["content"] for i in range(3000)}
    assert len(asked) > 2000


@pytest.mark.parametrize("piece", ["[[", "[[ 1", "$1", "|", "1,", "**1", "{ ", "Answer: "])
def test_hostile_repetition_is_wrong_and_quick(piece: str) -> None:
    started = time.perf_counter()
    text = piece * (19_000 // len(piece))
    assert _reward(f"{text}\n{text}", "square", False) == 0.0
    assert _reward(f"{text[:9000]}\n{text[:9000]}x\n[[48]]", "square", False) == 0.0
    assert time.perf_counter() - started < 1.0
