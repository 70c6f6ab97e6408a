"""Translation: Babel's words on both sides, a floor under the judge, no pay for copying."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Prompt, Score
from rewards.extract import parse_request
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.translation import chrf, month, weekday

TASK = get_task("translation")


def _prompts(level: int, count: int = 100) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _decide(prompt: Prompt, text: str) -> Score | None:
    return TASK.decide(ScoreRequest("translation", prompt.messages, prompt.reference, text))


def test_level_0_fits_a_tiny_model_and_translates_word_by_word() -> None:
    prompts = _prompts(0, 3000)
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) <= 60
    # 19 calendar words, ordered pairs, two directions, two languages.
    assert 900 < len({prompt.messages[0]["content"] for prompt in prompts}) <= 19 * 18 * 4
    for prompt in prompts[:100]:
        pairs = prompt.reference["pairs"]
        left, joint, right = prompt.reference["answer"].split()
        assert [left, right] == [target for _, target in pairs]
        assert joint in ("and", "und", "y")


def test_words_are_those_of_the_languages() -> None:
    assert [month(3, code) for code in ("en", "de", "fr", "es")] == ["March", "März", "mars", "marzo"]
    assert [weekday(0, code) for code in ("en", "de", "fr", "es")] == ["Monday", "Montag", "lundi", "lunes"]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_both_sides_hold_the_same_numbers_and_differ(level: int) -> None:
    for prompt in _prompts(level):
        reference = prompt.reference
        assert sorted(re.findall(r"\d+", reference["source"])) == sorted(re.findall(r"\d+", reference["answer"]))
        assert prompt.messages[0]["content"].endswith(reference["source"])
        copied = _decide(prompt, reference["source"])
        assert copied is not None
        assert copied.reward == (1.0 if reference["source"].casefold() == reference["answer"].casefold() else 0.0)


GERMAN = {"answer": "Das Museum ist im Mai jeden Montag geschlossen.", "target": "German",
          "source": "The museum is closed every Monday in May.", "closed": False}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["Im Mai ist das Museum montags immer geschlossen.", "Das Museum hat im Mai jeden Montag zu.",
     "Jeden Montag im Monat Mai bleibt das Museum geschlossen."],
)  # fmt: skip
def test_free_wordings_reach_the_judge(text: str) -> None:
    assert TASK.decide(ScoreRequest("translation", ({"role": "user", "content": "q?"},), GERMAN, text)) is None


@pytest.mark.parametrize(
    "text",
    ["The museum is closed every Monday in May.", "El museo está cerrado cada lunes de mayo.",
     "Das ist Museum.", "Das Museum ist im Mai jeden Montag geschlossen. " * 3, "Montag Montag Montag Montag Montag"],
)  # fmt: skip
def test_copies_other_languages_and_repetition_do_not(text: str) -> None:
    score = TASK.score(ScoreRequest("translation", ({"role": "user", "content": "q?"},), GERMAN, text))
    assert score.reward == 0.0


def test_ten_repetitions_fall_to_about_a_third_of_chrf() -> None:
    text = "The museum is closed every Monday in May."
    assert chrf(text, text) == 100.0
    assert 20 < chrf(f"{text} " * 10, text) < 45


def test_the_judge_learns_the_language_and_the_reference() -> None:
    request = ScoreRequest("translation", ({"role": "user", "content": "q?"},), GERMAN, "Im Mai zu.")
    question = TASK.judge_question(request, parse_request(request))  # type: ignore[misc]
    assert "into German" in question.criterion
    assert question.reference == GERMAN["answer"]


@pytest.mark.parametrize("level", range(4))
def test_a_slip_is_not_paid(level: int) -> None:
    for index, prompt in enumerate(_prompts(level, 40)):
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        score = _decide(prompt, worked.answer)
        assert score is None or score.reward == 0.0, worked
