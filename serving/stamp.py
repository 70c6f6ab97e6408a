"""Writes into every answer which version it came from, and gives the reasoning under the name that clients read.

vLLM 0.32 calls the reasoning `reasoning`; clients of Qwen3 read `reasoning_content`, which older releases sent. Both
are given. The version goes into `system_fingerprint`, OpenAI's own field for "the configuration that the model runs
with": of a whole answer and of every chunk of a stream.
"""

from __future__ import annotations

import json
from typing import Any

VERSION_HEADER = "x-fourstage-version"
_DATA = b"data: "
_END = b"\n\n"


def stamped(answer: Any, version: str) -> Any:
    """An answer or a chunk of one with its version; changes and returns it. Errors carry no choices and stay."""
    if not isinstance(answer, dict) or "choices" not in answer:
        return answer
    answer["system_fingerprint"] = version
    for choice in answer["choices"]:
        for part in (choice.get("message"), choice.get("delta")):
            if part is not None and "reasoning" in part:
                part["reasoning_content"] = part["reasoning"]
    return answer


def stamped_json(body: bytes, version: str) -> bytes:
    """A whole JSON answer with its version."""
    return _encoded(stamped(json.loads(body), version))


class StreamStamper:
    """Server-sent events in, the same events with their version out; an event may come in pieces."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._rest = b""

    def feed(self, data: bytes, *, is_last: bool) -> bytes:
        """The events that are whole now; with `is_last` what is left over too, as it is."""
        *events, self._rest = (self._rest + data).split(_END)
        written = b"".join(self._event(event) + _END for event in events)
        if is_last:
            written, self._rest = written + self._rest, b""
        return written

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(_DATA + b"{"):
            return event  # the end mark, or a comment that keeps the connection alive
        return _DATA + _encoded(stamped(json.loads(event[len(_DATA) :]), self.version))


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")
