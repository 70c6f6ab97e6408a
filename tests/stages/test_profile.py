"""Which steps are traced, what the timeline holds, and that a loop asks for the traces at the right steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from stages.profile import TRACKS, ProfileConfig, StageProfile, steps_to_trace, timeline
from stages.rl_loop import run_rl
from stages.stage_context import StageContext
from stages.step_clock import Span
from tests.stages.stage_fakes import FakeServices, quiet_progress, rows_of, stage_context
from tests.stages.test_rl_loop import PROMPTS, START, half_right
from tests.stages.test_rl_loop import config as rl_config


@pytest.mark.parametrize(
    ("first_step", "total_steps", "steps"),
    [
        (0, 40, [4, 5]),  # three steps of warm-up
        (20, 40, [24, 25]),  # a resumed stage warms up again
        (0, 4, [3, 4]),
        (0, 1, [1]),
        (39, 40, [40]),
        (40, 40, []),
    ],
)
def test_a_few_steps_after_warm_up_are_traced_or_the_last_ones(
    first_step: int, total_steps: int, steps: list[int]
) -> None:
    assert list(steps_to_trace(ProfileConfig(), first_step, total_steps)) == steps


@pytest.mark.parametrize("name", ["num_steps", "engine_steps"])
def test_counts_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"^profile.{name}: 0 must be 1 or more"):
        ProfileConfig(**{name: 0}).validate()


def test_the_timeline_has_a_named_track_for_each_phase() -> None:
    spans = [Span("generate", 1, 10.0, 2.0), Span("learn", 1, 12.0, 1.5), Span("step", 1, 10.0, 4.0)]
    events = timeline("reasoning_rl", spans)["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(names.values()) == list(TRACKS)
    shown = [(event["name"], names[event["tid"]], event["ts"], event["dur"]) for event in events if event["ph"] == "X"]
    assert shown == [
        ("generate", "generate", 0.0, 2e6), ("step 1", "step", 0.0, 4e6), ("learn", "learn", 2e6, 1.5e6),
    ]  # fmt: skip


class Traced:
    """Remembers the traces that were asked for."""

    def __init__(self, log: list[tuple[str, Any]], who: str) -> None:
        self.log, self.who = log, who

    def begin_trace(self, path: Path | None = None, *, num_steps: int = 0) -> None:
        self.log.append((f"{self.who} begins", num_steps))

    def end_trace(self, path: Path | None = None) -> None:
        self.log.append((f"{self.who} ends", path.name if path else None))


def test_a_loop_traces_learner_and_engine_at_the_chosen_steps_and_changes_no_metric(tmp_path: Path) -> None:
    plain, _ = stage_context(tmp_path / "plain")
    run_rl(PROMPTS, rl_config(), START, FakeServices(half_right), plain)  # type: ignore[arg-type]

    log: list[tuple[str, Any]] = []
    services = FakeServices(half_right)
    for part, who in ((services.learner, "learner"), (services.pool, "engine")):
        traced = Traced(log, who)
        part.begin_trace, part.end_trace = traced.begin_trace, traced.end_trace  # type: ignore[union-attr]
    profile = StageProfile(ProfileConfig(enabled=True), tmp_path / "profile", "reasoning_rl")
    context = StageContext("reasoning_rl", tmp_path / "run", seed=0, progress=quiet_progress()[0], profile=profile)
    run_rl(PROMPTS, rl_config(), START, services, context)  # type: ignore[arg-type]
    context.close()

    step = [
        ("learner begins", 0),
        ("engine begins", 48),
        ("learner ends", "reasoning_rl-step{}-learner.json.gz"),
        ("engine ends", None),
    ]
    assert log == [
        (what, value.format(number) if isinstance(value, str) else value) for number in (4, 5) for what, value in step
    ]
    assert rows_of(tmp_path / "run" / "metrics.jsonl") == rows_of(tmp_path / "plain" / "metrics.jsonl")
    events = json.loads((tmp_path / "profile" / "reasoning_rl-timeline.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert names == {
        *(f"step {number}" for number in range(1, 8)),
        "generate",
        "score",
        "learn",
        "sync",
        "check",
        "save",
    }
