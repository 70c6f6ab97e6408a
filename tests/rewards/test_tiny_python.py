"""The interpreter prints what Python prints, on every template; it refuses the rest and always ends."""

from __future__ import annotations

import contextlib
import io
import random

import pytest

from rewards.program_templates import LEVELS
from rewards.tiny_python import CannotRun, run


def _python(program: str) -> str:
    """What Python itself prints; the program is one of our own templates."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "template", "exec"), {})
    return printed.getvalue().rstrip("\n")


@pytest.mark.parametrize("template", LEVELS, ids=lambda template: template.__name__)
def test_the_interpreter_agrees_with_python_on_generated_programs(template: object) -> None:
    ended = 0
    for seed in range(150):
        program = template(random.Random(seed))  # type: ignore[operator]
        try:
            expected = _python(program)
        except (IndexError, ZeroDivisionError):
            with pytest.raises(CannotRun):
                run(program)
            continue
        assert run(program) == expected, program
        ended += 1
    assert ended >= 140


@pytest.mark.parametrize(
    "program",
    [
        "x = 3\nprint(x if x > 2 else -x, x == 3, 3 in [1, 3])",
        'd = {"a": 1}\nd["b"] = d.get("c", 5)\nd["a"] += 2\nprint(d, len(d))',
        "n = [3, 1, 2]\nn.pop()\nn.append(7)\nprint(sorted(n), n[-1], n[::2], sum([k * k for k in n if k != 1]))",
        "def f(a):\n    a = a + y\n    return a\ny = 4\nprint(f(1), y, abs(-2), min(2, 1), -7 // 2, -7 % 3)",
        "def nothing(a):\n    a += 1\nprint(nothing(1))",
        "i = 0\nwhile i < 3:\n    i += 1\n    print(i)",
    ],
)
def test_the_interpreter_agrees_with_python_on_programs_by_hand(program: str) -> None:
    assert run(program) == _python(program)


@pytest.mark.parametrize(
    "program",
    ["import os", "print(x)", "print(1 / 2)", "print(2 ** 3)", "open('f')", "x = [1]\nprint(x[3])", "print(1 // 0)",
     "while 1 > 0:\n    x = 1", "def f(n):\n    return f(n)\nprint(f(1))", "x = 'a'.__class__", "(", "a, b = 1, 2",
     "x = 9\nfor i in range(300):\n    x = x * x", "x = [1]\nfor i in range(90):\n    x = x + x", "print(1 < 'a')",
     "print('a'.format())", "lambda: 1", "print(sum(range(10000000)))", "print('a' * 1000000)", "print('%9d' % 1)",
     "return 1",
     "print(1 < 2 < 3)", "a = b = 1", "print(sorted([1, 2], reverse=True))", "(lambda: 1)()",
     "for i in range(2):\n    print(i)\nelse:\n    print(9)"],
)  # fmt: skip
def test_other_programs_are_refused_and_none_runs_for_ever(program: str) -> None:
    with pytest.raises(CannotRun):
        run(program)


def test_assigned_values_can_be_seen_and_replaced() -> None:
    seen = []

    def one_more(name: str, value: int) -> int:
        seen.append((name, value))
        return value + 1

    assert run("a = 1\na += 2\nprint(a)", one_more) == "5"
    assert seen == [("a", 1), ("a", 4)]
