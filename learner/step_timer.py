"""Where the time of an optimizer step goes, phase by phase, on a CPU and on an accelerator.

An accelerator runs behind the program: events in its stream are timed, and read once at the end of the step, so that
timing does not make it wait.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch


class StepTimer:
    """Adds up the seconds of named phases."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as part of phase `name`; phases may come any number of times and must not nest."""
        with torch.profiler.record_function(f"learner.{name}"):
            if self._cuda:
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                yield
                end.record()
                self._events.append((name, begin, end))
            else:
                began = time.perf_counter()
                yield
                self._add(name, time.perf_counter() - began)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase as `<phase>_s`; waits for the accelerator."""
        if self._events:
            torch.cuda.synchronize()
        for name, begin, end in self._events:
            self._add(name, begin.elapsed_time(end) / 1e3)
        self._events.clear()
        return {f"{name}_s": value for name, value in self._seconds.items()}

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
