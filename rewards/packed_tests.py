"""Reads the tests of LiveCodeBench's published rows, which are JSON or, when private, a packed pickle of JSON.

The file packs its private tests as base64 of zlib of a pickle of one JSON text. A pickle is a program: `pickle.loads`
on a downloaded file runs whatever its author put there. Nothing of that can happen here. The unpickler refuses every
import, so that no class and no function can be named, let alone called; what is left of the format can only build plain
values, and anything but one text is refused. Unpacking stops at `MAX_UNPACKED_BYTES`, so that a small file cannot fill
the memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

MAX_UNPACKED_BYTES = 512 * 2**20
"""The largest published row unpacks to some tens of megabytes."""

TestKind = Literal["stdin", "functional"]


@dataclass(frozen=True, slots=True)
class ProgramTest:
    """One test: what goes in and what has to come out, as text; functional ones hold JSON, one argument a line."""

    input: str
    output: str
    kind: TestKind


class _TextUnpickler(pickle.Unpickler):
    """Builds plain values and nothing else."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it wants to import {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to an object outside itself")


def unpickled_text(content: bytes) -> str:
    """The text that a pickle holds. ValueError for a pickle of anything else, which is never built or run."""
    try:
        value = _TextUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, OverflowError,
            MemoryError, ImportError) as error:  # fmt: skip  # whatever a broken or hostile pickle leads to
        raise ValueError(f"not a pickle of one text: {type(error).__name__}: {error}") from None
    if type(value) is not str:
        raise ValueError(f"not a pickle of one text but of {type(value).__name__}")
    return value


def unpacked(packed: str) -> str:
    """The JSON text of private tests as they are published. ValueError for anything that is not packed like that."""
    try:
        compressed = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(compressed, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise ValueError(f"not zlib: {error}") from None
    if stream.unconsumed_tail or not stream.eof:
        raise ValueError(f"cut off, or larger than {MAX_UNPACKED_BYTES} bytes")
    return unpickled_text(content)


def read_tests(text: str) -> tuple[ProgramTest, ...]:
    """The tests of a published field, JSON or packed. ValueError says what is wrong with it."""
    if not text.lstrip().startswith("["):
        text = unpacked(text)
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("not a list of tests")
    return tuple(_test(row) for row in rows)


def _test(row: Any) -> ProgramTest:
    if not isinstance(row, Mapping):
        raise ValueError(f"a test is {type(row).__name__}, not an object")
    texts: dict[str, str] = {}
    for name in ("input", "output", "testtype"):
        value = row.get(name)
        if not isinstance(value, str):
            raise ValueError(f"field {name!r} of a test is {value!r:.40}, not text")
        texts[name] = value
    if texts["testtype"] not in ("stdin", "functional"):
        raise ValueError(f"testtype {texts['testtype']!r} is neither 'stdin' nor 'functional'")
    return ProgramTest(texts["input"], texts["output"], cast(TestKind, texts["testtype"]))
