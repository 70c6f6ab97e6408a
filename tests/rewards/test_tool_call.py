"""Tool calls: gold text equals the chat format, levels, strictness."""

from __future__ import annotations

import pytest

from data.chat import render
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.tool_call import TOOLS

TASK = get_task("tool_call")


@pytest.mark.parametrize("level", range(3))
def test_gold_calls_are_the_bytes_that_the_chat_format_renders(level: int) -> None:
    for index in range(40):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        calls = [{"type": "function", "function": call} for call in prompt.reference["calls"]]
        content = "" if calls else str(prompt.reference["answer"])
        rendered = render([*prompt.messages, {"role": "assistant", "content": content, "tool_calls": calls}])
        gold = TASK.answer(item_of(prompt))  # type: ignore[misc]
        assert rendered.endswith(f"<think>\n\n</think>\n\n{gold}<|im_end|>\n")


def test_levels_are_single_parallel_and_half_abstaining() -> None:
    numbers = [
        [len(make_prompt(TASK, seed=0, index=index, difficulty=level).reference["calls"]) for index in range(200)]
        for level in range(3)
    ]
    assert set(numbers[0]) == {1}
    assert set(numbers[1]) == {2, 3}
    assert set(numbers[2]) == {0, 1}
    assert 0.4 < numbers[2].count(0) / 200 < 0.6


@pytest.mark.parametrize("level", range(3))
def test_needed_tools_are_offered_and_fitting_ones_are_not_when_none_is_needed(level: int) -> None:
    for index in range(60):
        prompt = make_prompt(TASK, seed=0, index=index, difficulty=level)
        offered = [tool["function"]["name"] for tool in prompt.tools or ()]
        assert 1 <= len(offered) <= 3
        assert len(set(offered)) == len(offered)
        if prompt.reference["calls"]:
            assert {call["name"] for call in prompt.reference["calls"]} <= set(offered)
        else:
            assert "add" not in offered


def test_gold_arguments_satisfy_the_schema_of_their_tool() -> None:
    types = {"integer": int, "string": str}
    for index in range(60):
        for call in make_prompt(TASK, seed=1, index=index, difficulty=1).reference["calls"]:
            parameters = TOOLS[call["name"]]["function"]["parameters"]
            assert list(call["arguments"]) == parameters["required"]
            for name, value in call["arguments"].items():
                assert type(value) is types[parameters["properties"][name]["type"]]


@pytest.mark.parametrize("answer", ["I cannot do that.", "<tool_call>", "7 <tool_response>", "\\boxed{8}"])
def test_abstaining_needs_the_right_plain_answer(answer: str) -> None:
    assert TASK.score(ScoreRequest("tool_call", (), {"calls": [], "answer": 7}, answer)).reward == 0.0


def test_abstaining_without_a_known_answer_accepts_a_plain_text() -> None:
    assert TASK.score(ScoreRequest("tool_call", (), {"calls": []}, "No tool can do that.")).reward == 1.0
