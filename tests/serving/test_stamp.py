"""The version in whole answers and in streams, however a stream is cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.stamp import StreamStamper, stamped, stamped_json


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta}], "model": "production"}


STREAM = [chunk(role="assistant", content=""), chunk(reasoning="größer\n\nals"), chunk(content="4")]
BYTES = b"".join(map(event, STREAM)) + b": still here\n\n" + b"data: [DONE]\n\n"


def test_an_answer_names_its_version_and_has_its_reasoning_under_both_names() -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "4", "reasoning": "2+2"}}], "usage": {}}
    found = json.loads(stamped_json(json.dumps(answer).encode(), "v3"))
    assert found["system_fingerprint"] == "v3"
    assert found["choices"][0]["message"] == {**answer["choices"][0]["message"], "reasoning_content": "2+2"}  # type: ignore[index]
    assert found["usage"] == {}


def test_an_answer_without_reasoning_says_so_under_both_names() -> None:
    message = stamped({"choices": [{"message": {"content": "4", "reasoning": None}}]}, "v3")["choices"][0]["message"]
    assert message["reasoning_content"] is None


def test_a_text_completion_has_no_message_and_passes() -> None:
    assert stamped({"choices": [{"text": "a"}]}, "v3") == {"choices": [{"text": "a"}], "system_fingerprint": "v3"}


def test_an_error_stays_as_it_is() -> None:
    assert stamped({"error": {"message": "no"}}, "v3") == {"error": {"message": "no"}}


def test_the_last_chunk_with_the_usage_alone_names_the_version_too() -> None:
    assert stamped({"choices": [], "usage": {}}, "v3")["system_fingerprint"] == "v3"


@given(st.lists(st.integers(0, len(BYTES)), max_size=12))
def test_every_chunk_of_a_stream_names_the_version_however_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(BYTES)]
    stamper = StreamStamper("v3")
    pieces = [BYTES[begin:end] for begin, end in itertools.pairwise(edges)]
    written = b"".join(stamper.feed(piece, is_last=False) for piece in pieces) + stamper.feed(b"", is_last=True)
    *events, comment, done, rest = written.split(b"\n\n")
    found = [json.loads(one.removeprefix(b"data: ")) for one in events]
    assert [one["system_fingerprint"] for one in found] == ["v3"] * 3
    assert [one["choices"][0]["delta"].get("reasoning_content") for one in found] == [None, "größer\n\nals", None]
    assert [one["choices"][0]["delta"].get("content") for one in found] == ["", None, "4"]
    assert (comment, done, rest) == (b": still here", b"data: [DONE]", b"")


def test_what_a_broken_stream_leaves_over_is_sent_as_it_is() -> None:
    stamper = StreamStamper("v3")
    assert stamper.feed(b'data: {"cho', is_last=False) == b""
    assert stamper.feed(b"", is_last=True) == b'data: {"cho'
