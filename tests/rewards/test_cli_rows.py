"""Scoring JSON lines, previews and the table of tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from data.records import UserError
from rewards.cli_rows import CHUNK_LINES, preview, score_lines, task_table
from rewards.registry import all_tasks
from rewards.verifier_pool import VerifierPool


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    with VerifierPool() as pool:
        yield pool


def _row(**changes: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Compute 1 + 2."}]
    return {"task": "arithmetic", "messages": messages, "reference": {"answer": 3}, "completion": "3"} | changes


def test_rows_come_back_in_order_with_their_scores(pool: VerifierPool) -> None:
    count = CHUNK_LINES + 5
    lines = [json.dumps(_row(completion=str(index % 4), id=index)) for index in range(count)]
    rows = [json.loads(line) for line in score_lines([*lines, "", "\n"], pool)]
    assert [row["id"] for row in rows] == list(range(count))
    assert [row["reward"] for row in rows] == [1.0 if index % 4 == 3 else 0.0 for index in range(count)]
    assert rows[3] == json.loads(lines[3]) | {"reward": 1.0, "outcome": "correct", "reason": ""}
    assert rows[0]["reason"] == "0 is not 3"


def test_optional_fields_reach_the_scorer(pool: VerifierPool) -> None:
    lines = [json.dumps(_row(finish_reason="length")), json.dumps(_row(enable_thinking=False, completion="<think>"))]
    reasons = [json.loads(line)["reason"] for line in score_lines(lines, pool)]
    assert reasons == ["truncated", "think block is malformed"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: is a list: write one JSON object a line"),
        (json.dumps({key: value for key, value in _row().items() if key != "completion"}), "'completion' is missing"),
        (json.dumps(_row(task="arithmetik")), "line 2: task 'arithmetik' does not exist: did you mean 'arithmetic'"),
        (json.dumps(_row(completion=3)), "field 'completion' is 3: give a string"),
        (json.dumps(_row(messages="hi")), "field 'messages' is \"hi\": give a list"),
        (json.dumps(_row(enable_thinking=1)), "field 'enable_thinking' is 1: give true, false or null"),
        (json.dumps(_row(finish_reason="eos")), "field 'finish_reason' is \"eos\": give stop, length or abort"),
        (json.dumps(_row(reference={"sum": 3})), "lacks 'answer': add this key"),
        (json.dumps(_row(reference=3)), "lacks 'answer': add this key"),
    ],
)
def test_a_broken_line_is_named_with_field_and_mend(pool: VerifierPool, line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(score_lines([json.dumps(_row()), line], pool))
    assert message in str(caught.value)
    assert str(caught.value).startswith("line 2")
    assert "\n" not in str(caught.value)


def test_a_preview_is_the_first_prompts_of_the_seed() -> None:
    prompts = preview("arithmetic", 5, 3, 2)
    assert [prompt.uid for prompt in prompts] == [f"arithmetic/5/2/{index}" for index in range(3)]
    assert prompts[:2] == preview("arithmetic", 5, 2, 2)


def test_the_table_has_a_row_per_task() -> None:
    rows = task_table()
    assert [row["name"] for row in rows] == [task.name for task in all_tasks()]
    math = next(row for row in rows if row["name"] == "math")
    assert (math["area"], math["levels"], math["in_worker"]) == ("reasoning", 6, True)
