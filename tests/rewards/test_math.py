"""Algebra: which requests need a worker, worked solutions, forms that the library alone would let pass."""

from __future__ import annotations

import random
import re

import pytest

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem
from rewards.tasks.math import plain_latex

TASK = get_task("math")


def _request(answer: str, gold: str) -> ScoreRequest:
    return ScoreRequest("math", (), {"answer": gold}, f"\\boxed{{{answer}}}")


@pytest.mark.parametrize(
    ("answer", "gold", "needs_worker"),
    [
        ("5", "5", False),
        ("6", "5", False),
        ("1,024", "1024", False),
        ("9^{9^{9^9}}", "7", False),
        ("\\frac{1}{2}", "\\frac{1}{2}", False),
        ("0.5", "\\frac{1}{2}", True),
        ("9^{9^{9^9}}", "2^{100}", False),
        ("9^{9^{9^9}}", "2^{3^{4}}", True),
        ("4+6x", "6x+4", True),
    ],
)
def test_only_what_needs_algebra_goes_to_a_worker(answer: str, gold: str, needs_worker: bool) -> None:
    assert TASK.needs_worker(_request(answer, gold)) is needs_worker


@pytest.mark.parametrize(
    ("text", "plain"),
    [("$x = 5$.", "5"), ("\\left(1,\\,2\\right)", "(1, 2)"), ("x=y=3", "x=y=3"), ("xy=3", "xy=3"), ("5.", "5")],
)
def test_latex_is_made_plain(text: str, plain: str) -> None:
    assert " ".join(plain_latex(text).replace("( ", "(").replace(" )", ")").split()) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("x=\\frac{9}{8}", "\\frac{9}{8}", 1.0),
        ("1.125", "\\frac{9}{8}", 1.0),
        ("9/8", "\\frac{9}{8}", 1.0),
        ("\\dfrac98", "\\frac{9}{8}", 1.0),
        ("7.0", "7", 1.0),
        ("2(3x+2)", "6x+4", 1.0),
        ("6x+5", "6x+4", 0.0),
        ("(7)(8)", "56", 0.0),
        ("7 8", "56", 0.0),
        ("|-7|", "7", 0.0),
        ("\\lfloor 7.5 \\rfloor", "7", 0.0),
        ("\\max(7,8)", "8", 0.0),
        ("4!", "24", 0.0),
        ("7.0000001", "7", 0.0),
        ("\\{7,8\\}", "7", 0.0),
        ("\\frac{9}", "\\frac{9}{8}", 0.0),
        ("{{{", "\\frac{9}{8}", 0.0),
        ("\\frac{1}{0}", "\\frac{9}{8}", 0.0),
    ],
)
def test_values_and_forms(answer: str, gold: str, reward: float) -> None:
    assert TASK.score(_request(answer, gold)).reward == reward


def test_a_reference_that_cannot_be_read_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="math reference"):
        TASK.score(_request("\\frac{1}{2}", "\\frac{x"))


def test_the_worked_solution_of_a_signed_sum_and_its_slips() -> None:
    item = TaskItem(({"role": "user", "content": "Evaluate $8+5-9+2$."},), {"answer": "6"})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("8+5=13\n13-9=4\n4+2=6", "\\boxed{6}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    # 13 loses its ten; 3-9=-6 and -5+2=-3 are counted one too far.
    assert (wrong.reasoning, wrong.answer) == ("8+5=3\n3-9=-5\n-5+2=-2", "\\boxed{-2}")


def test_the_worked_solution_of_a_linear_equation_and_its_slip() -> None:
    item = TaskItem(({"role": "user", "content": "Solve 3x+4=19 for x."},), {"answer": "5"})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("3x+4=19\n3x=19-4=15\nx=15/3=5", "\\boxed{5}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    # One coefficient too many on the right (15+3=18), then one too many: 18/3+1.
    assert (wrong.reasoning, wrong.answer) == ("3x+4=19\n3x=19-4=18\nx=18/3=7", "\\boxed{7}")


def test_a_subtracted_constant_is_moved_over_with_its_sign() -> None:
    item = TaskItem(({"role": "user", "content": "Solve 7x-12=37 for x."},), {"answer": "7"})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("7x-12=37\n7x=37+12=49\nx=49/7=7", "\\boxed{7}")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    # 37+12=49, slipped to 49+7=56; 56/7=8, slipped to 9.
    assert (wrong.reasoning, wrong.answer) == ("7x-12=37\n7x=37+12=56\nx=56/7=9", "\\boxed{9}")


def test_linear_equations_have_a_whole_root_between_1_and_9_that_solves_them() -> None:
    seen = set()
    for seed in range(400):
        item = TASK.generate(random.Random(seed), 1)
        question = item.messages[-1]["content"]
        found = re.fullmatch(r"Solve ([2-9])x([+-])(\d+)=(\d+) for x\.", question)
        assert found, question
        a, b, c = int(found[1]), int(found[2] + found[3]), int(found[4])
        root = int(item.reference["answer"])
        assert 1 <= root <= 9
        assert 1 <= abs(b) <= 20
        assert a * root + b == c >= 0
        seen.add(found[2])
    assert seen == {"+", "-"}
