"""LiveCodeBench, code generation (arXiv 2403.07974): problems of programming contests with public and private tests.

Fields of livecodebench/code_generation_lite (`test.jsonl`, `test2.jsonl`, …; release v5 is the first five files):
`question_id`, `question_content`, `starter_code`, `contest_date`, `platform`, `difficulty`, `metadata` (JSON, whose
`func_name` names the method of functional tests), `public_test_cases` (JSON) and `private_test_cases` (JSON, or
packed).

Private tests are published as a pickle inside zlib inside base64. A pickle from a download is a program of a stranger,
so it is read by an unpickler that can build one text and nothing else (`rewards.packed_tests`). They stay packed in the
reference, about 4 MB a problem.

The report evaluates v5 in the window of contests from October 2024 to February 2025 (section 4.6): `livecodebench`
keeps the problems of that window, `livecodebench_all` all. `test5.jsonl` holds the 167 problems that v5 added to v4.
For thinking the report takes one sentence out of the official prompt.
"""

from __future__ import annotations

import datetime
from functools import partial
from pathlib import Path

from data.records import Message, Prompt
from evals.benchmarks.benchmark import Benchmark, LeftOut, row_uid
from evals.benchmarks.rows import Row, table_rows
from rewards.packed_tests import read_tests

FIRST_DAY, LAST_DAY = datetime.date(2024, 10, 1), datetime.date(2025, 2, 28)
"""The report's window, both days included."""

SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
RESTRICTION = " You will NOT return anything except for the program."
_WITH_STARTER = (
    "### Format: You will use the following starter code to write the solution to the problem and enclose your code "
    "within delimiters."
)
_WITHOUT_STARTER = (
    "### Format: Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
    "the sample inputs). Enclose your code within delimiters as follows."
)
_DIFFICULTIES = {"easy": 0, "medium": 1, "hard": 2}


def rows(path: Path) -> list[Row]:
    """The rows of all files that are there."""
    return list(table_rows(path))


def messages_of(question: str, starter_code: str, *, restricted: bool) -> tuple[Message, ...]:
    """The official prompt for chat models (`lcb_runner/prompts/code_generation.py`, the generic template).

    `restricted` keeps the sentence that the report removes for the thinking mode.
    """
    code = starter_code if starter_code.strip() else "# YOUR CODE HERE"
    form = _WITH_STARTER if starter_code.strip() else _WITHOUT_STARTER
    content = (
        f"### Question:\n{question}\n\n{form}\n```python\n{code}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    system = SYSTEM + RESTRICTION if restricted else SYSTEM
    return ({"role": "system", "content": system}, {"role": "user", "content": content})


def prompt(
    row: Row, *, name: str, first: datetime.date | None, last: datetime.date | None, restricted: bool
) -> Prompt | LeftOut:
    """The problem, if its contest lies in the window; its tests are read once here, so that none is broken later."""
    day = _day(row)
    if (first is not None and day < first) or (last is not None and day > last):
        return LeftOut(f"contest outside {first} to {last}")
    question, starter_code = row.text("question_content"), _optional_text(row, "starter_code")
    tests: dict[str, str] = {}
    kinds: set[str] = set()
    for field in ("public_test_cases", "private_test_cases"):
        tests[field] = row.text(field)
        try:
            kinds |= {test.kind for test in read_tests(tests[field])}
        except ValueError as error:
            raise row.wrong((field,), f"tests ({error})", tests[field]) from None
    function = _function_name(row)
    if kinds != {"functional" if function else "stdin"}:
        found = ", ".join(sorted(kinds)) or "none"
        raise row.wrong(("metadata",), f"in keeping with the kinds of tests ({found})", row.fields.get("metadata"))
    return Prompt(
        uid=row_uid(name, _optional_text(row, "question_id"), question),
        task="program_tests",
        messages=messages_of(question, starter_code, restricted=restricted),
        reference={
            "public": tests["public_test_cases"], "private": tests["private_test_cases"], "function": function,
        },
        domain=_optional_text(row, "platform"),
        difficulty=_DIFFICULTIES.get(_optional_text(row, "difficulty"), 0),
    )  # fmt: skip


def _day(row: Row) -> datetime.date:
    value = row.value("contest_date")
    try:
        return datetime.date.fromisoformat(str(value)[:10])
    except ValueError:
        raise row.wrong(("contest_date",), "a date such as 2024-10-05", value) from None


def _optional_text(row: Row, name: str) -> str:
    return row.text(name) if row.has(name) else ""


def _function_name(row: Row) -> str:
    metadata = row.decoded("metadata") if row.has("metadata") else {}
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _benchmark(name: str, title: str, first: datetime.date | None, last: datetime.date | None) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        dataset="livecodebench/code_generation_lite",
        licence="dataset card: CC; the problems belong to LeetCode, AtCoder and Codeforces",
        task="program_tests",
        rows=rows,
        prompt=partial(prompt, name=name, first=first, last=last, restricted=False),
        prompt_non_thinking=partial(prompt, name=name, first=first, last=last, restricted=True),
        expected_rows=(880, 167, 400, 511, 612, 713, 1055),  # release v5, what it added, releases v1 to v4, v6
    )


WINDOW = _benchmark("livecodebench", "LiveCodeBench (2024.10 to 2025.02)", FIRST_DAY, LAST_DAY)
ALL = _benchmark("livecodebench_all", "LiveCodeBench (all contests)", None, None)
