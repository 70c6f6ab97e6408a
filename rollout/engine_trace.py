"""A recording of the first steps that an engine takes, for `--profile`.

The recording begins and ends where the steps happen, because torch's profiler follows the thread that started it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from data.traces import Trace


class EngineTrace:
    """Records as many engine steps as were asked for; does nothing until then."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._steps_left = 0
        self._trace: Trace | None = None

    def begin(self, path: Path, num_steps: int) -> None:
        """Record the next `num_steps` steps into `path`."""
        self._path, self._steps_left = path, num_steps

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one engine step; it is an event "engine.step" of the recording."""
        if self._steps_left == 0:
            yield
            return
        from torch.profiler import record_function

        if self._trace is None:
            self._trace = Trace()
        with record_function("engine.step"):
            yield
        self._steps_left -= 1
        if self._steps_left == 0:
            self.end()

    def end(self) -> None:
        """Write what was recorded; nothing without a step."""
        if self._trace is not None and self._path is not None:
            self._trace.write(self._path)
        self._path, self._steps_left, self._trace = None, 0, None
