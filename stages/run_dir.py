"""A run's folder on disk: who may write it, how files get there whole, and what state its stages are in.

Everything a run leaves behind goes through here, so that three promises hold whatever kills the process: no two
processes write one run, no file is ever seen half written, and a resumed run leaves the same bytes as one that was
never interrupted (timings aside). The stages write per-stage files; `RunDir.assemble` joins them into run-level ones.

    RUN/.lock                          held with flock while a process works on the run
    RUN/plan.json                      the stages in order, each with its key
    RUN/stages/<stage>-<key12>/        stage.json, metrics.jsonl, samples.jsonl and what else the stage writes
    RUN/metrics.jsonl, samples.jsonl   the stages' files joined in plan order

Runs that share stages have one `stages` folder: in all but one of them `stages` is a relative link to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.files import atomic_write, last_row, read_json, whole_lines, write_json
from data.records import UserError
from stages.run_lock import RunLock, is_locked

StageState = Literal["done", "running", "interrupted", "not started"]

JOINED_FILES = ("metrics.jsonl", "samples.jsonl")


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Where one stage of a run stands: the last step it recorded and the seconds it worked (None: not recorded)."""

    stage: str
    key: str
    state: StageState
    step: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        at_step = "" if self.step is None or self.state not in ("interrupted", "running") else f" at step {self.step}"
        return self.state + at_step


class RunDir:
    """Names the files of one run and reads or writes the few that belong to the run as a whole."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def lock(self) -> RunLock:
        """The lock to hold, as a context manager, around all that writes into this run."""
        return RunLock(self.path)

    @property
    def shared_path(self) -> Path:
        """The folder that holds what runs may share: this run's own, or the one whose stages it shares."""
        link = self.path / "stages"
        return Path(os.path.normpath(self.path / os.readlink(link))).parent if link.is_symlink() else self.path

    def share_stages(self, other: Path) -> None:
        """Keep the stages of this run in the folder `other`, as a relative link, so that both can move together."""
        link, target = self.path / "stages", os.path.relpath(other / "stages", self.path)
        if link.is_symlink() and os.readlink(link) == target:
            return
        if link.exists() or link.is_symlink():
            raise UserError(f"{link}: exists and is no link to {target}; move it away, or choose another run directory")
        self.path.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def stage_dir(self, stage: str, key: str) -> Path:
        """The folder of a stage's output with this key; it is not created."""
        if not stage or "/" in stage or not key:
            raise ValueError(f"stage_dir: stage {stage!r} and key {key!r} must be plain non-empty names")
        return self.shared_path / "stages" / f"{stage}-{key[:12]}"

    def write_plan(self, stages: Sequence[tuple[str, str]]) -> None:
        """Record the (stage, key) pairs of this run in order, so that `status` knows what has not started."""
        write_json(self.path / "plan.json", [{"stage": stage, "key": key} for stage, key in stages])

    def plan(self) -> list[tuple[str, str]]:
        """The (stage, key) pairs that `write_plan` recorded; UserError when this is no run directory."""
        return [(row["stage"], row["key"]) for row in read_json(self.path / "plan.json")]

    def record_stage(self, stage: str, key: str, *, done: bool, seconds: float) -> None:
        """Write the stage's `stage.json`: whether it is done, and the seconds worked so far over all its sessions."""
        row = {"stage": stage, "key": key, "done": done, "seconds": seconds}
        write_json(self.stage_dir(stage, key) / "stage.json", row)

    def assemble(self, stage_dirs: Sequence[Path]) -> None:
        """Join the stages' metrics.jsonl and samples.jsonl, in the order given, into the run's own, atomically.

        Only whole lines are taken, so the result depends on nothing but the rows, however often a stage was resumed.
        """
        for name in JOINED_FILES:
            present = [directory / name for directory in stage_dirs if (directory / name).exists()]
            atomic_write(self.path / name, (line for path in present for line in whole_lines(path)))

    def status(self) -> list[StageStatus]:
        """The stages of the plan in order, each done, running, interrupted or not started."""
        running = is_locked(self.path)
        return [self._stage_status(stage, key, running) for stage, key in self.plan()]

    def _stage_status(self, stage: str, key: str, running: bool) -> StageStatus:
        directory = self.stage_dir(stage, key)
        if not directory.exists():
            return StageStatus(stage, key, "not started")
        stage_file, metrics = directory / "stage.json", directory / "metrics.jsonl"
        record = read_json(stage_file) if stage_file.exists() else {}
        last = last_row(metrics) if metrics.exists() else None
        step = last.get("step") if last is not None else None
        state: StageState = "done" if record.get("done") else "running" if running else "interrupted"
        return StageStatus(stage, key, state, step, record.get("seconds"))
