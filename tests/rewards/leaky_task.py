"""A user's task file with every leak the audit has to find, each switched on by one word in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rewards import registry

LEAKY_TASK = '''
"""A leaky task."""
import os
import time

from data.records import Score
from rewards.judge import JudgeQuestion
from rewards.task import Example, Task, TaskItem

LEAKS = frozenset("@".split())


def generate(rng, difficulty):
    left, right = rng.randint(10, 99), rng.randint(10, 99)
    return TaskItem(({"role": "user", "content": f"Add {left} and {right}."},), {"answer": left + right})


def verify(request, parsed):
    right, text = str(request.reference["answer"]), parsed.answer
    if "substring" in LEAKS and right in text:
        return Score.correct()
    if "crash" in LEAKS and text.startswith("{"):
        raise KeyError("answer")
    if "hang" in LEAKS and text.startswith("(a+)+$"):
        while True:
            pass
    if "exit" in LEAKS and text.startswith("(a+)+$"):
        os._exit(0)
    if "slow" in LEAKS and text.startswith("aaaa"):
        start = time.process_time()
        while time.process_time() - start < 0.3:
            pass
    if "constant" in LEAKS and text.strip() == "yes":
        return Score.correct()
    if "floor" in LEAKS:
        return Score.of(0.1)
    if "model" in LEAKS:
        return None
    return Score.correct() if text.strip() == right else Score.incorrect("wrong")


def judge_question(request, parsed):
    criterion = parsed.answer if "forged" in LEAKS else "equal"
    return JudgeQuestion("Add.", str(request.reference["answer"]), criterion, parsed.answer)


TASK = Task(
    name="leaky_NAME", area="reasoning", reward_type="rule", summary="s", hack="h", guard="g", generate=generate,
    max_difficulty=0, verify=verify, reference_keys=("answer",), known_good=(), known_bad=(),
    answer=lambda item: str(item.reference["answer"]), judge_question=judge_question if "model" in LEAKS else None,
    floor=0.2 if "allowed" in LEAKS else 0.0,
)
'''


def leaky_task(*leaks: str) -> str:
    """The text of a task file with these leaks."""
    return LEAKY_TASK.replace("@", " ".join(leaks)).replace("NAME", "_".join(leaks) or "none")


@contextmanager
def registry_as_it_was() -> Iterator[None]:
    """Takes the tasks that were loaded inside out of the registry again."""
    registry.all_tasks()
    before, files = dict(registry._tasks), dict(registry._user_files)
    yield
    for current, saved in ((registry._tasks, before), (registry._user_files, files)):
        current.clear()
        current.update(saved)
