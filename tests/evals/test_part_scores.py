"""Separate scores of tool calls and of answers after a forced stop, each worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chat import STOP_THINKING, parse_completion
from data.episodes import turn_text
from evals.part_scores import budget_coherence, call_parts, part_scores
from rewards.registry import get_task
from rewards.task import ScoreRequest, gold_completion, item_of, make_prompt

ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}
ADD_OTHER = {"name": "add", "arguments": {"a": 1, "b": 3}}
CONVERT = {"name": "convert", "arguments": {"km": 5}}


@pytest.mark.parametrize(
    ("made", "expected", "num_bad", "parts"),
    [
        ([ADD], [ADD], 0, {"intent": 1, "format": 1, "parameters": 1}),
        ([ADD_OTHER], [ADD], 0, {"intent": 1, "format": 1, "parameters": 0}),
        ([CONVERT], [ADD], 0, {"intent": 0, "format": 1}),
        ([], [ADD], 1, {"intent": 0, "format": 0}),
        ([], [ADD], 0, {"intent": 0}),
        ([], [], 0, {"intent": 1}),
        ([ADD], [], 0, {"intent": 0, "format": 1}),
        ([CONVERT, ADD], [ADD, CONVERT], 0, {"intent": 1, "format": 1, "parameters": 1}),
        ([ADD, ADD], [ADD], 0, {"intent": 0, "format": 1, "parameters": 1}),
        ([ADD, ADD_OTHER], [ADD, ADD], 0, {"intent": 1, "format": 1, "parameters": 0.5}),
        ([ADD, CONVERT], [ADD, CONVERT], 2, {"intent": 1, "format": 0.5, "parameters": 1}),
        ([{"name": "add", "arguments": {"a": 1.0, "b": 2}}], [ADD], 0, {"intent": 1, "format": 1, "parameters": 0}),
    ],
)
def test_calls_are_held_against_the_expected_ones_part_by_part(
    made: list[Any], expected: list[Any], num_bad: int, parts: dict[str, float]
) -> None:
    assert call_parts(made, expected, num_bad=num_bad) == parts


CALLS = st.lists(st.sampled_from([ADD, ADD_OTHER, CONVERT]), max_size=5)


@given(CALLS, CALLS, st.integers(0, 3), st.randoms())
def test_parts_are_shares_and_do_not_hang_on_the_order(made: Any, expected: Any, num_bad: int, rng: Any) -> None:
    parts = call_parts(made, expected, num_bad=num_bad)
    assert all(0 <= share <= 1 for share in parts.values())
    shuffled = rng.sample(made, len(made))
    assert call_parts(shuffled, expected, num_bad=num_bad) == parts
    if num_bad == 0 and parts["intent"] == 1 and parts.get("parameters", 1) == 1:
        assert sorted(map(json.dumps, made)) == sorted(map(json.dumps, expected))


def solved(name: str, level: int, index: int) -> ScoreRequest:
    """The request that a solved prompt of the task leads to, its episode carried out in the task's own environment."""
    task = get_task(name)
    prompt = make_prompt(task, seed=0, index=index, difficulty=level)
    if task.environment is None or task.demonstrate is None:
        return ScoreRequest(name, prompt.messages, prompt.reference, gold_completion(task, prompt))
    world = task.environment(prompt.reference)
    turns = [
        turn_text(message)
        for message in task.demonstrate(random.Random(index), item_of(prompt), 0.0)
        if message["role"] == "assistant"
    ]
    ended = [world.step(parse_completion(turn)).ended for turn in turns][-1]
    request = ScoreRequest(name, prompt.messages, prompt.reference, turns[-1], turns=tuple(turns), ended=ended)
    return dataclasses.replace(request, outcome=world.outcome())


@pytest.mark.parametrize("name", ["tool_call", "tool_use", "tool_workflow"])
def test_whatever_earns_a_reward_has_all_its_parts(name: str) -> None:
    for level in range(get_task(name).max_difficulty + 1):
        for index in range(8):
            request = solved(name, level, index)
            assert get_task(name).score(request).reward == 1.0
            parts = part_scores(request)
            assert parts["intent"] == 1.0
            assert set(parts.values()) == {1.0}
            calls = request.reference.get("calls", request.reference.get("changes"))
            assert set(parts) == ({"intent", "format", "parameters"} if calls else {"intent"})


def test_a_single_turn_of_calls_is_read_out_of_the_completion() -> None:
    text = "<tool_call>\n" + json.dumps(ADD) + "\n</tool_call>\n<tool_call>\n{broken\n</tool_call>"
    request = ScoreRequest("tool_call", (), {"calls": [ADD, CONVERT]}, text)
    assert part_scores(request) == {"intent": 0.0, "format": 0.5, "parameters": 1.0}


def test_of_a_workflow_only_changes_count() -> None:
    look = {"name": "balance", "arguments": {"name": "Ada"}, "turn": 1, "ok": True}
    move = {"name": "move", "arguments": {"source": "Ada", "target": "Ben", "amount": 3}, "turn": 2, "ok": True}
    reference = {
        "world": "bank",
        "state": {"accounts": {"Ada": 10, "Ben": 0}},
        "changes": [["move", {"source": "Ada", "target": "Ben", "amount": 4}]],
    }
    outcome = {"state": {}, "calls": [look, look, move], "bad_calls": 1, "writes": 1}
    request = ScoreRequest("tool_workflow", (), reference, "done", ended="answered", outcome=outcome)
    assert part_scores(request) == {"intent": 1.0, "format": 0.5, "parameters": 0.0}


def test_a_task_without_parts_has_none() -> None:
    assert part_scores(ScoreRequest("json_answer", (), {}, "x")) == {}


# ---------------------------------------------------------------------------------------------- budget coherence

QUESTION = "Compute 7 + 5 + 9 + 3."
FORCED = STOP_THINKING.removesuffix("</think>\n\n")


@pytest.mark.parametrize(
    ("thinking", "answer", "parts"),
    [
        ("7+5=12\n12+9=21\n", "24", {"coherent": 1, "read_off": 0}),  # 21 and the 3 that is left
        ("7+5=12\n12+9=21\n", "21", {"coherent": 0, "read_off": 1}),
        ("7+5=12\n12+9=21\n", "25", {"coherent": 0, "read_off": 0}),
        ("7+5=13\n13+9=22\n", "25", {"coherent": 1, "read_off": 0}),  # agrees with thinking that is wrong
        ("7+5=13\n13+9=22\n", "24", {"coherent": 0, "read_off": 0}),
        ("7+5=12\n12+9=2", "24", {"coherent": 1, "read_off": 0}),  # cut in the middle of a number: 12 is the last
        ("7+5=12\n12+", "24", {"coherent": 1, "read_off": 0}),
        ("7+5=12\n12+9=21\n21+3=24\n", "24", {"coherent": 1, "read_off": 1}),
        ("7+5=12\n", "no idea", {"coherent": 0, "read_off": 0}),
        ("7+5=1", "24", {}),  # no finished step
        ("", "24", {}),
        ("7+9=16\n", "24", {}),  # other terms than those of the question
        ("7+5=12\n13+9=22\n", "24", {}),  # does not go on from its own result
        ("7+5=12\n12+9=21\n21+3=24\n24+0=24\n", "24", {}),  # more steps than terms
    ],
)
def test_the_answer_after_a_forced_stop_is_held_against_the_last_partial_sum(
    thinking: str, answer: str, parts: dict[str, float]
) -> None:
    assert budget_coherence(QUESTION, thinking + FORCED, answer) == parts


def test_thinking_that_ended_by_itself_says_nothing_about_budgets() -> None:
    assert budget_coherence(QUESTION, "7+5=12\n12+9=21\n21+3=24", "24") == {}
    assert budget_coherence("Explain 7 + 5.", "7+5=12\n" + FORCED, "12") == {}


def test_coherence_is_read_out_of_a_whole_completion() -> None:
    messages = ({"role": "user", "content": QUESTION},)
    text = f"<think>\n7+5=12\n12+9{STOP_THINKING}\\boxed{{24}}"
    request = ScoreRequest("arithmetic", messages, {"answer": 24}, text)
    assert part_scores(request) == {"coherent": 1.0, "read_off": 0.0}
    assert get_task("arithmetic").score(request).reward == 1.0


@given(st.lists(st.integers(1, 99), min_size=3, max_size=8), st.data())
def test_continuing_any_worked_prefix_is_coherent(terms: list[int], data: Any) -> None:
    num_steps = data.draw(st.integers(1, len(terms) - 1))
    total, lines = terms[0], []
    for term in terms[1 : num_steps + 1]:
        result = total + term + data.draw(st.sampled_from([0, 0, 1, -10]))
        lines.append(f"{total}+{term}={result}")
        total = result
    if any(line.split("=")[1].startswith("-") for line in lines):
        return  # a negative partial sum has no sign that the task's own steps would write
    question = f"Compute {' + '.join(map(str, terms))}."
    right = total + sum(terms[num_steps + 1 :])
    thinking = "\n".join(lines) + "\n" + FORCED
    assert budget_coherence(question, thinking, str(right))["coherent"] == 1.0
    assert budget_coherence(question, thinking, str(right + 1))["coherent"] == 0.0
