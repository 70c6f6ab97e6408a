"""Composed constraints: the writer obeys what it is told, and content that costs nothing is not paid for."""

from __future__ import annotations

import random

import pytest

from data.records import UserError
from rewards.constrained_text import fault, write
from rewards.constraints import KINDS
from rewards.prose_guard import strip_echo
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.composed_constraints import COMPOSABLE, EASY
from rewards.tasks.length import BANKS

TASK = get_task("composed_constraints")


def test_level_is_the_number_of_constraints_and_level_0_is_short() -> None:
    for level in range(6):
        for index in range(40):
            prompt = make_prompt(TASK, seed=2, index=index, difficulty=level)
            assert len(prompt.reference["constraints"]) == level + 1
            if level == 0:
                item = item_of(prompt)
                assert len(prompt.messages[-1]["content"]) <= 120
                assert len(TASK.answer(item)) <= 70  # type: ignore[misc]
                assert {name for name, _ in prompt.reference["constraints"]} <= set(EASY)


@pytest.mark.parametrize("name", COMPOSABLE)
def test_the_writer_can_obey_every_kind_alone(name: str) -> None:
    obeyed = 0
    for seed in range(20):
        rng = random.Random(seed)
        topic = rng.choice(sorted(BANKS))
        arguments = dict(KINDS[name].build(rng, topic))
        prompt = f"Write about the {topic}."
        if name == "repeat_prompt":
            arguments["prompt_to_repeat"] = prompt
        obeyed += write(rng, topic=topic, prompt=prompt, constraints=[[name, arguments]]) is not None
    assert obeyed >= 15  # a keyword four times beside few words looks like stuffing: the generator draws again


def test_forgetting_a_constraint_is_what_a_slip_does() -> None:
    right = wrong = 0.0
    for index in range(60):
        prompt = make_prompt(TASK, seed=4, index=index, difficulty=2)
        for rate in (0.0, 1.0):
            worked = TASK.work(random.Random(index), item_of(prompt), rate)  # type: ignore[misc]
            reward = TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, worked.answer)).reward
            right, wrong = (right + reward, wrong) if rate == 0 else (right, wrong + reward)  # type: ignore[operator]
    assert right == 60
    assert wrong <= 15


def test_the_answer_to_one_prompt_earns_little_elsewhere() -> None:
    prompts = [make_prompt(TASK, seed=6, index=index, difficulty=0) for index in range(60)]
    answers = [TASK.answer(item_of(prompt)) for prompt in prompts]  # type: ignore[misc]
    best = max(
        sum(
            TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, text)).reward or 0.0
            for prompt in prompts
        )
        for text in answers[:20]
    )
    assert best / len(prompts) <= 0.2


RULES = [["keywords_exist", {"keywords": ["ships"]}], ["end_phrase", {"end_phrase": "Thanks for reading."}]]
PROMPT = 'Write about cold waves and the sea. Use the word "ships". End with "Thanks for reading."'


def test_a_restated_rule_is_stripped_and_an_asked_phrase_is_not() -> None:
    text = 'I use the word "ships". The deep sea shines brightly tonight. Thanks for reading.'
    assert strip_echo(text, PROMPT, RULES) == " The deep sea shines brightly tonight. Thanks for reading."
    assert fault(text, topic="sea", prompt=PROMPT, constraints=RULES) == 'violates: Use the word "ships".'
    clean = "Old ships drift over the deep sea. Thanks for reading."
    assert strip_echo(clean, PROMPT, RULES) is clean
    assert fault(clean, topic="sea", prompt=PROMPT, constraints=RULES) is None


def test_a_revoked_rule_must_not_be_obeyed() -> None:
    arguments = {"topic": "sea", "prompt": "Write about the sea.", "constraints": [["no_comma", {}]]}
    text = '"Old ships drift gently home."'
    assert fault(text, **arguments) is None  # type: ignore[arg-type]
    assert "revoked" in str(fault(text, **arguments, revoked=[["quotation", {}]]))  # type: ignore[arg-type]


def test_an_ordinary_long_answer_is_no_padding() -> None:
    text = (
        "The sea is the largest habitat on the planet, and most of it has never been seen. Light fades within the "
        "first two hundred metres; below that, animals make their own. Currents carry heat from the tropics to the "
        "poles, which is why the climate of Norway is milder than that of Labrador. Ships have crossed the surface "
        "for 5,000 years, yet maps of the sea floor are coarser than our maps of Mars. Fishing feeds three billion "
        "people. Its future depends on how much of the catch we leave behind, and on how warm the water becomes."
    )
    prompt = "Write about the sea. Write at least 80 words."
    rule = ["number_words", {"relation": "at least", "num_words": 80}]
    assert fault(text, topic="sea", prompt=prompt, constraints=[rule]) is None
    assert fault(text, topic="", prompt=prompt, constraints=[rule]) is None
    assert fault(text, topic="desert", prompt=prompt, constraints=[rule]) == "does not keep to the topic"


def test_an_unknown_kind_in_a_reference_is_a_failure_of_the_verifier() -> None:
    reference = {"topic": "sea", "constraints": [["titel", {}]]}
    request = ScoreRequest(
        TASK.name, ({"role": "user", "content": "Q"},), reference, "Old ships drift over the deep sea."
    )
    with pytest.raises(UserError, match="titel"):
        TASK.score(request)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Old ships drift over the {deep} sea.", "marks that prose"),
        ("Old ships drift | deep sea.", "marks that prose"),
        ("Old ships drift over the deep sea \x07.", "marks that prose"),
        ("old ships drift over the deep sea.", "capital"),
        ("Old ships drift over the deep sea", "middle of a sentence"),
        ("Old ships drift über море sea.", "another script"),
        ("Ships waves sing drift gulls tides rise whales shores roll blue salty sea.", "without small words"),
        ("Old ships drift\u200b over the deep sea.", "invisible"),
    ],
)  # fmt: skip
def test_salad_of_words_and_marks_is_no_text(text: str, reason: str) -> None:
    assert reason in str(fault(text, topic="sea", prompt="Write about the sea.", constraints=[]))
