"""Holds the architecture: who may import whom, single homes for heavy libraries, file sizes, and a few forbidden texts.

Each rule is a function from a tree of files to findings ("path:line: what"), so that the second half of this file can
show on small made-up trees that every rule fails when it should.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ALLOWED_IMPORTS: Mapping[str, frozenset[str]] = {
    "data": frozenset(),
    "configs": frozenset({"data"}),
    "rewards": frozenset({"data"}),
    "rollout": frozenset({"data"}),
    "learner": frozenset({"data"}),
    "evals": frozenset({"data", "rewards", "rollout", "learner", "configs"}),
    "serving": frozenset({"data", "rewards", "rollout", "learner", "configs", "evals"}),
    "stages": frozenset({"data", "rewards", "rollout", "learner", "configs", "evals", "serving"}),
}
"""What each package may import of the others: imports point down, and only `stages` sees everything."""

SINGLE_HOMES: Mapping[str, frozenset[str]] = {
    "vllm": frozenset({
        "rollout/engine.py", "rollout/pooling.py", "rollout/weight_transfer.py",
        "serving/engine_app.py",  # vLLM's own server, which is another interface than the engine's step loop
    }),
    "ray": frozenset({
        "rollout/workers.py", "rollout/pooling_workers.py", "learner/workers.py", "stages/ray_daemons.py",
    }),
    "omegaconf": frozenset({"configs/load.py"}),
    "math_verify": frozenset({"rewards/tasks/math.py"}),
}  # fmt: skip
"""The only files of the packages that may import a library whose interface changes often or that is slow to import."""

MAX_LINES = 400
LONG_FILES: Mapping[str, str] = {
    "tests/data/test_chat.py": "golden conversations beside the rules they show; one file mirrors data/chat.py",
    "tests/learner/test_learner.py": "one optimizer step seen from every side; one file mirrors learner/learner.py",
    "tests/learner/test_losses.py": "each loss against its formula by hand; one file mirrors learner/losses.py",
}
"""Files that may be longer than `MAX_LINES`, each with the reason; an entry that is no longer needed fails too."""

VAGUE_NAMES = frozenset({"utils", "util", "common", "helpers", "misc", "shared"})
TEXT_SUFFIXES = frozenset({".py", ".md", ".yaml", ".yml", ".toml", ".jinja", ".txt", ".sh", ".cfg", ".json", ".jsonl"})
TEXT_NAMES = frozenset({"Makefile", "run"})
SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist", "runs", "node_modules"})
MACHINE_PATH = re.compile(
    r"(?<![\w./~-])/(?:" + "|".join(("work", "root", "tmp/w", r"home/\w+", r"Users/\w+")) + r")(?![\w-])"
)


# ---------------------------------------------------------------------------------------------- the rules


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a top-level module, wherever it stands in the file."""

    line: int
    module: str


def files_in(root: Path) -> Iterator[Path]:
    """Every file of the project in order; hidden folders (except `.ci`) and products of a build are no part of it."""
    for path in sorted(root.iterdir()):
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if not hidden and path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                yield from files_in(path)
        elif path.is_file():
            yield path


def python_files(root: Path, folders: Iterable[str] | None = None) -> Iterator[tuple[str, ast.Module]]:
    """The relative path and the syntax tree of each Python file, of the whole project or of some top-level folders."""
    wanted = None if folders is None else set(folders)
    for path in files_in(root):
        relative = path.relative_to(root)
        if path.suffix == ".py" and (wanted is None or relative.parts[0] in wanted):
            yield relative.as_posix(), ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(relative: str, tree: ast.Module) -> Iterator[Import]:
    """All imports of a file: at the top, inside functions, for type checking, relative, and by name at run time."""
    package = relative.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield Import(node.lineno, ".".join([*base, name]).split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in ("importlib.import_module", "import_module", "__import__") and isinstance(
                node.args[0].value, str
            ):
                yield Import(node.lineno, node.args[0].value.split(".")[0])


def imports_that_point_up(root: Path) -> list[str]:
    found = []
    for relative, tree in python_files(root, ALLOWED_IMPORTS):
        package = relative.split("/")[0]
        for item in imports_of(relative, tree):
            if item.module in ALLOWED_IMPORTS and item.module not in {package, *ALLOWED_IMPORTS[package]}:
                found.append(f"{relative}:{item.line}: {package} must not import {item.module}")
    return found


def imports_outside_their_home(root: Path) -> list[str]:
    return [
        f"{relative}:{item.line}: {item.module} may be imported in {', '.join(sorted(SINGLE_HOMES[item.module]))} alone"
        for relative, tree in python_files(root, ALLOWED_IMPORTS)
        for item in imports_of(relative, tree)
        if relative not in SINGLE_HOMES.get(item.module, {relative})
    ]


def vague_modules(root: Path) -> list[str]:
    found = []
    for path in files_in(root):
        relative = path.relative_to(root)
        names = {part.removesuffix(".py") for part in relative.parts}
        if path.suffix == ".py" and any(word in VAGUE_NAMES for name in names for word in (name, name.split("_")[-1])):
            found.append(f"{relative.as_posix()}: name what the module is for")
    return found


def long_files(root: Path, excused: Mapping[str, str]) -> list[str]:
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files_in(root)
        if path.suffix == ".py"
    }
    found = [
        f"{relative}: {num_lines} lines, more than {MAX_LINES}; split it, or list it with a reason"
        for relative, num_lines in lengths.items()
        if num_lines > MAX_LINES and not excused.get(relative, "").strip()
    ]
    needless = [name for name in excused if lengths.get(name, 0) <= MAX_LINES]
    return found + [f"{name}: is listed as a long file and is none" for name in needless]


def swallowed_exceptions(root: Path) -> list[str]:
    """Handlers for everything that do nothing, and bare ones that do not raise again."""
    found = []
    for relative, tree in python_files(root):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else []
            everything = node.type is None or any(ast.unparse(one) in ("Exception", "BaseException") for one in caught)
            does_nothing = all(
                isinstance(statement, ast.Pass | ast.Continue)
                or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
                for statement in node.body
            )
            raises = any(isinstance(inner, ast.Raise) for statement in node.body for inner in ast.walk(statement))
            if (everything and does_nothing) or (node.type is None and not raises):
                found.append(f"{relative}:{node.lineno}: an exception is swallowed; catch what can be handled")
    return found


def machine_paths(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root).as_posix()}:{number}: names a path of one machine: {match[0]}"
        for path in files_in(root)
        if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := MACHINE_PATH.search(line))
    ]


# ---------------------------------------------------------------------------------------------- the project obeys


def test_imports_point_down() -> None:
    assert imports_that_point_up(ROOT) == []


def test_heavy_libraries_are_imported_in_their_home_alone() -> None:
    assert imports_outside_their_home(ROOT) == []


def test_no_module_is_called_utils_or_common() -> None:
    assert vague_modules(ROOT) == []


def test_no_file_is_too_long_without_a_reason() -> None:
    assert long_files(ROOT, LONG_FILES) == []


def test_no_exception_is_swallowed() -> None:
    assert swallowed_exceptions(ROOT) == []


def test_no_text_names_a_path_of_one_machine() -> None:
    assert machine_paths(ROOT) == []


def test_every_package_is_under_the_rules() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(ALLOWED_IMPORTS)
    assert {"data", "rewards", "rollout", "learner", "evals", "serving", "stages", "configs"} <= packages


# ---------------------------------------------------------------------------------------------- the rules can fail


@pytest.fixture
def tree(tmp_path: Path):
    def tree(**files: str) -> Path:
        """A project whose files are given as folder__name="text"; names are Python files unless they have a suffix."""
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return tree


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("data__a", "import rewards.task\n", "data/a.py:1: data must not import rewards"),
        ("rewards__a", "from rollout import engine\n", "rewards/a.py:1: rewards must not import rollout"),
        ("learner__a", "def f():\n    import stages\n", "learner/a.py:2: learner must not import stages"),
        ("rollout__a", "from ..learner import losses\n", "rollout/a.py:1: rollout must not import learner"),
        ("rollout__a", "from .. import learner\n", "rollout/a.py:1: rollout must not import learner"),
        ("evals__b__c", "from ...stages import cli\n", "evals/b/c.py:1: evals must not import stages"),
        ("configs__a", "import_module('evals.report')\n", "configs/a.py:1: configs must not import evals"),
    ],
)  # fmt: skip
def test_an_import_that_points_up_is_found(tree, name: str, text: str, finding: str) -> None:
    assert imports_that_point_up(tree(**{name: text})) == [finding]


def test_imports_that_point_down_or_stay_inside_or_leave_the_project_pass(tree) -> None:
    root = tree(
        data__a="import json\nfrom data.records import Prompt\n",
        learner__a="from . import losses\nfrom .losses import f\nfrom data import records\n",
        rollout__a="from .learner import f\nfrom . import stages\n",
        stages__a="import learner, rollout.engine, rewards, evals, configs, data\n",
        tests__a="import stages\n",
    )
    assert imports_that_point_up(root) == []


def test_a_heavy_library_outside_its_home_is_found(tree) -> None:
    root = tree(
        rollout__engine="import vllm\n",
        rollout__groups="from vllm.sampling_params import SamplingParams\n",
        learner__workers="import ray\n",
        configs__load="from omegaconf import OmegaConf\n",
        rewards__tasks__math="def f():\n    import math_verify\n",
        rewards__judge="__import__('math_verify')\n",
        stages__cli="def f():\n    from omegaconf import OmegaConf\n",
        tests__a="import ray\n",
    )
    assert [finding.split(" may")[0] for finding in imports_outside_their_home(root)] == [
        "rewards/judge.py:1: math_verify",
        "rollout/groups.py:1: vllm",
        "stages/cli.py:2: omegaconf",
    ]


def test_a_vague_module_name_is_found(tree) -> None:
    root = tree(data__utils="", data__math_utils="", common__a="", data__communal="", data__util_free="")
    assert [finding.split(":")[0] for finding in vague_modules(root)] == [
        "common/a.py",
        "data/math_utils.py",
        "data/utils.py",
    ]


def test_a_long_file_is_found_unless_it_has_a_reason_and_a_needless_reason_is_found(tree) -> None:
    root = tree(data__short="x = 1\n" * MAX_LINES, data__long="x = 1\n" * (MAX_LINES + 1))
    assert long_files(root, {}) == [
        f"data/long.py: {MAX_LINES + 1} lines, more than {MAX_LINES}; split it, or list it with a reason"
    ]
    assert long_files(root, {"data/long.py": "a table"}) == []
    assert len(long_files(root, {"data/long.py": " "})) == 1
    assert long_files(root, {"data/long.py": "a table", "data/short.py": "x", "data/gone.py": "x"}) == [
        "data/short.py: is listed as a long file and is none",
        "data/gone.py: is listed as a long file and is none",
    ]


@pytest.mark.parametrize(
    ("handler", "is_found"),
    [
        ("except:\n    pass", True),
        ("except Exception:\n    pass", True),
        ("except (ValueError, BaseException) as error:\n    ...", True),
        ("except:\n    value = 0", True),
        ("except:\n    clean()\n    raise", False),
        ("except Exception as error:\n    report(error)", False),
        ("except FileNotFoundError:\n    pass", False),
    ],
)
def test_a_swallowed_exception_is_found(tree, handler: str, is_found: bool) -> None:
    assert bool(swallowed_exceptions(tree(data__a=f"try:\n    f()\n{handler}\n"))) is is_found


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("see {}work/notes", True),
        ("cache = '{}root/.cache'", True),
        ("{}home/someone/data", True),
        ("out={}tmp/w/run", True),
        ("{}tmp/run and {}workspace and frame{}work/a and a.{}work", False),
        ("https://example.org{}work", False),
    ],
)
def test_a_path_of_one_machine_is_found_in_any_text_file(tmp_path: Path, text: str, is_found: bool) -> None:
    (tmp_path / "README.md").write_text(text.replace("{}", "/"))
    assert bool(machine_paths(tmp_path)) is is_found


def test_hidden_folders_and_build_products_are_no_part_of_the_project(tmp_path: Path) -> None:
    for folder in (".git", "__pycache__", "x.egg-info", ".ci", "data"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run").write_text("")
    assert [path.parent.name for path in files_in(tmp_path)] == [".ci", "data"]
