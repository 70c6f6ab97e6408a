"""Needles: where they stand, how long the text is, and what dumping earns."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Prompt
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("long_retrieval")


def _prompts(level: int, count: int = 30) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _reward(prompt: Prompt, text: str) -> float | None:
    return TASK.score(ScoreRequest("long_retrieval", prompt.messages, prompt.reference, text)).reward


def test_level_0_fits_a_tiny_model() -> None:
    prompts = _prompts(0, 1000)
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) <= 60
    assert len({prompt.messages[0]["content"] for prompt in prompts}) == 1000


@pytest.mark.parametrize(("level", "least", "most"), [(1, 120, 180), (2, 500, 600), (3, 1500, 1700), (4, 4000, 4300)])
def test_levels_set_the_length(level: int, least: int, most: int) -> None:
    for prompt in _prompts(level, 5):
        assert least <= len(prompt.messages[0]["content"].split()) <= most


@pytest.mark.parametrize("level", range(5))
def test_the_codes_are_what_the_text_says_and_dumping_all_codes_fails(level: int) -> None:
    for prompt in _prompts(level, 10):
        text = prompt.messages[0]["content"]
        pairs = re.findall(r"(\w+): (\d+)\." if level == 0 else r"The code of the (\w+) is (\d+)\.", text)
        question = text.rpartition("Code of")[2] if level == 0 else text.rpartition("\n\n")[2]
        asked = [key for key in {key for key, _ in pairs} if re.search(rf"\b{key}\b", question)]
        assert len(asked) == (1, 1, 2, 3, 4)[level]
        expected = [code for key, code in pairs if key in asked]
        assert sorted(expected) == prompt.reference["codes"]
        assert len(expected) == (1, 1, 2, 9, 16)[level]
        assert _reward(prompt, ", ".join(expected)) == 1.0
        assert _reward(prompt, ", ".join(code for _, code in pairs)) == 0.0
        assert _reward(prompt, ", ".join(expected[1:])) == 0.0


def test_needles_stand_anywhere_in_the_text() -> None:
    places = []
    for prompt in _prompts(2, 60):
        text = prompt.messages[0]["content"]
        places += [text.index(code) / len(text) for code in prompt.reference["codes"]]
    assert min(places) < 0.1
    assert max(places) > 0.85
    assert abs(sum(places) / len(places) - 0.48) < 0.09


def test_a_slip_takes_the_code_of_another_key() -> None:
    for level in range(5):
        for index, prompt in enumerate(_prompts(level, 20)):
            worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
            assert _reward(prompt, worked.answer) == 0.0
