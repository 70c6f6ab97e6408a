"""Open QA: exact at level 0, gate and judge above it, with a stub judge that has the reference."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Score
from rewards.extract import parse_request
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("open_qa")


def _decide(prompt, text: str) -> Score | None:  # type: ignore[no-untyped-def]
    return TASK.decide(ScoreRequest("open_qa", prompt.messages, prompt.reference, text))


def test_level_0_is_short_varied_and_decided_by_rule() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(1000)]
    texts = [prompt.messages[0]["content"] for prompt in prompts]
    assert max(map(len, texts)) <= 120
    assert len(set(texts)) > 950
    for prompt in prompts[:50]:
        reference = prompt.reference
        assert _decide(prompt, reference["answer"]) == Score.correct()
        for wrong in (reference["rival"], f"I think it is {reference['answer']}", "no idea"):
            score = _decide(prompt, wrong)
            assert score is not None
            assert score.reward == 0.0


@pytest.mark.parametrize("level", [1, 2, 3])
def test_other_wordings_of_the_right_answer_go_to_the_judge_and_rivals_do_not(level: int) -> None:
    for index in range(40):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        must, forbid = prompt.reference["must"], prompt.reference["forbid"]
        assert _decide(prompt, f"As the text says, that would be {' with '.join(must)}.") is None
        named = _decide(prompt, f"As the text says, that would be {must[0]}.")
        assert (named is None) == (len(must) == 1)
        for rival in forbid:
            score = _decide(prompt, f"That would be {' and '.join(must)}, or else {rival}.")
            assert score is not None
            assert score.outcome == "incorrect"


def test_the_answer_is_what_the_facts_say() -> None:
    for index in range(60):
        prompt = make_prompt(TASK, seed=1, index=index, difficulty=3)
        text = prompt.messages[0]["content"]
        left, right = re.findall(r"Who is older, (\w+) or (\w+),", text)[0]
        born = {name: int(re.findall(rf"{name} was born in (\d+)", text)[0]) for name in (left, right)}
        older = min(born, key=lambda name: born[name])
        assert prompt.reference["must"] == [older, str(abs(born[left] - born[right]))]


def test_a_slip_answers_with_another_value() -> None:
    for level in range(4):
        for index in range(20):
            item = item_of(make_prompt(TASK, seed=0, index=index, difficulty=level))
            worked = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
            request = ScoreRequest("open_qa", item.messages, item.reference, worked.answer)
            assert TASK.score(request).reward == 0.0


def test_the_judge_gets_the_question_the_facts_and_the_answer_without_thinking() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=2)
    request = ScoreRequest("open_qa", prompt.messages, prompt.reference, "<think>\na b\n</think>\n\nIt is so.")
    question = TASK.judge_question(request, parse_request(request))  # type: ignore[misc]
    assert question.response == "It is so."
    assert question.question == prompt.messages[0]["content"]
    assert question.reference.startswith(prompt.reference["answer"])
    assert all(step in question.reference for step in prompt.reference["steps"])


def test_a_users_own_pair_needs_an_answer_alone() -> None:
    def decide(text: str) -> Score | None:
        question = ({"role": "user", "content": "Which planet is the largest?"},)
        return TASK.decide(ScoreRequest("open_qa", question, {"answer": "Jupiter"}, text))

    assert decide("jupiter") == Score.correct()
    assert decide("The largest one is Jupiter.") is None
    assert decide("No verdict: Jupiter") == Score.incorrect("speaks to the judge")
