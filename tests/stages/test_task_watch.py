"""A task that has saturated or collapsed is named once, and again when that is over."""

from __future__ import annotations

import math

import pytest

from data.records import UserError
from learner.advantages import TaskReport
from stages.task_watch import TaskWatch, TaskWatchConfig


def report(reward: float, num: int = 32) -> TaskReport:
    return TaskReport(num, num, 0, 4, reward, reward, 0.1, 12.0, 0.0, 0.1)


def watched(rewards: list[float], **settings: float) -> list[list[str]]:
    watch = TaskWatch(TaskWatchConfig(patience=3, **settings))  # type: ignore[arg-type]
    return [watch.observe({"sums": report(reward)}) for reward in rewards]


def test_a_saturated_task_is_named_once_after_its_patience_and_again_when_it_is_over() -> None:
    lines = watched([0.5, 0.99, 1.0, 0.98, 1.0, 0.9, 1.0])
    assert [len(found) for found in lines] == [0, 0, 0, 1, 0, 1, 0]
    assert lines[3][0].startswith("task sums is saturated (mean reward 0.98 for 3 looks)")
    assert lines[5] == ["task sums is no longer saturated (mean reward 0.90)"]


def test_a_collapsed_task_is_measured_against_its_own_best() -> None:
    lines = watched([0.2, 0.6, 0.29, 0.29, 0.29, 0.4])
    assert [len(found) for found in lines] == [0, 0, 0, 0, 1, 1]
    assert lines[4][0].startswith("task sums has collapsed (mean reward 0.29 for 3 looks, best 0.60)")


def test_a_task_that_never_worked_has_nothing_to_collapse_from() -> None:
    assert watched([0.09, 0.0, 0.0, 0.0, 0.0]) == [[]] * 5
    assert watched([0.11, 0.0, 0.0, 0.0])[-1] != []


def test_one_step_in_between_starts_the_count_again() -> None:
    assert watched([0.6, 0.1, 0.1, 0.31, 0.1, 0.1]) == [[]] * 6


def test_tasks_are_watched_apart_and_steps_without_a_task_or_a_score_do_not_count() -> None:
    watch = TaskWatch(TaskWatchConfig(patience=2))
    steps = [
        {"a": report(1.0), "b": report(0.5)},
        {"b": report(0.5)},
        {"a": report(math.nan), "b": report(0.5)},
        {"a": report(1.0), "b": report(0.5)},
    ]
    assert [len(watch.observe(step)) for step in steps] == [0, 0, 0, 1]


def test_a_look_takes_as_many_steps_as_it_needs_to_see_enough_completions() -> None:
    watch = TaskWatch(TaskWatchConfig(patience=1, min_completions=24))
    rewards = [0.5, 1.0, 0.9, 0.0, 0.3, 0.6, 1.0, 1.0, 1.0]  # looks of 0.8, 0.3 and 1.0
    assert [watch.observe({"a": report(reward, 8)}) for reward in rewards] == [
        [], [], [], [], [],
        ["task a has collapsed (mean reward 0.30 for 1 looks, best 0.80): look at its samples, lower learner.lr or "
         "raise its weight"],
        [], [],
        ["task a is saturated (mean reward 1.00 for 1 looks): its groups teach nothing any more; raise its levels or "
         "lower its weight"],
    ]  # fmt: skip


def test_a_resumed_watch_goes_on_where_it_was() -> None:
    config = TaskWatchConfig(patience=2)
    whole, first = TaskWatch(config), TaskWatch(config)
    rewards = [0.5, 1.0, 1.0, 1.0, 0.1, 0.1]
    said = [whole.observe({"a": report(reward, 20)}) for reward in rewards]
    before = [first.observe({"a": report(reward, 20)}) for reward in rewards[:3]]
    second = TaskWatch.from_json(config, first.to_json())
    assert before + [second.observe({"a": report(reward, 20)}) for reward in rewards[3:]] == said
    assert second.to_json() == whole.to_json()


def test_a_bad_setting_names_field_and_value() -> None:
    with pytest.raises(UserError, match="patience: 0 must be 1 or more"):
        TaskWatchConfig(patience=0).validate()
    with pytest.raises(UserError, match=r"min_best: 0 must lie in \(0, 1\]"):
        TaskWatchConfig(min_best=0).validate()
