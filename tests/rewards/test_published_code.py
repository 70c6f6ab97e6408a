"""Code in the answers to LiveCodeBench and HumanEval: what is taken, and how outputs are compared. No sandbox runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.benchmark_tasks.human_eval import program_of, without_messages
from rewards.benchmark_tasks.program_tests import IMPORTS, same_output
from rewards.code_answers import fenced_blocks, last_fenced_block


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3\n", "3", True),
        ("3 \n 4\n\n", "3\n4", True),
        ("3\n\n4", "3\n4", False),
        ("1.50 2", "1.5 2.0", True),
        ("1.5000001", "1.5", False),
        ("10000000000000000000001", "10000000000000000000000", False),
        ("1e3", "1000", True),
        ("YES", "Yes", False),
        ("1 2", "1 2 3", False),
        ("", "", True),
        ("nan", "nan", True),
        ("1\r\n2", "1\n2", True),
    ],
)
def test_outputs_are_compared_line_by_line_as_text_or_decimals(printed: str, expected: str, same: bool) -> None:
    assert same_output(printed, expected) is same


@given(st.text(), st.text(alphabet=" \n\t", max_size=4), st.text(alphabet=" \n\t", max_size=4))
def test_outer_blanks_never_matter(text: str, before: str, after: str) -> None:
    assert same_output(before + text + after, text)


@given(st.text(alphabet="1.e- nIS\n", max_size=20), st.text(alphabet="1.e- nIS\n", max_size=20))
def test_no_output_makes_the_comparison_fail_and_it_is_symmetric(one: str, other: str) -> None:
    assert same_output(one, other) is same_output(other, one)


@pytest.mark.parametrize(
    ("answer", "blocks", "last"),
    [
        ("```python\na\n```", ["a"], "a"),
        ("text\n```\na\nb\n```\nmore\n```py\nc\n```", ["a\nb", "c"], "c"),
        ("```python\na", [], None),
        ("```\na\n```\n```python\nb", ["a"], ""),
        ("a", [], None),
        ("say ``` here\n```\na\n```", ["a"], "a"),
    ],
)
def test_blocks_between_fences(answer: str, blocks: list[str], last: str | None) -> None:
    assert fenced_blocks(answer) == blocks
    assert last_fenced_block(answer) == last


PROBLEM = {"prompt": 'import math\n\ndef root(n):\n    """Root."""\n', "entry_point": "root"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("    return 1", f"{PROBLEM['prompt']}    return 1\n"),
        ("def root(n):\n    return 1", f"{PROBLEM['prompt']}\n\ndef root(n):\n    return 1\n"),
        ("```python\ndef root(n): return 1\n```\n```\nroot(2)\n```", f"{PROBLEM['prompt']}\n\ndef root(n): return 1\n"),
        ("```\ndef roots(n): return 1\n```", f"{PROBLEM['prompt']}def roots(n): return 1\n"),
    ],
)
def test_an_answer_becomes_a_whole_program(answer: str, code: str) -> None:
    assert program_of(answer, PROBLEM) == code


def test_the_imports_of_the_harness_compile_and_are_all_there() -> None:
    compile(IMPORTS, "<imports>", "exec")
    assert IMPORTS.startswith("from string import *\nfrom re import *\n")
    assert IMPORTS.endswith("import json\nsys.setrecursionlimit(50000)\n")
    assert IMPORTS.count("\n") == 18 + 16 + 1


def test_messages_of_asserts_are_taken_out_and_nothing_else() -> None:
    test = 'def check(f):\n    assert f(1) == 2, "got " + str(f(1))\n    for n in (3, 4):\n        assert f(n)\n'
    assert without_messages(test) == "def check(f):\n    assert f(1) == 2\n    for n in (3, 4):\n        assert f(n)"
    with pytest.raises(ValueError, match="the test is no Python"):
        without_messages("def check(f):\n    assert\n")
