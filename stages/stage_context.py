"""A stage's own folder while it runs: metrics, samples, cached data and trainer states, resumable after kill -9.

    stages/<stage>-<key>/  metrics.jsonl  samples.jsonl  data/*.jsonl  state/step-*/  checkpoint/

A trainer state remembers how long the logs were when it was written; resuming cuts them back to that, so the rows of an
interrupted run equal those of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import JsonLines, atomic_write, read_json, read_rows, write_json
from evals.time_split import stage_time, time_table
from learner.checkpoint import StateStore
from stages.metrics_sinks import MetricsSink, numbers_of
from stages.profile import StageProfile
from stages.progress import Progress
from stages.step_clock import StepClock

_LOOP_STATE = "loop.json"


class StageContext:
    """Files of one stage."""

    def __init__(
        self,
        stage: str,
        path: Path,
        *,
        seed: int,
        progress: Progress,
        profile: StageProfile | None = None,
        sinks: Sequence[MetricsSink] = (),
    ) -> None:
        self.stage = stage
        self.path = path
        self.seed = seed
        self.progress = progress
        self.clock = StepClock(keep_spans=profile is not None)
        self._profile = profile
        self._sinks = sinks
        path.mkdir(parents=True, exist_ok=True)
        self.metrics = JsonLines(path / "metrics.jsonl")
        self.samples = JsonLines(path / "samples.jsonl")
        self.states = StateStore(path / "state")
        self.num_tokens = 0  # trained on and generated: the stage's cost

    # ---- data made once

    def cached_rows(self, name: str, make: Callable[[], Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Rows of data/<name>.jsonl, made and written whole on first use."""
        path = self.path / "data" / f"{name}.jsonl"
        if not path.exists():
            rows = list(make())
            atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return list(read_rows(path))

    def record_data(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write counts about the stage's data to data/<name>.json, for the report."""
        write_json(self.path / "data" / f"{name}.json", dict(facts))

    # ---- where the time goes

    def begin_steps(self, first_step: int, total_steps: int) -> None:
        """Show the stage's steps and begin to time them; `first_step` of them are done already."""
        self.progress.stage(self.stage, total_steps=total_steps, first_step=first_step)
        if self._profile is not None:
            self._profile.begin_stage(first_step, total_steps)
        for sink in self._sinks:
            sink.begin_stage(self.stage, key=self.path.name.removeprefix(f"{self.stage}-"), first_step=first_step)
        self.clock.start(first_step + 1)

    def record(self, step: int, metrics: Mapping[str, Any], timing: Mapping[str, float]) -> None:
        """A step's row in metrics.jsonl, and its numbers in the tools that the run writes to."""
        row = {"stage": self.stage, "step": step, **metrics, "timing": dict(timing)}
        self.metrics.append(row)
        values = numbers_of(row)
        for sink in self._sinks:
            sink.write(self.stage, step, values)

    def traced(self, step: int, learner: Any, pool: Any | None = None) -> contextlib.AbstractContextManager[None]:
        """Around the step with this number, from 1; traced by the profiler when the run asks for it."""
        return contextlib.nullcontext() if self._profile is None else self._profile.step(step, learner, pool)

    def show_time(self) -> None:
        """Show where the time of the stage went, those of its steps included that an earlier session took."""
        time = stage_time(self.stage, list(read_rows(self.metrics.path)))
        if time.num_steps:
            self.progress.end_stage(time_table(time))

    # ---- loop state

    def save(self, step: int, save_learner: Callable[[str], None], loop_state: Mapping[str, Any]) -> None:
        """Store the trainer state of `step`: learner, loop state and the lengths of the logs, atomically."""
        lengths = {"metrics_bytes": self.metrics.sync(), "samples_bytes": self.samples.sync()}

        def write(folder: Path) -> None:
            save_learner(str(folder / "learner"))
            write_json(folder / _LOOP_STATE, {**loop_state, **lengths, "step": step, "num_tokens": self.num_tokens})

        with self.clock.phase("save"):
            self.states.save(step, write)

    def restore(self, load_learner: Callable[[str], list[str]]) -> dict[str, Any]:
        """Go back to the newest whole trainer state; an empty dictionary when there is none.

        A state that was cut short or altered is named on screen and the one before it is used.
        """
        latest = self.states.latest()
        for refusal in latest.refused:
            self.progress.warn(f"{self.stage}: refused a trainer state: {refusal}")
        if latest.folder is None:
            self.metrics.rewind(0)
            self.samples.rewind(0)
            return {}
        state = read_json(latest.folder / _LOOP_STATE)
        restored = load_learner(str(latest.folder / "learner"))
        self.metrics.rewind(state["metrics_bytes"])
        self.samples.rewind(state["samples_bytes"])
        self.num_tokens = state["num_tokens"]
        self.progress.say(
            f"{self.stage}: resumed at step {state['step']} (restored {', '.join(restored)}, logs, loop state)"
        )
        return state

    def close(self) -> None:
        self.metrics.close()
        self.samples.close()
        if self._profile is not None:
            self._profile.write_timeline(self.clock.spans)
