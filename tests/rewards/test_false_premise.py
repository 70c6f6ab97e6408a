"""False premises: twins in balance, corrections that name the true fact, questions that follow from the facts."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Prompt, Score
from rewards.extract import parse_request
from rewards.fictional import capitalised
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("false_premise")


def _prompts(level: int, count: int = 200) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _decide(prompt: Prompt, text: str) -> Score | None:
    return TASK.decide(ScoreRequest("false_premise", prompt.messages, prompt.reference, text))


def test_level_0_fits_a_tiny_model() -> None:
    prompts = _prompts(0, 1000)
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) <= 120
    assert max(len(prompt.reference["answer"]) for prompt in prompts) <= 60
    assert len({prompt.messages[0]["content"] for prompt in prompts}) > 990


@pytest.mark.parametrize("level", range(4))
def test_half_of_the_premises_hold_and_the_facts_say_which(level: int) -> None:
    prompts = _prompts(level)
    assert 0.4 < sum(prompt.reference["holds"] for prompt in prompts) / len(prompts) < 0.6
    for prompt in prompts:
        text = prompt.messages[0]["content"]
        assert all(step in text for step in prompt.reference["steps"])
        if level and not prompt.reference["holds"]:
            denied = re.fullmatch(r"No, (.*), not ((?:in |for |by |on the river )?)(.*)\.", prompt.reference["answer"])
            assert denied, prompt.reference
            assert capitalised(denied[1]) + "." in text
            assert denied[3] in text.split("\n\n")[1]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_free_wordings_go_to_the_judge_and_going_along_or_bare_denial_does_not(level: int) -> None:
    for prompt in _prompts(level, 60):
        reference = prompt.reference
        assert _decide(prompt, f"Going by the text: {' and '.join(reference['must'])}.") is None
        denial = _decide(prompt, "The premise of this question is false.")
        assert denial is not None
        assert denial.reward == 0.0
        if not reference["holds"]:
            along = _decide(prompt, reference["value"])
            assert along is not None
            assert along.reward == 0.0


@pytest.mark.parametrize("level", range(4))
def test_a_slip_goes_along_or_disputes(level: int) -> None:
    for index, prompt in enumerate(_prompts(level, 40)):
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        score = _decide(prompt, worked.answer)
        assert score is not None, worked
        assert score.reward == 0.0


def test_the_judge_is_told_whether_the_premise_holds() -> None:
    seen = set()
    for prompt in _prompts(1, 20):
        request = ScoreRequest("false_premise", prompt.messages, prompt.reference, "Hm.")
        question = TASK.judge_question(request, parse_request(request))  # type: ignore[misc]
        assert question.reference == prompt.reference["answer"]
        assert ("premise of the question is true" in question.criterion) is prompt.reference["holds"]
        seen.add(question.criterion)
    assert len(seen) == 2
