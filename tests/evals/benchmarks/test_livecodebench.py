"""LiveCodeBench: golden rows, packed tests, the window of dates, both wordings, and files that are not trusted."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from evals.benchmarks.livecodebench import messages_of
from evals.benchmarks.registry import load_benchmark, read_benchmark
from evals.evaluate import BenchmarkConfig, prompts_by_mode
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import only_prompt, refusal

PUBLIC = json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}])


def packed(tests: list[dict[str, str]]) -> str:
    """Private tests as they are published."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


STDIN_ROW: dict[str, Any] = {
    "question_title": "Sum", "question_content": "Add two numbers.", "platform": "atcoder", "question_id": "abc1_a",
    "contest_id": "abc1", "contest_date": "2024-11-02T00:00:00", "starter_code": "", "difficulty": "medium",
    "public_test_cases": PUBLIC, "metadata": "{}",
    "private_test_cases": packed([{"input": "4 5\n", "output": "9\n", "testtype": "stdin"}]),
}  # fmt: skip
FUNCTIONAL_ROW: dict[str, Any] = {
    **STDIN_ROW, "platform": "leetcode", "question_id": "3200", "metadata": '{"func_name": "add"}',
    "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n        ",
    "public_test_cases": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
    "private_test_cases": packed([{"input": "4\n5", "output": "9", "testtype": "functional"}]),
}  # fmt: skip


def test_a_row_becomes_the_official_prompt_with_its_tests_still_packed(write: Write) -> None:
    prompt = only_prompt("livecodebench", write(STDIN_ROW))
    system, user = prompt.messages
    assert system["content"].endswith("matches the specification and passes all tests.")
    assert user["content"] == (
        "### Question:\nAdd two numbers.\n\n### Format: Read the inputs from stdin solve the problem and write the "
        "answer to stdout (do not directly test on the sample inputs). Enclose your code within delimiters as "
        "follows.\n```python\n# YOUR CODE HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n"
    )
    assert prompt.reference == {"public": PUBLIC, "private": STDIN_ROW["private_test_cases"], "function": ""}
    assert (prompt.task, prompt.domain, prompt.difficulty) == ("program_tests", "atcoder", 1)


def test_starter_code_is_shown_and_the_method_is_named(write: Write) -> None:
    prompt = only_prompt("livecodebench", write(FUNCTIONAL_ROW))
    assert "```python\nclass Solution:\n    def add(self, a: int, b: int) -> int:" in prompt.messages[1]["content"]
    assert prompt.reference["function"] == "add"


def test_only_the_non_thinking_wording_restricts_what_is_returned(write: Write) -> None:
    path = write(STDIN_ROW)
    (thinking,) = load_benchmark("livecodebench", path)
    (non_thinking,) = load_benchmark("livecodebench", path, mode="non_thinking")
    sentence = "You will NOT return anything except for the program."
    assert sentence not in thinking.messages[0]["content"]
    assert non_thinking.messages[0]["content"] == f"{thinking.messages[0]['content']} {sentence}"
    assert messages_of("Q", "", restricted=True)[1] == messages_of("Q", "", restricted=False)[1]
    assert (thinking.uid, thinking.reference) == (non_thinking.uid, non_thinking.reference)


def test_an_evaluation_asks_each_mode_in_its_own_words(write: Write) -> None:
    prompts = prompts_by_mode("lcb", BenchmarkConfig(file=str(write(STDIN_ROW)), standard="livecodebench"), 0)
    system = {mode: found[0].messages[0]["content"] for mode, found in prompts.items()}
    assert system["mixed"] == system["thinking"]
    assert system["non_thinking"] == f"{system['thinking']} You will NOT return anything except for the program."
    assert len({found[0].uid for found in prompts.values()}) == 1


@pytest.mark.parametrize(
    ("date", "inside"),
    [
        ("2024-09-30T00:00:00", False), ("2024-10-01", True), ("2025-02-28T23:59:00", True), ("2025-03-01", False),
    ],
)  # fmt: skip
def test_contests_outside_the_reports_window_are_left_out_and_counted(write: Write, date: str, inside: bool) -> None:
    path = write(STDIN_ROW, {**STDIN_ROW, "contest_date": date, "question_id": "other"})
    loaded = read_benchmark("livecodebench", path)
    assert len(loaded.prompts) == 1 + inside
    assert loaded.left_out == ({} if inside else {"contest outside 2024-10-01 to 2025-02-28": 1})
    assert len(load_benchmark("livecodebench_all", path)) == 2


def test_all_files_of_a_release_are_read(write: Write, tmp_path: Any) -> None:
    for name in ("test.jsonl", "test2.jsonl", "test5.jsonl"):
        write({**STDIN_ROW, "question_id": name}, name=f"lcb/{name}")
    assert len(load_benchmark("livecodebench", tmp_path / "lcb")) == 3


class Evil:
    """Pickles to a call of a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("the pickle ran",)


@pytest.mark.parametrize(
    ("tests", "part"),
    [
        (base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode(), "it wants to import builtins.print"),
        (base64.b64encode(zlib.compress(pickle.dumps(["[]"]))).decode(), "not a pickle of one text but of list"),
        (base64.b64encode(b"no zlib").decode(), "not zlib"),
        ("%%%", "not base64"),
        ('[{"input": "1", "output": 2, "testtype": "stdin"}]', "field 'output' of a test is 2, not text"),
    ],
)
def test_tests_that_are_not_what_was_published_are_refused_unrun(
    write: Write, capsys: pytest.CaptureFixture[str], tests: str, part: str
) -> None:
    message = refusal("livecodebench", write({**STDIN_ROW, "private_test_cases": tests}))
    assert "rows.jsonl:1: field 'private_test_cases' must be tests" in message
    assert part in message
    assert "the pickle ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({**STDIN_ROW, "contest_date": "soon"}, "field 'contest_date' must be a date such as 2024-10-05, got 'soon'"),
        ({**STDIN_ROW, "metadata": '{"func_name": "add"}'}, "field 'metadata' must be in keeping with the kinds of"),
        ({**FUNCTIONAL_ROW, "metadata": "{}"}, "the kinds of tests (functional)"),
        ({name: v for name, v in STDIN_ROW.items() if name != "question_content"}, "field 'question_content' is"),
    ],
)
def test_a_row_of_another_schema_is_refused(write: Write, row: dict[str, Any], part: str) -> None:
    message = refusal("livecodebench", write(row))
    assert "rows.jsonl:1: field " in message
    assert part in message
