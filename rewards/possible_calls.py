"""Tool calls against sets of possible ones, as BFCL's AST checker compares them.

A possible call is `{function: {argument: [value, …]}}`: each argument has a list of values that are as good, and ""
among them says that it may be left out. The rules are those of the checker (Berkeley Function-Calling Leaderboard,
Patil et al., ICML 2025; `ast_checker.py` of bfcl-eval), whose odd corners are kept: texts are compared without case and
without the characters of `_IGNORED`, an integer passes for a float, parallel calls are matched greedily in order.
`rewards.tasks.tool_call` compares with one reference and strictly instead, because its prompts leave no choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Call = Mapping[str, Any]
"""{"name": …, "arguments": {…}}"""

_IGNORED = re.compile(r"[ ,./\-_*^]")
TYPES: Mapping[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict,
    "any": str,
}  # fmt: skip


def calls_fault(
    calls: Sequence[Call], functions: Sequence[Mapping[str, Any]], possible: Sequence[Mapping[str, Any]]
) -> str | None:
    """Why calls are none of the possible ones, None when they are; order does not matter."""
    if len(calls) != len(possible):
        return f"{len(calls)} calls, expected {len(possible)}"
    described = {function["name"]: function for function in functions}
    left = list(calls)
    for expected in possible:
        ((name, arguments),) = expected.items()
        faults = [call_fault(call, described[name], arguments) for call in left]
        if None not in faults:
            return faults[0] if len(possible) == 1 else f"no call is the expected one of {name!r}"
        del left[faults.index(None)]
    return None


def call_fault(call: Call, function: Mapping[str, Any], possible: Mapping[str, Sequence[Any]]) -> str | None:
    """Why one call is none of the possible ones of a function, None when it is."""
    name, arguments = function["name"], call["arguments"]
    if call["name"] != name:
        return f"calls {call['name']!r:.60}, expected {name!r}"
    parameters = function["parameters"]
    for argument in parameters.get("required", ()):
        if argument not in arguments:
            return f"argument {argument!r} is missing"
    for argument, value in arguments.items():
        if argument not in parameters["properties"] or argument not in possible:
            return f"argument {argument!r:.60} is unexpected"
        if not value_fits(value, possible[argument], parameters["properties"][argument]):
            return f"argument {argument!r} has another type or value"
    left_out = next((key for key, options in possible.items() if key not in arguments and "" not in options), None)
    return None if left_out is None else f"argument {left_out!r} may not be left out"


def value_fits(value: Any, options: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """Whether a value has the type of the schema, or of the options where these are of another one, and is an option.

    An option of another type than the schema's stands for a variable; it is then compared as it is.
    """
    kind = schema["type"]
    expected = TYPES[kind]
    inner = TYPES[schema["items"]["type"]] if kind in ("array", "tuple") else None
    if kind == "float" and type(value) is int:
        value = float(value)
    found, known = type(value), _type_of(options)
    is_variable = known is not None and known is not expected
    if found is expected:
        if inner is not None and not any(_items_typed(value, option, inner) for option in options):
            return False
    elif found is known:
        is_variable = True
    else:
        return False
    if is_variable:
        return value in options
    if expected is dict:
        return any(_same_object(value, option) for option in options if option != "")
    if inner is dict:
        return any(_same_objects(value, option) for option in options)
    if expected is str:
        return _folded(value) in [_folded(option) for option in options if type(option) is str]
    if expected is list:
        return _folded_items(value) in [_folded_items(option) for option in options]
    return value in options


def _type_of(options: Sequence[Any]) -> type | None:
    """The type of the first option that is no "leave it out"."""
    return next((type(option) for option in options if option != ""), None)


def _items_typed(values: Sequence[Any], option: Any, inner: type) -> bool:
    if type(option) is not list:
        return False
    known = _type_of(option)
    return all(type(value) is inner or type(value) is known for value in values)


def _folded(value: Any) -> Any:
    return _IGNORED.sub("", value).lower().replace("'", '"') if type(value) is str else value


def _folded_items(values: Sequence[Any]) -> list[Any]:
    return [_folded(value) for value in values]


def _same_object(value: Mapping[str, Any], option: Mapping[str, Sequence[Any]]) -> bool:
    """Whether an object has the option's keys with one of the values of each; nested ones are compared as they are."""
    if any(key not in option or _folded(item) not in _folded_items(option[key]) for key, item in value.items()):
        return False
    return all(key in value or "" in values for key, values in option.items())


def _same_objects(values: Sequence[Any], option: Sequence[Any]) -> bool:
    """Whether a list of objects has those of the option in their order."""
    return len(values) == len(option) and all(
        type(value) is dict and _same_object(value, wanted) for value, wanted in zip(values, option, strict=True)
    )
