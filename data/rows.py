"""Reads the rows of one data file, whatever its format, and says where each of them lies.

    file -> ("file:line" or "file:row 3", row) -> `data.sources` (prompts to train on) | `evals.benchmarks` (benchmarks)

Rows are untrusted: they are read as JSON, CSV, Parquet or Arrow and never as pickles. A row that cannot be read raises
`UserError` with its place.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.records import UserError

SPLITS = ("train", "validation", "valid", "val", "dev", "test")

Place = str
"""Where a row lies: "file:line", or "file:row 3" where lines say nothing."""


def split_of(file: Path, folder: Path, also: str | None = None) -> str | None:
    """The split that a file or its folder names, such as `train-00000-of-00002.parquet` and `test/a.jsonl`."""
    named = re.split(r"[^a-z0-9]+", str(file.relative_to(folder)).lower())
    return next((part for part in named if part in {*SPLITS, (also or "").lower()} - {""}), None)


def jsonl_rows(path: Path) -> Iterator[tuple[Place, Any]]:
    """One JSON value a line; empty lines are no rows."""
    yield from _lines(path, path.read_bytes())


def gzipped_jsonl_rows(path: Path) -> Iterator[tuple[Place, Any]]:
    """`jsonl_rows` of a file that gzip packed."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: not readable gzip ({error}); download it again") from None
    yield from _lines(path, content)


def _lines(path: Path, content: bytes) -> Iterator[tuple[Place, Any]]:
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield place, json.loads(text)
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{place}: not JSON: {error.msg} at column {error.colno}; one object a line") from None


def json_rows(path: Path) -> Iterator[tuple[Place, Any]]:
    """A JSON array of rows; a file of one object a line is read too, because some are published under this suffix."""
    content = path.read_bytes()
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from _lines(path, content)
        return
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); give an array of objects, or one object a line") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}:row {number}", row


def csv_rows(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows of a CSV file whose first row names the columns; every value is text, a missing one is left out."""
    limit = csv.field_size_limit(sys.maxsize)  # one field may hold a whole conversation
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable CSV ({error}); save it as UTF-8 with a row of column names") from None
    finally:
        csv.field_size_limit(limit)
    for number, row in enumerate(rows, start=1):
        yield f"{path}:row {number}", {name: value for name, value in row.items() if name and value is not None}


def parquet_rows(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows of a Parquet file, without the fields that a row leaves empty."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(f"{path}: parquet needs pyarrow; `pip install pyarrow`, or convert it to .jsonl") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these two
        raise UserError(f"{path}: not readable parquet: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}:row {number}", without_absent(row)


def arrow_rows(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows of an Arrow stream, which is what `Dataset.save_to_disk` writes."""
    try:
        from pyarrow import ipc
    except ImportError:
        raise UserError(f"{path}: Arrow files need pyarrow; `pip install pyarrow`, or convert it to .jsonl") from None
    try:
        rows = ipc.open_stream(path.read_bytes()).read_all().to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable Arrow stream: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}:row {number}", without_absent(row)


def without_absent(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table has one schema, so a field that a row lacks comes back as None; a reference may be None."""
    return {name: value for name, value in row.items() if value is not None or name == "reference"}


READERS: Mapping[str, Callable[[Path], Iterator[tuple[Place, Any]]]] = {
    ".jsonl": jsonl_rows,
    ".jsonl.gz": gzipped_jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
}
"""How a file is read, by the end of its name."""


def suffix_of(path: Path) -> str:
    """The key of `READERS` that a file's name ends with, empty when there is none."""
    return next((suffix for suffix in READERS if path.name.lower().endswith(suffix)), "")
