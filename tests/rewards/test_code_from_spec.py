"""Functions from a sentence: what counts as the code of an answer, and prompts within a tiny model's reach."""

from __future__ import annotations

import pytest

from rewards.code_answers import MAX_CODE_CHARS, extract_code
from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("code_from_spec")


def test_level_0_reads_as_a_short_sentence() -> None:
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    question = prompt.messages[-1]["content"]
    assert question.startswith("Write ")
    assert len(question) <= 60
    assert item_of(prompt).reference["solution"].startswith("def ")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def f(x): return x", "def f(x): return x"),
        ("```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x"),
        ("So:\n```\nx = 1\n```\nDone", "x = 1"),
        ("```\na\n```\n```\nb\n```", None),
        ("```python\ndef f(x): return x", None),
        ("`` x ```", None),
        ("``````", None),
    ],
)
def test_the_code_is_the_whole_answer_or_the_one_block(text: str, code: str | None) -> None:
    assert extract_code(text) == code


def test_what_defines_no_function_never_reaches_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("the sandbox was used")

    monkeypatch.setattr("rewards.code_answers.call_function", refuse)
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    name = prompt.reference["name"]
    for text in ("I do not know.", f"  def {name}(x): return 1", f"{name}(1)", f"def {name}2(x): return 1",
                 f"def {name}(x): return 1 #" + "x" * MAX_CODE_CHARS, "```\nx\n```\n```\ny\n```"):  # fmt: skip
        assert TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, text)).reward == 0.0


def test_a_sandbox_that_fails_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from rewards.sandbox import SandboxError

    def fail(*arguments: object, **more: object) -> None:
        raise SandboxError("cannot start")

    monkeypatch.setattr("rewards.code_runner.run_python", fail)
    prompt = make_prompt(TASK, seed=0, index=0, difficulty=0)
    with pytest.raises(SandboxError):
        TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, prompt.reference["solution"]))


def test_the_same_function_written_otherwise_is_right() -> None:
    prompt = make_prompt(TASK, seed=0, index=1, difficulty=0)
    solution = prompt.reference["solution"]
    name, argument, expression = solution[4], solution[6], solution.partition("return ")[2]
    for text in (
        f"{name} = lambda {argument}: {expression}",
        f"import math\n\ndef {name}(y):\n    {argument} = y\n    result = {expression}\n    return result",
        f"class Box:\n    pass\n\ndef {name}({argument}):\n    return sum([{expression}])",
    ):
        assert TASK.score(ScoreRequest(TASK.name, prompt.messages, prompt.reference, text)).reward == 1.0


def test_a_helper_that_is_used_is_welcome_and_a_second_answer_is_not() -> None:
    reference = {"name": "f", "inputs": [[1], [2]], "expected": [4, 5]}
    right = "def f(x): return x+3"
    cases = {
        "def add(x): return x+3\n\ndef f(x): return add(x)": 1.0,
        "K = 3\n\ndef f(x): return x+K": 1.0,
        f"def g(x): return x+4\n{right}": 0.0,
        f"{right}\ndef g(n): return n*2": 0.0,
        f"def f(x): return x\n{right}": 0.0,
        f"{right}\nf = f": 0.0,
        f"{right}\nanswer = 4": 0.0,
    }
    for code, reward in cases.items():
        assert (
            TASK.score(ScoreRequest(TASK.name, ({"role": "user", "content": "?"},), reference, code)).reward == reward
        )
