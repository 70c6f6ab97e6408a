"""What a published benchmark is to this project: where its rows lie, how they are asked, and what scores them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from data.records import Message, Prompt
from evals.benchmarks.rows import Row

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
CHOICE = 'Please show your choice in the `answer` field with only the choice letter, e.g., `"answer": "C"`.'
"""What Qwen3's model cards ask to be put into prompts of mathematics and of multiple choice ("Best Practices:
Standardize Output Format"). The report (section 4.6) prints no prompts of its own for them."""

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is no prompt, and why; `reason` is counted, so it names a kind and not the row."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """One benchmark.

    `rows` reads a path, `prompt` makes a prompt of a row, scored by the task that the prompt names (`task`, one of
    `rewards.benchmark_tasks`). `prompt_non_thinking` words it for the other mode where the report does. `expected_rows`
    are the row counts of the published files, any of which is right. `num_samples` and `max_tokens` are the report's
    (section 4.6): answers a prompt, over which accuracy is averaged, and tokens an answer. `also_left_out` names parts
    of a folder that are not read and why.
    """

    name: str
    title: str
    dataset: str
    licence: str
    task: str
    rows: Callable[[Path], Iterable[Row]]
    prompt: Callable[[Row], Prompt | LeftOut]
    prompt_non_thinking: Callable[[Row], Prompt | LeftOut] | None = None
    expected_rows: tuple[int, ...]
    num_samples: int = 1
    max_tokens: int = 32_768
    also_left_out: Callable[[Path], tuple[str, ...]] | None = None


def row_uid(benchmark: str, *identity: str) -> str:
    """`benchmark/` and 12 hex digits of the SHA-256 of what identifies a row, so that order does not matter."""
    return f"{benchmark}/{hashlib.sha256(chr(0).join(identity).encode()).hexdigest()[:12]}"


def user(text: str) -> tuple[Message, ...]:
    """One user message, without a system prompt, as the report's chat template leaves it."""
    return ({"role": "user", "content": text},)


def boxed_question(problem: str) -> tuple[Message, ...]:
    """A problem of mathematics with the request for a box after it."""
    return user(f"{problem.strip()}\n\n{BOXED}")


def choice_question(question: str, options: Iterable[str]) -> tuple[Message, ...]:
    """A question with its options, lettered from A as simple-evals does ("A) …"), and the request for a letter."""
    lettered = "\n".join(f"{letter}) {option.strip()}" for letter, option in zip(LETTERS, options, strict=False))
    return user(f"{question.strip()}\n\n{lettered}\n\n{CHOICE}")
