"""The catalogue of reward tasks as Markdown, rendered from the tasks themselves: `docs/rewards.md`.

Nothing here is written by hand about a task. The table comes from the same rows as `fourstage rewards list`, the
sections from the docstrings of the task modules and from prompts that their generators make.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rewards.cli_rows import task_table
from rewards.registry import get_task, user_file
from rewards.task import Task, make_prompt

MAX_PROMPT_CHARS = 700
"""Longer example prompts are cut in the middle: a long-context task would fill pages."""

_AREAS: Mapping[str, str] = {
    "reasoning": "Reasoning",
    "instruction_following": "Instruction following",
    "format_following": "Format following",
    "preference_alignment": "Preference alignment",
    "agent": "Agents",
    "specialised": "Specialised scenarios",
}

_HEAD = """# Reward tasks

This file is generated: `fourstage rewards docs` writes it from the tasks in `rewards/tasks/`. `fourstage rewards list`
prints the same table, `fourstage rewards preview TASK --difficulty N` shows prompts with their references and what
earns full reward, and `fourstage rewards audit TASK` attacks a task.

{num_tasks} tasks: {by_type}.

## What a score is

| outcome | reward | meaning |
|---|---|---|
| `correct` | 1 | right |
| `graded` | between 0 and 1 | right in part; only tasks that say so |
| `incorrect` | 0 | wrong, empty, malformed, truncated, or a hack |
| `error` | none | the verifier, judge or environment failed: the completion leaves its group, and is no wrong answer |

Only the text after the closed think block counts. Refused before any task looks: an unfinished or second think block,
a truncated completion, an empty answer or a bare opener ("Solution:"), chat tokens that forge a turn, and more than
20,000 characters. Past a set share of errors a run stops and shows some.

Three reward types. **rule**: a verifier decides. **judge_with_reference**: a rule gate refuses what it can, and a model
that has the reference decides the rest; a verdict that cannot be read is an error. **preference_model**: a scalar model
rates what the rule gate let pass, with its liking for length taken out.

"""

_TAIL = """## A task of your own

A task is one file with one `TASK = Task(...)`. This one is complete:

```python
import random

from data.records import Score
from rewards.extract import integer_answer
from rewards.task import Example, Task, TaskItem, Worked


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    number = rng.randint(2, 10 ** (difficulty + 2))
    question = {"role": "user", "content": f"Double {number}."}
    return TaskItem((question,), {"answer": 2 * number})


def verify(request, parsed) -> Score:
    right = integer_answer(parsed.answer) == request.reference["answer"]
    return Score.correct() if right else Score.incorrect("wrong")


TASK = Task(
    name="double", area="reasoning", reward_type="rule",
    summary="a number, doubled", hack="several numbers", guard="one integer as the whole answer",
    generate=generate, max_difficulty=2, verify=verify, reference_keys=("answer",),
    known_good=(Example("14", {"answer": 14}),), known_bad=(Example("14 or 15", {"answer": 14}),),
    answer=lambda item: str(item.reference["answer"]),
    work=lambda rng, item, error_rate: Worked("twice the number", str(item.reference["answer"])),
)
```

`fourstage rewards audit my_task.py` attacks it, and a recipe takes its path: a key of `general_rl.prompts.tasks` that
ends in `.py` is a task of your own. What the fields mean stands in `rewards/task.py`. Rules that keep a task honest:

* `generate` uses nothing but `rng`, so that a seed gives the same prompts on every machine.
* `verify` raises only when the verifier itself fails; a wrong answer is `Score.incorrect` with the reason.
* Whatever calls a computer algebra system or can hang sets `in_worker=True`: it runs in a process that can be killed.
* Whatever runs code of the policy goes through the sandbox (`rewards/code_runner.py`) and sets `sandboxed=True`.
* Labels are balanced: a constant answer, a refusal or an abstention is right for half of the prompts at most.

## Data of your own

A file takes the place of a task's generator: `general_rl.prompts.tasks.json_answer.file.path=mine.jsonl` with rows of
`messages` and `reference` (JSON Lines, Parquet or a Hugging Face folder). The reference holds the keys that the task's
section names. `fourstage rewards score completions.jsonl` scores completions that you already have.

## What the audit does

{num_attacks} attacks, each on prompts of every level, bare and behind the think block that the prompt's mode asks for:
{categories}. Constants are tried on 60 prompts a level and may earn half of them, with three standard errors on top. A
fuzzer made of Hypothesis strategies adds Unicode, soups of format fragments, salads of the prompt's own words, long
repetitions and right answers with a piece torn out. A task fails when hostile text earns more than its floor, makes its
scorer fail, hang or take more than 0.25 processor seconds, or reaches a model although rules have to refuse it. What
holds the right answer in an odd form and is paid is shown as worth a look.
"""


def catalogue() -> str:
    """The whole document; the tasks of users are left out."""
    from rewards.attacks import ATTACKS

    rows = [row for row in task_table() if user_file(row["name"]) is None]
    types = {kind: sum(row["reward_type"] == kind for row in rows) for kind in sorted({r["reward_type"] for r in rows})}
    by_type = ", ".join(f"{count} of type {kind}" for kind, count in types.items())
    areas = [(title, [row for row in rows if row["area"] == area]) for area, title in _AREAS.items()]
    parts = [_HEAD.format(num_tasks=len(rows), by_type=by_type)]
    for title, mine in areas:
        parts += [f"## {title}\n\n", *_table(mine), "\n"]
    parts.append("## Task by task\n\n")
    for _, mine in areas:
        parts += [section for row in mine for section in _section(get_task(row["name"]))]
    categories = ", ".join(dict.fromkeys(attack.category for attack in ATTACKS))
    parts.append(_TAIL.replace("{num_attacks}", str(len(ATTACKS))).replace("{categories}", categories))
    return "".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| task | type | levels | verified | known hack | guard |\n|---|---|---|---|---|---|\n"
    for row in rows:
        name = row["name"]
        cells = (f"[`{name}`](#{name})", row["reward_type"], row["levels"], row["summary"], row["hack"], row["guard"])
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"


def _section(task: Task) -> Iterator[str]:
    module = sys.modules[task.verify.__module__]
    yield f"### {task.name}\n\n{_plain(module.__doc__ or task.summary)}\n\n"
    keys = ", ".join(f"`{key}`" for key in task.reference_keys)
    notes = [f"Reference: {keys}."]
    notes += ["Episodes of several turns in an environment."] if task.environment else []
    notes += ["Runs in a killable worker."] if task.in_worker else []
    notes += ["Needs the sandbox."] if task.sandboxed else []
    if task.judge_question:
        notes.append(f"A judge is asked from level {task.judged_from_level} on.")
    notes += [f"Pays in parts; floor {task.floor:g}."] if task.floor else []
    yield " ".join(notes) + "\n\n"
    for level in range(task.max_difficulty + 1):
        prompt = make_prompt(task, seed=0, index=0, difficulty=level)
        yield f"Level {level}:\n\n```text\n{_shown(prompt.messages)}\n```\n\n"
        if prompt.tools:
            names = ", ".join(f"`{tool.get('function', tool).get('name')}`" for tool in prompt.tools)
            yield f"Tools: {names}.\n\n"


def _plain(docstring: str) -> str:
    """A docstring as Markdown: its header lines become a list of their own."""
    lines = []
    for line in docstring.strip().splitlines():
        if line.startswith(("Area: ", "Reward type: ", "Verified: ", "Known hack", "Guard: ")):
            lines.append(f"* {line}")
        else:
            continues = bool(line and lines and lines[-1].startswith(("* ", "  ")))
            lines.append(f"  {line}" if continues else line)
    return "\n".join(lines)


def _shown(messages: Sequence[Mapping[str, Any]]) -> str:
    text = "\n".join(f"{message['role']}: {_content(message)}" for message in messages)
    if len(text) > MAX_PROMPT_CHARS:
        half = MAX_PROMPT_CHARS // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters …]\n{text[-half:]}"
    return text.replace("```", "'''")


def _content(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls")
    return str(message.get("content") or "") + (json.dumps(calls, ensure_ascii=False) if calls else "")
