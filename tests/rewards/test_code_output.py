"""Code output: expected texts, levels, worked traces, texts compared and never run."""

from __future__ import annotations

import random

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks.code_output import read_output
from rewards.tiny_python import run

TASK = get_task("code_output")


def _items(level: int, count: int) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


@pytest.mark.parametrize("level", range(5))
def test_the_reference_is_what_the_shown_program_prints(level: int) -> None:
    for item in _items(level, 60):
        program, output = item.reference["program"], item.reference["output"]
        assert program in item.messages[0]["content"]
        assert run(program) == output
        assert output not in program
        assert 2 <= len(output) <= 120


def test_level_0_is_short_and_has_thousands_of_prompts() -> None:
    items = _items(0, 2000)
    assert len({item.messages[0]["content"] for item in items}) > 1900
    for item in items:
        assert len(item.messages[0]["content"]) <= 120
        assert len(item.reference["output"].split()) == 2
        assert len(TASK.work(random.Random(0), item, 0.0).reasoning) < 100  # type: ignore[misc]


def test_levels_use_what_they_are_named_after() -> None:
    for level, words in ((1, ("for ",)), (2, ("[", ":")), (3, ("def ", "return")), (4, ("for ", "if "))):
        for item in _items(level, 20):
            assert all(word in item.reference["program"] for word in words)


def test_the_trace_shows_every_assignment_and_goes_on_from_a_slip() -> None:
    item = TaskItem((), {"program": "a = 12\nb = a + 5\na = b - 3\nprint(a, b)", "output": "14 17"})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("a=12\nb=17\na=14", "14 17")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    assert (wrong.reasoning, wrong.answer) == ("a=13\nb=19\na=17", "17 19")


def test_a_slip_that_makes_the_program_fail_is_answered_with_error() -> None:
    program = "n = [1, 2]\nprint(n[1], n[0] + 10)"
    item = TaskItem((), {"program": program, "output": "2 11"})
    assert TASK.work(random.Random(0), item, 1.0).answer == "error"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "output"),
    [("14 17", "14 17"), (" 14 17 \n", "14 17"), ("```\n14 17\n```", "14 17"), ("```text\na\nb\n```", "a\nb"),
     ("```python\n14\n```", "```python\n14\n```"), ("```14```", "```14```"), ("a \nb", "a\nb"), ("", "")],
)  # fmt: skip
def test_only_one_fence_of_plain_text_is_taken_off(text: str, output: str) -> None:
    assert read_output(text) == output


def test_an_answer_is_never_run(tmp_path: object) -> None:
    marker = f"{tmp_path}/ran"
    for code in (f"open({marker!r}, 'w')", f"__import__('pathlib').Path({marker!r}).touch()"):
        for text in (code, f"```python\n{code}\n```", f"<answer>{code}</answer>"):
            assert TASK.score(ScoreRequest("code_output", (), {"output": "14 17"}, text)).reward == 0.0
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


@pytest.mark.parametrize("output", [14, "", " \n"])
def test_a_reference_without_a_text_is_a_failure_of_the_verifier(output: object) -> None:
    with pytest.raises(ValueError, match="code_output reference"):
        TASK.score(ScoreRequest("code_output", (), {"output": output}, "14"))
