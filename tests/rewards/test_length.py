"""Length: counts, padding, topic, and a sample generator that hits every length."""

from __future__ import annotations

import random
import re

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem
from rewards.tasks.length import BANKS, padding

TASK = get_task("length")
WORDS = ("Cold", "waves", "roll", "gently", "toward", "sleepy", "shores")


def _item(least: int, most: int, unit: str = "words", topic: str = "sea") -> TaskItem:
    return TaskItem((), {"unit": unit, "min": least, "max": most, "topic": topic})


def _reward(text: str, item: TaskItem) -> float | None:
    return TASK.score(ScoreRequest("length", (), item.reference, text)).reward


@pytest.mark.parametrize("topic", sorted(BANKS))
def test_samples_of_every_length_are_right_and_count_themselves(topic: str) -> None:
    for size in range(3, 41):
        for seed in range(5):
            item = _item(size, size, topic=topic)
            worked = TASK.work(random.Random(seed), item, 0.0)  # type: ignore[misc]
            assert len(worked.answer.split()) == size
            assert _reward(worked.answer, item) == 1.0, worked.answer
            assert worked.reasoning.endswith(f"={size} words")


def test_a_slip_writes_one_word_or_sentence_too_many() -> None:
    for unit in ("words", "sentences"):
        worked = TASK.work(random.Random(0), _item(4, 5, unit), 1.0)  # type: ignore[misc]
        assert _reward(worked.answer, _item(6, 6, unit)) == 1.0
        assert _reward(worked.answer, _item(4, 5, unit)) == 0.0


@pytest.mark.parametrize(("count", "reward"), [(3, 0.0), (4, 1.0), (5, 1.0), (6, 1.0), (7, 0.0)])
def test_the_band_is_closed(count: int, reward: float) -> None:
    text = " ".join(WORDS[:count])
    assert _reward(text, _item(4, 6)) == reward


def test_marks_and_hyphens_do_not_add_words() -> None:
    assert _reward("“Don't touch the deep-blue sea” — whispered gulls.", _item(7, 7)) == 1.0


@pytest.mark.parametrize(
    ("text", "padded"),
    [("a b a b a b", True), ("the sea the sea the sea is wide", True), ("so so cold", True),
     ("cold waves roll home", False), ("the sea and the sky", False)],
)  # fmt: skip
def test_padding_is_found(text: str, padded: bool) -> None:
    assert (padding(text.split()) is not None) is padded


def test_an_unknown_unit_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="unit 'pages'"):
        _reward("Cold waves roll.", _item(1, 1, "pages"))


def test_the_question_names_an_adjective_and_a_noun_of_its_topic() -> None:
    questions = set()
    for seed in range(200):
        item = TASK.generate(random.Random(seed), 0)
        question = item.messages[-1]["content"]
        topic, size = item.reference["topic"], item.reference["min"]
        found = re.fullmatch(rf"Write exactly {size} words about (\w+) (\w+) and the {topic}\.", question)
        assert found, question
        assert found[1] in BANKS[topic]["adjective"]
        assert found[2] in BANKS[topic]["noun"]
        questions.add(question)
    assert len(questions) > 150


def test_level_0_has_2016_different_questions() -> None:
    # A topic, one of its adjectives, one of its nouns, and a length from 3 to 9.
    assert sum(len(bank["adjective"]) * len(bank["noun"]) * 7 for bank in BANKS.values()) == 2016
