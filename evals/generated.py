"""Benchmarks that fourstage generates by itself and that nothing is trained on.

Each is a file of `evals.benchmarks` that defines a `TASK`, as a reward task's file does, and is loaded like a user's
own task file: where it is scored, and where its episodes run, the file is all that is needed. They stay out of the
catalogue of reward tasks; a recipe that wanted to train on one would have to name its path.
"""

from __future__ import annotations

from pathlib import Path

from rewards.registry import get_task, load_user_task
from rewards.task import Task

_FOLDER = Path(__file__).resolve().parent / "benchmarks"

GENERATED = ("counter_fact_qa", "length_control", "ruler", "think_follow_noise")
"""Their names, which are those of their files."""


def benchmark_task(name: str) -> Task:
    """The generated benchmark or reward task of that name, or of a .py file; UserError when there is none."""
    return load_user_task(_FOLDER / f"{name}.py") if name in GENERATED else get_task(name)
