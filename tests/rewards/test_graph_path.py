"""Shortest paths: distances against brute force, every optimum accepted, detours and invented edges refused."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, TaskItem, item_of, make_prompt
from rewards.tasks.graph_path import neighbours, path_length, read_path, shortest

TASK = get_task("graph_path")
EDGES = st.lists(
    st.tuples(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"), st.integers(1, 9)).filter(lambda e: e[0] != e[1]),
    max_size=10,
)


def _items(level: int, count: int) -> list[TaskItem]:
    return [item_of(make_prompt(TASK, seed=0, index=index, difficulty=level)) for index in range(count)]


def _simple_paths(start: str, goal: str, nodes: str) -> list[list[str]]:
    between = [node for node in nodes if node not in (start, goal)]
    return [
        [start, *middle, goal] for size in range(len(between) + 1) for middle in itertools.permutations(between, size)
    ]


@given(EDGES, st.booleans())
def test_the_shortest_distance_is_the_minimum_over_all_paths(edges: list[tuple[str, str, int]], directed: bool) -> None:
    joined = neighbours(edges, directed)
    lengths = [path_length(joined, path) for path in _simple_paths("A", "E", "ABCDE")]
    real = [length for length in lengths if length is not None]
    found = shortest(joined, "A", "E")
    assert (found is None) == (not real)
    if found is not None:
        assert found[0] == min(real) == path_length(joined, found[1])


@pytest.mark.parametrize("level", range(4))
def test_exactly_the_shortest_paths_are_paid_for(level: int) -> None:
    for item in _items(level, 3):
        reference = item.reference
        joined = neighbours(reference["edges"], reference["directed"])
        best = shortest(joined, reference["start"], reference["goal"])
        assert best is not None
        for path in _simple_paths(reference["start"], reference["goal"], "".join(joined))[:3000]:
            reward = TASK.score(ScoreRequest("graph_path", (), reference, "-".join(path))).reward
            assert reward == (1.0 if path_length(joined, path) == best[0] else 0.0)


@pytest.mark.parametrize(
    ("level", "nodes", "edges", "min_steps", "directed"),
    [(0, 6, 6, 2, False), (1, 8, 10, 3, False), (2, 10, 18, 3, True), (3, 8, 12, 3, False), (4, 12, 26, 3, True)],
)
def test_levels_set_the_size_and_the_shortest_path_has_steps_enough(
    level: int, nodes: int, edges: int, min_steps: int, directed: bool
) -> None:
    for item in _items(level, 20):
        reference = item.reference
        joined = neighbours(reference["edges"], directed)
        assert reference["directed"] is directed
        assert len(reference["edges"]) == edges
        assert len(joined) <= nodes
        assert len(TASK.answer(item).split("-")) > min_steps  # type: ignore[misc]
        assert len({tuple(edge[:2]) for edge in reference["edges"]}) == edges


def test_level_0_is_short_and_shows_its_edges() -> None:
    items = _items(0, 1000)
    for item in items:
        question = item.messages[0]["content"]
        shown = ", ".join(f"{a}-{b}" for a, b, _ in item.reference["edges"])
        start, goal = item.reference["start"], item.reference["goal"]
        assert question == f"Edges: {shown}. Shortest path from {start} to {goal}?"
        assert len(question) <= 120
        assert len(TASK.work(random.Random(0), item, 0.0).reasoning) < 100  # type: ignore[misc]
    assert len({item.messages[0]["content"] for item in items}) == 1000


def test_a_guess_of_the_nodes_between_earns_little_at_level_0() -> None:
    """Start, one random other node, goal: right for a fifth at most."""
    earned = 0.0
    items = _items(0, 400)
    for index, item in enumerate(items):
        reference = item.reference
        joined = neighbours(reference["edges"], False)
        others = [node for node in joined if node not in (reference["start"], reference["goal"])]
        guess = f"{reference['start']}-{random.Random(index).choice(others)}-{reference['goal']}"
        earned += TASK.score(ScoreRequest("graph_path", (), reference, guess)).reward or 0.0
    assert earned / 400 < 0.25


def test_the_worked_solution_visits_the_nearest_first() -> None:
    edges = [["A", "B", 5], ["B", "C", 5], ["A", "D", 2], ["D", "B", 2], ["C", "A", 1]]
    item = TaskItem((), {"edges": edges, "directed": True, "start": "A", "goal": "C"})
    worked = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (worked.reasoning, worked.answer) == ("A: B5 D2\nD: B4\nB: C9", "A-D-B-C")


def test_a_slip_reaches_nodes_that_are_not_joined() -> None:
    edges = [["A", "B", 1], ["B", "C", 1], ["C", "D", 1]]
    item = TaskItem((), {"edges": edges, "directed": False, "start": "A", "goal": "D"})
    right = TASK.work(random.Random(0), item, 0.0)  # type: ignore[misc]
    assert (right.reasoning, right.answer) == ("A: B\nB: C\nC: D", "A-B-C-D")
    for seed in range(20):
        wrong = TASK.work(random.Random(seed), item, 1.0)  # type: ignore[misc]
        first = wrong.reasoning.split("\n")[0]
        assert first in ("A: C", "A: D")
        assert TASK.score(ScoreRequest("graph_path", (), item.reference, wrong.answer)).reward == 0.0


@pytest.mark.parametrize(
    ("text", "path"),
    [("A-B", ["A", "B"]), ("A -> B", ["A", "B"]), ("A, B.", ["A", "B"]), ("A→B", ["A", "B"]), ("A\nB", ["A", "B"]),
     ("A", ["A"]), ("A--B", None), ("-A-B", None), ("A-B-", None), ("AB", None), ("A-Ä", None), ("", None),
     ("-", None)],
)  # fmt: skip
def test_a_path_is_read_strictly(text: str, path: list[str] | None) -> None:
    assert read_path(text) == path


def test_a_reference_without_a_path_is_a_failure_of_the_verifier() -> None:
    reference = {"edges": [["A", "B", 1]], "directed": True, "start": "B", "goal": "A"}
    with pytest.raises(ValueError, match="no path from 'B' to 'A'"):
        TASK.score(ScoreRequest("graph_path", (), reference, "B-A"))
