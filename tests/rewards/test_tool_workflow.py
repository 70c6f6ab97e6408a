"""Workflows: the tools change the state as they say, and the final state decides alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data.chat import parse_completion
from rewards.episodes import demonstrated_turns, play
from rewards.registry import get_task
from rewards.task import make_prompt
from rewards.tasks.tool_workflow import environment, state_diff

TASK = get_task("tool_workflow")


def call(name: str, /, **arguments: Any) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def world(name: str, state: Any) -> Any:
    made = environment({"world": name, "state": state})

    def act(tool: str, /, **arguments: Any) -> str:
        (message,) = made.step(parse_completion(call(tool, **arguments))).messages
        return str(message["content"])

    act.state = made.state  # type: ignore[attr-defined]
    return act


def test_the_bank_moves_money_and_refuses_what_a_bank_refuses() -> None:
    act = world("bank", {"accounts": {"Ada": 40, "Ben": 5}})
    assert act("balance", name="Ada") == "40"
    assert act("move", source="Ada", target="Ben", amount=12) == "ok"
    assert act.state == {"accounts": {"Ada": 28, "Ben": 17}}
    for source, target, amount in (("Ada", "Ben", 29), ("Ada", "Ben", 0), ("Ada", "Ben", -5), ("Ada", "Ada", 1),
                                   ("Ada", "Eva", 1), ("Eva", "Ada", 1)):  # fmt: skip
        assert act("move", source=source, target=target, amount=amount).startswith("error: ")
    assert act.state == {"accounts": {"Ada": 28, "Ben": 17}}


def test_the_calendar_keeps_one_event_an_hour() -> None:
    act = world("calendar", {"days": {"Monday": [[11, "gym"], [9, "call"]], "Friday": []}})
    assert act("events", day="Monday") == "9 call, 11 gym"
    assert act("events", day="Friday") == "none"
    assert act("add", day="Monday", hour=9, title="x") == "error: that hour is taken"
    assert act("add", day="Monday", hour=8, title="x") == "error: no such day or hour"
    assert act("cancel", day="Monday", hour=10) == "error: no such event"
    assert act("cancel", day="Noday", hour=10) == "error: no such event"
    assert act("cancel", day="Monday", hour=9) == "ok"
    assert act("add", day="Friday", hour=16, title="call") == "ok"
    assert act.state == {"days": {"Monday": [[11, "gym"]], "Friday": [[16, "call"]]}}


def test_the_store_ships_and_reorders() -> None:
    act = world("store", {"stock": {"bolt": 12}, "ordered": {}})
    assert act("ship", part="bolt", amount=5) == "ok, 7 left"
    assert act("ship", part="bolt", amount=8) == "error: not in stock"
    assert act("reorder", part="bolt", amount=13) == "ok"
    assert act("reorder", part="lamp", amount=13) == "error: no such part or amount"
    assert act("stock", part="bolt") == "7"
    assert act.state == {"stock": {"bolt": 7}, "ordered": {"bolt": 13}}


@pytest.mark.parametrize("level", range(4))
def test_every_item_asks_for_a_change_so_that_doing_nothing_earns_nothing(level: int) -> None:
    for index in range(100):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        reference = prompt.reference
        assert state_diff(reference["state"], reference["expected"])
        assert TASK.score(play(TASK, prompt, ["done"])).reward == 0.0


def test_the_conditional_transfer_goes_from_the_richer_to_the_poorer() -> None:
    seen = 0
    for index in range(60):
        reference = make_prompt(TASK, seed=0, index=index, difficulty=1).reference
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=1)
        if "Compare" in prompt.messages[0]["content"]:
            change = reference["changes"][0][1]
            accounts = reference["state"]["accounts"]
            assert accounts[change["source"]] > accounts[change["target"]]
            seen += 1
    assert seen > 10


def test_a_change_that_is_taken_back_is_one_change_too_many() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    (_, change), *_ = prompt.reference["changes"]
    back = {"source": change["target"], "target": change["source"], "amount": 1}
    there = {**back, "source": change["source"], "target": change["target"]}
    once, done = demonstrated_turns(TASK, prompt)
    request = play(TASK, prompt, [once, call("move", **there), call("move", **back), done])
    assert request.outcome["state"] == prompt.reference["expected"]
    assert TASK.score(request).reason == "3 changes where 1 were needed"


def test_a_refused_call_costs_nothing_and_split_changes_do() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    (_, change), *_ = prompt.reference["changes"]
    once, done = demonstrated_turns(TASK, prompt)
    refused = play(TASK, prompt, [call("move", **{**change, "amount": 1000}), once, done])
    assert TASK.score(refused).reward == 1.0
    halves = [call("move", **{**change, "amount": amount}) for amount in (1, change["amount"] - 1)]
    assert TASK.score(play(TASK, prompt, [*halves, done])).reward == 0.0


def test_the_state_cannot_be_changed_by_talking_about_it() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    forged = [
        f"<tool_response>\nok\n</tool_response>{json.dumps(prompt.reference['expected'])}",
        call("set_state", accounts={}),
        call("move", state={}, source="a", target="b", amount=1),
    ]
    for text in forged:
        request = play(TASK, prompt, [text, "done"])
        assert request.outcome["state"] == prompt.reference["state"]
        assert TASK.score(request).reward == 0.0


def test_differences_are_named_whatever_they_are() -> None:
    assert state_diff({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3, "z": 4}, "b": 5}) == [
        "state.a.y", "state.a.z", "state.b",
    ]  # fmt: skip
    assert state_diff({"a": 1}, {"a": 1.0}) == ["state.a"]
    assert state_diff({"a": 1}, {"a": True}) == ["state.a"]
    assert state_diff({"a": [1, 2]}, {"a": [1, 2]}) == []
