"""The rows of a published benchmark in a local file or folder, and typed access to their fields.

    path -> data files of the folder -> Row(place, fields) -> the benchmark's `prompt(row)`

No hub is reached: a path is a file that the user downloaded, or a folder as `git clone` or `save_to_disk` leave it.
Every error names file, row and field, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.records import UserError
from data.rows import READERS, split_of, suffix_of

_NO_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"})
"""JSON files of a saved dataset that hold no rows."""

MEND = "download the file that docs/benchmarks.md names, or rename the field"


@dataclass(frozen=True, slots=True)
class Row:
    """One row with where it lies; the accessors raise `UserError` with place, field and the mend.

    An accessor takes the names that a field has in the published copies of a benchmark, the first that is there counts.
    """

    place: str
    fields: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        """Whether one of the fields is there and not empty."""
        return any(self.fields.get(name) not in (None, "") for name in names)

    def value(self, *names: str) -> Any:
        """The field as it is."""
        for name in names:
            if self.fields.get(name) is not None:
                return self.fields[name]
        found = ", ".join(map(repr, self.fields)) or "no fields"
        wanted = " or ".join(map(repr, names))
        raise UserError(f"{self.place}: field {wanted} is missing (the row has {found}); {MEND}")

    def text(self, *names: str, may_be_empty: bool = False) -> str:
        """Text; numbers are written out."""
        value = self.value(*names)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not (value.strip() or may_be_empty):
            raise self.wrong(names, "text that is not empty", value)
        return value

    def integer(self, *names: str) -> int:
        """An integer, also one that CSV made text of."""
        value = self.value(*names)
        if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(names, "an integer", value)
        return value

    def items(self, *names: str) -> list[Any]:
        """A list, also one that is written as JSON text."""
        value = self.decoded(*names)
        if not isinstance(value, list):
            raise self.wrong(names, "a list", value)
        return value

    def decoded(self, *names: str) -> Any:
        """A value, also one that is written as JSON text."""
        value = self.value(*names)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise self.wrong(names, "JSON", value) from None

    def wrong(self, names: tuple[str, ...], wanted: str, value: Any) -> UserError:
        """The error for a field that is not what it should be."""
        return UserError(f"{self.place}: field {names[0]!r} must be {wanted}, got {value!r:.80}; {MEND}")


def table_rows(path: Path, *, split: str | None = None, holding: str = "") -> Iterator[Row]:
    """The rows of a file, or of the data files of a folder in the order of their names.

    In a folder `holding` (a regular expression on the path below it) and `split` choose among files; `split` only where
    files name splits at all. Raises `UserError` when nothing is left or when a row is no object.
    """
    for file in data_files(path, split=split, holding=holding):
        for place, fields in READERS[suffix_of(file)](file):
            if not isinstance(fields, Mapping):
                raise UserError(f"{place}: a row must be an object, got {type(fields).__name__}; {MEND}")
            yield Row(place, fields)


def data_files(path: Path, *, split: str | None = None, holding: str = "") -> list[Path]:
    """The files that `table_rows` reads."""
    if path.is_file():
        if not suffix_of(path):
            raise UserError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; use {', '.join(READERS)}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; download the benchmark first (docs/benchmarks.md)")
    found = sorted(file for file in path.rglob("*") if _holds_rows(file, path))
    chosen = [file for file in found if re.search(holding, file.relative_to(path).as_posix())]
    if any(split_of(file, path) for file in chosen):
        chosen = [file for file in chosen if split in (None, split_of(file, path))]
    if not chosen:
        names = ", ".join(file.relative_to(path).as_posix() for file in found[:5]) or "no data files"
        wanted = " and ".join([f"split {split!r}"] * bool(split) + [f"{holding!r} in its name"] * bool(holding))
        raise UserError(f"{path}: no data file with {wanted or 'rows'}; found {names}; give the file itself")
    return chosen


def _holds_rows(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and bool(suffix_of(file)) and file.name not in _NO_DATA and not hidden
