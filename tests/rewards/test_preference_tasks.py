"""The tasks that a preference model rates: prompts, good answers, worked solutions with slips, and their gates."""

from __future__ import annotations

import random
import re

import pytest

from rewards.language_id import detect
from rewards.multilingual_phrases import PHRASES, TOPICS
from rewards.registry import get_task
from rewards.task import Example, ScoreRequest, Task, completion_text, item_of, make_prompt
from rewards.tasks.chat import TOPICS as CHAT_TOPICS
from rewards.tasks.multilingual_chat import compose as compose_in_language
from rewards.tasks.role_play import ASKS, PERSONAS

NAMES = ("chat", "creative_writing", "role_play", "multilingual_chat")
PER_TASK = pytest.mark.parametrize("task", [get_task(name) for name in NAMES], ids=NAMES)


def _decided(task: Task, prompt: object, completion: str) -> str | None:
    request = ScoreRequest(task.name, prompt.messages, prompt.reference, completion)  # type: ignore[attr-defined]
    score = task.decide(request)
    return None if score is None else score.reason


@PER_TASK
def test_level_0_is_within_reach_of_a_tiny_model(task: Task) -> None:
    questions = set()
    for index in range(1200):
        prompt = make_prompt(task, seed=0, index=index, difficulty=0)
        item = item_of(prompt)
        worked = task.work(random.Random(index), item, 0.0)  # type: ignore[misc]
        text = "\n".join(str(message["content"]) for message in prompt.messages)
        assert len(text) <= 120
        assert len(worked.answer) <= 60
        assert len(worked.reasoning) <= 100
        questions.add(text)
    assert len(questions) >= 600


@PER_TASK
def test_worked_answers_pass_the_gate_and_slips_are_mostly_refused(task: Task) -> None:
    for level in range(task.max_difficulty + 1):
        refused = 0
        for index in range(60):
            prompt = make_prompt(task, seed=3, index=index, difficulty=level)
            good, bad = (task.work(random.Random(index), item_of(prompt), rate) for rate in (0.0, 1.0))  # type: ignore[misc]
            assert _decided(task, prompt, completion_text(good, "thinking")) is None, good
            refused += _decided(task, prompt, completion_text(bad, "thinking")) is not None
        assert refused >= 50


@PER_TASK
def test_a_good_answer_to_one_prompt_is_refused_at_most_others(task: Task) -> None:
    prompts = [make_prompt(task, seed=5, index=index, difficulty=0) for index in range(80)]
    answers = [task.answer(item_of(prompt)) for prompt in prompts]  # type: ignore[misc]
    refused = sum(_decided(task, prompts[i], answers[i - 1]) is not None for i in range(80))
    assert refused >= 60


@PER_TASK
def test_answers_vary(task: Task) -> None:
    prompt = make_prompt(task, seed=0, index=0, difficulty=0)
    answers = {task.work(random.Random(seed), item_of(prompt), 0.0).answer for seed in range(40)}  # type: ignore[misc]
    assert len(answers) >= 2


def test_every_piece_of_advice_keeps_to_its_topic_and_to_no_other_by_accident() -> None:
    task = get_task("chat")
    for topic, bank in CHAT_TOPICS.items():
        reference = {"topics": [list(bank["stems"])], "min_words": 4, "max_words": 20}
        for tip in bank["tips"]:
            assert task.decide(Example(f"Ada, {tip}.", reference).request("chat")) is None, (topic, tip)


@pytest.mark.parametrize("language", sorted(PHRASES))
def test_phrases_are_of_their_language_and_pass_the_gate(language: str) -> None:
    task = get_task("multilingual_chat")
    for topic in TOPICS:
        phrases = PHRASES[language][topic]
        assert detect(phrases["ask"], also=language) == language
        for seed, long in ((0, False), (1, False), (2, False), (3, False), (4, True), (5, True)):
            reference = {
                "language": language, "name": "Hugo", "subjects": [topic], "topics": [list(phrases["stems"])],
                "min_words": 4, "max_words": 30,
            }  # fmt: skip
            text = compose_in_language(random.Random(seed), reference, long=long)
            assert task.decide(Example(text, reference).request(task.name)) is None, text
            wrong = reference | {"language": "de" if language != "de" else "fr"}
            assert task.decide(Example(text, wrong).request(task.name)) is not None


def test_every_character_answers_every_question_within_its_world() -> None:
    task = get_task("role_play")
    for kind, persona in PERSONAS.items():
        for ask, (_, stems) in ASKS.items():
            reference = {"topics": [list(persona["world"]), list(stems)], "min_words": 4, "max_words": 30}
            text = f"{persona['cry']}, Ada! {persona[ask]}."
            assert task.decide(Example(text, reference).request(task.name)) is None, (kind, ask)


def test_the_longer_tasks_ask_for_what_they_check() -> None:
    prompt = make_prompt(get_task("creative_writing"), seed=0, index=0, difficulty=3)
    found = re.search(
        r"of 80 to 180 words about an? (\w+) and the (\w+)\. A (\w+) has to", prompt.messages[-1]["content"]
    )
    assert found
    assert [[found[1]], [found[2]], [found[3]]] == prompt.reference["topics"]
