"""Grounded QA: exact sources, honest twins, and reasoning that cites what it uses."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Prompt
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.grounded_qa import ABSTAIN, read_answer

TASK = get_task("grounded_qa")


def _prompts(level: int, count: int = 300) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _reward(prompt: Prompt, text: str) -> float | None:
    return TASK.score(ScoreRequest("grounded_qa", prompt.messages, prompt.reference, text)).reward


def test_level_0_fits_a_tiny_model() -> None:
    texts = [prompt.messages[0]["content"] for prompt in _prompts(0, 1000)]
    assert max(map(len, texts)) <= 122
    assert len(set(texts)) == 1000


@pytest.mark.parametrize("level", range(4))
def test_constants_earn_less_than_half(level: int) -> None:
    prompts = _prompts(level)
    abstaining = sum(_reward(prompt, ABSTAIN) or 0 for prompt in prompts) / len(prompts)
    assert 0.25 < abstaining < 0.42
    for prompt in prompts[:50]:
        if prompt.reference["answer"] is not None:
            num = len(re.findall(r"^\[\d+\]|(?<= )\[\d+\] [A-Z]", prompt.messages[0]["content"], re.MULTILINE))
            every = "".join(f"[{number}]" for number in range(1, num + 1))
            assert num > len(prompt.reference["sources"])
            assert _reward(prompt, f"{prompt.reference['answer']} {every}") == 0.0


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_sources_hold_the_answer_and_unanswerable_prompts_lack_a_step(level: int) -> None:
    hops = 1 if level == 1 else 2
    for prompt in _prompts(level, 100):
        passages = dict(re.findall(r"^\[(\d+)\] (.*)$", prompt.messages[0]["content"], re.MULTILINE))
        reference = prompt.reference
        assert len(passages) == (3, 5, 10, 24)[level]
        if reference["answer"] is None:
            assert len(reference["steps"]) == hops - 1
        else:
            assert len(reference["sources"]) == hops
            assert any(reference["answer"] in passages[str(number)] for number in reference["sources"])
        for step in reference["steps"]:
            number, sentence = re.fullmatch(r"\[(\d+)\] (.*)", step).groups()  # type: ignore[union-attr]
            assert passages[number].startswith(sentence)


@pytest.mark.parametrize(
    ("text", "read"),
    [("Velmar [2]", ("velmar", {2})), ("Velmar: [2], [10].", ("velmar", {2, 10})), ("Velmar[2]", ("velmar", {2})),
     ("[2]", None), ("Velmar", None), ("Velmar [2] yes", None), ("a\nVelmar [2]", None), ("Velmar []", None)],
)  # fmt: skip
def test_an_answer_is_a_value_and_ids(text: str, read: tuple[str, set[int]] | None) -> None:
    assert read_answer(text) == read


def test_a_slip_cites_too_much_abstains_or_answers_the_unanswerable() -> None:
    for level in range(4):
        for index, prompt in enumerate(_prompts(level, 60)):
            worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
            assert _reward(prompt, worked.answer) == 0.0, worked
