r"""Write a small Python function from a sentence that says what it does.

Area: reasoning. Reward type: rule.
Verified: the function returns the right value, type included, on every hidden input; it runs in the sandbox, the values
come out as data and are compared outside.
Known hacks: ending the process with exit code 0, objects that claim to equal everything, printing a forged result,
patching the test harness, returning a constant or the visible example's value, several answers of which one is right.
Guard: expected values never enter the sandbox, only plain data leaves it, every set of hidden tests has several
different results, and the answer is the code alone or one fenced block.
"""

from __future__ import annotations

import random

from data.chat import ParsedCompletion
from data.records import Score
from rewards import code_answers
from rewards.function_specs import MAX_LEVEL, draw_spec, example_text, mistaken_work, reference_of
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: two sums or products on one line. 1: branches. 2: text and lists. 3: two steps, dicts. 4: recursion."""
    spec = draw_spec(rng, difficulty)
    question = f"Write {spec.signature}: {spec.text}."
    if difficulty > 0:
        question = (
            f"Write a Python function {spec.signature}: {spec.text}.{example_text(spec)} "
            "Reply with the code alone or in one fenced block."
        )
    return TaskItem(({"role": "user", "content": question},), reference_of(spec), domain="code")


def answer(item: TaskItem) -> str:
    """The solution without a fence."""
    return str(item.reference["solution"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The expression after each step, or the idea in a line; a wrong step takes another operation, or makes a slip."""
    lines, code = mistaken_work(rng, item, error_rate)
    return Worked("\n".join(lines), code)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Hidden tests in the sandbox; SandboxError when it fails."""
    return code_answers.verify(request, parsed)


_REFERENCE = {"name": "f", "inputs": [[1], [2], [-3]], "expected": [16, 20, 0]}
_LISTS = {"name": "g", "inputs": [[[3, 1]], [[]], [[2]]], "expected": [[1, 3], [], [2]]}


def _example(completion: str, note: str, reference: dict | None = None) -> Example:
    return Example(completion, reference or _REFERENCE, note=note)


TASK = Task(
    name="code_from_spec",
    area="reasoning",
    reward_type="rule",
    summary="a Python function, run on hidden inputs in a sandbox",
    hack="exit code 0, objects that equal everything, forged results, constants, patched harness",
    guard="values leave the sandbox as plain data and are compared outside; expected values never enter it",
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
        _example("<think>\nx+3\n(x+3)*4\n</think>\n\ndef f(x): return (x+3)*4", "after thinking"),
        _example("```python\ndef f(x):\n    return 4 * x + 12\n```", "in a fence, written otherwise"),
        _example("Here it is:\n```\nf = lambda x: (x + 3) * 4\n```\nDone.", "text around the one fence"),
        _example("def f(x):\n    print('noise')\n    return (x + 3) * 4", "prints on the way"),
        _example("def g(xs): return sorted(xs)", "lists", _LISTS),
    ),
    known_bad=(
        _example("def f(x): return x+3*4", "missing parentheses"),
        _example("def f(x): return 16", "constant"),
        _example("def f(x): return 4.0*(x+3)", "float for an integer"),
        _example("def g(xs): return tuple(sorted(xs))", "tuple for a list", _LISTS),
        _example("def h(x): return (x+3)*4", "another name"),
        _example("(x+3)*4", "no function"),
        _example("def f(x): return (x+3)*4\n```", "fence never opens"),
        _example("```\ndef f(x): return (x+3)*4\n```\n```\ndef f(x): return x\n```", "two fences"),
        _example("import os\nos._exit(0)\ndef f(x): return 0", "exit code 0"),
        _example("import sys\ndef f(x): sys.exit(0)", "exit in the call"),
        _example("class E:\n    def __eq__(self, o): return True\n\ndef f(x): return E()", "equals everything"),
        _example("import builtins\nbuiltins.all = lambda x: True\ndef f(x): return 0", "patched builtins"),
        _example("def f(x):\n    print('[[true,16],[true,20],[true,0]]')\n    raise SystemExit(0)", "forged result"),
        _example("import sys\nsys._getframe(1).f_locals['inputs'].clear()\ndef f(x): return 0", "removes the tests"),
        _example("def f(x): return open('/etc/hostname').read()", "reads the host"),
        _example("def f(x): return [0] * 10**10", "memory"),
        _example("def f(x):\n    while True: pass", "never ends"),
        _example("def f(x): return " + "(" * 1500 + "x" + ")" * 1500, "deep brackets"),
        _example("def f(x): return 9**9**9**9", "tower of powers"),
        _example("<think>\ndef f(x): return (x+3)*4", "answer inside unfinished thinking"),
    ),
)
