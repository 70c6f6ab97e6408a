"""`--profile`: traces of a few steps of each stage, and a timeline of all steps, for Perfetto.

    profile/<stage>-step<N>-learner.json.gz   torch's profiler in the learner's first rank, one optimizer step or more
    profile/<stage>-step<N>-engine.json.gz    the same in the first engine, of the first engine steps of the rollouts
    profile/<stage>-timeline.json             the controller's phases of all steps of this session, a track for each

Profiling looks on: it changes no random state and no order of work, so metrics and weights keep their bits. It costs
time, so the timings of profiled steps are not those of others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.records import UserError
from data.traces import write_trace
from stages.step_clock import Span

TRACKS = ("step", "generate", "score", "proximal", "learn", "sync", "check", "wait", "save")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """Which steps `--profile` traces: `num_steps` of them after the first `warmup_steps` of a session of a stage.

    A stage with fewer steps is traced at its end. Of a step's rollouts the first `engine_steps` of the engine's own
    steps are traced: a whole one can have tens of thousands.
    """

    enabled: bool = False
    warmup_steps: int = 3
    num_steps: int = 2
    engine_steps: int = 48

    def validate(self) -> None:
        for name, least in (("warmup_steps", 0), ("num_steps", 1), ("engine_steps", 1)):
            if getattr(self, name) < least:
                raise UserError(f"profile.{name}: {getattr(self, name)} must be {least} or more")


def steps_to_trace(config: ProfileConfig, first_step: int, total_steps: int) -> range:
    """Numbers of the steps to trace, from 1, of a stage that goes on after `first_step` steps."""
    begin = min(first_step + config.warmup_steps, max(first_step, total_steps - config.num_steps))
    return range(begin + 1, min(begin + config.num_steps, total_steps) + 1)


class StageProfile:
    """The traces of one stage."""

    def __init__(self, config: ProfileConfig, folder: Path, stage: str) -> None:
        self._config = config
        self._folder = folder.absolute()
        self._stage = stage
        self._steps = range(0)

    def begin_stage(self, first_step: int, total_steps: int) -> None:
        """Choose the steps, now that their number is known."""
        self._steps = steps_to_trace(self._config, first_step, total_steps)

    @contextlib.contextmanager
    def step(self, step: int, learner: Any, pool: Any | None = None) -> Iterator[None]:
        """Trace this step (from 1) in the learner's first rank and the first engine, if it is one of those chosen."""
        if step not in self._steps:
            yield
            return
        learner.begin_trace()
        if pool is not None:
            pool.begin_trace(self._path(step, "engine"), num_steps=self._config.engine_steps)
        yield
        learner.end_trace(self._path(step, "learner"))
        if pool is not None:
            pool.end_trace()

    def write_timeline(self, spans: Sequence[Span]) -> None:
        """Write the timeline of a session; a session without a step leaves none."""
        if spans:
            write_trace(self._folder / f"{self._stage}-timeline.json", timeline(self._stage, spans))

    def _path(self, step: int, who: str) -> Path:
        return self._folder / f"{self._stage}-step{step}-{who}.json.gz"


def timeline(stage: str, spans: Sequence[Span]) -> dict[str, Any]:
    """The phases of a loop's steps as Chrome trace events: a track for each phase, microseconds from the first."""
    origin = min(span.began_s for span in spans)
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": f"{stage}: controller"}}
    ]
    for place, track in enumerate(TRACKS, start=1):
        events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": place, "args": {"name": track}})
        events.append({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": place, "args": {"sort_index": place}})
    for span in sorted(spans, key=lambda span: span.began_s):
        events.append(
            {
                "ph": "X", "cat": "phase", "pid": 1, "tid": 1 + TRACKS.index(span.phase),
                "name": f"step {span.step}" if span.phase == "step" else span.phase,
                "ts": 1e6 * (span.began_s - origin), "dur": 1e6 * span.seconds, "args": {"step": span.step},
            }
        )  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}
