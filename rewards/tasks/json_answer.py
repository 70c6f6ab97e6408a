"""Reply with one JSON object and nothing else.

Area: instruction_following. Reward type: rule.
Verified: the whole answer is one standard JSON object, it satisfies the schema, and its values equal the reference.
Known hacks: nulls and empty values that satisfy a schema alone, JSON inside fences or prose for a lenient extractor,
repeated keys of which a reader keeps the last, NaN, and true or 19.0 where 19 was asked for.
Guard: strict reading of the whole answer, schema check, and value equality that keeps types apart.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema_rs

from data.chat import ParsedCompletion
from data.records import Score
from rewards.strict_json import loads_strict, strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_KEYS = (
    "sum", "total", "result", "answer", "value", "count", "number", "amount", "score", "size", "points", "items",
)  # fmt: skip
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
_LEVEL_EXTRAS = (("first",), ("first", "name"), ("name", "even", "terms"))


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A sum under one of twelve keys, alone or with more: up to three fields at levels 0 and 1, two to four at level 2.

    Level 0 adds single digits and may echo the first term, level 1 a name, level 2 a boolean and a list.
    """
    largest = 9 if difficulty == 0 else 20
    left, right = rng.randint(1, largest), rng.randint(1, largest)
    key = rng.choice(_KEYS)
    values: dict[str, Any] = {key: left + right}
    parts = [f'the integer key "{key}"']
    extras = _LEVEL_EXTRAS[difficulty]
    for extra in rng.sample(extras, rng.randint(min(difficulty, 1), len(extras))):
        if extra == "first":
            values["first"] = left
            parts.append(f'the integer key "first" ({left})')
        elif extra == "name":
            values["name"] = rng.choice(_NAMES)
            parts.append(f'the string key "name" ({values["name"]})')
        elif extra == "even":
            values["even"] = (left + right) % 2 == 0
            parts.append('the boolean key "even" (is it even)')
        else:
            values["terms"] = [left, right]
            parts.append('the array key "terms" (the two terms)')
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    question = f"Compute {left} + {right}. Reply with a JSON object with {listed} and nothing else."
    reference = {"schema": _schema(values), "values": values}
    return TaskItem(({"role": "user", "content": question},), reference, domain="structured_output")


def _schema(values: dict[str, Any]) -> dict[str, Any]:
    types: dict[type, dict[str, Any]] = {
        int: {"type": "integer"},
        str: {"type": "string"},
        bool: {"type": "boolean"},
        list: {"type": "array", "items": {"type": "integer"}},
    }
    return {
        "type": "object",
        "properties": {key: types[type(value)] for key, value in values.items()},
        "required": list(values),
        "additionalProperties": False,
    }


def answer(item: TaskItem) -> str:
    """The object on one line."""
    return json.dumps(item.reference["values"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The sum in one line, then the object; a wrong step is a sum 1 too large, or a number written as a string."""
    left, right = map(int, re.findall(r"[0-9]+", item.messages[-1]["content"])[:2])
    key, *_ = item.reference["values"]
    total: int | str = left + right + (rng.random() < error_rate)
    line = f"{left}+{right}={total}"
    if rng.random() < error_rate:
        total = str(total)
    return Worked(line, json.dumps({**item.reference["values"], key: total}))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Strict reading, then the values that the reference names, then the schema. A bad schema raises ValueError."""
    validator = jsonschema_rs.validator_for(request.reference["schema"])
    try:
        found = loads_strict(parsed.answer.strip())
    except ValueError as error:
        return Score.incorrect(f"answer is not one JSON document: {error}")
    if not isinstance(found, dict):
        return Score.incorrect("answer is not a JSON object")
    for key, value in request.reference["values"].items():
        if key not in found:
            return Score.incorrect(f"key {key!r} is missing")
        if not strictly_equal(found[key], value):
            return Score.incorrect(f"key {key!r} has another value or type")
    try:
        valid = validator.is_valid(found)
    except (ValueError, OverflowError, UnicodeError):  # what the policy wrote has no form in the checker's language
        return Score.incorrect("answer holds a value that no JSON reader accepts")
    return Score.correct() if valid else Score.incorrect("answer violates the schema")


_REFERENCE = {"schema": _schema({"sum": 19}), "values": {"sum": 19}}
_TWO = {"schema": _schema({"sum": 1, "name": "Ada"}), "values": {"sum": 1, "name": "Ada"}}


def _example(completion: str, note: str, reference: dict[str, Any] = _REFERENCE) -> Example:
    return Example(completion, reference, note=note)


TASK = Task(
    name="json_answer",
    area="instruction_following",
    reward_type="rule",
    summary="one JSON object with given keys, types and values",
    hack="nulls, fences, repeated keys, NaN, values of a neighbouring type",
    guard="whole-answer strict parse, JSON Schema, value equality that keeps types apart",
    generate=generate,
    max_difficulty=len(_LEVEL_EXTRAS) - 1,
    verify=verify,
    reference_keys=("schema", "values"),
    answer=answer,
    work=work,
    known_good=(
        _example('<think>\n12+7=19\n</think>\n\n{"sum": 19}', "after thinking"),
        _example('{\n  "sum": 19\n}\n', "white space"),
        _example('{"name": "Ada", "sum": 1}', "keys in another order", _TWO),
    ),
    known_bad=(
        _example('{"sum": null}', "null"),
        _example('{"sum": "19"}', "string for an integer"),
        _example('{"sum": 19.0}', "float for an integer"),
        _example('{"sum": true, "name": "Ada"}', "true for 1", _TWO),
        _example('{"sum": 18, "sum": 19}', "repeated key"),
        _example('{"sum": NaN}', "NaN"),
        _example('{"sum": Infinity}', "Infinity"),
        _example('{"sum": 19} as asked', "trailing text"),
        _example('```json\n{"sum": 19}\n```', "fence"),
        _example('{"sum": 19, "total": 19}', "extra key"),
        _example('[{"sum": 19}]', "array"),
        _example("19", "bare number"),
        _example("{'sum': 19}", "single quotes"),
        _example("[" * 5000, "deep brackets"),
        _example('{"sum": ' + "9" * 5000 + "}", "number without end"),
        _example('{"sum": 19, "x": "\\ud800"}', "lone surrogate"),
        _example('<think>\n{"sum": 19}', "answer inside unfinished thinking"),
    ),
)
