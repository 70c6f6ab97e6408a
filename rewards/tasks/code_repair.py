r"""Repair a small Python function that has one slip; the whole corrected function is the answer.

Area: reasoning. Reward type: rule.
Verified: the answer's function returns the right value, type included, on every hidden input; it runs in the sandbox,
the values come out as data and are compared outside.
Known hacks: handing the broken function back, patching it for the visible example alone, ending the process with exit
code 0, objects that claim to equal everything.
Guard: hidden tests tell every broken function from the right one, expected values never enter the sandbox and only
plain data leaves it.
"""

from __future__ import annotations

import random

from data.chat import ParsedCompletion
from data.records import Score
from rewards import code_answers
from rewards.function_specs import MAX_LEVEL, draw_spec, example_text, mistaken_work, reference_of
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """The functions of code_from_spec with one slip: an operation, a number, a bound, a condition or parentheses."""
    spec = draw_spec(rng, difficulty)
    broken = rng.choice(spec.slips)
    question = f"{spec.signature} should {spec.text}. Fix: {broken}"
    if difficulty > 0:
        question = (
            f"The function {spec.signature} should do this: {spec.text}.{example_text(spec)} It has a mistake:\n\n"
            f"{broken}\n\nReply with the whole corrected function alone or in one fenced block."
        )
    return TaskItem(({"role": "user", "content": question},), reference_of(spec), domain="code")


def answer(item: TaskItem) -> str:
    """The solution without a fence."""
    return str(item.reference["solution"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """What the function should do, step by step; a wrong step takes another operation, or leaves a slip in."""
    lines, code = mistaken_work(rng, item, error_rate)
    return Worked("\n".join(lines), code)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Hidden tests in the sandbox; SandboxError when it fails."""
    return code_answers.verify(request, parsed)


_REFERENCE = {"name": "g", "inputs": [[[3, 1, 2]], [[]], [[5]]], "expected": [6, 0, 5]}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _REFERENCE, note=note)


TASK = Task(
    name="code_repair",
    area="reasoning",
    reward_type="rule",
    summary="a broken Python function repaired, run on hidden inputs in a sandbox",
    hack="the broken function again, a patch for the example alone, exit code 0, objects that equal everything",
    guard="hidden tests that tell each slip apart; values compared outside the sandbox",
    generate=generate,
    max_difficulty=MAX_LEVEL,
    verify=verify,
    reference_keys=code_answers.REFERENCE_KEYS,
    answer=answer,
    work=work,
    in_worker=True,
    sandboxed=True,
    timeout_s=code_answers.TIMEOUT_S,
    quick_check=code_answers.quick_check,
    fragments=code_answers.FRAGMENTS,
    known_good=(
        _example("<think>\ntotal += x\n</think>\n\ndef g(xs): return sum(xs)", "after thinking"),
        _example(
            "def g(xs):\n    total = 0\n    for x in xs:\n        total += x\n    return total", "as it was meant"
        ),
        _example("```py\ndef g(xs):\n    return sum(xs)\n```", "in a fence"),
    ),
    known_bad=(
        _example(
            "def g(xs):\n    total = 0\n    for x in xs:\n        total = x\n    return total", "broken as before"
        ),
        _example("def g(xs):\n    return 6 if xs == [3, 1, 2] else 0", "for the example alone"),
        _example(
            "def g(xs):\n    try:\n        return xs[0]\n    except IndexError:\n        return 0", "hides the error"
        ),
        _example("    total += x", "only the line"),
        _example("total = x -> total += x", "a description of the change"),
        _example("def g(xs): return sum(xs) and 0", "constant"),
        _example("import os\ndef g(xs): os._exit(0)", "exit code 0"),
        _example("class E(int):\n    def __eq__(self, o): return True\ndef g(xs): return E()", "equals everything"),
        _example("import os\nwhile True: os.fork()\ndef g(xs): return sum(xs)", "fork bomb"),
        _example("def g(xs):\n    while True: print(xs)", "output without end"),
        _example("def g(xs): return sum(xs)\n\x00", "null byte"),
        _example("def g(xs): return sum(xs) \\boxed{6}", "a box beside it"),
        _example("<think>\ndef g(xs): return sum(xs)", "answer inside unfinished thinking"),
    ),
)
