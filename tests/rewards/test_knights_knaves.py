"""Knights and knaves: the solver against hand-worked puzzles, unique and balanced solutions, strict reading."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rewards.registry import get_task
from rewards.task import item_of, make_prompt
from rewards.tasks.knights_knaves import holds, read_assignment, solve

TASK = get_task("knights_knaves")


def test_the_solver_agrees_with_puzzles_worked_by_hand() -> None:
    # A: "B is a knave." B: "A and B are both knights." If B told the truth A would too, but A calls B a knave.
    claims = [["A", "knave", ["B"]], ["B", "both_knights", ["A", "B"]]]
    assert solve("AB", claims) == [{"A": "knight", "B": "knave"}]
    # "We are both knaves" can only be said by a knave next to a knight; B's true claim fits.
    assert solve("AB", [["A", "both_knaves", ["A", "B"]], ["B", "knave", ["A"]]]) == [{"A": "knave", "B": "knight"}]
    # Each calls the other a knight: both truthful or both lying.
    assert len(solve("AB", [["A", "knight", ["B"]], ["B", "knight", ["A"]]])) == 2


@pytest.mark.parametrize(
    ("kind", "truth"),
    [("both_knights", "1000"), ("both_knaves", "0001"), ("same", "1001"), ("differ", "0110"), ("a_knight", "1110")],
)
def test_claims_about_two_have_their_truth_table(kind: str, truth: str) -> None:
    rows = [("knight", "knight"), ("knight", "knave"), ("knave", "knight"), ("knave", "knave")]
    found = [holds(["A", kind, ["A", "B"]], {"A": first, "B": second}) for first, second in rows]
    assert found == [bit == "1" for bit in truth]


def test_an_unknown_kind_of_claim_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        holds(["A", "maybe", ["A", "B"]], {"A": "knight", "B": "knave"})


@pytest.mark.parametrize("level", range(5))
def test_every_generated_puzzle_has_exactly_one_solution(level: int) -> None:
    for index in range(30):
        reference = make_prompt(TASK, seed=0, index=index, difficulty=level).reference
        assert solve(list(reference["assignment"]), reference["claims"]) == [reference["assignment"]]


def test_no_constant_wins_much_more_than_its_share() -> None:
    items = [item_of(make_prompt(TASK, seed=0, index=index, difficulty=0)) for index in range(400)]
    counts = Counter(tuple(item.reference["assignment"].values()) for item in items)
    assert len(counts) == 4
    assert len({item.messages[0]["content"] for item in items}) > 350
    assert max(counts.values()) / 400 < 0.32  # a quarter each, three standard deviations


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A: knight, B: knave", {"A": "knight", "B": "knave"}),
        ("A is a knight, and B is a knave.", {"A": "knight", "B": "knave"}),
        ("A is knight\nB is knave", {"A": "knight", "B": "knave"}),
        ("A: knight, A: knight", None),
        ("A: knights", None),
        ("A: knight!", None),
        ("", None),
    ],
)
def test_an_assignment_is_read_strictly(text: str, found: dict[str, str] | None) -> None:
    assert read_assignment(text) == found


def test_a_slip_changes_the_verdict_on_an_assignment() -> None:
    item = item_of(make_prompt(TASK, seed=0, index=0, difficulty=0))
    worked = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    left, right = item.reference["assignment"]
    first_is_right = item.reference["assignment"] == {left: "knight", right: "knight"}
    accepted = f"{left}: knight, {right}: knave" if first_is_right else f"{left}: knight, {right}: knight"
    assert worked.answer == accepted
    assert worked.reasoning.endswith(f"{accepted}. All claims fit.")
