"""JSON that a strict consumer accepts, and equality that keeps types apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.strict_json import loads_strict, strictly_equal

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_standard_json_is_read_back_as_it_was(value: object) -> None:
    assert strictly_equal(loads_strict(json.dumps(value)), value)


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', "NaN", "[Infinity]", "-Infinity", "1 2", "{'a':1}", "[" * 100_000, ""]
)
def test_what_is_not_standard_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        loads_strict(text)


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, True), (1, 1.0), (0, False), (None, False), ("1", 1),
     ([1], [1, 1]), ({"a": 1}, {"a": 1, "b": 1}), ({"a": [1]}, {"a": [True]})],
)  # fmt: skip
def test_neighbouring_values_are_not_equal(left: object, right: object) -> None:
    assert not strictly_equal(left, right)
    assert not strictly_equal(right, left)
