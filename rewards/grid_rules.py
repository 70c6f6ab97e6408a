"""Rules and a solver for number grids (sudoku, futoshiki) and for queens, as `rewards.tasks.grid_puzzle` uses them.

A puzzle is JSON: `kind`, `size`, `givens` (rows of symbols, "_" for a cell to fill), for sudoku `box` (height, width),
for futoshiki `less` (pairs of cells [row, column] of which the first is smaller). A grid is a list of rows of symbols.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Puzzle = Mapping[str, Any]
Grid = list[str]

BLANK, QUEEN, EMPTY = "_", "Q", "."


def broken_rule(puzzle: Puzzle, grid: Sequence[str]) -> str | None:
    """The first rule or given that a full grid breaks, None when it is a solution; ValueError for an unknown kind."""
    kind, size = puzzle["kind"], puzzle["size"]
    if len(grid) != size or any(len(row) != size for row in grid):
        return "wrong shape"
    for given_row, row in zip(puzzle["givens"], grid, strict=True):
        if any(given not in (BLANK, symbol) for given, symbol in zip(given_row, row, strict=True)):
            return "a given was changed"
    if kind == "queens":
        return _broken_queens(size, grid)
    if kind not in ("sudoku", "futoshiki"):
        raise ValueError(f"grid puzzle: unknown kind {kind!r}")
    digits = {str(digit) for digit in range(1, size + 1)}
    if any(set(row) != digits for row in grid):
        return "a row has not each digit once"
    if any(set(column) != digits for column in zip(*grid, strict=True)):
        return "a column has not each digit once"
    if kind == "sudoku" and any(set(box) != digits for box in _boxes(grid, *puzzle["box"])):
        return "a box has not each digit once"
    if any(grid[r][c] >= grid[s][d] for (r, c), (s, d) in puzzle.get("less", ())):
        return "an inequality does not hold"
    return None


def _boxes(grid: Sequence[str], height: int, width: int) -> Iterator[str]:
    for top in range(0, len(grid), height):
        for left in range(0, len(grid), width):
            yield "".join(row[left : left + width] for row in grid[top : top + height])


def _broken_queens(size: int, grid: Sequence[str]) -> str | None:
    if set("".join(grid)) - {QUEEN, EMPTY}:
        return "a symbol that does not belong on the board"
    places = [(row, column) for row in range(size) for column in range(size) if grid[row][column] == QUEEN]
    if len(places) != size:
        return f"not {size} queens"
    lines = ([r for r, _ in places], [c for _, c in places], [r - c for r, c in places], [r + c for r, c in places])
    return "two queens attack each other" if any(len(set(line)) < size for line in lines) else None


def solutions(puzzle: Puzzle, *, limit: int, rng: random.Random | None = None) -> list[Grid]:
    """Up to `limit` solutions of a number grid; `rng` tries the digits in random order instead of ascending."""
    search = _Search(puzzle, limit, rng)
    search.fill(search.blanks)
    assert all(broken_rule(puzzle, grid) is None for grid in search.found), "the solver broke a rule"
    return search.found


class _Search:
    """Backtracking on the blank cell with the fewest digits left; free digits are bits of a mask.

    A cell is (row, column, box); grids without boxes take the row for the box, which adds nothing.
    """

    def __init__(self, puzzle: Puzzle, limit: int, rng: random.Random | None) -> None:
        size = puzzle["size"]
        height, width = puzzle["box"] if puzzle["kind"] == "sudoku" else (1, size)
        self.limit, self.rng = limit, rng
        self.found: list[Grid] = []
        self.cells = [[0 if symbol == BLANK else int(symbol) for symbol in row] for row in puzzle["givens"]]
        self.blanks: list[tuple[int, int, int]] = []
        all_digits = (1 << (size + 1)) - 2
        self.rows, self.columns, self.boxes = [all_digits] * size, [all_digits] * size, [all_digits] * size
        for row in range(size):
            for column in range(size):
                cell = (row, column, row // height * height + column // width)
                if self.cells[row][column]:
                    self._take(cell, 1 << self.cells[row][column])
                else:
                    self.blanks.append(cell)
        self.less = [(tuple(small), tuple(large)) for small, large in puzzle.get("less", ())]

    def fill(self, blanks: list[tuple[int, int, int]]) -> None:
        """Fill the blanks that are left in every way, until `limit` solutions are found."""
        if not blanks:
            self.found.append(["".join(map(str, row)) for row in self.cells])
            return
        cell = min(blanks, key=lambda blank: self._free(blank).bit_count())
        row, column, _ = cell
        rest = [blank for blank in blanks if blank != cell]
        free = self._free(cell)
        digits = [digit for digit in range(1, len(self.cells) + 1) if free >> digit & 1]
        for digit in self.rng.sample(digits, len(digits)) if self.rng else digits:
            self.cells[row][column] = digit
            if self._inequalities_hold():
                self._take(cell, 1 << digit)
                self.fill(rest)
                self._give_back(cell, 1 << digit)
            if len(self.found) >= self.limit:
                break
        self.cells[row][column] = 0

    def num_free(self, row: int, column: int) -> int:
        """How many digits the row, column and box of a blank cell leave."""
        return next(self._free(cell).bit_count() for cell in self.blanks if cell[:2] == (row, column))

    def _free(self, cell: tuple[int, int, int]) -> int:
        row, column, box = cell
        return self.rows[row] & self.columns[column] & self.boxes[box]

    def _take(self, cell: tuple[int, int, int], bit: int) -> None:
        row, column, box = cell
        self.rows[row] &= ~bit
        self.columns[column] &= ~bit
        self.boxes[box] &= ~bit

    def _give_back(self, cell: tuple[int, int, int], bit: int) -> None:
        row, column, box = cell
        self.rows[row] |= bit
        self.columns[column] |= bit
        self.boxes[box] |= bit

    def _inequalities_hold(self) -> bool:
        """Whether no inequality between two filled cells is broken."""
        for (r, c), (s, d) in self.less:
            first, second = self.cells[r][c], self.cells[s][d]
            if first and second and first >= second:
                return False
        return True


def with_blanks(rng: random.Random, puzzle: Puzzle, num_blanks: int) -> dict[str, Any]:
    """The puzzle with up to `num_blanks` givens taken away in random order, each only while the solution stays the
    only one.
    """
    size = puzzle["size"]
    order = [(row, column) for row in range(size) for column in range(size)]
    rng.shuffle(order)
    current = dict(puzzle)
    left = num_blanks
    for row, column in order:
        if left == 0:
            break
        givens = list(current["givens"])
        givens[row] = givens[row][:column] + BLANK + givens[row][column + 1 :]
        candidate = current | {"givens": givens}
        # A cell whose row, column and box leave one digit cannot bring a second solution: most are decided like this.
        if _Search(candidate, 1, None).num_free(row, column) == 1 or len(solutions(candidate, limit=2)) == 1:
            current, left = candidate, left - 1
    return current


def all_queens(size: int) -> list[Grid]:
    """Every placement of `size` queens, one a row, none attacking another; in the order of their columns."""

    def extend(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(columns) == size:
            yield columns
            return
        row = len(columns)
        for column in range(size):
            if all(column != c and abs(column - c) != row - r for r, c in enumerate(columns)):
                yield from extend((*columns, column))

    return [[EMPTY * c + QUEEN + EMPTY * (size - c - 1) for c in columns] for columns in extend(())]
