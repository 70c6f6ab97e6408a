"""Episodes of agent tasks without a policy: turns that are written down in advance, such as a task's own demonstration.

A scripted episode runs through the same `data.episodes.Episode` as a rollout, so what a test, an audit or a
demonstration sees is what training sees.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from data.episodes import Episode, EpisodeLimits, turn_text
from data.records import FinishReason, Prompt
from rewards.task import ScoreRequest, Task, gold_completion, item_of


def play(
    task: Task,
    prompt: Prompt,
    turns: Sequence[str],
    *,
    limits: EpisodeLimits | None = None,
    finish_reason: FinishReason = "stop",
) -> ScoreRequest:
    """The episode in which the policy says `turns`, one after the other, until it is over; ready to be scored.

    `finish_reason` is that of the last turn that is taken. An episode that goes on when the turns run out is cut off by
    the turn cap, as a policy with nothing to say would be. Raises ValueError for a task without an environment.
    """
    if task.environment is None:
        raise ValueError(f"task {task.name!r} has no environment: it is answered in a single turn")
    if not turns:
        raise ValueError("turns: empty; an episode has at least one turn")
    limits = limits or EpisodeLimits()
    limits = EpisodeLimits(max_turns=min(limits.max_turns, len(turns)), max_calls=limits.max_calls)
    episode = Episode(task.environment, prompt.reference, limits, prefilled=prompt.enable_thinking is False)
    reason: FinishReason = "stop"
    for index, text in enumerate(turns):
        reason = finish_reason if index == len(turns) - 1 else "stop"
        if not episode.take(text, reason):
            break
    outcome = episode.outcome()
    return ScoreRequest(
        task=task.name,
        messages=prompt.messages,
        reference=prompt.reference,
        completion=episode.turns[-1],
        enable_thinking=prompt.enable_thinking,
        finish_reason=reason,
        turns=tuple(episode.turns),
        ended=episode.ended,
        outcome=outcome,
    )


def demonstrated_turns(task: Task, prompt: Prompt, *, error_rate: float = 0.0, seed: str = "gold") -> list[str]:
    """The assistant turns of the task's own demonstration, as a policy would sample them in the prompt's mode."""
    if task.demonstrate is None:
        raise ValueError(f"task {task.name!r} has no demonstration")
    messages = task.demonstrate(random.Random(f"{seed}/{prompt.uid}"), item_of(prompt), error_rate)
    thinking, prefilled = prompt.mode == "thinking", prompt.enable_thinking is False
    return [
        turn_text(message, thinking=thinking, prefilled=prefilled)
        for message in messages
        if message["role"] == "assistant"
    ]


def gold_turns(task: Task, prompt: Prompt) -> list[str]:
    """What a policy says to earn reward 1: all turns of an episode, or the one completion of a single-turn task."""
    return [gold_completion(task, prompt)] if task.environment is None else demonstrated_turns(task, prompt)


def gold_episode(task: Task, prompt: Prompt) -> ScoreRequest:
    """An episode that earns reward 1: the error-free demonstration played through the environment."""
    return play(task, prompt, demonstrated_turns(task, prompt), limits=EpisodeLimits(max_turns=64, max_calls=256))
