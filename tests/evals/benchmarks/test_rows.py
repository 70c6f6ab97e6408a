"""Rows of local files and folders: which files are read, and what a field of another type is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import UserError
from evals.benchmarks.rows import Row, data_files, table_rows
from tests.evals.benchmarks.conftest import Write


def test_a_folder_is_read_in_the_order_of_names_without_what_is_no_data(write: Write, tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "dataset_info.json", "state.json", ".git/x.jsonl"):
        write({"name": name}, name=f"set/{name}")
    (tmp_path / "set" / "README.md").write_text("no data")
    assert [row.text("name") for row in table_rows(tmp_path / "set")] == ["a.jsonl", "b.jsonl"]


def test_a_split_chooses_files_where_they_name_one_and_nothing_where_they_do_not(write: Write, tmp_path: Path) -> None:
    write({"of": "test"}, name="named/main/test-00000-of-00001.jsonl")
    write({"of": "train"}, name="named/main/train-00000-of-00001.jsonl")
    write({"of": "?"}, name="bare/data.jsonl")
    assert [row.text("of") for row in table_rows(tmp_path / "named", split="test")] == ["test"]
    assert [row.text("of") for row in table_rows(tmp_path / "bare", split="test")] == ["?"]


def test_a_folder_without_the_files_says_what_was_found(write: Write, tmp_path: Path) -> None:
    write({"a": 1}, name="set/gpqa_main.jsonl")
    with pytest.raises(UserError, match=r"no data file with 'diamond' in its name; found gpqa_main\.jsonl"):
        data_files(tmp_path / "set", holding="diamond")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no data file with rows; found no data files"):
        data_files(tmp_path / "none")


def test_fields_are_read_under_any_of_their_names() -> None:
    row = Row("f:1", {"Problem": "P", "answer": None, "Answer": 7, "empty": ""})
    assert row.text("problem", "Problem") == "P"
    assert row.text("answer", "Answer") == "7"
    assert row.has("Problem")
    assert not row.has("answer", "empty", "gone")


@pytest.mark.parametrize(
    ("read", "part"),
    [
        (lambda row: row.text("gone", "Gone"), "field 'gone' or 'Gone' is missing (the row has 'a', 'n', 'j', 't')"),
        (lambda row: row.text("a"), "field 'a' must be text that is not empty, got ' '"),
        (lambda row: row.text("j"), "field 'j' must be text that is not empty, got {'x': 1}"),
        (lambda row: row.integer("a"), "field 'a' must be an integer"),
        (lambda row: row.integer("t"), "field 't' must be an integer, got True"),
        (lambda row: row.items("j"), "field 'j' must be a list"),
        (lambda row: row.items("a"), "field 'a' must be JSON"),
    ],
)
def test_a_field_of_another_type_is_refused_with_place_field_and_mend(read, part: str) -> None:
    row = Row("file.jsonl:3", {"a": " ", "n": 4, "j": {"x": 1}, "t": True})
    with pytest.raises(UserError) as caught:
        read(row)
    message = str(caught.value)
    assert message.startswith("file.jsonl:3: ")
    assert part in message
    assert "docs/benchmarks.md" in message


def test_numbers_and_lists_that_csv_made_text_of_are_read() -> None:
    row = Row("f:1", {"n": " 12 ", "list": "[1, 2]", "plain": [3]})
    assert row.integer("n") == 12
    assert row.items("list") == [1, 2]
    assert row.items("plain") == [3]


def test_a_row_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(UserError, match=r"rows.jsonl:1: a row must be an object, got list"):
        list(table_rows(path))
