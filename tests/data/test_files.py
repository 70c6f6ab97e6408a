"""Atomic files and JSON Lines, tested with real files, full disks and cuts at any byte."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import files
from data.files import (
    JsonLines,
    atomic_write,
    hash_contents,
    last_row,
    read_json,
    read_rows,
    require_free_space,
    write_json,
)
from data.records import UserError


def rows_of(path: Path) -> list[dict[str, object]]:
    return list(read_rows(path))


def test_the_hash_of_files_is_that_of_their_contents_in_order_and_never_holds_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, empty = (tmp_path / name for name in ("b", "a", "empty"))
    first.write_bytes(b"weights" * 1000)
    second.write_bytes(b"more")
    empty.write_bytes(b"")
    whole = hashlib.sha256(b"weights" * 1000 + b"more").hexdigest()
    for size in (3, 7000, 1 << 20):
        monkeypatch.setattr(files, "_HASHED_BYTES", size)
        assert hash_contents([first, empty, second]) == whole
    assert hash_contents([second, first]) != whole
    assert hash_contents([]) == hashlib.sha256().hexdigest()


# ------------------------------------------------------------------------------------------------------ atomic writing


def test_atomic_write_replaces_text_bytes_and_chunks_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic_write(path, "héllo")
    assert path.read_bytes() == "héllo".encode()
    atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    atomic_write(path, iter([b"ab", b"", b"c"]))
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failure_while_writing_keeps_the_old_file_and_removes_the_partial_one(tmp_path: Path) -> None:
    def chunks():
        yield b"new"
        raise RuntimeError("source failed")

    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="source failed"):
        atomic_write(path, chunks())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_writing_is_one_line_that_names_the_file(tmp_path: Path, monkeypatch, code: int) -> None:
    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"{tmp_path}/file: the disk is full .*bytes free") as caught:
        atomic_write(tmp_path / "file", "new")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"


def test_an_error_other_than_a_full_disk_is_not_called_one(tmp_path: Path, monkeypatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="I/O error") as caught:
        atomic_write(tmp_path / "file", "new")
    assert not isinstance(caught.value, UserError)


def test_required_space_beyond_the_disk_names_path_free_and_needed(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(UserError, match=r"model\.safetensors: [\d,]+ bytes free, 1,000,000,000,000,000,000 needed"):
        require_free_space(tmp_path / "model.safetensors", 10**18)


def test_json_keeps_key_order_and_non_finite_numbers_stay_visible(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": float("nan"), "a": [float("inf"), {"c": -float("inf")}], "ü": (1, 2.5)})
    assert path.read_text() == (
        '{\n  "b": "NaN",\n  "a": [\n    "Infinity",\n    {\n      "c": "-Infinity"\n    }\n  ],\n'
        '  "ü": [\n    1,\n    2.5\n  ]\n}\n'
    )
    assert read_json(path)["ü"] == [1, 2.5]


def test_a_broken_or_missing_json_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(UserError, match=r"a\.json:2: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


# ---------------------------------------------------------------------------------------------------------- JSON lines

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    SCALARS | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_rows_come_back_as_they_were_one_line_each(rows: list[dict], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with JsonLines(path) as lines:
        for row in rows:
            lines.append(row)
    assert path.read_bytes().count(b"\n") == len(rows)
    assert rows_of(path) == rows


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_after_a_cut_at_any_byte_reader_and_writer_keep_the_same_whole_rows(
    rows: list[dict], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    with JsonLines(path) as lines:
        for row in rows:
            lines.append(row)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    # A row counts when all of it but perhaps its newline is there.
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    kept = sum(end <= cut for end in ends)
    assert rows_of(path) == rows[:kept]
    with JsonLines(path) as lines:
        lines.append({"after": 1})
    assert rows_of(path) == [*rows[:kept], {"after": 1}]


def test_a_half_last_line_longer_than_the_read_chunk_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"text": "' + b"x" * 200_000)
    JsonLines(path).close()
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_broken_middle_line_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for broken in (b'{"a": 1', b"[1]", b"", b'{"a": "\xff"}'):
        path.write_bytes(b'{"a": 0}\n' + broken + b'\n{"a": 2}\n')
        with pytest.raises(UserError, match=r"rows\.jsonl:2: not a JSON object"):
            rows_of(path)


def test_a_broken_last_line_with_a_newline_is_an_error_since_no_kill_leaves_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 0}\n{"a": \n')
    with pytest.raises(UserError, match=r"rows\.jsonl:2"):
        rows_of(path)


def test_reading_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: no such file"):
        rows_of(tmp_path / "metrics.jsonl")


def test_rewinding_to_a_synced_length_drops_exactly_the_later_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1})
        saved = lines.sync()
        lines.append({"step": 2, "text": "lost with the crash"})
        assert saved == len('{"step": 1}\n')
    with JsonLines(path) as lines:
        lines.rewind(saved)
        lines.append({"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    with JsonLines(path) as lines:
        lines.rewind(0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("num_bytes", [-1, 5, 13])
def test_rewinding_into_a_line_or_past_the_end_is_refused(tmp_path: Path, num_bytes: int) -> None:
    with JsonLines(tmp_path / "rows.jsonl") as lines:
        lines.append({"step": 1})
        with pytest.raises(UserError, match=rf"rows\.jsonl: no line ends at byte {num_bytes}.*delete its stage folder"):
            lines.rewind(num_bytes)
    assert rows_of(tmp_path / "rows.jsonl") == [{"step": 1}]


def test_a_disk_that_fills_up_in_a_line_leaves_only_whole_lines(tmp_path: Path, monkeypatch) -> None:
    real_write = os.write
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1})
        monkeypatch.setattr(os, "write", lambda fd, line: real_write(fd, line[:4]))
        with pytest.raises(UserError, match=r"rows\.jsonl: the disk is full"):
            lines.append({"step": 2})
        monkeypatch.undo()
        lines.append({"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_text_without_a_utf8_form_is_escaped_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"completion": "lone \ud800 surrogate"})
        lines.append({"completion": "数学 \u2028"})
    assert rows_of(path) == [{"completion": "lone \ud800 surrogate"}, {"completion": "数学 \u2028"}]
    assert "数学".encode() in path.read_bytes()


def test_a_non_finite_metric_is_written_as_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1, "grad_norm": float("inf")})
    assert path.read_bytes() == b'{"step": 1, "grad_norm": "Infinity"}\n'


def test_lines_appended_from_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:

        def write(worker: int) -> None:
            for index in range(50):
                lines.append({"worker": worker, "index": index, "text": "x" * 500})

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lines.sync() == path.stat().st_size
    rows = rows_of(path)
    assert [sum(row["worker"] == worker for row in rows) for worker in range(4)] == [50] * 4


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 60), st.integers(1, 30))
def test_the_last_row_is_that_of_a_whole_reading_wherever_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cut: int, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    text = "".join(f'{{"n": {number}, "text": "{"x" * length}"}}\n' for number, length in enumerate(lengths))
    path.write_text(text[: max(0, len(text) - cut)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK_BYTES", chunk_bytes)
        assert last_row(path) == (list(read_rows(path)) or [None])[-1]


def test_a_last_line_that_is_no_row_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\nbroken\n')
    with pytest.raises(UserError, match=r"rows.jsonl: the last line is not a JSON object"):
        last_row(tmp_path / "rows.jsonl")
