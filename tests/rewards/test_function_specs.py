"""Generated functions: the solutions are what the words say, and hidden tests tell every slip and constant apart."""

from __future__ import annotations

import random

import pytest

from rewards.function_specs import (
    MAX_LEVEL,
    _expressions,
    draw_spec,
    example_text,
    mistaken_work,
    outputs,
    reference_of,
)
from rewards.function_templates import TEMPLATES
from rewards.strict_json import strictly_equal
from rewards.task import TaskItem

LEVELS = range(MAX_LEVEL + 1)


@pytest.mark.parametrize("level", LEVELS)
def test_no_constant_and_no_slip_passes_the_hidden_tests(level: int) -> None:
    for index in range(150):
        spec = draw_spec(random.Random(f"{level}/{index}"), level)
        reference = reference_of(spec)
        expected = reference["expected"]
        assert not any(str(value).startswith("raises") for value in expected), spec
        assert outputs(spec.solution, spec.name, reference["inputs"]) == expected
        for value in expected:
            assert not all(strictly_equal(value, other) for other in expected)
        for slip in spec.slips:
            assert slip != spec.solution
            assert not strictly_equal(outputs(slip, spec.name, reference["inputs"]), expected), (spec.text, slip)


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([("+", 3), ("*", 4)], "(x+3)*4"),
        ([("*", 4), ("+", 3)], "x*4+3"),
        ([("-", 2), ("*", 6), ("-", 9)], "(x-2)*6-9"),
        ([("*", 2), ("-", 5), ("*", 3)], "(x*2-5)*3"),
        ([("+", 2), ("*", 5), ("*", 3)], "(x+2)*5*3"),
    ],
)
def test_chains_mean_what_they_say(steps: list[tuple[str, int]], code: str) -> None:
    assert _expressions("x", steps)[-1] == code
    value = 7
    for operator, number in steps:
        value = {"+": value + number, "-": value - number, "*": value * number}[operator]
    assert outputs(f"def f(x): return {code}", "f", [[7]]) == [value]


def test_the_words_of_a_chain_are_its_steps() -> None:
    for index in range(100):
        spec = draw_spec(random.Random(index), 0)
        words = {"+": "add", "-": "subtract", "*": "multiply by"}
        assert spec.text == ", then ".join(f"{words[operator]} {number}" for operator, number in spec.steps)
        assert spec.solution.endswith(_expressions(spec.signature[2], spec.steps)[-1])


BY_HAND = {
    "n limited to": ({"a": 1, "b": 4}, [([0], 1), ([3], 3), ([9], 4)]),
    "the list rotated": ({"a": 2}, [([[1, 2, 3]], [3, 1, 2]), ([[]], [])]),
    "the running sums": ({"a": 2}, [([[1, 2]], [3, 5]), ([[]], [])]),
    "the list cut into": ({"a": 2}, [([[1, 2, 3]], [[1, 2], [3]]), ([[]], [])]),
    "the text with each letter": ({"a": 3}, [(["az"], "dc")]),
    "a dict from each word": ({"a": 2}, [([["a", "b", "a"]], {"a": 2})]),
    "the letter that occurs": ({}, [(["abba"], "a"), ([""], "")]),
    "the text compressed": ({}, [(["aaab"], "a3b1"), ([""], "")]),
    "True if the text reads": ({}, [(["axb"], False), (["axbxxa"], True), (["abx"], False)]),
    "term n of": ({"a": 2, "b": 3, "c": 4}, [([0], 2), ([1], 3), ([3], 59)]),
    "in how many ways": ({"a": 1, "b": 2}, [([4], 5), ([0], 1)]),
    "the fewest coins": ({"a": 3, "b": 4}, [([6], 2), ([0], 0)]),
    "the sum of all numbers in the nested": ({}, [([[1, [2, [3]]]], 14)]),
    "the length of the longest subsequence": ({"a": 2}, [([[1, 2, 3, 5]], 3), ([[]], 0)]),
    "True if the brackets": ({}, [(["([])"], True), (["([)]"], False), (["("], False)]),
    "the fewest insertions": ({"a": 2}, [(["abc", "ac"], 1), (["a", "b"], 2)]),
    "the greatest total": ({}, [([[[2, 3], [3, 4], [4, 5]], 5], 7)]),
    "the intervals": ({"a": 1}, [([[[5, 6], [1, 2], [3, 4]]], [[1, 6]]), ([[[1, 2], [4, 5]]], [[1, 2], [4, 5]])]),
}


@pytest.mark.parametrize("start", BY_HAND)
def test_templates_agree_with_values_worked_by_hand(start: str) -> None:
    numbers, cases = BY_HAND[start]
    template = next(t for level in TEMPLATES for t in level if t.text.startswith(start))
    source = f"def f({template.parameters}):\n{template.code}".replace("SELF(", "f(")
    for key, value in numbers.items():
        source = source.replace("{" + key + "}", str(value))
    assert outputs(source, "f", [arguments for arguments, _ in cases]) == [value for _, value in cases]


def test_the_visible_example_is_right_and_level_0_has_none() -> None:
    assert example_text(draw_spec(random.Random(0), 0)) == ""
    spec = draw_spec(random.Random(1), 4)
    assert spec.example is not None
    value = outputs(spec.solution, spec.name, [spec.example])[0]
    assert example_text(spec).endswith(f"returns {value!r}.")


@pytest.mark.parametrize("level", LEVELS)
def test_work_is_right_without_errors_and_wrong_with_them(level: int) -> None:
    for index in range(60):
        spec = draw_spec(random.Random(f"{level}/{index}"), level)
        item = TaskItem((), reference_of(spec))
        inputs, expected = item.reference["inputs"], item.reference["expected"]
        lines, code = mistaken_work(random.Random(0), item, 0.0)
        assert code == spec.solution
        assert lines
        _, code = mistaken_work(random.Random(0), item, 1.0)
        assert outputs(code, spec.name, inputs) != expected


def test_level_0_is_short_and_has_many_prompts() -> None:
    specs = [draw_spec(random.Random(index), 0) for index in range(2000)]
    assert len({(spec.signature, spec.text) for spec in specs}) > 1300
    assert max(len(spec.solution) for spec in specs) <= 30
