"""Summaries: what the text says decides; inventions and omissions never reach the judge."""

from __future__ import annotations

import random

import pytest

from data.records import Prompt, Score
from rewards.extract import parse_request
from rewards.free_text import words
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.summary_faithfulness import foreign_parts

TASK = get_task("summary_faithfulness")
NAME = "summary_faithfulness"


def _prompts(level: int, count: int = 60) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _decide(prompt: Prompt, text: str) -> Score | None:
    return TASK.decide(ScoreRequest(NAME, prompt.messages, prompt.reference, text))


def test_level_0_fits_a_tiny_model_and_takes_both_orders() -> None:
    prompts = _prompts(0, 1000)
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) <= 120
    assert max(len(prompt.reference["answer"]) for prompt in prompts) <= 60
    assert len({prompt.messages[0]["content"] for prompt in prompts}) == 1000
    for prompt in prompts[:40]:
        text, person, deeds = prompt.messages[0]["content"], prompt.reference["person"], prompt.reference["deeds"]
        assert text.count(f"{person} ") == len(deeds) + 1
        assert all(f"{person} {deed}." in text for deed in deeds)
        assert _decide(prompt, f"{person} {' and '.join(reversed(deeds))}") == Score.correct()


@pytest.mark.parametrize(("level", "num_facts"), [(1, 3), (2, 4), (3, 5)])
def test_reports_hold_their_key_facts_and_the_band_fits_them(level: int, num_facts: int) -> None:
    for prompt in _prompts(level):
        reference, text = prompt.reference, prompt.messages[0]["content"]
        assert len(reference["facts"]) == num_facts
        assert all(fact in text for fact in reference["facts"])
        assert reference["min"] <= len(words(reference["answer"])) <= reference["max"]
        assert f"in {reference['min']} to {reference['max']} words" in text
        assert foreign_parts(reference["answer"], text) == []


@pytest.mark.parametrize("level", [1, 2, 3])
def test_other_wordings_go_to_the_judge_omissions_and_inventions_do_not(level: int) -> None:
    for prompt in _prompts(level):
        reference = prompt.reference
        reworded = f"In short: {' '.join(reference['facts'])}"
        assert _decide(prompt, reworded) is None
        for wrong in (
            " ".join(reference["facts"][:-1]),
            f"{reworded} It took 99999 days.",
            f"{reworded} They met Quuxa there.",
            prompt.messages[0]["content"].partition("\n")[0],
        ):
            score = _decide(prompt, wrong)
            assert score is not None, wrong
            assert score.reward == 0.0


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Nara left in 1961.", []),
        ("nara's boat", []),
        ("Later Nara left.", []),
        ("She met Zora in 1961.", ["Zora"]),
        ("It was 1962, or 4.5.", ["1962", "4.5"]),
    ],
)
def test_foreign_numbers_and_names_are_found(text: str, foreign: list[str]) -> None:
    assert foreign_parts(text, "In 1961 Nara's boat left Velmar.") == foreign


@pytest.mark.parametrize("level", range(4))
def test_a_slip_is_not_paid(level: int) -> None:
    for index, prompt in enumerate(_prompts(level, 40)):
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        score = _decide(prompt, worked.answer)
        assert score is not None, worked
        assert score.reward == 0.0


def test_the_judge_sees_the_text_and_every_key_fact() -> None:
    prompt = _prompts(2, 1)[0]
    request = ScoreRequest(NAME, prompt.messages, prompt.reference, "A summary.")
    question = TASK.judge_question(request, parse_request(request))  # type: ignore[misc]
    assert question.question == prompt.messages[0]["content"]
    assert question.reference.splitlines() == [f"- {fact}" for fact in prompt.reference["facts"]]
