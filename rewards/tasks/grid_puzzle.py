"""Grid puzzles: small sudokus, n queens and futoshiki.

Area: reasoning. Reward type: rule.
Verified: the answer is one full grid of the right shape that keeps every given and every rule of the puzzle; any
solution counts, not only the generator's.
Known hacks: scorers that look for the right rows inside a text accept junk or several grids around them, scorers that
check the rules alone accept a memorised grid with other givens, and `eval` of the answer runs code.
Guard: the whole answer has to be the grid, read symbol by symbol; givens are compared first; sudokus and futoshikis
have one solution, and which cells are given varies, so that no constant grid fits more than a few.
"""

from __future__ import annotations

import functools
import random
import re
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot
from rewards.grid_rules import BLANK, EMPTY, QUEEN, Grid, Puzzle, all_queens, broken_rule, solutions, with_blanks
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MAX_GRID_CHARS = 400
"""A 9x9 grid with blanks between its cells and after its rows needs fewer than 200."""

_LAST_LEVEL = 5
_ROW_BREAK = re.compile(r"[/\n]")
_ROWS = " Answer with the rows of the full grid, one a line."


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: 4x4 sudoku with a blank in each of three rows; 1: 4x4 with 9; 2: 6x6 with 20; 3: six to nine queens;
    4: futoshiki 5x5; 5: sudoku 9x9 with 36 blanks.
    """
    if difficulty == 0:
        puzzle, question = _row_sudoku(rng)
    elif difficulty == 3:
        puzzle, question = _queens(rng)
    elif difficulty == 4:
        puzzle, question = _futoshiki(rng)
    else:
        height, width, num_blanks = {1: (2, 2, 9), 2: (2, 3, 20), 5: (3, 3, 36)}[difficulty]
        puzzle, question = _sudoku(rng, height, width, num_blanks)
    return TaskItem(({"role": "user", "content": question},), {"puzzle": puzzle}, domain="grid puzzles")


def _full(rng: random.Random, puzzle: dict[str, Any]) -> dict[str, Any]:
    """The puzzle with a random solution as its givens."""
    empty = puzzle | {"givens": [BLANK * puzzle["size"]] * puzzle["size"]}
    return puzzle | {"givens": solutions(empty, limit=1, rng=rng)[0]}


def _row_sudoku(rng: random.Random) -> tuple[Puzzle, str]:
    """Rows alone decide every blank: the smallest step of the real thing."""
    full = _full(rng, {"kind": "sudoku", "size": 4, "box": [2, 2]})
    givens = list(full["givens"])
    for row in rng.sample(range(4), 3):
        column = rng.randrange(4)
        givens[row] = givens[row][:column] + BLANK + givens[row][column + 1 :]
    return full | {"givens": givens}, "Fill the sudoku:\n" + "\n".join(givens)


def _sudoku(rng: random.Random, height: int, width: int, num_blanks: int) -> tuple[Puzzle, str]:
    size = height * width
    puzzle = with_blanks(rng, _full(rng, {"kind": "sudoku", "size": size, "box": [height, width]}), num_blanks)
    rules = (
        f"Each row, each column and each box of {height} rows and {width} columns holds the digits 1 to {size} once."
    )
    return puzzle, f"Solve this sudoku. {rules}\n" + "\n".join(puzzle["givens"]) + "\n" + _ROWS.strip()


@functools.cache
def _placements(size: int) -> list[Grid]:
    return all_queens(size)


def _queens(rng: random.Random) -> tuple[Puzzle, str]:
    """One to three queens of a random placement are given."""
    size = rng.randint(6, 9)
    placement = rng.choice(_placements(size))
    kept = sorted(rng.sample(range(size), rng.randint(1, 3)))
    givens = [line.replace(EMPTY, BLANK) if row in kept else BLANK * size for row, line in enumerate(placement)]
    stand = "; ".join(f"row {row + 1}, column {placement[row].index(QUEEN) + 1}" for row in kept)
    question = (
        f"Place {size} queens on a board of {size} by {size} so that no two share a row, a column or a diagonal. "
        f"Queens stand in {stand}.{_ROWS} Write Q for a queen and . for an empty square."
    )
    return {"kind": "queens", "size": size, "givens": givens, "solution": placement}, question


def _futoshiki(rng: random.Random) -> tuple[Puzzle, str]:
    """Half of the neighbouring pairs carry an inequality, then as many givens as possible go."""
    size = 5
    full = _full(rng, {"kind": "futoshiki", "size": size})
    grid = full["givens"]
    right = [((r, c), (r, c + 1)) for r in range(size) for c in range(size - 1)]
    down = [((r, c), (r + 1, c)) for r in range(size - 1) for c in range(size)]
    pairs = rng.sample(right + down, 16)
    less = [[list(a), list(b)] if grid[a[0]][a[1]] < grid[b[0]][b[1]] else [list(b), list(a)] for a, b in pairs]
    puzzle = with_blanks(rng, full | {"less": less}, 20)
    said = ", ".join(f"r{r + 1}c{c + 1} < r{s + 1}c{d + 1}" for (r, c), (s, d) in less)
    question = (
        f"Solve this futoshiki. Each row and each column holds the digits 1 to {size} once, and {said} "
        "(r is the row, c the column).\n" + "\n".join(puzzle["givens"]) + "\n" + _ROWS.strip()
    )
    return puzzle, question


def _solved(puzzle: Puzzle) -> Grid:
    return puzzle["solution"] if puzzle["kind"] == "queens" else solutions(puzzle, limit=1)[0]


def answer(item: TaskItem) -> str:
    """A solution, row by row."""
    return "\n".join(_solved(item.reference["puzzle"]))


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The blanks one after another; a wrong step writes another digit, or puts the queen one column further."""
    puzzle = item.reference["puzzle"]
    solution = _solved(puzzle)
    if puzzle["kind"] == "queens":
        lines, rows = _place_queens(rng, solution, error_rate)
        return Worked("\n".join(lines), "\n".join(rows))
    lines, rows = [], []
    for row, (given, solved) in enumerate(zip(puzzle["givens"], solution, strict=True)):
        filled = ""
        for column, symbol in enumerate(given):
            digit = solved[column]
            if symbol == BLANK and rng.random() < error_rate:
                digit = str(int(digit) % puzzle["size"] + 1)
            if symbol == BLANK:
                place = given if given.count(BLANK) == 1 else f"r{row + 1}c{column + 1}"
                lines.append(f"{place}: {digit}")
            filled += digit
        rows.append(filled)
    return Worked("\n".join(lines), "\n".join(rows))


def _place_queens(rng: random.Random, solution: Grid, error_rate: float) -> tuple[list[str], Grid]:
    lines, rows = [], []
    for row, placed in enumerate(solution):
        size, column = len(placed), placed.index(QUEEN)
        if rng.random() < error_rate:
            column = (column + 1) % size
        lines.append(f"row {row + 1}: column {column + 1}")
        rows.append(EMPTY * column + QUEEN + EMPTY * (size - column - 1))
    return lines, rows


def read_grid(text: str, size: int) -> Grid | None:
    """The grid that a text consists of, None when it has another shape or holds anything else.

    Rows end with a line break or a slash, cells may be set apart by blanks; rows without blanks inside may also be set
    apart by blanks. One code fence around the grid is allowed.
    """
    text = text.strip()
    if len(text) > MAX_GRID_CHARS:
        return None
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].strip()
    rows = _ROW_BREAK.split(text) if _ROW_BREAK.search(text) else text.split()
    grid = ["".join(row.split()) for row in rows]
    return grid if len(grid) == size and all(len(row) == size and row.isascii() for row in grid) else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer as a grid, then the givens, then the rules."""
    puzzle = request.reference["puzzle"]
    slot = answer_slot(parsed.answer)
    grid = read_grid(slot, puzzle["size"]) if slot is not None else None
    if grid is None:
        return Score.incorrect("answer is not one grid")
    broken = broken_rule(puzzle, grid)
    return Score.correct() if broken is None else Score.incorrect(broken)


_SUDOKU = {"puzzle": {"kind": "sudoku", "size": 4, "box": [2, 2], "givens": ["1_34", "3412", "_143", "432_"]}}
_SOLVED = "1234 3412 2143 4321"
_BOARD = {"puzzle": {"kind": "queens", "size": 4, "givens": ["_Q__", "____", "____", "____"]}}
_UNEQUAL = {"puzzle": {"kind": "futoshiki", "size": 2, "givens": ["__", "__"], "less": [[[0, 1], [0, 0]]]}}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _SUDOKU, note=note)


TASK = Task(
    name="grid_puzzle",
    area="reasoning",
    reward_type="rule",
    summary="sudoku, n queens, futoshiki: the grid keeps the givens and the rules",
    hack="a memorised grid with other givens, junk or several grids around the right one, code for an eval",
    guard="the whole answer is one grid, givens are compared, every rule is checked on the answer itself",
    generate=generate,
    max_difficulty=_LAST_LEVEL,
    verify=verify,
    reference_keys=("puzzle",),
    answer=answer,
    work=work,
    known_good=(
        _example(f"<think>\n1_34: 2\n_143: 2\n432_: 1\n</think>\n\n{_SOLVED}", "after thinking"),
        _example("1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1", "cells set apart"),
        _example("```\n1234\n3412\n2143\n4321\n```", "code fence"),
        _example("Done: <answer>1234/3412/2143/4321</answer>", "answer tag, slashes"),
        Example(".Q..\n...Q\nQ...\n..Q.", _BOARD, note="queens"),
        Example("21\n12", _UNEQUAL, note="inequality"),
    ),
    known_bad=(
        _example("2143 4321 1234 3412", "solved grid with other givens"),
        _example("1234 3412 2143 4312", "last given pair swapped"),
        _example("1_34 3412 _143 432_", "blanks left"),
        _example("1434 3412 2143 4321", "a digit twice in a row"),
        _example("1234 3412 2143", "a row left out"),
        _example(f"{_SOLVED} {_SOLVED}", "the grid twice"),
        _example(f"{_SOLVED} or 2143 4321 1234 3412", "two grids"),
        _example(f"The grid is {_SOLVED}", "words around the grid"),
        _example("1234341221434321", "one run of digits"),
        _example("1,2,3,4 3,4,1,2 2,1,4,3 4,3,2,1", "commas"),
        _example("[[1,2,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,1]]", "Python list"),
        _example("__import__('os').system('true')", "code"),
        _example("١٢٣٤ ٣٤١٢ ٢١٤٣ ٤٣٢١", "digits that are not ASCII"),
        _example(f"<answer>{_SOLVED}</answer><answer>2143 4321 1234 3412</answer>", "two answer tags"),
        _example("1/" * 5000, "thousands of rows"),
        _example(f"<think>\n{_SOLVED}", "answer inside unfinished thinking"),
        _example(f"<think>\n{_SOLVED}\n</think>\n\n", "answer only inside the block"),
        Example("..Q.\nQ...\n...Q\n.Q..", _BOARD, note="the other solution, without the given queen"),
        Example(".Q..\nQ...\n...Q\n..Q.", _BOARD, note="queens on a diagonal"),
        Example(".Q..\n...Q\nQ..Q\n..Q.", _BOARD, note="a queen too many"),
        Example("....\n....\n....\n....", _BOARD, note="no queens"),
        Example("12\n21", _UNEQUAL, note="inequality broken"),
    ),
)
