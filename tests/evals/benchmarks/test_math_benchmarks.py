"""AIME, MATH-500 and GSM8K: golden rows in the published schemas, wrong ones, and answers in many forms."""

from __future__ import annotations

from typing import Any

import pytest

from evals.benchmarks.registry import load_benchmark
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import only_prompt, refusal, score

AIME_ROW = {"id": 60, "problem": "Find $x$ with $x-3=30$.", "solution": "Add 3.", "answer": "033", "url": "u"}
MATH_ROW = {
    "problem": "Halve $1$.", "solution": "So \\boxed{\\frac{1}{2}}.", "answer": "\\frac{1}{2}", "subject": "Algebra",
    "level": 2, "unique_id": "test/algebra/1.json",
}  # fmt: skip
GSM_ROW = {"question": "Ann has 1,000 eggs and sells 2.", "answer": "1000-2=<<1000-2=998>>998\n#### 998"}
ASK = "Please reason step by step, and put your final answer within \\boxed{}."


def test_an_aime_row_becomes_a_prompt_that_asks_for_a_box(write: Write) -> None:
    prompt = only_prompt("aime24", write(AIME_ROW))
    assert prompt.messages == ({"role": "user", "content": f"Find $x$ with $x-3=30$.\n\n{ASK}"},)
    assert (prompt.task, prompt.reference, prompt.domain) == ("boxed_math", {"answer": "33"}, "math")
    assert prompt.enable_thinking is None


@pytest.mark.parametrize(
    "row",
    [
        {"ID": "2024-I-4", "Problem": "P", "Solution": "S", "Answer": 33},
        {"question": "P", "answer": "33"},
        {"problem": "P", "answer": 33, "id": "0"},
    ],
)
def test_the_other_published_copies_of_aime_are_read(write: Write, row: dict[str, Any]) -> None:
    assert only_prompt("aime25", write(row)).reference == {"answer": "33"}


def test_both_parts_of_aime_in_one_folder_are_read(write: Write, tmp_path: Any) -> None:
    write({"question": "P", "answer": "1"}, name="aime/aime2025-I.jsonl")
    write({"question": "Q", "answer": "2"}, name="aime/aime2025-II.jsonl")
    assert [prompt.reference["answer"] for prompt in load_benchmark("aime25", tmp_path / "aime")] == ["1", "2"]


@pytest.mark.parametrize("answer", ["1000", "-1", "\\frac{1}{2}", "seven"])
def test_an_aime_answer_out_of_range_is_refused(write: Write, answer: str) -> None:
    message = refusal("aime24", write({**AIME_ROW, "answer": answer}))
    assert "rows.jsonl:1: field 'answer' must be an integer from 0 to 999" in message


def test_a_row_of_another_schema_names_file_row_field_and_mend(write: Write) -> None:
    message = refusal("aime24", write(AIME_ROW, {"prompt": "P", "answer": "1"}))
    assert "rows.jsonl:2: field 'problem' or 'Problem' or 'question' is missing" in message
    assert "(the row has 'prompt', 'answer')" in message
    assert "docs/benchmarks.md" in message


def test_a_math_500_row_keeps_its_subject_and_level(write: Write) -> None:
    prompt = only_prompt("math_500", write(MATH_ROW))
    assert prompt.reference == {"answer": "\\frac{1}{2}"}
    assert (prompt.domain, prompt.difficulty) == ("Algebra", 2)
    assert ASK in prompt.messages[0]["content"]


def test_gsm8k_takes_the_number_after_the_hashes(write: Write) -> None:
    assert only_prompt("gsm8k", write(GSM_ROW)).reference == {"answer": "998"}
    with_comma = {**GSM_ROW, "answer": "…\n#### 1,250"}
    assert only_prompt("gsm8k", write(with_comma)).reference == {"answer": "1250"}
    assert "a solution that ends in '#### N'" in refusal("gsm8k", write({**GSM_ROW, "answer": "998"}))


def test_gsm8k_reads_the_test_split_of_main_alone(write: Write, tmp_path: Any) -> None:
    for name in ("main/test-0.jsonl", "main/train-0.jsonl", "socratic/test-0.jsonl"):
        write({**GSM_ROW, "question": name}, name=f"gsm8k/{name}")
    (prompt,) = load_benchmark("gsm8k", tmp_path / "gsm8k")
    assert prompt.messages[0]["content"].startswith("main/test-0.jsonl")


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("<think>\n\\boxed{1}\n</think>\n\nIt is \\boxed{33}.", True),
        ("\\boxed{033}", True),
        ("\\boxed{34}, no, \\boxed{33}", True),
        ("\\boxed{33}, no, \\boxed{34}", False),
        ("33", False),
        ("<think>\n\\boxed{33}", False),
        ("x " * 30_000 + "\\boxed{33}", True),  # a model that does not think may reason in its answer
    ],
)
def test_aime_answers_are_scored_by_their_last_box(write: Write, completion: str, right: bool) -> None:
    prompt = only_prompt("aime24", write(AIME_ROW))
    assert score(prompt, completion).outcome == ("correct" if right else "incorrect")
