"""The scripted user: one fact for one question, no coaxing, and exactly the booking that is wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data.chat import parse_completion
from data.records import Prompt
from rewards.episodes import demonstrated_turns, play
from rewards.registry import get_task
from rewards.task import make_prompt
from rewards.tasks.user_simulator import LEFT, asked_slot, environment

TASK = get_task("user_simulator")
SLOTS = ("room", "day", "hour", "people", "name")


def prompts(level: int, count: int = 200) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def booking(**facts: Any) -> str:
    return f'<tool_call>\n{{"name": "book", "arguments": {json.dumps(facts)}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("question", "slot"),
    [
        ("Which day?", "day"),
        ("At what TIME shall it be?", "hour"),
        ("How many people will come?", "people"),
        ("In whose name?", "name"),
        ("What day and hour?", None),
        ("room, day, hour, people, name?", None),
        ("Tell me everything that I need to know.", None),
        ("Tell me the answer?", None),
        ("Which day", None),
        ("Day.", None),
        ("Today?", None),
        ("Which day? " + "please " * 40, None),
        ("", None),
    ],
)
def test_a_question_has_to_name_one_fact(question: str, slot: str | None) -> None:
    assert asked_slot(question, dict.fromkeys(SLOTS)) == slot


def test_the_missing_fact_is_in_the_answer_to_its_question_and_nowhere_else() -> None:
    for prompt in prompts(0, 60):
        (slot,) = prompt.reference["missing"]
        fact = prompt.reference["answers"][slot]
        other = "hour" if slot == "day" else "day"
        for text in ("What do you want?", "Tell me the answer, now!", f"Which {other}?"):
            heard = environment(prompt.reference).step(parse_completion(text)).messages[0]["content"]
            assert heard != fact, (prompt, text)
        world = environment(prompt.reference)
        assert world.step(parse_completion(f"Which {slot}?")).messages == ({"role": "user", "content": fact},)
        if slot == "day":
            assert prompt.reference["wanted"]["day"] not in prompt.messages[0]["content"]


def test_a_user_who_is_asked_in_vain_three_times_leaves() -> None:
    prompt = prompts(0)[0]
    request = play(TASK, prompt, ["Everything, please?"] * 5)
    assert (request.ended, len(request.turns)) == (LEFT, 3)
    assert TASK.score(request).reward == 0.0


def test_what_is_asked_inside_the_think_block_is_not_heard() -> None:
    prompt = prompts(0)[0]
    (slot,) = prompt.reference["missing"]
    reply = environment(prompt.reference).step(parse_completion(f"<think>\nWhich {slot}?\n</think>\n\nHello."))
    assert reply.messages[0]["content"] == "Ask me one thing at a time, please."


def test_booking_every_guess_fails_and_so_does_asking_where_nothing_is_missing() -> None:
    prompt = next(prompt for prompt in prompts(0) if prompt.reference["missing"] == ["day"])
    wanted = prompt.reference["wanted"]
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    sprayed = "\n".join(booking(**{**wanted, "day": day}) for day in days)
    request = play(TASK, prompt, [sprayed, "booked"])
    assert wanted in request.outcome["state"]["bookings"]
    assert TASK.score(request).reward == 0.0
    complete = next(prompt for prompt in prompts(1) if not prompt.reference["missing"])
    turns = demonstrated_turns(TASK, complete)
    assert TASK.score(play(TASK, complete, turns)).reward == 1.0
    assert TASK.score(play(TASK, complete, ["Which day?", *turns])).reason == "1 questions where 0 are enough"


def test_one_needless_question_is_forgiven_and_a_second_is_not() -> None:
    prompt = prompts(0)[0]
    turns = demonstrated_turns(TASK, prompt)
    assert TASK.score(play(TASK, prompt, ["Hello?", *turns])).reward == 1.0
    assert TASK.score(play(TASK, prompt, ["Hello?", "Hello?", *turns])).reward == 0.0


def test_the_last_word_of_a_user_who_changes_their_mind_counts() -> None:
    for prompt in prompts(2, 40):
        reference = prompt.reference
        turns = demonstrated_turns(TASK, prompt)
        assert reference["change"]
        slot = reference["change"].split()[3]
        former = reference["change"].removesuffix(".").split()[-1]
        *asked, _, report = turns
        stale = {**reference["wanted"], slot: former if slot == "day" else int(former)}
        assert TASK.score(play(TASK, prompt, [*asked, booking(**stale), report])).reward == 0.0
        assert TASK.score(play(TASK, prompt, turns)).reward == 1.0


def test_the_hour_of_the_last_level_is_the_first_free_one() -> None:
    for prompt in prompts(3, 60):
        reference = prompt.reference
        wanted = reference["wanted"]
        free = reference["free"][f"{wanted['room']} {wanted['day']}"]
        earliest = int(reference["answers"]["hour"].removesuffix(" on.").rsplit(" ", 1)[1])
        assert wanted["hour"] == min(hour for hour in free if hour >= earliest)
