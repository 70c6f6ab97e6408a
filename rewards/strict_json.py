"""JSON as a verifier has to read it: nothing the standard does not allow, and types that do not blur.

Python's own reader accepts NaN, Infinity and repeated keys, and Python's `==` says that True, 1 and 1.0 are equal.
Each of these is a way to be paid for an answer that a strict consumer would refuse.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads_strict(text: str) -> Any:
    """Parse one JSON document.

    Raises ValueError for anything but standard JSON: repeated keys, NaN or Infinity, text around the document, or
    nesting and numbers beyond what the reader can hold.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def strictly_equal(left: Any, right: Any) -> bool:
    """Equality of JSON values in which true, 1 and 1.0 are three different values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(strictly_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(strictly_equal, left, right))
    return left == right


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object repeats a key")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
