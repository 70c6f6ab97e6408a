"""The last box of an answer, and the form in which two answers are one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.benchmark_tasks.boxed_math import TASK, is_words, last_box, normal_form, same_form
from rewards.task import ScoreRequest


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        ("\\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{\\boxed{\\boxed{3}}}", "3"),
        ("\\boxed{x + \\boxed{3}}", "x + \\boxed{3}"),
        ("\\boxed{1} and \\boxed{2", "1"),
        ("\\boxed{2", None),
        ("boxed{2}", None),
        ("", None),
    ],
)
def test_the_last_box_that_closes_counts(answer: str, box: str | None) -> None:
    assert last_box(answer) == box


@given(st.text(alphabet="ab{}\\ ", max_size=30))
def test_any_balanced_content_comes_back(content: str) -> None:
    depth = 0
    for index, character in enumerate(content):
        escaped = index > 0 and content[index - 1] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return
    if depth == 0 and not content.endswith("\\"):
        assert last_box(f"So $\\boxed{{{content}}}$.") == content.strip()


@pytest.mark.parametrize(
    ("latex", "form"),
    [
        (" 5. ", "5"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("\\frac12", "\\frac{1}{2}"),
        ("\\frac 5{13}", "\\frac{5}{13}"),
        ("-3/4", "-\\frac{3}{4}"),
        ("\\sqrt2", "\\sqrt{2}"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("1,234,567", "1234567"),
        ("12,34", "12,34"),
        ("(1,234)", "(1,234)"),
        ("\\$18.90", "18.90"),
        ("50\\%", "50"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("5\\text{ cm}", "5"),
        ("5\\,\\mbox{cm}^2", "5"),
        ("x = 7", "7"),
        ("x \\in [-2,7]", "[-2,7]"),
        ("f(x) = 7", "f(x)=7"),
        ("52_{8}", "52_8"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
        ("\\text{Evelyn}", "evelyn"),
        ("2\\pi  r h", "2\\pi rh"),
        ("x \\in A", "A"),
        ("\\sqrt x", "\\sqrt{x}"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\leftarrow", "\\leftarrow"),
    ],
)
def test_what_is_only_writing_is_taken_away(latex: str, form: str) -> None:
    assert normal_form(latex) == form


@given(st.text(alphabet="x12+-/,.()\\{}$% frac", max_size=20))
def test_a_normal_form_of_a_number_is_its_own(text: str) -> None:
    assert same_form(text, text) is bool(normal_form(text))


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        ("Evelyn", "\\text{Evelyn}", True), ("\\text{evelyn}", "\\text{Evelyn}", True),
        ("Eve", "\\text{Evelyn}", False),
        ("C", "\\text{(C)}", True), ("(C)", "C", True), ("c", "C", False), ("D", "\\text{(C)}", False),
        ("", "", False), ("\\text{ }", "\\text{}", False), ("June 20", "\\text{June 20}", True),
    ],
)  # fmt: skip
def test_words_and_options_are_compared_as_text(found: str, gold: str, same: bool) -> None:
    assert same_form(found, gold) is same


def test_words_are_never_multiplied() -> None:
    assert is_words("\\text{even}")
    assert not is_words("5\\text{ cm}")
    request = ScoreRequest("boxed_math", (), {"answer": "\\text{even}"}, "\\boxed{neve}")
    assert TASK.score(request).reason == "other words than the reference"
