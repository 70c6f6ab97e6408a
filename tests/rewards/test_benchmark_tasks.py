"""What every scorer of a published benchmark owes: its examples, no reward for nothing, and errors kept apart."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Message, UserError
from rewards.extract import MAX_PUBLISHED_CHARS
from rewards.registry import all_tasks, benchmark_tasks, get_task, load_user_task
from rewards.task import Example, ScoreRequest, Task
from rewards.verifier_pool import VerifierPool

TASKS = benchmark_tasks()
PER_TASK = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
PER_EXAMPLE = [
    pytest.param(task, example, index < len(task.known_good), id=f"{task.name}-{example.note}",
                 marks=[pytest.mark.integration] if task.sandboxed else [])
    for task in TASKS
    for index, example in enumerate(task.known_good + task.known_bad)
]  # fmt: skip
UNBOXED = [task for task in TASKS if not task.sandboxed and task.environment is None]
"""Scorers that cost no sandbox."""


def test_the_scorers_are_found_and_are_no_reward_tasks() -> None:
    assert [task.name for task in TASKS] == [
        "bfcl", "boxed_math", "human_eval", "ifeval", "multi_if", "multiple_choice", "program_tests",
    ]  # fmt: skip
    assert not {task.name for task in TASKS} & {task.name for task in all_tasks()}
    assert all(get_task(task.name) is task for task in TASKS)


@PER_TASK
def test_the_docstring_says_what_is_verified_and_how_it_is_cheated(task: Task) -> None:
    docstring = sys.modules[task.verify.__module__].__doc__ or ""
    for part in (f"Area: {task.area}.", "Reward type: rule", "Verified: ", "Known hack", "Guard: ", "epartures"):
        assert part in docstring or (part == "epartures" and "Departure:" in docstring), (task.name, part)
    assert len(task.known_good) >= 3
    assert len(task.known_bad) >= 4


@pytest.mark.parametrize(("task", "example", "is_good"), PER_EXAMPLE)
def test_examples_get_their_verdict(task: Task, example: Example, is_good: bool) -> None:
    assert set(task.reference_keys) <= example.reference.keys()
    assert task.score(example.request(task.name)).reward == (1.0 if is_good else 0.0)


@PER_TASK
def test_an_aborted_generation_is_an_error_and_no_wrong_answer(task: Task) -> None:
    request = dataclasses.replace(task.known_good[0].request(task.name), finish_reason="abort")
    assert task.score(request).outcome == "error"
    failed = dataclasses.replace(task.known_good[0].request(task.name), ended="environment error: ValueError: x")
    assert task.score(failed).outcome == "error"


@pytest.mark.parametrize("task", UNBOXED, ids=[task.name for task in UNBOXED])
def test_a_right_answer_that_was_cut_off_or_stays_in_thinking_is_wrong(task: Task) -> None:
    request = task.known_good[0].request(task.name)
    assert task.score(dataclasses.replace(request, finish_reason="length")).reason == "truncated"
    answer = request.completion.rpartition("</think>")[2]
    assert task.score(dataclasses.replace(request, completion=f"<think>\n{answer}")).reward == 0.0
    too_long = "x " * (MAX_PUBLISHED_CHARS // 2) + answer
    assert task.score(dataclasses.replace(request, completion=too_long)).reason == "answer is too long"


@pytest.mark.parametrize("task", UNBOXED, ids=[task.name for task in UNBOXED])
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=80) | st.text(alphabet='\\{}boxed"answer:<tool_call>[],. AC1', max_size=80))
def test_no_text_makes_a_scorer_fail(task: Task, text: str) -> None:
    request = dataclasses.replace(task.known_good[0].request(task.name), completion=text)
    decided = task.decide_inline(request)  # what is left to the algebra system is `math`'s to survive
    assert decided is None or decided.outcome in ("correct", "incorrect")


def test_a_user_may_not_take_the_name_of_a_scorer(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import dataclasses\nfrom rewards.registry import get_task\n"
        "TASK = dataclasses.replace(get_task('arithmetic'), name='ifeval')\n"
    )
    with pytest.raises(UserError, match="'ifeval', which is taken"):
        load_user_task(tmp_path / "mine.py")


@pytest.mark.integration
def test_the_worker_processes_know_the_scorers() -> None:
    messages: tuple[Message, ...] = ({"role": "user", "content": "Q"},)
    requests = [
        ScoreRequest("boxed_math", messages, {"answer": "\\frac{\\sqrt{3}}{3}"}, "\\boxed{\\frac{1}{\\sqrt{3}}}"),
        ScoreRequest("boxed_math", messages, {"answer": "\\frac{\\sqrt{3}}{3}"}, "\\boxed{\\sqrt{3}}"),
    ]
    with VerifierPool(num_workers=1, timeout_s=20.0) as pool:
        assert [score.outcome for score in pool.score_all(requests) if score] == ["correct", "incorrect"]
