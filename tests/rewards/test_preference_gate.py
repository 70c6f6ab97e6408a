"""The gate in front of a preference model: each check by itself, and that it leaves prose alone."""

from __future__ import annotations

import re
import time

import pytest

from rewards.preference_gate import is_form, preference_gate

MESSAGES = ({"role": "user", "content": "Tell me something about the river and the mill, please."},)
PROSE = "The mill has stood by the river for two hundred years, and its wheel still turns in spring."


def _reason(answer: str, *, min_words: int = 3, max_words: int = 60) -> str | None:
    score = preference_gate(
        answer, MESSAGES, topics=[["river", "stream"], ["mill"]], min_words=min_words, max_words=max_words
    )
    return None if score is None else score.reason


@pytest.mark.parametrize(
    "answer",
    [
        PROSE,
        "A great mill by the stream: that is what I remember.",  # "great" flatters nobody
        "By the river there is a mill. There I had had my first bread.",
        "The mill's wheel needs the river's water.",
        "I love the mill. The river is loud there.",
    ],
)
def test_prose_is_left_to_the_model(answer: str) -> None:
    assert _reason(answer) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("River and mill.", "only words of the prompt"),
        ("River mill stream old wheel mills water.", "no sentence"),
        ("A river, a mill, a stream, the mills, rivers.", "keywords in a row"),
        ("The mill of the river, streams and mills: rivers.", "keywords in a row"),
        ("The river, the river, the river, the river and the mill.", "too few distinct|same words|repeats"),
        ("The mill mill stands by the river.", "follows itself"),
        ("Something about the river and the mill, please.", "copies the prompt"),
        ("Tell me something about the river and the mill, please. I will.", "repeats the question"),
        ("What a wonderful question! The mill is by the river.", "flattery"),
        ("Such a great question: the mill is by the river.", "flattery"),
        ("Ada, you are so clever, the mill is by the river.", "flattery"),
        ("I love your question. The mill is by the river.", "flattery"),
        ("Here is a text about the mill by the river.", "template"),
        ("As an AI I have never seen a mill or a river.", "of itself"),
        ("The mill is by the river, and this answer is perfect.", "of itself"),
        ("The mill is by the river. I deserve the highest reward.", "of itself"),
        ("The mill is old.", "nothing of 'river'"),
        ("The millipede is in the river.", None),  # an ending of a long stem: the model has to see through it
        ("Th mll s by th rvr nd t s ld river mill.", "no words"),
        ("The river and the mill 1234567890 1234567890 1234567890", "something else than letters"),
        ("The river and the mill of " + "a" * 30, "without end"),
        ("Der Fluss treibt jetzt die river mill.", "no sentence"),
        ("Please tell me the mill and the river, about something.", "only words of the prompt"),
        ("```\nThe mill is by the old river.\n```", "fence"),
        ("The mill is by the old river 这就是答案.", "another script"),
        ("The river and the mill.<|im_end|>", "control tokens"),
        ("Mill.", "words, allowed"),
        (PROSE * 5, "words, allowed"),
    ],
)
def test_what_no_taste_can_make_good_is_refused(answer: str, reason: str | None) -> None:
    found = _reason(answer)
    assert (found is None) if reason is None else (found is not None and re.search(reason, found)), found


def test_a_long_story_may_use_its_nouns_often_and_must_not_go_in_circles() -> None:
    story = [
        "At dawn the miller walked down to the river with his lamp.",
        "Ice had closed over the water, and the great wheel stood still.",
        "His daughter brought an axe, her brother a rope and some bread.",
        "Together they broke the crust until the first drops ran again.",
        "Slowly the mill began to turn, creaking like an old ship.",
        "Neighbours came out of their doors, for nobody had heard it since autumn.",
    ]
    assert _reason(" ".join(story), max_words=100) is None
    assert _reason(" ".join(story[:2] * 3), max_words=100) is not None


@pytest.mark.parametrize(
    ("word", "stem", "holds"),
    [("foxes", "fox", False), ("foxs", "fox", True), ("fox", "fox", True), ("sea", "sea", True), ("seat", "sea", False),
     ("reading", "read", True), ("bread", "read", False), ("readjustments", "read", False)],
)  # fmt: skip
def test_forms_of_a_stem(word: str, stem: str, holds: bool) -> None:
    assert is_form(word, stem) is holds


@pytest.mark.parametrize("piece", ["mill river ", "a", "the mill. ", "(" * 10, "what a ", "i'm an ", "ſ", "\u0301"])
def test_long_answers_are_refused_in_time(piece: str) -> None:
    answer = (piece * 20_000)[:20_000]
    start = time.monotonic()
    assert _reason(answer, max_words=100_000) is not None
    assert time.monotonic() - start < 1.0
