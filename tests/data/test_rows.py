"""Every file format gives the same rows, and what cannot be read is refused with its place."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from data.records import UserError
from data.rows import READERS, split_of, suffix_of

ROWS = [{"question": 'a, "b"\nc', "answer": "1"}, {"question": "ü", "answer": "2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(path: Path) -> list[object]:
    return [row for _, row in READERS[suffix_of(path)](path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES.encode()),
        ("rows.jsonl", b"\xef\xbb\xbf" + LINES.replace("\n", "\n\n").encode()),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("rows.json", json.dumps(ROWS, indent=1).encode()),
        ("rows.json", LINES.encode()),
        ("rows.csv", 'question,answer\n"a, ""b""\nc",1\nü,2\n'.encode()),
        ("ROWS.CSV", '\ufeffquestion,answer\n"a, ""b""\nc",1\nü,2\n'.encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == ROWS


def test_a_csv_field_may_be_longer_than_the_csv_module_allows_by_default(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n" + "x" * 200_000 + "\n")
    assert read(tmp_path / "rows.csv") == [{"a": "x" * 200_000}]


def test_a_short_csv_row_lacks_its_last_fields(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1\n")
    assert read(tmp_path / "rows.csv") == [{"a": "1"}]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("rows.jsonl", b'{"a": 1}\n{"a": \n', "rows.jsonl:2: not JSON"),
        ("rows.jsonl", b'{"a": "\xff"}\n', "rows.jsonl:1: not UTF-8"),
        ("rows.jsonl.gz", b"no gzip", "not readable gzip"),
        ("rows.json", b"[1,", "not JSON"),
        ("rows.csv", b"a\n\xff\n", "not readable CSV"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_tables_without_pyarrow_name_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="pip install pyarrow"):
        read(tmp_path / name)


def test_arrow_rows_lose_the_fields_that_the_table_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = SimpleNamespace(to_pylist=lambda: [{"a": 1, "b": None}])
    ipc = ModuleType("pyarrow.ipc")
    ipc.open_stream = lambda content: SimpleNamespace(read_all=lambda: table)  # type: ignore[attr-defined]
    package = ModuleType("pyarrow")
    package.ipc = ipc  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", package)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", ipc)
    (tmp_path / "rows.arrow").write_bytes(b"")
    assert read(tmp_path / "rows.arrow") == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"), ("test/part.jsonl", "test"), ("main/test.jsonl", "test"),
        ("latest.jsonl", None), ("test2.jsonl", None),
    ],
)  # fmt: skip
def test_a_split_is_a_whole_word_of_the_path(name: str, split: str | None) -> None:
    assert split_of(Path("set") / name, Path("set")) == split
