"""Clarify: twins in balance, questions that name what is missing, bookings that hold every detail."""

from __future__ import annotations

import random
import re

import pytest

from data.records import Prompt, Score
from rewards.extract import parse_request
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("clarify")


def _prompts(level: int, count: int = 200) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def _decide(prompt: Prompt, text: str) -> Score | None:
    return TASK.decide(ScoreRequest("clarify", prompt.messages, prompt.reference, text))


def test_level_0_fits_a_tiny_model() -> None:
    prompts = _prompts(0, 1500)
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) <= 122
    assert max(len(prompt.reference["answer"]) for prompt in prompts) <= 60
    assert len({prompt.messages[0]["content"] for prompt in prompts}) > 1300


@pytest.mark.parametrize("level", range(4))
def test_half_are_complete_and_no_constant_earns_more_than_a_quarter(level: int) -> None:
    prompts = _prompts(level)
    assert 0.4 < sum(not prompt.reference["missing"] for prompt in prompts) / len(prompts) < 0.6
    for constant in ("Which time?", "Which day?", "At what time?", "On which day?", "Booked."):
        earned = [_decide(prompt, constant) for prompt in prompts]
        assert sum(score is None or score.reward == 1.0 for score in earned) / len(prompts) <= 0.25


@pytest.mark.parametrize("level", range(4))
def test_missing_details_are_nowhere_in_the_request_or_withdrawn(level: int) -> None:
    for prompt in _prompts(level, 80):
        reference = prompt.reference
        told = "\n".join(message["content"] for message in prompt.messages if message["role"] == "user")
        assert all(str(value) in told for value in reference["values"].values())
        for slot in reference["missing"]:
            if level == 0:
                assert f"{slot} " not in told.partition("Needed:")[0].partition(": ")[2]
            elif level == 3:
                assert f"forget the {slot}" in told
            else:
                pattern = {"day": r"on \w+day", "time": r"\d pm", "size": r"\d people", "town": r"in [A-Z]",
                           "name": "in the name of"}[slot]  # fmt: skip
                assert not re.search(pattern, told.partition("\n\n")[0])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_polite_wordings_go_to_the_judge_and_the_twins_reply_does_not(level: int) -> None:
    for prompt in _prompts(level, 80):
        missing, values = prompt.reference["missing"], prompt.reference["values"]
        asks = f"Gladly. Could you tell me the {' and the '.join({'size': 'number'}.get(s, s) for s in missing)}?"
        books = f"Gladly, that is arranged: {', '.join(values.values())}."
        right, wrong = (asks, books) if missing else (books, asks)
        assert _decide(prompt, right) is None
        score = _decide(prompt, wrong)
        assert score is not None
        assert score.reward == 0.0


def test_changed_details_replace_the_first_ones() -> None:
    for prompt in _prompts(3, 60):
        last = prompt.messages[-1]["content"]
        changed = re.match(r"Wait, the (\w+) changes to (.+);", last)
        assert (changed is None) == bool(prompt.reference["missing"])
        if changed:
            assert prompt.reference["values"][changed[1]] == changed[2]


@pytest.mark.parametrize("level", range(4))
def test_a_slip_is_not_paid(level: int) -> None:
    for index, prompt in enumerate(_prompts(level, 60)):
        worked = TASK.work(random.Random(index), item_of(prompt), 1.0)  # type: ignore[misc]
        score = _decide(prompt, worked.answer)
        assert score is not None, worked
        assert score.reward == 0.0, worked


def test_the_judge_is_told_what_is_missing_and_what_was_given() -> None:
    for prompt in _prompts(3, 10):
        request = ScoreRequest("clarify", prompt.messages, prompt.reference, "Hm?")
        question = TASK.judge_question(request, parse_request(request))  # type: ignore[misc]
        assert all(message["content"] in question.question for message in prompt.messages)
        assert all(f"{slot}: {value}" in question.reference for slot, value in prompt.reference["values"].items())
        assert all(slot in question.reference for slot in prompt.reference["missing"])


@pytest.mark.parametrize("time", ["7 pm", "7pm", "7 p.m.", "7:00 pm", "seven pm"])
def test_a_time_may_be_written_in_several_ways(time: str) -> None:
    values = {"day": "Monday", "time": "7 pm", "size": "4", "town": "Oslo"}
    reference = {"answer": "Booked: Monday, 7 pm, 4 people, Oslo.", "missing": [], "values": values, "closed": False}
    messages = ({"role": "user", "content": "Please book a table on Monday at 7 pm for 4 people in Oslo."},)

    def decide(text: str) -> Score | None:
        return TASK.decide(ScoreRequest("clarify", messages, reference, text))

    assert decide(f"That is arranged: {time} on Monday, for four people in Oslo.") is None
    other = decide("That is arranged: 8pm on Monday, for four people in Oslo.")
    assert other is not None
    assert other.reason == "does not name '7 pm'"


def test_given_details_may_be_named_outside_the_question() -> None:
    values = {"day": "Monday", "size": "4", "town": "Oslo"}
    reference = {"answer": "At what time?", "missing": ["time"], "values": values, "closed": False}
    messages = ({"role": "user", "content": "Please book a table on Monday for 4 people in Oslo."},)
    confirmed = "I have noted the day and the town. At what hour?"
    assert TASK.decide(ScoreRequest("clarify", messages, reference, confirmed)) is None
    again = TASK.decide(ScoreRequest("clarify", messages, reference, "Which day, which town and at what hour?"))
    assert again is not None
    assert again.reason == "asks again for what was given: day, town"
