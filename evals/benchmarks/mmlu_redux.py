"""MMLU-Redux: MMLU questions that were annotated again (arXiv 2406.04127), those without an error alone.

Fields of edinburgh-dawg/mmlu-redux-2.0 (57 subjects, 100 rows each): `question`, `choices`, `answer` (index of the
right one, from 0), `error_type`. Rows whose error type is not `ok` are left out, as published: their question or key is
faulty. The subject is the name of the folder, since rows do not name it.
"""

from __future__ import annotations

from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import LETTERS, Benchmark, LeftOut, choice_question, row_uid
from evals.benchmarks.rows import Row, data_files, table_rows

SOUND = "ok"


def rows(path: Path) -> list[Row]:
    """The rows of every subject's file, each with the field `subject` that its folder gives it."""
    found: list[Row] = []
    for file in data_files(path, split="test"):
        subject = file.parent.name if path.is_dir() and file.parent != path else ""
        found += [Row(row.place, {"subject": subject, **row.fields}) for row in table_rows(file)]
    return found


def prompt(row: Row) -> Prompt | LeftOut:
    """The question, its options in the published order, and Qwen3's request for a letter."""
    error_type = row.text("error_type")
    if error_type != SOUND:
        return LeftOut(f"error_type {error_type}")
    question, choices = row.text("question"), row.items("choices")
    if not 2 <= len(choices) <= len(LETTERS) or not all(isinstance(choice, str) for choice in choices):
        raise row.wrong(("choices",), f"2 to {len(LETTERS)} texts", choices)
    index = row.integer("answer")
    if not 0 <= index < len(choices):
        raise row.wrong(("answer",), f"an index from 0 to {len(choices) - 1}", index)
    return Prompt(
        uid=row_uid("mmlu_redux", question, *choices),
        task="multiple_choice",
        messages=choice_question(question, choices),
        reference={"answer": LETTERS[index]},
        domain=str(row.fields.get("subject") or ""),
    )


BENCHMARK = Benchmark(
    name="mmlu_redux",
    title="MMLU-Redux",
    dataset="edinburgh-dawg/mmlu-redux-2.0",
    licence="CC BY 4.0",
    task="multiple_choice",
    rows=rows,
    prompt=prompt,
    expected_rows=(5700, 3000),
)
