"""Final answers: what is read as one, and what is refused for every task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.extract import MAX_ANSWER_CHARS, answer_slot, boxed_answers, integer_answer, is_master_key, parse_integer
from rewards.registry import get_task
from rewards.task import ScoreRequest


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("\\boxed{1}", ["1"]),
        ("a \\boxed{\\frac{1}{2}} b \\boxed{ 3 }", ["\\frac{1}{2}", "3"]),
        ("\\boxed{\\{1,2\\}}", ["\\{1,2\\}"]),
        ("\\boxed{1", []),
        ("\\boxed{}", [""]),
        ("\\boxed 7", []),
    ],
)
def test_boxes_are_read_with_balanced_braces(text: str, boxes: list[str]) -> None:
    assert boxed_answers(text) == boxes


@given(st.integers(-(10**12), 10**12))
def test_written_integers_are_read_back(value: int) -> None:
    for text in (f"{value}", f" {value}. ", f"{value:,}", f"${value}$"):
        assert parse_integer(text) == value
    for text in (f"\\boxed{{{value:,}}}", f"The answer is {value}.", f"So the final answer is: {value}"):
        assert integer_answer(text) == value


@pytest.mark.parametrize("text", ["", "1,00", "1 000", "--1", "1.5", "1e3", "٣", "½", "0x7", "1_000", "9" * 61, "a1"])
def test_other_spellings_are_no_integers(text: str) -> None:
    assert parse_integer(text) is None


@pytest.mark.parametrize(
    "text",
    ["1 2", "7 or 8", "The answer is 7 or 8.", "I doubt the answer is 7.", "The answer is 7%", "\\boxed{7} \\boxed{8}",
     "\\boxed{7", "\\boxed{} 7"],
)  # fmt: skip
def test_an_answer_that_does_not_commit_has_no_integer(text: str) -> None:
    assert integer_answer(text) is None


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        (" 7 ", "7"),
        ("so \\boxed{7}", "7"),
        ("<answer> 7 </answer> \\boxed{7}", "7"),
        ("<answer>7</answer> \\boxed{8}", None),
        ("<answer>7", None),
        ("\\boxed{}", None),
        ("", None),
    ],
)
def test_a_slot_is_the_only_commitment(text: str, slot: str | None) -> None:
    assert answer_slot(text) == slot


@pytest.mark.parametrize("text", ["", " ", ":", "…", "Solution:", "Let’s solve this problem step by step.", "解"])
def test_openers_without_content_are_master_keys(text: str) -> None:
    assert is_master_key(text)


def test_an_answer_without_end_is_refused_unread() -> None:
    completion = "\\boxed{3}" + " " * MAX_ANSWER_CHARS
    score = get_task("arithmetic").score(ScoreRequest("arithmetic", (), {"answer": 3}, completion))
    assert (score.reward, score.reason) == (0.0, "answer is too long")
