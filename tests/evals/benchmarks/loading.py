"""What the tests of every loader ask: the one prompt of a row, the error of a broken one, the score of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import Prompt, Score, UserError
from evals.benchmarks.registry import load_benchmark
from rewards.registry import get_task
from rewards.task import ScoreRequest


def only_prompt(name: str, path: Path) -> Prompt:
    (prompt,) = load_benchmark(name, path)
    return prompt


def refusal(name: str, path: Path) -> str:
    """The message with which a benchmark refuses a file; one line, as users get it."""
    with pytest.raises(UserError) as caught:
        load_benchmark(name, path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def score(prompt: Prompt, completion: str) -> Score:
    """What the prompt's own task says of a completion, in this process."""
    request = ScoreRequest(prompt.task, prompt.messages, prompt.reference, completion, prompt.enable_thinking)
    return get_task(prompt.task).score(request)
