"""Chains of steps: exact values, how they are written, and slips that are carried on without ever failing."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.worked_steps import Steps, apply, follow, slip


@pytest.mark.parametrize(
    ("operation", "left", "right", "value"),
    [("+", 7, 5, 12), ("-", 5, 7, -2), ("*", 6, 7, 42), ("/", 6, 16, Fraction(3, 8)), ("/", 6, 3, 2), ("//", 49, 6, 8),
     ("mod", 94, 7, 3), ("^", 7, 3, 343), ("C", 5, 2, 10), ("!", 5, 0, 120), ("gcd", 12, 18, 6), ("lcm", 4, 6, 12),
     ("-", Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)), ("C", -3, 2, 0)],
)  # fmt: skip
def test_operations_have_their_exact_value(operation: str, left: int, right: int, value: int) -> None:
    found = apply(operation, left, right)
    assert found == value
    assert type(found) is type(value)


def test_steps_refer_to_the_results_of_earlier_ones() -> None:
    steps = Steps()
    steps.add("C", 5, 2)
    steps.add("C", 9, 2)
    steps.add("/", "#0", "#1")
    assert steps.result == Fraction(5, 18)
    lines, value = follow(random.Random(0), steps.listed, 0.0)
    assert (lines, value) == (["C(5,2)=10", "C(9,2)=36", "10/36=5/18"], Fraction(5, 18))


def test_a_fraction_that_is_reduced_already_is_written_once_and_operands_get_brackets() -> None:
    lines, _ = follow(random.Random(0), [["/", 3, 8], ["-", 1, "#0"], ["!", 4, 0], ["mod", 9, 7]], 0.0)
    assert lines == ["3/8", "1-(3/8)=5/8", "4!=24", "9 mod 7=2"]


@pytest.mark.parametrize(
    ("operation", "left", "right", "wrong"),
    [("+", 17, 25, 32), ("+", 11, 12, 24), ("-", 41, 7, 44), ("-", 47, 5, 43), ("*", 6, 7, 48), ("mod", 94, 7, 4),
     ("/", 3, 8, Fraction(1, 2)), ("+", 5, 5, 11)],
)  # fmt: skip
def test_slips_are_typical_and_never_zero(operation: str, left: int, right: int, wrong: int) -> None:
    assert slip(operation, left, right, apply(operation, left, right)) == wrong


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown operation 'log'"):
        apply("log", 1, 2)


@given(st.sampled_from(["+", "-", "*", "//", "mod", "/"]), st.integers(1, 500), st.integers(1, 60))
def test_a_slip_is_always_another_value(operation: str, left: int, right: int) -> None:
    value = apply(operation, left, right)
    assert slip(operation, left, right, value) not in (value, 0)
