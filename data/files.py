"""Files that are never seen half written: atomic replacement, JSON, and JSON Lines that survive a kill at any byte."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.records import UserError

_CHUNK_BYTES = 1 << 16
_HASHED_BYTES = 1 << 20


def require_free_space(path: str | os.PathLike[str], num_bytes: int) -> None:
    """Raise UserError unless the file system that will hold `path` has `num_bytes` bytes free for this user."""
    existing = Path(path).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise UserError(
            f"{path}: {free:,} bytes free, {num_bytes:,} needed; free some space or choose a run directory elsewhere"
        )


def hash_contents(paths: Iterable[str | os.PathLike[str]]) -> str:
    """SHA-256 in hex of the contents of files, one after the other, which are never in memory as a whole."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while chunk := file.read(_HASHED_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def disk_full_is_user_error(path: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into one line that names the file; other errors pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path}: the disk is full or the quota used up ({free:,} bytes free); free some space and start the "
            "same command again, it resumes from the last whole state"
        ) from error


def atomic_write(path: str | os.PathLike[str], data: bytes | str | Iterable[bytes]) -> None:
    """Replace `path` by `data` so that readers and a crash see either the old file or the new one, whole.

    Text is written as UTF-8; an iterable of chunks is streamed. Data reach the disk before the name does. Raises
    UserError when the disk is full, leaving the old file in place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with disk_full_is_user_error(path):
        try:
            with open(partial, "xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    flush(path.parent)  # the rename itself must survive a power cut


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until what was written to a file, or which names a folder holds, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically; keys keep their order, non-finite numbers become strings."""
    atomic_write(path, json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON file; UserError names the file when it is missing, and the line when it is broken."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; is this a run directory?") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg}); restore the file or delete it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; restore the file or delete it") from error


def finite(value: Any) -> Any:
    """NaN and infinities as "NaN", "Infinity", "-Infinity": a diverged step must stay visible and JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


class JsonLines:
    """Appends rows to a JSON Lines file, one `os.write` a row, and cuts it back to a remembered length on resume.

    Opening repairs the end of the file: a last line that was only half written (kill -9, full disk) is dropped. Safe
    to call from several threads; one process at a time may hold the file, which the run's lock sees to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = threading.Lock()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._fd).st_size
        self._size = _end_of_last_line(self._fd, size)
        tail = os.pread(self._fd, size - self._size, self._size)
        os.ftruncate(self._fd, self._size)
        if _parse_row(tail) is not None:  # whole but for its newline, so read_rows counts it: keep it
            self._write(tail + b"\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one row as one line; on a full disk the file is left as it was and UserError is raised."""
        line = _encode_row(row)
        with self._guard:
            self._write(line)

    def sync(self) -> int:
        """Flush to the disk and return the length in bytes: what a trainer state stores for `rewind`."""
        with self._guard:
            os.fsync(self._fd)
            return self._size

    def rewind(self, num_bytes: int) -> None:
        """Cut the file back to the first `num_bytes` bytes, a length that `sync` returned.

        Raises UserError when the file is shorter than that or the cut would split a line: rows are then lost or
        changed, and the run could not repeat exactly.
        """
        with self._guard:
            in_file = 0 <= num_bytes <= self._size
            if not in_file or (num_bytes and os.pread(self._fd, 1, num_bytes - 1) != b"\n"):
                raise UserError(
                    f"{self.path}: no line ends at byte {num_bytes}, where the saved state ends ({self._size} bytes in "
                    "the file); the file was changed, delete its stage folder to run the stage again"
                )
            os.ftruncate(self._fd, num_bytes)
            os.fsync(self._fd)
            self._size = num_bytes

    def close(self) -> None:
        """Close the file; calling it twice does nothing more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        with disk_full_is_user_error(self.path):
            try:
                # A disk that fills up in the middle of a line gives a short count, not an error.
                if os.write(self._fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
        self._size += len(line)


def read_rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON Lines file; a half-written last line is left out.

    Any other line that is not a JSON object raises UserError with file and line: rows are never skipped in silence.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; the stage that writes it has not run")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            row = _parse_row(line)
            if row is not None:
                yield row
            elif line.endswith(b"\n"):
                raise UserError(f"{path}:{number}: not a JSON object; restore the line or delete it")


def last_row(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The last row that `read_rows` would yield, None when there is none; reads the end of the file alone.

    UserError when the last whole line is not a JSON object.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        span = _CHUNK_BYTES
        while True:
            file.seek(max(0, size - span))
            lines = file.read().split(b"\n")
            unfinished = lines.pop()
            row = _parse_row(unfinished) if unfinished and (lines or span >= size) else None
            whole = lines if span >= size else lines[1:]  # the first may have begun before
            if row is None and whole:
                row = _parse_row(whole[-1])
                if row is None:
                    raise UserError(f"{path}: the last line is not a JSON object; restore the line or delete it")
            if row is not None or span >= size:
                return row
            span *= 2


def _encode_row(row: Mapping[str, Any]) -> bytes:
    row = finite(row)
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, which a model can write into a tool call, has no UTF-8 form
        return json.dumps(row, ensure_ascii=True).encode() + b"\n"


def _parse_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # covers broken JSON and broken UTF-8
        return None
    return row if isinstance(row, dict) else None


def _end_of_last_line(fd: int, size_bytes: int) -> int:
    """The byte after the last newline of a file, 0 when it has none."""
    end = size_bytes
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def whole_lines(path: Path) -> Iterator[bytes]:
    """The bytes of a JSON Lines file as `JsonLines` would leave them on opening: whole lines, newline at the end."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
            elif _parse_row(line) is not None:
                yield line + b"\n"
