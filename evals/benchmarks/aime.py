"""AIME'24 and AIME'25: the 30 problems of parts I and II of a year, answers from 0 to 999.

Fields: the problem in `problem` (HuggingFaceH4/aime_2024, math-ai/aime25), `Problem` (Maxwell-Jia/AIME_2024) or
`question` (opencompass/AIME2025, whose two files are read together); the answer in `answer` or `Answer`.
The report samples 64 answers a problem and gives the mean, with at most 38,912 tokens (section 4.6).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, boxed_question, row_uid
from evals.benchmarks.rows import Row, table_rows
from rewards.extract import parse_integer

MAX_ANSWER = 999


def rows(path: Path) -> list[Row]:
    """All rows: the published copies hold one split."""
    return list(table_rows(path))


def prompt(row: Row, *, name: str) -> Prompt:
    """The problem with Qwen3's request for a box; the answer has to be an integer from 0 to 999."""
    problem, answer = row.text("problem", "Problem", "question"), row.text("answer", "Answer").strip()
    value = parse_integer(answer.removesuffix(".0").removesuffix("^\\circ"))
    if value is None or not 0 <= value <= MAX_ANSWER:
        raise row.wrong(("answer",), f"an integer from 0 to {MAX_ANSWER}", answer)
    return Prompt(row_uid(name, problem), "boxed_math", boxed_question(problem), {"answer": str(value)}, domain="math")


def _benchmark(name: str, title: str, dataset: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        dataset=dataset,
        licence="problems by the MAA, who state no licence; the copies on the hub carry their uploaders'",
        task="boxed_math",
        rows=rows,
        prompt=partial(prompt, name=name),
        expected_rows=(30,),
        num_samples=64,
        max_tokens=38_912,
    )


AIME24 = _benchmark("aime24", "AIME'24", "HuggingFaceH4/aime_2024")
AIME25 = _benchmark("aime25", "AIME'25", "math-ai/aime25")
