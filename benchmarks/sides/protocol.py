"""What every side of a comparison does: read its settings, do its steps, and write a line of JSON for each.

    python -m benchmarks.sides.<side> settings.json output.jsonl

Lines are {"event": "step", "step": 1, "seconds": ..., ...} and one {"event": "facts", ...}. Only the standard library:
a peer runs this in an environment of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any


def settings() -> dict[str, Any]:
    """The settings of this side, from the file that its first argument names."""
    return json.loads(Path(sys.argv[1]).read_text())


class Recorder:
    """Writes the lines; the clock of a step runs from the end of the one before."""

    def __init__(self) -> None:
        self._path = Path(sys.argv[2])
        self._step = 0
        self.begin()

    def facts(self, **facts: Any) -> None:
        """Versions and whatever else the table should say of this side."""
        self._write({"event": "facts", **facts})

    def begin(self) -> None:
        """Start the clock of the first step."""
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def step(self, **figures: Any) -> None:
        """A step has ended; `figures` are its parts in seconds, its tokens, and so on.

        `cpu_s` is the processor time of this process alone: on a busy machine it tells more than the wall clock does.
        """
        seconds, cpu_s = time.perf_counter() - self._began, time.process_time() - self._cpu_began
        self._step += 1
        self._write({"event": "step", "step": self._step, "seconds": seconds, "cpu_s": cpu_s, **figures})
        self.begin()

    def _write(self, row: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def versions(*names: str) -> dict[str, str]:
    """The installed versions of these packages."""
    return {name: importlib.metadata.version(name) for name in names}
