"""Recovery: what each failure needs, and that nothing else is paid."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from data.records import Prompt
from rewards.episodes import gold_episode, play
from rewards.registry import get_task
from rewards.task import make_prompt
from rewards.tasks.tool_recovery import TOO_MANY

TASK = get_task("tool_recovery")


def call(name: str, /, **arguments: Any) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def prompts(level: int, count: int = 300) -> list[Prompt]:
    return [make_prompt(TASK, seed=0, index=index, difficulty=level) for index in range(count)]


def test_a_third_of_the_failures_is_permanent_so_that_giving_up_does_not_pay() -> None:
    for level in (0, 1):
        permanent = [prompt.reference["state"]["value"] is None for prompt in prompts(level)]
        assert 0.25 < sum(permanent) / len(permanent) < 0.42


def test_giving_up_after_one_failure_is_paid_only_where_that_was_the_permanent_one() -> None:
    for prompt in prompts(0, 60):
        state = prompt.reference["state"]
        once = call("fetch", field=state["field"], item=state["item"])
        reward = TASK.score(play(TASK, prompt, [once, "missing"])).reward
        assert reward == float(state["value"] is None and not state["failures"])
        assert TASK.score(play(TASK, prompt, ["missing"])).reward == 0.0


def test_retries_are_capped() -> None:
    prompt = next(prompt for prompt in prompts(0) if len(prompt.reference["state"]["failures"]) == 2)
    state = prompt.reference["state"]
    once = call("fetch", field=state["field"], item=state["item"])
    needed = play(TASK, prompt, [once] * 3 + [str(state["value"])])
    assert TASK.score(needed).reward == 1.0
    spare = play(TASK, prompt, [once] * 4 + [str(state["value"])])
    assert TASK.score(spare).reward == 1.0
    wasted = play(TASK, prompt, [once] * 5 + [str(state["value"])])
    assert (wasted.ended, TASK.score(wasted).reward) == (TOO_MANY, 0.0)
    all_at_once = play(TASK, prompt, ["\n".join([once] * 9), str(state["value"])])
    assert all_at_once.ended == TOO_MANY


def test_bad_calls_count_towards_the_cap() -> None:
    prompt = prompts(0)[0]
    request = play(TASK, prompt, ["<tool_call>\n{}\n</tool_call>"] * 8)
    assert request.ended == TOO_MANY


def test_wrong_arguments_are_mended_by_what_the_error_says() -> None:
    prompt = next(
        prompt
        for prompt in prompts(1)
        if (state := prompt.reference["state"])["new_item"] != state["item"]
        and state["unit"] != state["asked_unit"]
        and state["value"] is not None
    )
    state = prompt.reference["state"]
    gold = gold_episode(TASK, prompt)
    arguments = [made["arguments"] for made in gold.outcome["calls"] if made["ok"]]
    assert arguments == [{"field": state["field"], "item": state["new_item"], "unit": state["unit"]}]
    stubborn = call("measure", field=state["field"], item=state["item"], unit=state["asked_unit"])
    assert TASK.score(play(TASK, prompt, [stubborn] * 8)).reward == 0.0


PAY = {
    "world": "pay",
    "amounts": {"Ada": 5, "Ben": 7},
    "num_calls": 5,
    "state": {
        "accounts": {"Ada": "open", "Ben": "open"}, "timeouts": {"Ada": "after", "Ben": "before"}, "payments": [],
        "seen_closed": [],
    },
}  # fmt: skip
PAY_ADA, PAY_BEN = call("pay", name="Ada", amount=5), call("pay", name="Ben", amount=7)


def payment_prompt(**changes: Any) -> Prompt:
    state = {**PAY["state"], **changes}  # type: ignore[dict-item]
    return replace(make_prompt(TASK, seed=0, index=0, difficulty=2), reference={**PAY, "state": state})


def test_a_payment_that_went_through_before_its_timeout_must_not_be_made_again() -> None:
    prompt = payment_prompt()
    careful = [PAY_ADA, call("payments", name="Ada"), PAY_BEN, call("payments", name="Ben"), PAY_BEN, "none"]
    request = play(TASK, prompt, careful)
    assert request.outcome["state"]["payments"] == [["Ada", 5], ["Ben", 7]]
    assert TASK.score(request).reward == 1.0
    blind = play(TASK, prompt, [PAY_ADA, PAY_ADA, PAY_BEN, PAY_BEN, "none"])
    assert TASK.score(blind).reason == "payments are not what was asked for, each once"
    trusting = play(TASK, prompt, [PAY_ADA, PAY_BEN, "none"])
    assert TASK.score(trusting).reward == 0.0


def test_a_closed_account_is_reported_after_it_was_tried() -> None:
    prompt = payment_prompt(accounts={"Ada": "open", "Ben": "closed"}, timeouts={})
    assert TASK.score(play(TASK, prompt, [PAY_ADA, PAY_BEN, "Ben"])).reward == 1.0
    assert TASK.score(play(TASK, prompt, [PAY_ADA, PAY_BEN, "ben."])).reward == 1.0
    assert TASK.score(play(TASK, prompt, [PAY_ADA, "Ben"])).reason == "reports without having tried"
    assert TASK.score(play(TASK, prompt, [PAY_ADA, PAY_BEN, "none"])).reward == 0.0
    assert TASK.score(play(TASK, prompt, [PAY_ADA, PAY_BEN, "Ada, Ben"])).reward == 0.0
