"""Calls against sets of possible ones: each rule of BFCL's checker on values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.possible_calls import call_fault, calls_fault, value_fits


def array(inner: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": inner}}


@pytest.mark.parametrize(
    ("value", "options", "schema", "fits"),
    [
        (3, [3, 4], {"type": "integer"}, True),
        (4, [3, 4], {"type": "integer"}, True),
        (5, [3, 4], {"type": "integer"}, False),
        (3.0, [3], {"type": "integer"}, False),
        (True, [1], {"type": "integer"}, False),
        ("3", [3], {"type": "integer"}, False),
        (3, [3.0], {"type": "float"}, True),
        (True, [1.0], {"type": "float"}, False),
        (True, [True, ""], {"type": "boolean"}, True),
        ("April 1, 2024", ["april 1 2024"], {"type": "string"}, True),
        ("O'Hara_x", ['o"harax'], {"type": "string"}, True),
        ("anything", [""], {"type": "string"}, False),
        ("x + 1", ["x+1"], {"type": "any"}, True),
        # A variable: the option is a text where the schema has an integer, and is then compared as it is.
        ("n", ["n"], {"type": "integer"}, True),
        ("N", ["n"], {"type": "integer"}, False),
        (2, ["n", 2], {"type": "integer"}, True),
        ([1, 2], [[1, 2]], array("integer"), True),
        ([2, 1], [[1, 2]], array("integer"), False),
        ([1, 2.5], [[1, 2.5]], array("float"), True),
        (["A b", "c"], [["a B", "C"]], array("string"), True),
        ([["a"]], [[["a"]]], array("array"), True),
        ([], [[1, 2], ""], array("integer"), True),
        ({"k": "A B"}, [{"k": ["ab", "c"], "o": [1, ""]}], {"type": "dict"}, True),
        ({"k": "d"}, [{"k": ["ab"]}], {"type": "dict"}, False),
        ({"k": "ab", "z": 1}, [{"k": ["ab"]}], {"type": "dict"}, False),
        ({}, [{"k": ["ab"]}], {"type": "dict"}, False),
        ({}, [{"k": ["ab", ""]}], {"type": "dict"}, True),
        ([{"k": 1}, {"k": 2}], [[{"k": [1]}, {"k": [2]}]], array("dict"), True),
        ([{"k": 2}, {"k": 1}], [[{"k": [1]}, {"k": [2]}]], array("dict"), False),
        ([{"k": 1}], [[{"k": [1]}, {"k": [2]}]], array("dict"), False),
        (None, [1], {"type": "integer"}, False),
    ],
)
def test_a_value_fits_by_type_and_option(value: Any, options: list[Any], schema: dict[str, Any], fits: bool) -> None:
    assert value_fits(value, options, schema) is fits


def function(name: str) -> dict[str, Any]:
    properties = {"a": {"type": "integer"}, "b": {"type": "string"}}
    return {"name": name, "parameters": {"type": "dict", "properties": properties, "required": ["a"]}}


POSSIBLE = {"a": [1], "b": ["x", ""]}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"a": 1}, None),
        ({"a": 1, "b": "X"}, None),
        ({"b": "x"}, "argument 'a' is missing"),
        ({"a": 1, "c": 1}, "argument 'c' is unexpected"),
        ({"a": 2}, "argument 'a' has another type or value"),
    ],
)
def test_arguments_are_required_known_and_possible(arguments: dict[str, Any], fault: str | None) -> None:
    assert call_fault({"name": "f", "arguments": arguments}, function("f"), POSSIBLE) == fault


def test_an_argument_that_is_optional_to_the_function_may_still_be_needed() -> None:
    call = {"name": "f", "arguments": {"a": 1}}
    assert call_fault(call, function("f"), {"a": [1], "b": ["x"]}) == "argument 'b' may not be left out"


def test_calls_are_matched_in_any_order_each_once() -> None:
    functions = [function("f"), function("g")]
    possible = [{"f": {"a": [1]}}, {"g": {"a": [2]}}]
    f, g = {"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"a": 2}}
    assert calls_fault([f, g], functions, possible) is None
    assert calls_fault([g, f], functions, possible) is None
    assert calls_fault([f], functions, possible) == "1 calls, expected 2"
    assert calls_fault([f, f], functions, possible) == "no call is the expected one of 'g'"
    assert calls_fault([f, f, g], functions, possible) == "3 calls, expected 2"
    assert calls_fault([g], functions, possible[:1]) == "calls 'g', expected 'f'"


def test_matching_is_greedy_as_published() -> None:
    # The first possible call takes the call that only the second one could have left to it.
    possible = [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]
    one, two = ({"name": "f", "arguments": {"a": value}} for value in (1, 2))
    assert calls_fault([two, one], [function("f")], possible) is None
    assert calls_fault([one, two], [function("f")], possible) is not None
