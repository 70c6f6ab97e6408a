"""BFCL, the single-turn categories in Python: function calls that are checked without being run.

The package bfcl-eval ships the files (`bfcl_eval/data`): `BFCL_v4_CATEGORY.json`, one object a line with `id`,
`question` (turns of messages), `function`; and `possible_answer/BFCL_v4_CATEGORY.json` with `id` and `ground_truth`.
Version 3, which the report uses, has the same categories under `BFCL_v3_…`, `simple` being today's `simple_python`.

Functions are offered as tools in the chat format (the report: FC format), types translated to JSON Schema and the
language hint of the harness put behind each description. The published handler for Qwen prints the raw descriptions.

Left out and named: Java and JavaScript (arguments are literals of those languages), multi-turn, memory, web search and
format sensitivity. Multi-turn needs bfcl-eval's simulated interfaces and state checker: an environment that makes the
classes of `involved_classes` with `initial_config`, carries out parsed calls (the package evaluates text), reveals held
back functions, and compares states and call paths turn by turn.

The published overall figure averages categories; the mean over prompts does not. `Prompt.domain` is the category.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.records import Prompt, UserError
from data.rows import json_rows
from evals.benchmarks.benchmark import Benchmark, row_uid
from evals.benchmarks.rows import Row
from rewards.possible_calls import TYPES

CATEGORIES = (
    "simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance", "live_simple", "live_multiple",
    "live_parallel", "live_parallel_multiple", "live_relevance", "live_irrelevance",
)  # fmt: skip
EXPECTS = {"irrelevance": "no call", "live_irrelevance": "no call", "live_relevance": "a call"}
"""Categories without possible answers, and what is right there."""

HINT = " Note that the provided function is in Python 3 syntax."
_FILE = re.compile(r"BFCL_v[0-9]+_(\w+)\.json")
_SCHEMA_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


def rows(path: Path) -> list[Row]:
    """The rows of every category that is scored, each with the fields `category` and `ground_truth`."""
    found: list[Row] = []
    for category, file in _files(path).items():
        if category not in CATEGORIES:
            if path.is_file():
                raise UserError(f"{file}: category {category!r} is not scored here; use {', '.join(CATEGORIES)}")
            continue
        answers = {} if category in EXPECTS else _answers(file)
        for place, fields in json_rows(file):
            row = Row(place, fields if isinstance(fields, Mapping) else {})
            truth = answers.get(row.text("id"))
            if truth is None and category not in EXPECTS:
                raise UserError(f"{place}: no possible answer has the id {row.text('id')!r}; use files of one release")
            found.append(Row(place, {**row.fields, "category": category, "ground_truth": truth}))
    if not found:
        raise UserError(f"{path}: no BFCL_v4_CATEGORY.json with rows; give the folder bfcl_eval/data")
    return found


def categories_left_out(path: Path) -> tuple[str, ...]:
    """The categories of a folder that are not scored here."""
    return tuple(category for category in _files(path) if category not in CATEGORIES)


def _files(path: Path) -> dict[str, Path]:
    candidates = sorted(path.glob("BFCL_v*.json")) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    for file in candidates:
        if name := _FILE.fullmatch(file.name):
            found["simple_python" if name[1] == "simple" else name[1]] = file
    return found


def _answers(file: Path) -> dict[str, Any]:
    answers = file.parent / "possible_answer" / file.name
    if not answers.is_file():
        raise UserError(f"{answers}: no such file; the possible answers lie in a folder beside the questions")
    rows_read = [Row(place, fields) for place, fields in json_rows(answers)]
    return {row.text("id"): row.items("ground_truth") for row in rows_read}


def tool_of(function: Mapping[str, Any]) -> dict[str, Any]:
    """A published function as the chat format offers tools."""
    described = {
        "name": function["name"],
        "description": f"{function.get('description', '')}{HINT}",
        "parameters": _json_schema(function["parameters"]),
    }
    return {"type": "function", "function": described}


def _json_schema(schema: Any) -> Any:
    """A published schema with JSON Schema's names of types; `default` and `enum` values are left as they are."""
    if not isinstance(schema, Mapping):
        return schema
    translated: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            translated[key] = _SCHEMA_TYPES.get(value, value)
        elif key == "properties" and isinstance(value, Mapping):
            translated[key] = {name: _json_schema(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            translated[key] = _json_schema(value)
        else:
            translated[key] = value
    return translated


def prompt(row: Row) -> Prompt:
    """The messages of the one turn, the functions as tools, and what the category expects."""
    turns, functions, category = row.items("question"), row.items("function"), row.text("category")
    if len(turns) != 1 or not isinstance(turns[0], list) or not all(_is_message(message) for message in turns[0]):
        raise row.wrong(("question",), "one turn of messages with role and content", turns)
    if fault := next((fault for fault in map(_function_fault, functions) if fault), None):
        raise row.wrong(("function",), f"a list of described functions ({fault})", functions)
    possible = [] if category in EXPECTS else row.items("ground_truth")
    names = {function["name"] for function in functions}
    if not all(isinstance(call, dict) and len(call) == 1 and call.keys() <= names for call in possible):
        raise row.wrong(("ground_truth",), "calls of the functions of its question", possible)
    expects = EXPECTS.get(category, "possible calls")
    return Prompt(
        uid=row_uid("bfcl", category, row.text("id")),
        task="bfcl",
        messages=tuple(turns[0]),
        reference={"expects": expects, "functions": functions, "possible": possible},
        tools=tuple(map(tool_of, functions)),
        domain=category,
    )


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "user", "assistant") and isinstance(
        message.get("content"), str
    )  # fmt: skip


def _function_fault(function: Any) -> str | None:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return "one has no name"
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    if not isinstance(properties, Mapping):
        return f"{function['name']} has no parameters.properties"
    unknown = [name for name, schema in properties.items() if schema.get("type") not in TYPES]
    return f"{function['name']}: the type of {unknown[0]!r} is unknown" if unknown else None


BENCHMARK = Benchmark(
    name="bfcl",
    title="BFCL (single turn, Python)",
    dataset="gorilla-llm/Berkeley-Function-Calling-Leaderboard",
    licence="Apache-2.0",
    task="bfcl",
    rows=rows,
    prompt=prompt,
    expected_rows=(3491,),
    also_left_out=categories_left_out,
)
