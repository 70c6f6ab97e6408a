"""Scores HumanEval: a function against the published asserts, which run outside the sandbox it runs in.

Area: reasoning. Reward type: rule.
Verified: the problem's own `check`, in three sandboxes (arXiv 2107.03374, section 2.2, pass@1).
Known hacks: HumanEval's asserts stand around calls, `assert candidate(2) == 4`, so that code which runs beside them can
answer for them: exit code 0, objects that equal everything, patched asserts.
Guard: code and asserts never share a process.

1. The test runs with the published solution, and the arguments of each call are noted.
2. The code under test is called on these arguments; what it returns comes out as plain data.
3. The test runs again, each call being answered with the value that came out.

The dataset's own code runs in sandboxes too, since a downloaded file is nobody's promise. A verdict holds for the
recorded arguments: a test that asks something else the second time is an error, not a wrong answer. Messages of asserts
are taken out of the test first (`without_messages`).

Departures: an answer is a chat message, so the last fenced block that defines the function is taken (the harness, made
for completions, takes the text as it is, and so does this one without a fence); a function that returns what is no
plain data fails; 3 processor seconds for all calls, as published, with more on the clock.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.code_answers import fenced_blocks
from rewards.code_runner import Returned, call_function
from rewards.extract import published_refusal
from rewards.sandbox import MIB, SandboxLimits
from rewards.task import Example, ScoreRequest, Task, evaluation_only

LIMITS = SandboxLimits(cpu_s=3, wall_s=20.0, output_bytes=1 * MIB)
TIMEOUT_S = 150.0

_RECORD = """
def _record(name):
    import copy, random
    random.seed(0)
    calls = []
    function = globals()[name]
    def record(*arguments):
        calls.append(copy.deepcopy(list(arguments)))
        return function(*arguments)
    check(record)
    return calls
"""

_REPLAY = """
class _Asked(BaseException):
    pass

def _replay(calls, outcomes):
    import random
    random.seed(0)
    answers = iter(zip(calls, outcomes))
    def replay(*arguments):
        call, (returned, value) = next(answers, (None, (False, "")))
        if call is None or list(arguments) != call:
            raise _Asked()
        if not returned:
            raise RuntimeError(value)
        return value
    try:
        check(replay)
    except _Asked:
        return "asked"
    except BaseException:
        return "failed"
    return "passed" if next(answers, None) is None else "asked"
"""


def program_of(answer: str, problem: Mapping[str, str]) -> str:
    """The whole program that an answer stands for: the prompt, whose imports and helpers it may use, and its code.

    The code is the last fenced block that defines the function, else the last one, else the whole answer; code that
    does not define the function continues the prompt, as completions of a base model do.
    """
    blocks = fenced_blocks(answer)
    defines = re.compile(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(problem['entry_point'])}\b", re.MULTILINE)
    defining = [block for block in blocks if defines.search(block)]
    code = (defining or blocks or [answer])[-1]
    # The prompt ends in the docstring of the function, so it is complete by itself and is then defined again.
    return f"{problem['prompt']}\n\n{code}\n" if defines.search(code) else f"{problem['prompt']}{code}\n"


@functools.lru_cache(maxsize=256)
def without_messages(test: str) -> str:
    """A test whose asserts say nothing when they fail.

    A message is made after its assert has failed, and some call the function once more to show what came out: a call
    that nothing is recorded for, and that decides nothing. Raises ValueError for a test that is no Python.
    """
    try:
        tree = ast.parse(test)
    except SyntaxError as error:
        raise ValueError(f"the test is no Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            node.msg = None
    return ast.unparse(tree)


@functools.lru_cache(maxsize=256)
def recorded_calls(problem_json: str) -> tuple[Any, ...]:
    """The arguments of each call that a problem's test makes. ValueError for a test that its own solution fails."""
    problem = json.loads(problem_json)
    code = f"{problem['prompt']}{problem['canonical_solution']}\n{without_messages(problem['test'])}\n{_RECORD}"
    report = call_function(code, "_record", [[problem["entry_point"]]], limits=LIMITS)
    outcome = report.outcomes[0] if report.outcomes else None
    if not isinstance(outcome, Returned):
        reason = outcome.error if outcome else report.reason
        raise ValueError(f"the test of {problem['entry_point']} cannot be recorded: {reason}")
    return tuple(outcome.value)


def failure(program: str, problem: Mapping[str, str]) -> str | None:
    """Why a program fails the problem's test, None when it passes.

    Raises SandboxError when the sandbox fails, ValueError when the test cannot be recorded or asks something new.
    """
    calls = list(recorded_calls(json.dumps(dict(problem), sort_keys=True)))
    report = call_function(program, problem["entry_point"], calls, limits=LIMITS)
    if report.outcomes is None:
        return report.reason
    outcomes = [
        (True, outcome.value) if isinstance(outcome, Returned) else (False, outcome.error)
        for outcome in report.outcomes
    ]
    code = f"{problem['prompt']}{problem['canonical_solution']}\n{without_messages(problem['test'])}\n{_REPLAY}"
    replayed = call_function(code, "_replay", [[calls, outcomes]], limits=LIMITS)
    verdict = replayed.outcomes[0] if replayed.outcomes else None
    if not isinstance(verdict, Returned) or verdict.value == "asked":
        raise ValueError(f"the test of {problem['entry_point']} cannot be replayed: {verdict or replayed.reason}")
    return None if verdict.value == "passed" else "an assert of the published test fails"


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Run the published test. See `failure` for what raises."""
    if not parsed.answer.strip():
        return Score.incorrect("no code")
    problem = {name: request.reference[name] for name in TASK.reference_keys}
    wrong = failure(program_of(parsed.answer, problem), problem)
    return Score.correct() if wrong is None else Score.incorrect(wrong)


_PROBLEM = {
    "prompt": 'import math\n\ndef half(n):\n    return n / 2\n\ndef root(n: int) -> int:\n    """Integer root."""\n',
    "entry_point": "root",
    "canonical_solution": "    return math.isqrt(n)\n",
    "test": "def check(candidate):\n    assert candidate(16) == 4\n    assert candidate(17) == 4\n",
}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _PROBLEM, note=note)


TASK = Task(
    name="human_eval",
    area="reasoning",
    reward_type="rule",
    summary="a function that passes the published asserts",
    hack="exit code 0, objects that equal everything, patched asserts",
    guard="asserts and code under test never share a process",
    generate=evaluation_only("human_eval"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("prompt", "entry_point", "canonical_solution", "test"),
    in_worker=True,
    sandboxed=True,
    timeout_s=TIMEOUT_S,
    refuse=published_refusal,
    known_good=(
        _example("<think>\nisqrt\n</think>\n\n```python\ndef root(n):\n    return math.isqrt(n)\n```", "in a fence"),
        _example("    return int(half(2 * n) ** 0.5)", "a bare body that uses the prompt's helper"),
        _example("def root(n: int) -> int:\n    return int(n ** 0.5)", "a whole function without a fence"),
        _example(
            "```python\ndef root(n):\n    return int(n ** 0.5)\n```\nTry it:\n```python\nprint(root(9))\n```",
            "a block that calls it comes after the one that defines it",
        ),
    ),
    known_bad=(
        _example("```python\ndef root(n):\n    return 4 if n == 16 else 5\n```", "wrong on one assert"),
        Example(
            "```python\ndef root(n):\n    return 5\n```",
            _PROBLEM | {"test": "def check(candidate):\n    assert candidate(16) == 4, str(candidate(15))\n"},
            note="a test whose message calls the function",
        ),
        _example("```python\ndef root(n):\n    import os\n    os._exit(0)\n```", "exit code 0"),
        _example(
            "```python\ndef root(n):\n    return type('E', (), {'__eq__': lambda s, o: True})()\n```",
            "equals everything",
        ),
        _example("```python\ndef square(n):\n    return n * n\n```", "another function"),
        _example("```python\ndef root(n):\n    while True: pass\n```", "never ends"),
        _example("```python\ndef root(n) return n\n```", "no Python"),
        _example("", "empty"),
        _example("<think>\n    return math.isqrt(n)", "inside unfinished thinking"),
    ),
)
