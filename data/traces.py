"""Traces in the Chrome trace event format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

A trace is a recording of one process by torch's profiler; learner ranks and engines make one where they run. A long
recording would be too large to open: then the longest events are kept, and the trace says how many were left out.
(Format: "Trace Event Format", Google, section on JSON object format and on complete and metadata events.)
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import atomic_write

MAX_EVENTS = 150_000
"""Events of one file; at about 250 bytes each some 40 MB of JSON, which opens in seconds."""


class Trace:
    """A recording of this process from its creation to `write`; only one at a time."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile, supported_activities

        wanted = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & set(supported_activities())
        self._profiler = profile(activities=sorted(wanted, key=str), record_shapes=False, with_stack=False)
        self._profiler.start()

    def write(self, path: Path) -> None:
        """End the recording and write it to `path` (`.json.gz`), atomically."""
        self._profiler.stop()
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "trace.json"
            self._profiler.export_chrome_trace(str(raw))
            document = json.loads(raw.read_text(encoding="utf-8", errors="replace"))
        write_trace(path, shortened(document, MAX_EVENTS))


def write_trace(path: Path, document: Mapping[str, Any]) -> None:
    """Write a trace atomically, gzip-compressed when the name ends in `.gz`; the same events give the same bytes."""
    text = json.dumps(document, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def shortened(document: Mapping[str, Any], max_events: int) -> dict[str, Any]:
    """The trace with at most `max_events` timed events, the longest ones; metadata stays, arrows between events go.

    `otherData` says how many events were left out.
    """
    events = document["traceEvents"]
    timed = [event for event in events if event.get("ph") == "X"]
    if len(timed) <= max_events:
        return dict(document)
    longest = sorted(range(len(timed)), key=lambda index: -float(timed[index].get("dur", 0)))[:max_events]
    kept = [timed[index] for index in sorted(longest)]
    metadata = [event for event in events if event.get("ph") == "M"]
    note = {"events_left_out": len(timed) - len(kept), "why": "the shortest events of a recording too large to open"}
    return {**document, "traceEvents": metadata + kept, "otherData": {**document.get("otherData", {}), **note}}
