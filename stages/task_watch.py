"""Watches each task of a mixture from step to step and names those that have saturated or collapsed.

The mean reward of a batch hides both: a task that every completion solves gives no gradient and costs its share of the
rollouts, and a task that the policy gives up on vanishes behind the others' gains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from data.records import UserError
from learner.advantages import TaskReport

TaskState = Literal["learning", "saturated", "collapsed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskWatchConfig:
    """A task is saturated after `patience` looks in a row with a mean reward of `saturated_at` or more, and collapsed
    after as many under `collapsed_share` of its best look, once that best was `min_best` or more.

    A look is a step, or as many steps as it takes to see `min_completions` scored ones of the task: the reward of one
    prompt says how hard that prompt is.
    """

    patience: int = 5
    min_completions: int = 32
    saturated_at: float = 0.98
    collapsed_share: float = 0.5
    min_best: float = 0.1

    def validate(self) -> None:
        for name in ("patience", "min_completions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        for name in ("saturated_at", "collapsed_share", "min_best"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name}: {getattr(self, name)} must lie in (0, 1]")


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """What is remembered of one task: its best look, how many in a row were high or low, and what the look that is
    not complete yet has seen.
    """

    best: float = 0.0
    high_looks: int = 0
    low_looks: int = 0
    state: TaskState = "learning"
    reward_sum: float = 0.0
    num_completions: int = 0


@dataclass(slots=True)
class TaskWatch:
    """The histories of all tasks; `observe` takes one step and returns what to say on screen."""

    config: TaskWatchConfig
    tasks: dict[str, TaskHistory] = field(default_factory=dict)

    def observe(self, reports: Mapping[str, TaskReport]) -> list[str]:
        """Take one step's reports; returns a line for each task whose state changed."""
        lines = []
        for name, report in reports.items():
            if math.isnan(report.mean_reward):  # every verification failed: that is another alarm's business
                continue
            before = self.tasks.get(name, TaskHistory())
            num_seen = before.num_completions + report.num_scored
            reward_sum = before.reward_sum + report.num_scored * report.mean_reward
            if num_seen < self.config.min_completions:
                self.tasks[name] = replace(before, reward_sum=reward_sum, num_completions=num_seen)
                continue
            self.tasks[name] = now = next_history(before, reward_sum / num_seen, self.config)
            if now.state != before.state:
                lines.append(_line(name, before, now, reward_sum / num_seen))
        return lines

    def to_json(self) -> dict[str, Any]:
        return {name: asdict(history) for name, history in self.tasks.items()}

    @classmethod
    def from_json(cls, config: TaskWatchConfig, state: Mapping[str, Any]) -> TaskWatch:
        return cls(config, {name: TaskHistory(**values) for name, values in state.items()})


def next_history(history: TaskHistory, reward: float, config: TaskWatchConfig) -> TaskHistory:
    """The history of a task after one more look with this mean reward."""
    best = max(history.best, reward)
    high = history.high_looks + 1 if reward >= config.saturated_at else 0
    is_low = best >= config.min_best and reward < config.collapsed_share * best
    low = history.low_looks + 1 if is_low else 0
    state: TaskState = "learning"
    if high >= config.patience:
        state = "saturated"
    elif low >= config.patience:
        state = "collapsed"
    return TaskHistory(best, high, low, state)


def _line(name: str, before: TaskHistory, now: TaskHistory, mean_reward: float) -> str:
    reward = f"mean reward {mean_reward:.2f}"
    if now.state == "saturated":
        return (
            f"task {name} is saturated ({reward} for {now.high_looks} looks): its groups teach nothing any more; raise "
            "its levels or lower its weight"
        )
    if now.state == "collapsed":
        return (
            f"task {name} has collapsed ({reward} for {now.low_looks} looks, best {now.best:.2f}): look at its "
            "samples, lower learner.lr or raise its weight"
        )
    return f"task {name} is no longer {before.state} ({reward})"
