"""The two closed families of rules that `rewards.tasks.induction` draws from, and which of them fit given examples.

Sequences: a rule continues the terms shown, or returns None when it does not fit them. Lists: an operation turns a list
of integers into another. Both families are enumerated in full, so that "only one answer is possible" can be checked.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

Numbers = tuple[int, ...]


# --- sequences -----------------------------------------------------------------------------------------------------


def _constant_difference(terms: Numbers) -> int | None:
    differences = _differences(terms)
    return terms[-1] + differences[0] if len(set(differences)) == 1 else None


def _growing_difference(terms: Numbers) -> int | None:
    """The differences themselves have a constant difference."""
    following = _constant_difference(_differences(terms))
    return None if following is None else terms[-1] + following


def _alternating_difference(terms: Numbers) -> int | None:
    differences = _differences(terms)
    fits = all(a == b for a, b in zip(differences, differences[2:], strict=False))
    return terms[-1] + differences[-2] if fits else None


def _multiply_then_add(terms: Numbers) -> int | None:
    """Each term is p times the one before plus q, for whole p and q."""
    first, second, third = terms[:3]
    if first == second or (third - second) % (second - first):
        return None
    p = (third - second) // (second - first)
    q = second - p * first
    return p * terms[-1] + q if all(p * a + q == b for a, b in itertools.pairwise(terms)) else None


def _sum_of_two(terms: Numbers) -> int | None:
    fits = all(a + b == c for a, b, c in zip(terms, terms[1:], terms[2:], strict=False))
    return terms[-2] + terms[-1] if fits else None


def _two_interleaved(terms: Numbers) -> int | None:
    """The terms at odd places and those at even places each have a constant difference."""
    odd, even = terms[::2], terms[1::2]
    if min(len(odd), len(even)) < 3 or None in (_constant_difference(odd), _constant_difference(even)):
        return None
    return _constant_difference(even if len(terms) % 2 else odd)


def _differences(terms: Numbers) -> Numbers:
    return tuple(b - a for a, b in itertools.pairwise(terms))


SEQUENCE_RULES: dict[str, Callable[[Numbers], int | None]] = {
    "add a constant": _constant_difference,
    "add a number that grows or shrinks by a constant": _growing_difference,
    "add two constants in turn": _alternating_difference,
    "multiply by a whole constant and add another": _multiply_then_add,
    "add the last two terms": _sum_of_two,
    "two interleaved sequences that each add a constant": _two_interleaved,
}


def next_terms(terms: Sequence[int]) -> set[int]:
    """The next term under every rule of the family that fits the terms shown (at least five)."""
    found = (rule(tuple(terms)) for rule in SEQUENCE_RULES.values())
    return {term for term in found if term is not None}


# --- lists ---------------------------------------------------------------------------------------------------------


def _running_sums(numbers: Numbers) -> Numbers:
    return tuple(itertools.accumulate(numbers))


def _without_repeats(numbers: Numbers) -> Numbers:
    return tuple(dict.fromkeys(numbers))


LIST_OPERATIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "reverse": lambda numbers: numbers[::-1],
    "sort ascending": lambda numbers: tuple(sorted(numbers)),
    "sort descending": lambda numbers: tuple(sorted(numbers, reverse=True)),
    "drop the first": lambda numbers: numbers[1:],
    "drop the last": lambda numbers: numbers[:-1],
    "move the first to the end": lambda numbers: numbers[1:] + numbers[:1],
    "move the last to the front": lambda numbers: numbers[-1:] + numbers[:-1],
    "keep the even numbers": lambda numbers: tuple(number for number in numbers if number % 2 == 0),
    "keep the odd numbers": lambda numbers: tuple(number for number in numbers if number % 2),
    "keep every second, from the first on": lambda numbers: numbers[::2],
    "keep every second, from the second on": lambda numbers: numbers[1::2],
    "drop repeats": _without_repeats,
    "running sums": _running_sums,
    "differences of neighbours": _differences,
    "append the sum": lambda numbers: (*numbers, sum(numbers)),
    "append the length": lambda numbers: (*numbers, len(numbers)),
    **{
        f"add {k} to each": functools.partial(lambda k, numbers: tuple(number + k for number in numbers), k)
        for k in (1, 2, 3, 5)
    },
    **{
        f"multiply each by {k}": functools.partial(lambda k, numbers: tuple(number * k for number in numbers), k)
        for k in (2, 3)
    },
}


def transform(rule: Iterable[str], numbers: Sequence[int]) -> Numbers:
    """The list after each operation of a rule in turn; KeyError for an unknown operation."""
    result = tuple(numbers)
    for name in rule:
        result = LIST_OPERATIONS[name](result)
    return result


def rules_that_fit(depth: int, examples: Sequence[tuple[Numbers, Numbers]]) -> list[tuple[str, ...]]:
    """Every rule of `depth` operations that turns each example's first list into its second."""
    return [
        rule
        for rule in itertools.product(LIST_OPERATIONS, repeat=depth)
        if all(transform(rule, before) == after for before, after in examples)
    ]
