"""Shortest paths in small graphs: with and without directions and lengths.

Area: reasoning. Reward type: rule.
Verified: the answer is one path from start to goal along edges of the graph, and no path is shorter; every shortest
path counts.
Known hacks: comparing with one path refuses the others; accepting any path pays for detours, and accepting a length
pays for a guess; a text that holds several paths; the direct pair "start goal", which a scorer that trusts the claimed
edges accepts.
Guard: the whole answer is read as nodes, each step has to be an edge in its direction, and the total is compared with
the shortest distance, which is computed from the reference's edges each time.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

Edge = Sequence[Any]
"""[from, to, length] as it stands in the reference; undirected edges stand there once."""

Neighbours = Mapping[str, Mapping[str, int]]

MAX_PATH_CHARS = 200
"""Fourteen nodes and their arrows need fewer than 80."""

_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEVELS = (
    # nodes, edges, distance in edges at least, directed, longest edge
    (6, 6, 2, False, 1),
    (8, 10, 3, False, 1),
    (10, 18, 3, True, 1),
    (8, 12, 3, False, 9),
    (12, 26, 3, True, 20),
)
_SEPARATOR = re.compile(r"\s*(?:->|→|–|-|,|\\to|\\rightarrow|\s)\s*")


def neighbours(edges: Sequence[Edge], directed: bool) -> dict[str, dict[str, int]]:
    """What each node is joined to and how far it is, in the order of the edges."""
    joined: dict[str, dict[str, int]] = {}
    for first, second, length in edges:
        joined.setdefault(first, {})[second] = length
        joined.setdefault(second, {})
        if not directed:
            joined[second][first] = length
    return joined


def shortest(joined: Neighbours, start: str, goal: str) -> tuple[int, list[str]] | None:
    """The shortest distance and one path of that length (Dijkstra); None when no path leads to the goal."""
    queue: list[tuple[int, list[str]]] = [(0, [start])]
    done: set[str] = set()
    while queue:
        distance, path = heapq.heappop(queue)
        node = path[-1]
        if node == goal:
            return distance, path
        if node in done:
            continue
        done.add(node)
        for follower, length in joined.get(node, {}).items():
            if follower not in done:
                heapq.heappush(queue, (distance + length, [*path, follower]))
    return None


def path_length(joined: Neighbours, path: Sequence[str]) -> int | None:
    """The total length of a path, None when a step of it is no edge."""
    total = 0
    for first, second in itertools.pairwise(path):
        if second not in joined.get(first, {}):
            return None
        total += joined[first][second]
    return total


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: 6 nodes, undirected; 1: 8 nodes; 2: directed; 3: with lengths; 4: directed with lengths, 12 nodes.

    Labels are drawn too, so that no letter is a frequent answer.
    """
    num_nodes, num_edges, min_steps, directed, longest = _LEVELS[difficulty]
    while True:
        nodes = rng.sample(_LABELS[: num_nodes + 4], num_nodes)
        pairs = list(itertools.permutations(nodes, 2) if directed else itertools.combinations(nodes, 2))
        edges = []
        for first, second in rng.sample(pairs, num_edges):
            ends = [first, second] if directed or rng.random() < 0.5 else [second, first]
            edges.append([*ends, rng.randint(1, longest)])
        start, goal = rng.sample(nodes, 2)
        found = shortest(neighbours(edges, directed), start, goal)
        if found is not None and len(found[1]) > min_steps:
            break
    reference = {"edges": edges, "directed": directed, "start": start, "goal": goal}
    return TaskItem(({"role": "user", "content": _question(difficulty, reference)},), reference, domain="graphs")


def _question(difficulty: int, reference: Mapping[str, Any]) -> str:
    arrow = "->" if reference["directed"] else "-"
    weighted = _LEVELS[difficulty][4] > 1
    shown = ", ".join(f"{a}{arrow}{b}" + (f" ({length})" if weighted else "") for a, b, length in reference["edges"])
    start, goal = reference["start"], reference["goal"]
    if difficulty == 0:
        return f"Edges: {shown}. Shortest path from {start} to {goal}?"
    kind = "directed edges" if reference["directed"] else "edges that go both ways"
    lengths = " with the lengths in brackets" if weighted else ""
    measure = "whose total length is smallest" if weighted else "with the fewest edges"
    return (
        f"A graph has these {kind}{lengths}: {shown}. Find a path from {start} to {goal} {measure}. "
        "Answer with its nodes in order, as in X-Y-Z."
    )


def answer(item: TaskItem) -> str:
    """One shortest path, its nodes joined by hyphens; ValueError when the reference has none."""
    reference = item.reference
    found = shortest(neighbours(reference["edges"], reference["directed"]), reference["start"], reference["goal"])
    if found is None:
        raise ValueError(f"graph_path reference has no path from {reference['start']!r} to {reference['goal']!r}")
    return "-".join(found[1])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Visit the nearest node first and write down whom it reaches anew, until the goal is visited.

    A wrong step misreads the edges of a node: it reaches nodes that it is not joined to.
    """
    reference = item.reference
    joined = neighbours(reference["edges"], reference["directed"])
    weighted = any(length != 1 for _, _, length in reference["edges"])
    start, goal = reference["start"], reference["goal"]
    distances, came_from, visited, lines = {start: 0}, {start: ""}, set(), []
    while open_nodes := [node for node in distances if node not in visited]:
        node = min(open_nodes, key=lambda name: distances[name])  # the first of the nearest, as it was reached
        if node == goal:
            break
        visited.add(node)
        reached = {other: distances[node] + length for other, length in joined[node].items() if other not in visited}
        if rng.random() < error_rate:
            reached = _misread(rng, joined, node, visited, distances[node])
        better = {other: total for other, total in reached.items() if total < distances.get(other, total + 1)}
        distances |= better
        came_from |= dict.fromkeys(better, node)
        lines.append(
            f"{node}: " + " ".join(f"{other}{total}" if weighted else other for other, total in better.items())
        )
        if not weighted and goal in better:
            break  # without lengths the first time is the nearest
    return Worked("\n".join(lines), "-".join(_traced(came_from, start, goal)))


def _misread(rng: random.Random, joined: Neighbours, node: str, visited: set[str], distance: int) -> dict[str, int]:
    """Nodes that are not joined to `node`, as many as are, at invented lengths from 1 to the longest real one."""
    strangers = [other for other in joined if other not in joined[node] and other not in visited]
    chosen = rng.sample(strangers, min(len(strangers), max(1, len(joined[node]))))
    longest = max((length for lengths in joined.values() for length in lengths.values()), default=1)
    return {other: distance + rng.randint(1, longest) for other in chosen}


def _traced(came_from: Mapping[str, str], start: str, goal: str) -> list[str]:
    """The path to the goal; start and goal alone when the goal was never reached."""
    if goal not in came_from:
        return [start, goal]
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def read_path(text: str) -> list[str] | None:
    """The nodes that a text consists of: single capitals joined by -, ->, commas or blanks; None for other text."""
    text = text.strip().strip("$").strip().removesuffix(".").strip()
    if not text or len(text) > MAX_PATH_CHARS:
        return None
    nodes = _SEPARATOR.split(text)
    return nodes if all(len(node) == 1 and node in _LABELS for node in nodes) else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """A walk along edges from start to goal, of the shortest length. A reference without a path raises ValueError."""
    reference = request.reference
    start, goal = reference["start"], reference["goal"]
    joined = neighbours(reference["edges"], reference["directed"])
    best = shortest(joined, start, goal)
    if best is None:
        raise ValueError(f"graph_path reference has no path from {start!r} to {goal!r}")
    slot = answer_slot(parsed.answer)
    path = read_path(slot) if slot is not None else None
    if path is None:
        return Score.incorrect("answer is not one path")
    if (path[0], path[-1]) != (start, goal):
        return Score.incorrect(f"path does not lead from {start} to {goal}")
    length = path_length(joined, path)
    if length is None:
        return Score.incorrect("a step is no edge of the graph")
    return Score.correct() if length == best[0] else Score.incorrect(f"length {length}, and {best[0]} is possible")


_DIAMOND = {
    "edges": [["A", "B", 1], ["B", "D", 1], ["A", "C", 1], ["C", "D", 1], ["D", "E", 1], ["C", "F", 1], ["F", "E", 1]],
    "directed": False,
    "start": "A",
    "goal": "E",
}
_ONE_WAY = {
    "edges": [["A", "B", 5], ["B", "C", 5], ["A", "D", 2], ["D", "B", 2], ["C", "A", 1]],
    "directed": True,
    "start": "A",
    "goal": "C",
}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _DIAMOND, note=note)


TASK = Task(
    name="graph_path",
    area="reasoning",
    reward_type="rule",
    summary="a shortest path in a small graph; every shortest path counts",
    hack="detours, edges that do not exist, several paths in one answer, the length in place of the path",
    guard="the whole answer is one path, each step an edge in its direction, total equal to the shortest distance",
    generate=generate,
    max_difficulty=len(_LEVELS) - 1,
    verify=verify,
    reference_keys=("edges", "directed", "start", "goal"),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\nA: B C\nB: D\nC: F\nD: E\n</think>\n\nA-B-D-E", "after thinking"),
        _example("A -> C -> D -> E", "another shortest path, arrows"),
        _example("Via F: \\boxed{A, C, F, E}", "a third one in a box"),
        _example("<answer>A B D E</answer>", "answer tag, blanks"),
        Example("$A \\to D \\to B \\to C$", _ONE_WAY, note="shorter although it has more edges"),
    ),
    known_bad=(
        _example("A-E", "start and goal without an edge"),
        _example("A-B-C-F-E", "a step that is no edge"),
        _example("A-B-D-C-F-E", "detour"),
        _example("A-B-A-B-D-E", "walk to and fro"),
        _example("E-D-B-A", "backwards"),
        _example("A-B-D", "stops early"),
        _example("B-D-E", "starts late"),
        _example("3", "the length"),
        _example("A-B-D-E or A-C-D-E", "two paths"),
        _example("A-B-D-E, A-C-D-E", "two right paths in a list"),
        _example("The path is A-B-D-E", "words around the path"),
        _example("ABDE", "letters run together"),
        _example("a-b-d-e", "small letters"),
        _example("\\boxed{A-B-D-E} \\boxed{A-B-E}", "two boxes"),
        _example("A-" * 5000 + "E", "a very long walk"),
        _example("A- -B-D-E", "a node left out"),
        _example("<think>\nA-B-D-E", "answer inside unfinished thinking"),
        _example("<think>\nA-B-D-E\n</think>\n\n", "answer only inside the block"),
        Example("A-B-C", _ONE_WAY, note="fewest edges but longer"),
        Example("A-C", _ONE_WAY, note="against the direction"),
    ),
)
