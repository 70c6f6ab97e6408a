"""Repairing functions: handing the broken one back never pays, at any level."""

from __future__ import annotations

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, make_prompt

TASK = get_task("code_repair")


@pytest.mark.parametrize("level", range(5))
def test_the_broken_function_earns_nothing_and_the_right_one_does(level: int) -> None:
    for index in range(6):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        question = prompt.messages[-1]["content"]
        start = question.index("def ")
        broken = question[start:].partition("\n\nReply")[0]
        assert broken in prompt.reference["slips"]
        for code, reward in ((broken, 0.0), (prompt.reference["solution"], 1.0)):
            score = TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, code))
            assert score.reward == reward, (question, score)


def test_level_0_is_short() -> None:
    for index in range(50):
        question = make_prompt(TASK, seed=0, index=index, difficulty=0).messages[-1]["content"]
        assert len(question) <= 90
        assert " Fix: def " in question
