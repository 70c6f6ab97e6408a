"""Functions of the policy called in the sandbox: values come out as data, and no trick stands in for the right ones."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rewards.code_runner import CallReport, Raised, Returned, _read, call_function, wrong_result

INPUTS, EXPECTED = [[1], [2], [5]], [4, 5, 8]


def _verdict(code: str) -> str | None:
    return wrong_result(call_function(code, "f", INPUTS), EXPECTED)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return x + 3",
        "def f(x):\n    print('noise', x)\n    return x + 3",
        "f = lambda x: x + 3",
        "import math\ndef f(x): return math.floor(x + 3.5)",
        "def f(x): return f(x - 1) + 1 if x else 3",
        "import json, sys\njson.dumps = None\nsys.stdout = None\ndef f(x): return x + 3",
    ],
)
def test_a_right_function_is_right(code: str) -> None:
    assert _verdict(code) is None


TRICKS = {
    "wrong": "def f(x): return x + 4",
    "right on one": "def f(x): return 4",
    "none": "def f(x): pass",
    "float": "def f(x): return float(x + 3)",
    "text": "def f(x): return str(x + 3)",
    "equal to all": "class A:\n    __hash__ = None\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "equal to all, an int": "class A(int):\n    def __eq__(self, other): return True\ndef f(x): return A(0)",
    "other name": "def g(x): return x + 3",
    "ends at once": "import os\nos._exit(0)",
    "ends in the call": "import os\ndef f(x): os._exit(0)",
    "exits": "import sys\nsys.exit(0)",
    "exits in the call": "import sys\ndef f(x): sys.exit(0)",
    "raises": "def f(x): raise KeyError(x)",
    "syntax": "def f(x) return x + 3",
    "null byte": "def f(x): return x + 3\x00",
    "surrogate": "def f(x): return x + 3 # \ud800",
    "prints a result": "print('[\"\", [[true, 4], [true, 5], [true, 8]]]')\nimport os\nos._exit(0)",
    "prints to every file": "import os\nfor n in range(1, 32):\n"
    "    try: os.write(n, b'[\"x\", [[true, 4], [true, 5], [true, 8]]]')\n    except OSError: pass\nos._exit(0)",
    "patches json": "import json\njson.dumps = lambda *a, **k: 'true'\ndef f(x): return 0",
    "patches builtins": "import builtins\nbuiltins.type = lambda v: int\nbuiltins.len = lambda v: 3\n"
    "def f(x): return 0",
    "patches the harness": "import sys\nsys._getframe(1).f_globals['outcome'] = lambda *a: '[true,true]'\n"
    "def f(x): return 0",
    "forges with the nonce": "import sys, os\nframe = sys._getframe(1)\nnonce = frame.f_locals['nonce']\n"
    "line = '[\"' + nonce + '\", [[true, true], [true, true], [true, true]]]'\n"
    "os.write(frame.f_locals['results'], line.encode())\nos._exit(0)",
    "forges and lets the harness go on": "import sys, os\nframe = sys._getframe(1)\nnonce = frame.f_locals['nonce']\n"
    "os.write(frame.f_locals['results'], ('[\"' + nonce + '\", []]').encode())\ndef f(x): return x + 3",
    "looks for the expected values": "import gc\nfound = [o for o in gc.get_objects() if type(o) is list and 8 in o]\n"
    "def f(x): return found[0][[1, 2, 5].index(x)]",
    "never ends": "def f(x):\n    while True: pass",
    "much output": "def f(x):\n    while True: print('x' * 1000)",
    "much memory": "def f(x): return [0] * 10**9",
    "much text": "def f(x): return 'x' * 10**6",
    "deep": "def f(x):\n    value = []\n    for _ in range(10**5): value = [value]\n    return value",
    "contains itself": "def f(x):\n    value = []\n    value.append(value)\n    return value",
    "long number": "def f(x): return 10**10**5",
    "recursion": "def f(x): return f(x)",
    "crash": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "deep source": "def f(x): return " + "(" * 2000 + "x + 3" + ")" * 2000,
    "generator": "def f(x): yield x + 3",
    "class": "class f:\n    def __init__(self, x): self.x = x + 3",
    "thread goes on": "import threading\nthreading.Thread(target=print).start()\ndef f(x): return x + 3",
}  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_earns_nothing(name: str) -> None:
    assert _verdict(TRICKS[name])


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(2**80), 1.5, math.inf, "ä\"\\\n\ud800", [], (), [1, (2, [3.0])], {"a": {1: (2,)}}, {1, 2},
        {(1, 2): None},
    ],
    ids=repr,
)  # fmt: skip
def test_plain_data_comes_out_as_it_is(value: Any) -> None:
    code = f"from math import inf\ndef f(): return {value!r}"
    report = call_function(code, "f", [[]])
    assert report.outcomes == (Returned(value),)
    assert type(report.outcomes[0].value) is type(value)  # type: ignore[union-attr]


def test_arguments_go_in_as_they_are_and_are_new_for_each_call() -> None:
    shared = [1]
    report = call_function("def f(xs, d):\n    xs.append(2)\n    return xs, d", "f", [[shared, {"a": (1, None)}]] * 2)
    assert report.outcomes == (Returned(([1, 2], {"a": (1, None)})),) * 2
    assert shared == [1]


def test_types_count_when_values_are_compared() -> None:
    def right(found: Any, expected: Any) -> bool:
        return wrong_result(CallReport((Returned(found),), "ok"), [expected]) is None

    assert right([1, {"a": "b"}], [1, {"a": "b"}])
    for found, expected in ((1.0, 1), (True, 1), ((1,), [1]), ([1, 2], [1]), ({"a": 1.0}, {"a": 1}), (None, 0)):
        assert not right(found, expected)


@pytest.mark.parametrize(
    "line",
    [
        "", "null", "[]", '["n"]', '["m", [[true, 1]]]', '["n", [[true, 1], [true, 1]]]', '["n", [[true, {"a": 1}]]]',
        '["n", [[true, 1.5]]]', '["n", [[true, [1]]]]', '["n", [[true, ["x", []]]]]',
        '["n", [[true, ["set", [["list", []]]]]]]',
        '["n", [[true, ["dict", [[1]]]]]]', '["n", [[true, ["float", "x"]]]]', '["n", [[true, [[], []]]]]',
        '["n", [[true, NaN]]]', '["n", [[true, 1]]]\n["n", [[true, 1]]]', '["n", [[true, ' + '["list", [' * 900,
        '["n", 5]', '["n", [5]]', "\x00",
    ],
)  # fmt: skip
def test_a_line_that_the_harness_does_not_write_is_no_result(line: str) -> None:
    assert _read(line.encode(), "n", 1) is None


def test_lines_of_the_harness_are_read() -> None:
    assert _read(b'["n", [[true, ["list", [1]]], [false, "KeyError"]]]\n', "n", 2) == (
        Returned([1]),
        Raised("KeyError"),
    )
    assert _read(b"\xff", "n", 1) is None
