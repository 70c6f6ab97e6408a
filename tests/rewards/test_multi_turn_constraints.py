"""Multi-turn constraints: the ledger at the end decides, and neither obeying all rules nor none of them pays."""

from __future__ import annotations

import random
import re

import pytest

from rewards.constraints import KINDS, describe
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("multi_turn_constraints")


def _replayed(messages: tuple) -> set[int]:
    """The numbers of the rules that are on at the end, read from the dialogue's own words."""
    on: set[int] = set()
    for message in messages:
        if message["role"] != "user":
            continue
        text = re.sub(r'"[^"]*"', '""', message["content"])
        for number, off in re.findall(r"Rule (\d)( is off)?", text):
            on = on - {int(number)} if off else on | {int(number)}
    return on


@pytest.mark.parametrize("level", range(4))
def test_the_reference_is_what_a_replay_of_the_dialogue_gives(level: int) -> None:
    for index in range(60):
        prompt = make_prompt(TASK, seed=3, index=index, difficulty=level)
        assert len(_replayed(prompt.messages)) == len(prompt.reference["active"])
        said = "\n".join(message["content"] for message in prompt.messages if message["role"] == "user")
        for rule in prompt.reference["active"] + prompt.reference["revoked"]:
            assert describe(rule) in said
        assert all(KINDS[name].visible for name, _ in prompt.reference["revoked"])
        assert prompt.messages[-1]["role"] == "user"


def test_level_0_is_short_and_its_rule_is_off_half_of_the_time() -> None:
    prompts = [make_prompt(TASK, seed=5, index=index, difficulty=0) for index in range(200)]
    off = sum(bool(prompt.reference["revoked"]) for prompt in prompts)
    assert 80 <= off <= 120
    for prompt in prompts:
        assert sum(len(message["content"]) for message in prompt.messages) <= 140
        assert len(TASK.answer(item_of(prompt))) <= 70  # type: ignore[misc]


@pytest.mark.parametrize("keep", ["every rule that was named", "no rule"])
def test_a_constant_policy_towards_the_ledger_does_not_win(keep: str) -> None:
    earned = 0.0
    for index in range(80):
        prompt = make_prompt(TASK, seed=5, index=index, difficulty=0)
        rules = prompt.reference["active"] + prompt.reference["revoked"]
        wrong = {**prompt.reference, "active": rules if keep.startswith("every") else [], "revoked": []}
        item = item_of(prompt)
        worked = TASK.work(random.Random(index), type(item)(item.messages, wrong), 0.0)  # type: ignore[misc]
        request = ScoreRequest(TASK.name, prompt.messages, prompt.reference, worked.answer)
        earned += TASK.score(request).reward or 0.0
    assert 0.35 <= earned / 80 <= 0.65


def test_repeating_what_the_assistant_said_before_earns_nothing() -> None:
    for index in range(30):
        prompt = make_prompt(TASK, seed=8, index=index, difficulty=3)
        for message in prompt.messages:
            if message["role"] == "assistant":
                request = ScoreRequest(TASK.name, prompt.messages, prompt.reference, message["content"])
                assert TASK.score(request).reward == 0.0
