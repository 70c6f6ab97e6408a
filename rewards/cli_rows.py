"""What the command line does with reward tasks, as plain functions: score JSON lines, preview prompts, list tasks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from data.records import Prompt, UserError
from rewards.registry import all_tasks, get_task
from rewards.task import ScoreRequest, make_prompt
from rewards.verifier_pool import VerifierPool

CHUNK_LINES = 256
"""Lines scored at a time: enough to keep the workers busy, few enough to stream a file of any size."""

UNDECIDED: dict[str, Any] = {
    "reward": None, "outcome": "undecided", "reason": "a judge or a preference model has to decide",
}  # fmt: skip
"""What stands beside an answer that rules leave to a model: this command asks none."""

_FINISH_REASONS = ("stop", "length", "abort")


def score_lines(lines: Iterable[str], pool: VerifierPool) -> Iterator[str]:
    """Score JSON lines with `task`, `messages`, `reference`, `completion` (and `enable_thinking`, `finish_reason`).

    Yields each object with `reward`, `outcome` and `reason` added, in order; blank lines are skipped. Raises UserError
    that names the line, the field and the mend.
    """
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    rows = ((row, _request(row, number)) for number, row in ((number, _row(line, number)) for number, line in numbered))
    while chunk := list(itertools.islice(rows, CHUNK_LINES)):
        scores = pool.score_all([request for _, request in chunk])
        for (row, _), score in zip(chunk, scores, strict=True):
            verdict = UNDECIDED
            if score is not None:
                verdict = {"reward": score.reward, "outcome": score.outcome, "reason": score.reason}
            yield json.dumps(row | verdict, ensure_ascii=False)


def preview(task: str, seed: int, count: int, difficulty: int) -> list[Prompt]:
    """The first `count` prompts of a task; UserError for an unknown task or level."""
    found = get_task(task)
    return [make_prompt(found, seed=seed, index=index, difficulty=difficulty) for index in range(count)]


def task_table() -> list[dict[str, Any]]:
    """One row per registered task, the columns that a person chooses by."""
    return [
        {
            "name": task.name,
            "area": task.area,
            "reward_type": task.reward_type,
            "levels": task.max_difficulty + 1,
            "turns": "one" if task.environment is None else "several",
            "in_worker": task.in_worker,
            "summary": task.summary,
            "hack": task.hack,
            "guard": task.guard,
        }
        for task in all_tasks()
    ]


def _row(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"line {number}: not JSON ({error}): write one JSON object a line") from error
    if not isinstance(row, dict):
        raise UserError(f"line {number}: is a {type(row).__name__}: write one JSON object a line")
    return row


def _request(row: dict[str, Any], number: int) -> ScoreRequest:
    for name in ("task", "messages", "reference", "completion"):
        if name not in row:
            raise UserError(f"line {number}: field {name!r} is missing: add it")
    _expect(isinstance(row["task"], str), number, "task", row["task"], "give the name of a task")
    _expect(isinstance(row["completion"], str), number, "completion", row["completion"], "give a string")
    messages = row["messages"]
    well_formed = isinstance(messages, list) and all(isinstance(item, dict) and "role" in item for item in messages)
    _expect(well_formed, number, "messages", messages, "give a list of {role, content} objects")
    enable_thinking = row.get("enable_thinking")
    allowed = enable_thinking is None or isinstance(enable_thinking, bool)
    _expect(allowed, number, "enable_thinking", enable_thinking, "give true, false or null")
    finish_reason = row.get("finish_reason", "stop")
    _expect(finish_reason in _FINISH_REASONS, number, "finish_reason", finish_reason, "give stop, length or abort")
    try:
        task = get_task(row["task"])
    except UserError as error:
        raise UserError(f"line {number}: {error}") from error
    reference = row["reference"]
    missing = [key for key in task.reference_keys if not isinstance(reference, dict) or key not in reference]
    if missing:
        raise UserError(f"line {number}: field 'reference' of task {task.name!r} lacks {missing[0]!r}: add this key")
    return ScoreRequest(task.name, tuple(messages), reference, row["completion"], enable_thinking, finish_reason)


def _expect(holds: bool, number: int, name: str, value: Any, mend: str) -> None:
    if not holds:
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise UserError(f"line {number}: field {name!r} is {shown}: {mend}")
