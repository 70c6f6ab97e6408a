"""Grid puzzles: unique solutions, rules checked on the answer, several solutions where the puzzle has them."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from rewards.grid_rules import all_queens, broken_rule, solutions
from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks.grid_puzzle import read_grid

TASK = get_task("grid_puzzle")


def _items(level: int, count: int) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


def _reward(puzzle: dict[str, object], answer: str) -> float | None:
    return TASK.score(ScoreRequest("grid_puzzle", (), {"puzzle": puzzle}, answer)).reward


def test_the_solver_finds_all_288_small_sudokus() -> None:
    empty = {"kind": "sudoku", "size": 4, "box": [2, 2], "givens": ["____"] * 4}
    found = solutions(empty, limit=1000)
    assert len(found) == len({tuple(grid) for grid in found}) == 288


def test_the_solver_agrees_with_brute_force_on_latin_squares_with_an_inequality() -> None:
    puzzle = {"kind": "futoshiki", "size": 3, "givens": ["___"] * 3, "less": [[[0, 0], [0, 1]], [[2, 2], [1, 2]]]}
    rows = ["".join(row) for row in itertools.permutations("123")]
    grids = [list(grid) for grid in itertools.product(rows, repeat=3) if broken_rule(puzzle, list(grid)) is None]
    assert 0 < len(grids) < 12
    assert sorted(solutions(puzzle, limit=100)) == sorted(grids)


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 0), (3, 0), (4, 2), (5, 10), (6, 4), (7, 40), (8, 92)])
def test_the_numbers_of_queen_placements_are_the_known_ones(size: int, count: int) -> None:
    assert len(all_queens(size)) == count


@pytest.mark.parametrize(("level", "size", "blanks"), [(0, 4, 3), (1, 4, 9), (2, 6, 20), (4, 5, 12), (5, 9, 36)])
def test_sudokus_and_futoshikis_have_one_solution_and_their_blanks(level: int, size: int, blanks: int) -> None:
    for item in _items(level, 8):
        puzzle = item.reference["puzzle"]
        assert len(solutions(puzzle, limit=2)) == 1
        assert puzzle["size"] == size
        assert "".join(puzzle["givens"]).count("_") >= blanks


def test_every_placement_with_the_given_queens_is_accepted_and_every_other_refused() -> None:
    for item in _items(3, 10):
        puzzle = item.reference["puzzle"]
        given = [(row, line.index("Q")) for row, line in enumerate(puzzle["givens"]) if "Q" in line]
        assert 1 <= len(given) <= 3
        for placement in all_queens(puzzle["size"]):
            expected = 1.0 if all(placement[row][column] == "Q" for row, column in given) else 0.0
            assert _reward(puzzle, "\n".join(placement)) == expected


def test_the_question_of_level_0_is_short_and_shows_the_givens() -> None:
    questions = set()
    for item in _items(0, 1000):
        question = item.messages[0]["content"]
        assert question == "Fill the sudoku:\n" + "\n".join(item.reference["puzzle"]["givens"])
        questions.add(question)
    assert len(questions) > 950


def test_the_worked_solution_names_the_missing_digit_of_each_row_and_a_slip_takes_the_next() -> None:
    puzzle = {"kind": "sudoku", "size": 4, "box": [2, 2], "givens": ["1_34", "3412", "_143", "432_"]}
    item = TaskItem((), {"puzzle": puzzle})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("1_34: 2\n_143: 2\n432_: 1", "1234\n3412\n2143\n4321")
    wrong = TASK.work(random.Random(0), item, 1.0)  # type: ignore[misc]
    assert (wrong.reasoning, wrong.answer) == ("1_34: 3\n_143: 3\n432_: 2", "1334\n3412\n3143\n4322")


def test_the_givens_are_compared_before_the_rules() -> None:
    puzzle = {"kind": "sudoku", "size": 4, "box": [2, 2], "givens": ["1_34", "3412", "_143", "432_"]}
    assert broken_rule(puzzle, ["1234", "3412", "2143", "4321"]) is None
    assert broken_rule(puzzle, ["2143", "4321", "1234", "3412"]) == "a given was changed"


@pytest.mark.parametrize(
    ("grid", "broken"),
    [
        (["1234", "3412", "2143", "4321"], None),
        (["1234", "3412", "2143", "4331"], "a row has not each digit once"),
        (["1234", "3412", "2143", "4312"], "a column has not each digit once"),
        (["1234", "2143", "3412", "4321"], "a box has not each digit once"),
        (["1234", "3412", "2143"], "wrong shape"),
    ],
)
def test_each_rule_is_checked(grid: list[str], broken: str | None) -> None:
    assert broken_rule({"kind": "sudoku", "size": 4, "box": [2, 2], "givens": ["____"] * 4}, grid) == broken


@pytest.mark.parametrize(
    ("text", "grid"),
    [("12 21", ["12", "21"]), ("1 2\n2 1\n", ["12", "21"]), ("12/21", ["12", "21"]), ("```\n12\n21\n```", ["12", "21"]),
     ("1 2 / 2 1", ["12", "21"]), ("1 2 2 1", None), ("12 21 12", None), ("12\n\n21", None), ("12 21.", None),
     ("", None), ("```", None), ("``````", None), ("١٢ ٢١", None)],
)  # fmt: skip
def test_a_grid_is_read_strictly(text: str, grid: list[str] | None) -> None:
    assert read_grid(text, 2) == grid


def test_a_puzzle_is_generated_fast_enough_for_a_rollout() -> None:
    for level in range(6):
        began = time.perf_counter()
        _items(level, 5)
        assert (time.perf_counter() - began) / 5 < 0.5, f"level {level}"


def test_an_unknown_kind_is_a_failure_of_the_verifier() -> None:
    with pytest.raises(ValueError, match="unknown kind 'chess'"):
        _reward({"kind": "chess", "size": 2, "givens": ["__", "__"]}, "12 21")
