"""GSM8K: 1,319 word problems of grade-school arithmetic (arXiv 2110.14168), the split `test` of the config `main`.

Fields of openai/gsm8k: `question`; `answer`, a worked solution whose last line is `#### N`.
The report gives no GSM8K for its post-trained models. The prompt is the one for mathematics, without examples.
"""

from __future__ import annotations

import re
from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, boxed_question, row_uid
from evals.benchmarks.rows import Row, table_rows

_FINAL = re.compile(r"####\s*(-?[0-9][0-9.,]*)\s*\Z")


def rows(path: Path) -> list[Row]:
    """The split `test`; the config `socratic` asks the same questions and is passed over."""
    return list(table_rows(path, split="test", holding=r"^(?!.*socratic)"))


def prompt(row: Row) -> Prompt:
    """The question with Qwen3's request for a box; the reference is the number after `####`."""
    question, solution = row.text("question"), row.text("answer")
    final = _FINAL.search(solution)
    if final is None:
        raise row.wrong(("answer",), "a solution that ends in '#### N'", solution[-60:])
    answer = final[1].replace(",", "").removesuffix(".")
    return Prompt(
        row_uid("gsm8k", question), "boxed_math", boxed_question(question), {"answer": answer}, domain="arithmetic"
    )


BENCHMARK = Benchmark(
    name="gsm8k",
    title="GSM8K",
    dataset="openai/gsm8k",
    licence="MIT",
    task="boxed_math",
    rows=rows,
    prompt=prompt,
    expected_rows=(1319,),
)
