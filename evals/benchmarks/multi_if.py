"""Multi-IF: 4,501 dialogues of three user turns in eight languages, whose instructions add up (arXiv 2410.15553).

Fields of facebook/Multi-IF (`multiIF_20241018.csv`): for each turn `turn_N_prompt` (JSON of one user message),
`turn_N_instruction_id_list` (JSON list, which already holds those of the turns before) and `turn_N_kwargs` (JSON list
of JSON texts); `key`, `language`. Later turns may be empty.

A dialogue is played: the prompt is the first turn, and an environment (`rewards.benchmark_tasks.multi_if`) says the
others, so it needs an episode of three turns (`max_turns` 3 or more). Rows with an instruction that cannot be checked
here are left out and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, LeftOut, row_uid, user
from evals.benchmarks.ifeval import cannot_check, instructions_of
from evals.benchmarks.rows import Row, table_rows

NUM_TURNS = 3


def rows(path: Path) -> list[Row]:
    """The one file, whatever split it is published under."""
    return list(table_rows(path))


def prompt(row: Row) -> Prompt | LeftOut:
    """The first user turn; the reference holds all turns with the instructions that hold by then."""
    turns: list[dict[str, Any]] = []
    for number in range(1, NUM_TURNS + 1):
        field = f"turn_{number}_prompt"
        if number > 1 and not row.has(field):
            break
        instructions = instructions_of(row, f"turn_{number}_instruction_id_list", f"turn_{number}_kwargs")
        if left_out := cannot_check(instructions):
            return left_out
        turns.append({"prompt": _content(row, field), "instructions": instructions})
    identity = row.text("key") if row.has("key") else "\n".join(turn["prompt"] for turn in turns)
    return Prompt(
        uid=row_uid("multi_if", identity),
        task="multi_if",
        messages=user(turns[0]["prompt"]),
        reference={"turns": turns},
        domain=row.text("language") if row.has("language") else "",
    )


def _content(row: Row, field: str) -> str:
    message = row.decoded(field)
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str) or not content.strip():
        raise row.wrong((field,), 'a JSON message such as {"role": "user", "content": "…"}', message)
    return content


BENCHMARK = Benchmark(
    name="multi_if",
    title="Multi-IF",
    dataset="facebook/Multi-IF",
    licence="CC BY-NC 2.0 by its card: not for commercial use",
    task="multi_if",
    rows=rows,
    prompt=prompt,
    expected_rows=(4501,),
)
