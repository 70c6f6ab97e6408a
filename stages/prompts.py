"""Where a stage's prompts come from: reward tasks that generate them, or the user's file, clear of held-out items.

The same settings and seed give the same prompts. Held-out prompts never enter a training set: every stage passes its
prompts through `HeldOut.exclude`, and the count of what it dropped goes into the stage's data report.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.chat import strip_flags
from data.filters import Decontaminator
from data.records import Prompt, UserError
from data.sources import load_prompts
from rewards.registry import get_task
from rewards.task import Task, make_prompt

HARD_SWITCH = "enable_thinking=False"
"""Stands where a flag would for prompts that ask for no thinking by the template's argument."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFile:
    """A user's own prompts for one task: JSONL, parquet or a Hugging Face folder, in the place of generated ones.

    Rows are `{messages, reference}` with the reference's keys as the task wants them (`fourstage rewards preview TASK
    --json` shows some), or a question and an answer under the names given here.
    """

    path: str
    question_field: str = "question"
    answer_field: str = "answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskShare:
    """How much of one task: its weight in a mixture, its difficulty levels (used in turn), and the modes asked for.

    `file` takes the place of the task's generator.

    `non_thinking_share` of the prompts ask for no thinking: `hard_share` of these by the hard switch (the empty block
    is prefilled), the rest by /no_think. Of the others `flagged_share` carry /think and the rest no flag. A task that
    writes its own flags (mode_flags) leaves `non_thinking_share` at null.
    """

    weight: float = 1.0
    levels: tuple[int, ...] = (0,)
    non_thinking_share: float | None = None
    hard_share: float = 0.0
    flagged_share: float = 0.5
    file: TaskFile | None = None

    def validate(self) -> None:
        if not self.weight > 0:
            raise UserError(f"weight: {self.weight} must be above 0; leave the task out instead")
        if not self.levels:
            raise UserError("levels: give at least one difficulty level, such as [0]")
        for name in ("non_thinking_share", "hard_share", "flagged_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name}: {value} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSource:
    """A user's own questions: JSONL, parquet or a Hugging Face folder, verified by reward task `task`."""

    path: str
    task: str = "math"
    question_field: str = "question"
    answer_field: str = "answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptMix:
    """A mixture of prompts: tasks by weight, or, when `file` is set, that file in their place.

    A key of `tasks` is the name of a reward task, or the path of a Python file that defines one (`rewards.registry`).
    """

    tasks: dict[str, TaskShare] = field(default_factory=dict)
    file: FileSource | None = None

    def validate(self) -> None:
        if not self.tasks and self.file is None:
            raise UserError("tasks: name at least one reward task, or give `file`")
        for name, share in self.tasks.items():
            check_levels(name, share.levels, field=f"tasks.{name}.levels")


def check_levels(task: str, levels: Sequence[int], *, field: str) -> None:
    """Refuse difficulty levels that a task does not have before anything runs; UserError names `field`."""
    highest = get_task(task).max_difficulty
    for level in levels:
        if not 0 <= level <= highest:
            raise UserError(f"{field}: {level} is no level of task {task!r}; use 0 to {highest}")


def mixed_prompts(mix: PromptMix, *, count: int, seed: int, purpose: str, distinct: bool = True) -> list[Prompt]:
    """`count` prompts of the mixture, shuffled; `purpose` keeps the draws of two stages apart.

    Tasks get their share of `count` by weight, rounded so that the sum is `count`. With `distinct`, no
    prompt comes twice, and a task whose level has fewer prompts than asked for gives what it has.
    """
    if mix.file is not None:
        prompts = load_prompts(
            mix.file.path,
            task=mix.file.task,
            question_field=mix.file.question_field,
            answer_field=mix.file.answer_field,
        )
        random.Random(f"file/{purpose}/{seed}").shuffle(prompts)
        return prompts[:count]
    prompts = []
    for name, quota in _quotas({name: share.weight for name, share in mix.tasks.items()}, count).items():
        prompts += _task_prompts(name, mix.tasks[name], quota, seed=seed, purpose=purpose, distinct=distinct)
    random.Random(f"mix/{purpose}/{seed}").shuffle(prompts)
    return prompts


def require_readable_files(settings: Any) -> None:
    """Read the file of every mixture in a stage's settings; UserError names file and line.

    Called before a run starts: a broken line must not come to light after an hour of training.
    """
    if isinstance(settings, PromptMix):
        if settings.file is not None:
            mixed_prompts(settings, count=1, seed=0, purpose="check")
        for name, share in settings.tasks.items():
            if share.file is not None:
                file_prompts(name, share.file)
    elif dataclasses.is_dataclass(settings):
        for item in dataclasses.fields(settings):
            require_readable_files(getattr(settings, item.name))


def _quotas(weights: Mapping[str, float], count: int) -> dict[str, int]:
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items()}
    quotas = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _task_prompts(name: str, share: TaskShare, quota: int, *, seed: int, purpose: str, distinct: bool) -> list[Prompt]:
    if share.file is not None:
        prompts = file_prompts(name, share.file)
        random.Random(f"file/{purpose}/{seed}").shuffle(prompts)
        prompts = prompts[:quota]
    else:
        prompts = _generated_prompts(get_task(name), share, quota, seed=seed, purpose=purpose, distinct=distinct)
    flags = _flags(share, len(prompts), random.Random(f"flags/{name}/{purpose}/{seed}"))
    return [with_flag(prompt, flag) if flag else prompt for prompt, flag in zip(prompts, flags, strict=True)]


def _generated_prompts(
    task: Task, share: TaskShare, quota: int, *, seed: int, purpose: str, distinct: bool
) -> list[Prompt]:
    numeric_seed = random.Random(f"{purpose}/{seed}").getrandbits(48)
    seen: set[str] = set()
    prompts: list[Prompt] = []
    attempts = 0
    while len(prompts) < quota and attempts < 4 * quota + 64:
        level = share.levels[attempts % len(share.levels)]
        prompt = make_prompt(task, seed=numeric_seed, index=attempts, difficulty=level)
        attempts += 1
        text = prompt_text(prompt)
        if not distinct or text not in seen:
            seen.add(text)
            prompts.append(prompt)
    return prompts


def file_prompts(name: str, file: TaskFile) -> list[Prompt]:
    """All prompts of a task's file, in its order; UserError when a reference lacks what the task's verifier reads."""
    task = get_task(name)
    prompts = load_prompts(
        file.path, task=task.name, question_field=file.question_field, answer_field=file.answer_field
    )
    for prompt in prompts:
        known = prompt.reference if isinstance(prompt.reference, Mapping) else {}
        missing = [key for key in task.reference_keys if key not in known]
        if missing:
            asked = prompt_text(prompt)
            raise UserError(
                f"{file.path}: the row that asks {asked[:60]!r} has the reference {json.dumps(prompt.reference)[:60]}, "
                f"which lacks {missing[0]!r}; task {task.name!r} needs {', '.join(task.reference_keys)}"
            )
    return prompts


def _flags(share: TaskShare, count: int, rng: random.Random) -> list[str]:
    """A flag, HARD_SWITCH or none ("") for each of `count` prompts: rounded counts, in an order apart from levels."""
    if share.non_thinking_share is None:
        return [""] * count
    num_non_thinking = int(share.non_thinking_share * count + 0.5)
    num_flagged = int(share.flagged_share * (count - num_non_thinking) + 0.5)
    num_hard = int(share.hard_share * num_non_thinking + 0.5)
    flags = [HARD_SWITCH] * num_hard + ["/no_think"] * (num_non_thinking - num_hard) + ["/think"] * num_flagged
    flags += [""] * (count - len(flags))
    rng.shuffle(flags)
    return flags


def with_flag(prompt: Prompt, flag: str) -> Prompt:
    """The prompt with `flag` behind its last user message, or with the hard switch off for HARD_SWITCH."""
    if flag == HARD_SWITCH:
        return dataclasses.replace(prompt, uid=f"{prompt.uid}/{flag}", enable_thinking=False)
    messages = [dict(message) for message in prompt.messages]
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    messages[last]["content"] = f"{messages[last]['content']} {flag}"
    return dataclasses.replace(prompt, uid=f"{prompt.uid}{flag}", messages=tuple(messages))


def prompt_text(prompt: Prompt) -> str:
    """All that the user and the system say, without flags: what decontamination compares."""
    return "\n".join(
        strip_flags(str(message["content"])) for message in prompt.messages if message["role"] in ("user", "system")
    )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out prompts of a run and the test for contamination with them.

    Wording that more than three percent of a task's held-out texts share is a template and no evidence.
    """

    prompts: tuple[Prompt, ...]
    decontaminator: Decontaminator

    @classmethod
    def of(cls, prompts: Iterable[Prompt], *, ngram: int) -> HeldOut:
        prompts = tuple(prompts)
        texts, tasks = [prompt_text(prompt) for prompt in prompts], [prompt.task for prompt in prompts]
        return cls(prompts, Decontaminator(texts, ngram, template_share=0.03, groups=tasks))

    def exclude(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], int]:
        """The prompts that share nothing with a held-out one, and how many were dropped."""
        clean = [prompt for prompt in prompts if not self.decontaminator.contaminated(prompt_text(prompt))]
        return clean, len(prompts) - len(clean)


def prompt_record(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a JSON object."""
    return dataclasses.asdict(prompt)


def prompt_of_record(record: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_record` wrote."""
    values = dict(record)
    values["messages"] = tuple(values["messages"])
    values["tools"] = tuple(values["tools"]) if values["tools"] is not None else None
    return Prompt(**values)


def same_item(prompt: Prompt) -> str:
    """A key by which two prompts ask the same thing, flags and mode aside."""
    return json.dumps([prompt.task, prompt_text(prompt), prompt.tools], sort_keys=True, default=dict)
