"""Which reward tasks exist: every module of `rewards.tasks`, plus files that a user names.

A task module holds one `TASK`. Adding a task is adding a file. The scorers of published benchmarks are tasks too, found
in `rewards.benchmark_tasks`: `get_task` knows them, so that they score wherever tasks do, and `all_tasks` does not list
them, because nothing is ever trained on them.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rewards.benchmark_tasks
import rewards.tasks
from data.episodes import Environment, EnvironmentFactory
from data.records import UserError
from rewards.task import Task

_tasks: dict[str, Task] = {}
_benchmark_tasks: dict[str, Task] = {}
_user_files: dict[str, Path] = {}


def register(task: Task) -> Task:
    """Add a task under its name; ValueError when another task already has the name."""
    known = _known().get(task.name)
    if known is not None and known is not task:
        raise ValueError(f"reward task {task.name!r} is registered twice: rename one of the two")
    _tasks[task.name] = task
    return task


def get_task(name: str) -> Task:
    """The task of that name, or of a user's file when it is the path of one (it ends in .py).

    Raises UserError, with the nearest name when there is none.
    """
    _discover()
    if name.endswith(".py"):
        return load_user_task(name)
    if name in _benchmark_tasks:
        return _benchmark_tasks[name]
    if name not in _tasks:
        near = difflib.get_close_matches(name, _tasks, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(sorted(_tasks))}; or a .py file"
        raise UserError(f"task {name!r} does not exist: {hint}")
    return _tasks[name]


def all_tasks() -> tuple[Task, ...]:
    """Every registered task that can be trained on, sorted by name."""
    _discover()
    return tuple(_tasks[name] for name in sorted(_tasks))


def benchmark_tasks() -> tuple[Task, ...]:
    """The scorers of published benchmarks, sorted by name."""
    _discover()
    return tuple(_benchmark_tasks[name] for name in sorted(_benchmark_tasks))


def _known() -> dict[str, Task]:
    return _tasks | _benchmark_tasks


def load_user_task(path: str | Path) -> Task:
    """Import a Python file that defines `TASK` and register it; loading the same file again returns the same task.

    The file runs with the rights of this process. Raises UserError when it is missing, fails to import, defines no
    `TASK`, or takes a name that is in use.
    """
    _discover()
    file = _real_file(os.path.abspath(path))
    for name, known_file in _user_files.items():
        if known_file == file:
            return _tasks[name]
    if not file.is_file():
        raise UserError(f"task file {str(path)!r} does not exist: give the path of a .py file that defines TASK")
    module_name = f"user_task_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"task file {str(path)!r} is not a Python file: give a path that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses in the file look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"task file {str(path)!r} failed to import: {type(error).__name__}: {error}") from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise UserError(f"task file {str(path)!r} defines no TASK: assign a rewards.task.Task to the name TASK")
    if task.name in _known():
        raise UserError(f"task file {str(path)!r} uses the name {task.name!r}, which is taken: rename the task")
    register(task)
    _user_files[task.name] = file
    return task


@functools.lru_cache(maxsize=256)
def _real_file(absolute: str) -> Path:
    """Kept, because the file of a completion's task is asked for with each completion, and links are many calls."""
    return Path(absolute).resolve()


def user_file(name: str) -> Path | None:
    """The file a task was loaded from when it is a user's own, so that a worker process can load it too."""
    return _user_files.get(name)


@dataclass(frozen=True, slots=True)
class _UserEnvironment:
    """Makes the environments of a user's task; another process that gets it loads the file itself."""

    path: str

    def __call__(self, reference: Any) -> Environment:
        factory = load_user_task(self.path).environment
        if factory is None:
            raise ValueError(f"task file {self.path!r} has no environment any more")
        return factory(reference)


def environment_factory(name: str) -> EnvironmentFactory | None:
    """What makes the environments of a task's episodes, None for a task of a single turn; may be sent to a process."""
    factory, file = get_task(name).environment, user_file(get_task(name).name)
    return _UserEnvironment(str(file)) if factory is not None and file is not None else factory


@functools.cache
def _discover() -> None:
    for module_info in pkgutil.iter_modules(rewards.tasks.__path__):
        module = importlib.import_module(f"rewards.tasks.{module_info.name}")
        register(module.TASK)
    for module_info in pkgutil.iter_modules(rewards.benchmark_tasks.__path__):
        task = importlib.import_module(f"rewards.benchmark_tasks.{module_info.name}").TASK
        if task.name in _tasks:
            raise ValueError(f"reward task {task.name!r} is registered twice: rename one of the two")
        _benchmark_tasks[task.name] = task
