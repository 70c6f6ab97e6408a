"""Traces are Chrome trace JSON, stay small enough to open, and are the same bytes for the same events."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import torch

from data.traces import Trace, shortened, write_trace

META = {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "x"}}


def timed(name: str, dur: float, ts: float = 0.0) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur}


def test_a_long_trace_keeps_its_longest_events_in_order_and_says_how_many_are_gone() -> None:
    flow = {"ph": "s", "name": "arrow", "id": 1}
    events = [META, timed("a", 5), flow, timed("b", 1), timed("c", 9), timed("d", 2)]
    found = shortened({"traceEvents": events, "otherData": {"kept": 1}, "schemaVersion": 1}, 2)
    assert [event["name"] for event in found["traceEvents"]] == ["process_name", "a", "c"]
    assert found["otherData"]["kept"] == 1
    assert found["otherData"]["events_left_out"] == 2
    assert found["schemaVersion"] == 1


def test_a_short_trace_stays_as_it_is() -> None:
    document = {"traceEvents": [META, timed("a", 5), {"ph": "s", "name": "arrow"}]}
    assert shortened(document, 1) == document


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.json.gz", "two.json.gz"):
        write_trace(tmp_path / "profile" / name, {"traceEvents": [META]})
    one, two = ((tmp_path / "profile" / name).read_bytes() for name in ("one.json.gz", "two.json.gz"))
    assert one == two
    assert json.loads(gzip.decompress(one)) == {"traceEvents": [META]}


def test_a_recording_holds_the_operations_and_labels_between_start_and_end(tmp_path: Path) -> None:
    a = torch.ones(64, 64)
    trace = Trace()
    with torch.profiler.record_function("learner.forward"):
        a @ a
    trace.write(tmp_path / "step.json.gz")
    torch.relu(a)
    document = json.loads(gzip.decompress((tmp_path / "step.json.gz").read_bytes()))
    names = {event["name"] for event in document["traceEvents"] if event.get("ph") == "X"}
    assert {"learner.forward", "aten::mm"} <= names
    assert "aten::relu" not in names
