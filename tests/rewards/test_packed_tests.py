"""Published tests of programs are unpacked, and nothing that a hostile file holds is ever run."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards.packed_tests as packed_tests
from rewards.packed_tests import ProgramTest, read_tests, unpacked, unpickled_text

ROWS = [{"input": "1\n", "output": "2", "testtype": "stdin"}]
TESTS = (ProgramTest("1\n", "2", "stdin"),)


def pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_read_as_published_in_every_protocol(protocol: int) -> None:
    text = json.dumps(ROWS)
    assert unpacked(pack(pickle.dumps(text, protocol))) == text
    assert read_tests(pack(pickle.dumps(text, protocol))) == TESTS


def test_tests_in_plain_json_are_read_too() -> None:
    assert read_tests(f" {json.dumps(ROWS)}") == TESTS
    assert read_tests("[]") == ()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert unpickled_text(pickle.dumps(text)) == text


class Call:
    """Pickles to a call of a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Text(str):
    """A text that is not quite one."""


def test_a_hostile_pickle_is_refused_before_anything_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for hostile in (
        Call(os.system, f"touch {target}"),
        Call(eval, f"open({str(target)!r}, 'w')"),
        [Call(os.mkdir, str(target)), "[]"],
        Text("[]"),
    ):
        with pytest.raises(ValueError, match="it wants to import"):
            unpickled_text(pickle.dumps(hostile))
    assert not target.exists()


def test_opcodes_that_reach_outside_are_refused() -> None:
    for content in (b"cos\nsystem\n.", b"Pother\n.", b"(S'ls'\nios\nsystem\n.", b"\x82\x01.", b"\x97."):
        with pytest.raises(ValueError, match="not a pickle of one text"):
            unpickled_text(content)


@pytest.mark.parametrize("value", [b"[]", 7, None, ["[]"], {"a": 1}, ("[]",)])
def test_a_pickle_of_another_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a pickle of one text"):
        unpickled_text(pickle.dumps(value))


@given(st.binary(max_size=60))
def test_random_bytes_give_a_text_or_a_refusal(content: bytes) -> None:
    try:
        found = unpickled_text(content)
    except ValueError:  # the one refusal that there is
        return
    assert type(found) is str


def test_a_small_file_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_tests, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(ValueError, match="cut off, or larger than 1000 bytes"):
        unpacked(pack(pickle.dumps("x" * 5000)))
    with pytest.raises(ValueError, match="cut off"):
        unpacked(base64.b64encode(zlib.compress(pickle.dumps("[]"))[:-6]).decode())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not base64"), ('[1]', "a test is int, not an object"), ("[", "Expecting value"),
        ('[{"input": "1", "output": "2", "testtype": "file"}]', "testtype 'file' is neither"),
        ('[{"input": 1, "output": "2", "testtype": "stdin"}]', "field 'input' of a test is 1, not text"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_tests_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        read_tests(text)
