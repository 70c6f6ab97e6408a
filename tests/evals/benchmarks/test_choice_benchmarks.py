"""GPQA-Diamond and MMLU-Redux: golden rows, wrong schemas, and options whose order tells nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.benchmarks.gpqa_diamond import shuffled_places
from evals.benchmarks.registry import load_benchmark, read_benchmark
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import only_prompt, refusal, score

GPQA_ROW = {
    "Record ID": "rec1", "Question": "Which is lightest?\n", "Correct Answer": "helium", "Incorrect Answer 1": "neon",
    "Incorrect Answer 2": "argon\n", "Incorrect Answer 3": "xenon", "High-level domain": "Chemistry",
}  # fmt: skip
MMLU_ROW = {
    "question": "2 + 2?", "choices": ["3", "4", "5", "6"], "answer": 1, "error_type": "ok", "source": None,
    "correct_answer": None, "potential_reason": None,
}  # fmt: skip
ASK = 'Please show your choice in the `answer` field with only the choice letter, e.g., `"answer": "C"`.'


def options_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-D])\) (.*)$", text, re.MULTILINE))


def test_a_gpqa_row_becomes_a_question_whose_letter_is_that_of_the_right_answer(write: Write) -> None:
    prompt = only_prompt("gpqa_diamond", write(GPQA_ROW, name="gpqa_diamond.csv"))
    content = prompt.messages[0]["content"]
    assert content.startswith("Which is lightest?\n\nA) ")
    assert content.endswith(f"\n\n{ASK}")
    options = options_of(content)
    assert sorted(options.values()) == ["argon", "helium", "neon", "xenon"]
    assert options[prompt.reference["answer"]] == "helium"
    assert (prompt.task, prompt.domain) == ("multiple_choice", "Chemistry")


def test_the_place_of_the_right_answer_is_spread_evenly_and_does_not_hang_on_the_order_of_rows(write: Write) -> None:
    rows = [{**GPQA_ROW, "Question": f"Question {number}?"} for number in range(400)]
    prompts = load_benchmark("gpqa_diamond", write(*rows, name="a.csv"))
    counts = Counter(prompt.reference["answer"] for prompt in prompts)
    assert set(counts) == set("ABCD")
    assert all(70 <= count <= 130 for count in counts.values())  # 100 ± 3.5 standard deviations of 8.7
    backwards = load_benchmark("gpqa_diamond", write(*rows[::-1], name="b.csv"))
    assert backwards[::-1] == prompts


@given(st.text(), st.integers(1, 10))
def test_a_shuffle_is_a_permutation_and_the_same_each_time(question: str, num_options: int) -> None:
    places = shuffled_places(question, num_options)
    assert sorted(places) == list(range(num_options))
    assert places == shuffled_places(question, num_options)


def test_a_folder_of_gpqa_gives_the_diamond_set_alone(write: Write, tmp_path: Path) -> None:
    write(GPQA_ROW, name="gpqa/gpqa_diamond.csv")
    write({**GPQA_ROW, "Question": "main?"}, name="gpqa/gpqa_main.csv")
    assert len(load_benchmark("gpqa_diamond", tmp_path / "gpqa")) == 1


def test_a_gpqa_row_without_a_wrong_answer_is_refused(write: Write) -> None:
    row = {name: value for name, value in GPQA_ROW.items() if name != "Incorrect Answer 2"}
    assert "row 1: field 'Incorrect Answer 2' is missing" in refusal("gpqa_diamond", write(row, name="d.csv"))


def test_an_mmlu_row_keeps_the_published_order(write: Write) -> None:
    prompt = only_prompt("mmlu_redux", write(MMLU_ROW))
    assert prompt.messages[0]["content"] == f"2 + 2?\n\nA) 3\nB) 4\nC) 5\nD) 6\n\n{ASK}"
    assert prompt.reference == {"answer": "B"}


def test_faulty_mmlu_rows_are_left_out_and_counted_by_kind(write: Write) -> None:
    faulty = [{**MMLU_ROW, "error_type": kind} for kind in ("wrong_groundtruth", "no_correct_answer") for _ in "ab"]
    loaded = read_benchmark("mmlu_redux", write(MMLU_ROW, *faulty))
    assert len(loaded.prompts) == 1
    assert loaded.left_out == {"error_type wrong_groundtruth": 2, "error_type no_correct_answer": 2}
    assert "4 of 5 rows left out: error_type wrong_groundtruth (2); error_type no_correct_answer (2)" in loaded.notes
    assert "no prompt of MMLU-Redux among 4 rows" in refusal("mmlu_redux", write(*faulty, name="faulty.jsonl"))


def test_the_folder_of_a_subject_is_its_domain(write: Write, tmp_path: Path) -> None:
    write(MMLU_ROW, name="redux/virology/test.jsonl")
    write({**MMLU_ROW, "question": "3 + 1?"}, name="redux/anatomy/test.jsonl")
    assert [prompt.domain for prompt in load_benchmark("mmlu_redux", tmp_path / "redux")] == ["anatomy", "virology"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"answer": 4}, "field 'answer' must be an index from 0 to 3, got 4"),
        ({"answer": "B"}, "field 'answer' must be an integer, got 'B'"),
        ({"choices": ["one"]}, "field 'choices' must be 2 to 10 texts"),
        ({"choices": "3, 4"}, "field 'choices' must be JSON"),
        ({"error_type": None}, "field 'error_type' is missing"),
    ],
)
def test_an_mmlu_row_of_another_schema_is_refused(write: Write, change: dict[str, Any], part: str) -> None:
    assert f"rows.jsonl:1: {part}" in refusal("mmlu_redux", write({**MMLU_ROW, **change}))


def test_letters_are_scored(write: Write) -> None:
    prompt = only_prompt("mmlu_redux", write(MMLU_ROW))
    assert score(prompt, '<think>\nhm\n</think>\n\n{"answer": "B"}').outcome == "correct"
    assert score(prompt, '{"answer": "A"}').outcome == "incorrect"
    assert score(prompt, "Neither A nor C nor D.").outcome == "incorrect"
