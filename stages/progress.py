"""One progress display for a whole run: where it is, how it is doing, and when it will be done.

On a terminal a live bar at the bottom with the messages above it; anywhere else (a log file, CI, `nohup`) plain lines
at a bounded rate and never a control code. Everything goes to stderr, so that stdout stays free for results. The
stages only call `stage` and `update`; which of the two displays is behind them is decided here once.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

_SMOOTHING = 0.2
"""Weight of the newest step in the smoothed step time: one slow step shows, but does not double the estimate."""

_PLAIN_WIDTH = 100

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Figure = float | int | str | None


@dataclass(slots=True)
class _Stage:
    """The stage being shown. Mutable, unlike the nouns that flow, since it is a display's memory and nothing else."""

    number: int
    name: str
    total_steps: int
    started: float
    step: int
    last_update: float | None = None
    last_line: float | None = None
    step_seconds: float | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)


class Progress:
    """Shows stages and steps of one run; a context manager whose methods may be called from any thread.

    `plain` None chooses by whether `stream` (stderr) is a terminal. Plain output has a line for the first and the last
    step of a stage and at most one every `interval_s` seconds between. `quiet` leaves only warnings.
    """

    def __init__(
        self,
        total_stages: int,
        plain: bool | None = None,
        *,
        quiet: bool = False,
        interval_s: float = 10.0,
        stream: TextIO | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_stages = total_stages
        self._quiet = quiet
        self._interval_s = interval_s
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._guard = threading.RLock()
        self._stage: _Stage | None = None
        self._num_stages = 0
        self._live: _LiveBar | None = None
        if plain is None:
            plain = console is None and not (self._stream.isatty() and os.environ.get("TERM") != "dumb")
        if not plain and not quiet:
            self._live = _LiveBar(console or Console(file=self._stream))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._guard:
            self._close_stage(stopped=kind is not None)

    def stage(self, name: str, total_steps: int, *, first_step: int = 0) -> None:
        """Begin the next stage, closing the one before; `first_step` is the step that a resumed stage goes on from."""
        with self._guard:
            self._close_stage(stopped=False)
            self._num_stages += 1
            self._stage = _Stage(self._num_stages, name, total_steps, self._clock(), first_step)
            resumed = f", going on after step {first_step}" if first_step else ""
            self._print(f"{self._position()}: {total_steps:,} steps{resumed}")
            self._show()

    def skip_stage(self, name: str, reason: str) -> None:
        """Count a stage that needs no work, such as one whose result is reused."""
        with self._guard:
            self._close_stage(stopped=False)
            self._num_stages += 1
            self._print(f"stage {self._num_stages}/{self._total_stages} {name}: {reason}")

    def end_stage(self, summary: RenderableType) -> None:
        """Close the stage at hand and show a table of it; outside of a terminal as plain text."""
        with self._guard:
            self._close_stage(stopped=False)
            if self._live:
                self._live.print(summary)
            elif not self._quiet:
                plain = Console(file=(text := io.StringIO()), width=_PLAIN_WIDTH, color_system=None)
                plain.print(summary)
                self._print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))

    def update(self, step: int, **figures: Figure) -> None:
        """Show that `step` of the stage is finished, with figures such as reward, loss or tokens_per_s.

        Raises RuntimeError outside of a stage, which is a mistake of the calling code.
        """
        with self._guard:
            stage = self._stage
            if stage is None:
                raise RuntimeError(f"progress: update({step}) before stage(); call stage(name, total_steps) first")
            now = self._clock()
            self._time_step(stage, step, now)
            stage.step, stage.figures = step, figures
            self._show()
            due = stage.last_line is None or now - stage.last_line >= self._interval_s or step >= stage.total_steps
            if self._live is None and due:
                stage.last_line = now
                self._print(self._line(stage))

    def say(self, text: str) -> None:
        """Print a line of news above the display; `quiet` leaves it out."""
        with self._guard:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print a line that the user should see even when `quiet`."""
        with self._guard:
            self._print(f"warning: {text}", style="yellow", always=True)

    def seconds_left(self) -> float | None:
        """Time left in this stage from the smoothed step time, in seconds; None until a step has been timed."""
        with self._guard:
            stage = self._stage
            if stage is None or stage.step_seconds is None:
                return None
            return stage.step_seconds * max(0, stage.total_steps - stage.step)

    @staticmethod
    def _time_step(stage: _Stage, step: int, now: float) -> None:
        num_steps = step - stage.step
        since, stage.last_update = stage.last_update, now
        if num_steps <= 0:  # the same step again, with more figures
            return
        if since is None:
            if num_steps > 1:  # a resumed stage arrives at its step at once: those steps took no time of ours
                return
            since = stage.started
        per_step = (now - since) / num_steps
        # A jump over several steps weighs as much as those steps would have one by one.
        weight = 1.0 if stage.step_seconds is None else 1 - (1 - _SMOOTHING) ** num_steps
        stage.step_seconds = weight * per_step + (1 - weight) * (stage.step_seconds or 0.0)

    def _position(self) -> str:
        assert self._stage is not None
        return f"stage {self._stage.number}/{self._total_stages} {self._stage.name}"

    def _line(self, stage: _Stage) -> str:
        parts = [f"{self._position()}: step {stage.step:,}/{stage.total_steps:,}", format_figures(stage.figures)]
        left = self.seconds_left()
        if left:
            parts.append(f"{format_duration(left)} left")
        return "  ".join(part for part in parts if part)

    def _close_stage(self, *, stopped: bool) -> None:
        stage = self._stage
        if stage is None:
            return
        if self._live:
            self._live.clear()
        ending = f"{'stopped after' if stopped else 'done,'} {stage.step:,} of {stage.total_steps:,} steps"
        self._print(f"{self._position()}: {ending} in {format_duration(self._clock() - stage.started)}")
        self._stage = None

    def _show(self) -> None:
        if self._live and self._stage:
            left = self.seconds_left()
            figures = format_figures(self._stage.figures)
            self._live.show(self._position(), self._stage.step, self._stage.total_steps, figures, left)

    def _print(self, text: str, *, style: str = "", always: bool = False) -> None:
        if self._quiet and not always:
            return
        text = plain_text(text)
        if self._live:
            self._live.print(Text(text, style=style))
        else:
            self._stream.write(text + "\n")
            self._stream.flush()


class _LiveBar:
    """The terminal's half: one rich bar for the stage at hand; values are passed as text, never as markup.

    Each stage has a bar of its own, erased when it ends: an empty display left running would print blank lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    def show(self, position: str, step: int, total_steps: int, figures: str, seconds_left: float | None) -> None:
        position, figures = plain_text(position), plain_text(figures)
        left = "" if seconds_left is None else f"{format_duration(seconds_left)} left"
        if self._bar is None:
            self._bar = _rich_bar(self._console)
            self._task = self._bar.add_task(
                "", total=total_steps, completed=step, position=position, figures=figures, left=left
            )
            self._bar.start()
        else:
            self._bar.update(self._task, completed=step, figures=figures, left=left)

    def clear(self) -> None:
        """Take the bar of an ended stage away; its last message says how it ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def print(self, what: RenderableType) -> None:
        self._console.print(what)


def _rich_bar(console: Console) -> RichProgress:
    whole = Column(no_wrap=True)
    return RichProgress(
        TextColumn("{task.fields[position]}", style="bold", markup=False, table_column=whole.copy()),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}", markup=False, table_column=whole.copy()),
        TextColumn("{task.fields[figures]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        TextColumn("{task.fields[left]}", style="cyan", markup=False, table_column=whole.copy()),
        console=console,
        expand=True,
        transient=True,
        # What libraries print must not tear the bar, but a result that is piped elsewhere must not land in it.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )


def plain_text(text: str) -> str:
    """Text without terminal escapes and control characters; newline and tab stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def format_figures(figures: Mapping[str, Figure]) -> str:
    """Figures as "reward 0.412  tokens/s 1,234": four digits, `_per_` as a slash, None as "not measured"."""
    return "  ".join(f"{name.replace('_per_', '/').replace('_', ' ')} {_figure(v)}" for name, v in figures.items())


def _figure(value: Figure) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def format_duration(seconds: float) -> str:
    """Seconds as people say them: "4s", "3m 20s", "2h 05m", "3d 04h"."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d {hours % 24:02d}h"
    if hours:
        return f"{hours}h {minutes % 60:02d}m"
    return f"{minutes}m {whole % 60:02d}s" if minutes else f"{whole}s"
