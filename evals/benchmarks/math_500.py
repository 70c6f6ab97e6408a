"""MATH-500: 500 problems of the MATH test set, chosen by Lightman et al. (arXiv 2305.20050), answers in LaTeX.

Fields of HuggingFaceH4/MATH-500: `problem`, `answer`, `subject`, `level` (1 to 5), `unique_id`; `solution` is not read.
"""

from __future__ import annotations

from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, boxed_question, row_uid
from evals.benchmarks.rows import Row, table_rows


def rows(path: Path) -> list[Row]:
    """The split `test`, the only one."""
    return list(table_rows(path, split="test"))


def prompt(row: Row) -> Prompt:
    """The problem with Qwen3's request for a box; level and subject become difficulty and domain."""
    return Prompt(
        uid=row_uid("math_500", row.text("unique_id") if row.has("unique_id") else row.text("problem")),
        task="boxed_math",
        messages=boxed_question(row.text("problem")),
        reference={"answer": row.text("answer")},
        domain=row.text("subject") if row.has("subject") else "",
        difficulty=row.integer("level") if row.has("level") else 0,
    )


BENCHMARK = Benchmark(
    name="math_500",
    title="MATH-500",
    dataset="HuggingFaceH4/MATH-500",
    licence="MIT (MATH and PRM800K)",
    task="boxed_math",
    rows=rows,
    prompt=prompt,
    expected_rows=(500,),
)
