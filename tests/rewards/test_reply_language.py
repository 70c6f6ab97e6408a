"""Reply language: every phrase is what it claims to be, and letters that say nothing are no reply."""

from __future__ import annotations

import random

import pytest

from rewards.language_id import LANGUAGES, detect, language_fault, letter_share, num_letters
from rewards.registry import get_task
from rewards.reply_phrases import PHRASES, TOPICS
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.reply_language import EASY, copied_share, sentence_fault

TASK = get_task("reply_language")


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_phrase_is_a_sentence_of_its_language(code: str) -> None:
    bank = PHRASES[code]
    assert len(bank.topics) == len(bank.sentences) == len(TOPICS)
    for sentence in (*bank.sentences, *bank.more):
        assert sentence_fault(sentence, code) is None, sentence
        assert language_fault(sentence, code, 8) is None, sentence


def test_every_level_is_solved_for_every_language() -> None:
    for level in range(4):
        seen = set()
        for index in range(80):
            prompt = make_prompt(TASK, seed=1, index=index, difficulty=level)
            text = TASK.answer(item_of(prompt))  # type: ignore[misc]
            request = ScoreRequest(TASK.name, prompt.messages, prompt.reference, text)
            assert TASK.score(request).reward == 1.0, (prompt, text, TASK.score(request).reason)
            seen.add(prompt.reference["language"])
        assert len(seen) == 3 if level == 0 else len(seen) >= 14


def test_level_0_is_short_closed_and_never_in_the_language_of_the_prompt() -> None:
    questions = set()
    for index in range(1500):
        prompt = make_prompt(TASK, seed=2, index=index, difficulty=0)
        questions.add(prompt.messages[0]["content"])
        assert len(prompt.messages[0]["content"]) <= 60
        assert prompt.reference["language"] in EASY
        assert len(TASK.answer(item_of(prompt))) <= 60  # type: ignore[misc]
    assert len(questions) > 1000  # of 2,304: 32 names, 8 topics, 3 forms, 3 languages


@pytest.mark.parametrize("text", [PHRASES[code].sentences[0] for code in EASY])
def test_one_language_for_all_earns_a_third(text: str) -> None:
    prompts = [make_prompt(TASK, seed=3, index=index, difficulty=0) for index in range(150)]
    earned = sum(TASK.score(ScoreRequest(TASK.name, p.messages, p.reference, text)).reward or 0.0 for p in prompts)
    assert 0.2 <= earned / len(prompts) <= 0.45


def test_answering_in_the_language_of_the_prompt_earns_about_half_of_level_2_and_little_of_level_3() -> None:
    for level, most in ((2, 0.65), (3, 0.2)):
        earned = 0.0
        for index in range(60):
            prompt = make_prompt(TASK, seed=4, index=index, difficulty=level)
            code = detect(str(prompt.messages[-1]["content"])) or "en"
            text = " ".join((PHRASES[code].sentences[prompt.reference["topic"]], PHRASES[code].more[0]))
            request = ScoreRequest(TASK.name, prompt.messages, prompt.reference, text)
            earned += TASK.score(request).reward or 0.0
        assert earned / 60 <= most


def test_a_slip_takes_another_language() -> None:
    for index in range(30):
        prompt = make_prompt(TASK, seed=5, index=index, difficulty=index % 4)
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        request = ScoreRequest(TASK.name, prompt.messages, prompt.reference, worked.answer)
        assert TASK.score(request).reward == 0.0


def test_a_long_text_is_read_in_halves() -> None:
    german = "Das Meer ist heute ruhig und sehr blau, und die alten Schiffe fahren langsam in den Hafen."
    english = "The old ships drift over the deep sea and the gulls sing at night, as they always have."
    assert language_fault(german, "de", 12) is None
    assert "asked for de" in str(language_fault(f"{german} {english}", "de", 12))


def test_letters_and_copies_are_measured() -> None:
    assert num_letters("a1 б!語") == 3
    assert letter_share("ab12") == 0.5
    assert letter_share("") == 0.0
    assert letter_share("समुद्र") == 1.0, "vowel signs belong to the word"
    assert copied_share("Das Meer", "Das Meer ist blau") == 1.0
    assert copied_share("Alles neu", "Das Meer ist blau") == 0.0
