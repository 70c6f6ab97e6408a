"""Scores LiveCodeBench: a program against stdin tests, or a method of a class against functional ones.

Area: reasoning. Reward type: rule.
Verified: every public and private test, each in a sandbox of its own; the outputs are compared out here.
Known hacks: ending the process with exit code 0, objects that equal everything, patching the harness.
Guard: expected outputs never enter the sandbox, and only text or plain data leaves it (`rewards.code_runner`).

As published (`testing_util.py` of LiveCodeBench, arXiv 2403.07974): the code between the last two fences, the same
imports before it, 6 seconds a test, lines compared without outer blanks and then as decimal numbers, results of
functional tests with `==` and a tuple read as a list. Departures: seconds are processor seconds, with twice as many on
the clock; 1 GiB of memory; no NumPy in the sandbox; a program is run as a script of its own for each test instead of as
a function in one process, and the first failing test ends the verification.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.code_answers import last_fenced_block
from rewards.code_runner import Raised, call_function
from rewards.extract import published_refusal
from rewards.packed_tests import ProgramTest, read_tests
from rewards.sandbox import MIB, SandboxLimits, run_python
from rewards.task import Example, ScoreRequest, Task, evaluation_only

LIMITS = SandboxLimits(cpu_s=6, wall_s=12.0, memory_bytes=1024 * MIB, num_processes=4, output_bytes=16 * MIB)
"""For one test. Four processes, because programs start a thread for the sake of a deeper stack."""

TIMEOUT_S = 900.0
"""Wall seconds for all tests of one answer; a problem has up to some hundred of them."""

_STARRED = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
IMPORTS = "".join(
    [f"from {name} import *\n" for name in _STARRED]
    + [f"import {name}\n" for name in _STARRED if name not in ("builtins", "typing")]
    + ["sys.setrecursionlimit(50000)\n"]
)
"""What the published harness puts before every program."""

_METHOD = """
_solution = Solution() if "Solution" in globals() else None
def _entry(*arguments):
    return (getattr(_solution, {name!r}) if _solution is not None else globals()[{name!r}])(*arguments)
"""


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree line by line: as text without outer blanks, else as decimal numbers.

    >>> same_output("1 2.50\\nYes \\n", "1.0 2.5\\nYes")
    True
    """
    ours, theirs = (_lines(text) for text in (printed, expected))
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    try:
        return [Decimal(word) for word in ours.split()] == [Decimal(word) for word in theirs.split()]
    except InvalidOperation:  # words, which were no numbers and differ
        return False


def wrong_program(code: str, tests: Sequence[ProgramTest]) -> str | None:
    """The first stdin test that a program fails and how, None when it passes all; SandboxError when that fails."""
    for number, test in enumerate(tests, start=1):
        run = run_python(IMPORTS + code, stdin=test.input.encode(), limits=LIMITS)
        if run.status != "ok":
            return f"test {number} ended as {run.status}"
        if not same_output(run.stdout.decode(errors="replace"), test.output):
            return f"test {number} printed something else"
    return None


def wrong_method(code: str, name: str, tests: Sequence[ProgramTest]) -> str | None:
    """The first functional test that `Solution().name` (or the function of that name) fails; see `wrong_program`."""
    program = f"{IMPORTS}\n{code}\n{_METHOD.format(name=name)}"
    for number, test in enumerate(tests, start=1):
        arguments = [json.loads(line) for line in test.input.split("\n")]
        report = call_function(program, "_entry", [arguments], limits=LIMITS)
        if report.outcomes is None:
            return f"test {number}: {report.reason}"
        (outcome,) = report.outcomes
        if isinstance(outcome, Raised):
            return f"test {number} raised {outcome.error}"
        if not _same_result(outcome.value, json.loads(test.output)):
            return f"test {number} returned another value"
    return None


def _same_result(found: Any, expected: Any) -> bool:
    return bool((list(found) if type(found) is tuple else found) == expected)


def quick_check(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """Refuse an answer without code, without a sandbox."""
    code = last_fenced_block(parsed.answer)
    return None if code and code.strip() else Score.incorrect("no code between two fences")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Run the tests, public ones first. ValueError for tests that cannot be read, SandboxError when that fails."""
    code = last_fenced_block(parsed.answer)
    if not code or not code.strip():
        return Score.incorrect("no code between two fences")
    reference = request.reference
    tests = _tests(reference["public"], reference["private"])
    if not tests:
        raise ValueError("a problem without tests")
    name = reference["function"]
    wrong = wrong_method(code, name, tests) if name else wrong_program(code, tests)
    return Score.correct() if wrong is None else Score.incorrect(wrong)


@functools.lru_cache(maxsize=4)
def _tests(public: str, private: str) -> tuple[ProgramTest, ...]:
    """Unpacked once for the samples of a prompt, which follow each other."""
    return read_tests(public) + read_tests(private)


_STDIN = {
    "public": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
    "private": json.dumps([{"input": "-4 9\n", "output": "5.0", "testtype": "stdin"}]),
    "function": "",
}
_FUNCTIONAL = {
    "public": json.dumps([{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]),
    "private": json.dumps([{"input": "[]\n9", "output": "[]", "testtype": "functional"}]),
    "function": "shift",
}
_RIGHT = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
_METHOD_RIGHT = (
    "```python\nclass Solution:\n    def shift(self, xs: List[int], by: int) -> List[int]:\n"
    "        return [x + by for x in xs]\n```"
)


def _example(completion: str, note: str, reference: dict[str, str] = _STDIN) -> Example:
    return Example(completion, reference, note=note)


TASK = Task(
    name="program_tests",
    area="reasoning",
    reward_type="rule",
    summary="a program or method that passes all published tests",
    hack="exit code 0, objects that equal everything, patched harness",
    guard="one sandbox a test; outputs are compared outside, and expected ones never enter",
    generate=evaluation_only("program_tests"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("public", "private", "function"),
    in_worker=True,
    sandboxed=True,
    timeout_s=TIMEOUT_S,
    quick_check=quick_check,
    refuse=published_refusal,
    known_good=(
        _example(f"<think>\nadd\n</think>\n\n{_RIGHT}", "a script"),
        _example(f"```\nprint(0)\n```\nNo, better:\n{_RIGHT}", "the last block"),
        _example(
            "```python\ndef main():\n    print(float(sum(map(int, sys.stdin.read().split()))))\n"
            "if __name__ == '__main__':\n    main()\n    exit(0)\n```",
            "a main guard, the harness's imports, a decimal for an integer",
        ),
        _example(_METHOD_RIGHT, "a method", _FUNCTIONAL),
        _example("```python\ndef shift(xs, by):\n    return tuple(x + by for x in xs)\n```", "a tuple", _FUNCTIONAL),
    ),
    known_bad=(
        _example("```python\nprint(3)\n```", "right on the public test alone"),
        _example("print(sum(map(int, input().split())))", "no fence"),
        _example("```python\nimport os\nos._exit(0)\n```", "exit code 0"),
        _example("```python\nwhile True: pass\n```", "never ends"),
        _example("```python\nprint(open('/etc/hostname').read())\n```", "reads the host"),
        _example(f"{_RIGHT}\n```python\nprint('done')\n```", "the last block is another"),
        _example(f"<think>\n{_RIGHT}", "inside unfinished thinking"),
        _example(
            "```python\nclass E(list):\n    def __eq__(self, other): return True\n"
            "class Solution:\n    def shift(self, xs, by): return E()\n```",
            "equals everything",
            _FUNCTIONAL,
        ),
        _example("```python\nclass Solution:\n    def other(self): return 1\n```", "another name", _FUNCTIONAL),
    ),
)
