"""Preference pairs: reading them with errors that name the place, and splitting them by prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.preference import PreferencePair, pairs_hash, read_pairs, split_by_prompt
from data.records import UserError

ROW: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "chosen": "Good day!", "rejected": "What?"}


def _file(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def _pair(prompt: str, chosen: str = "a", rejected: str = "b") -> PreferencePair:
    return PreferencePair(({"role": "user", "content": prompt},), chosen, rejected)


def test_rows_come_back_as_pairs_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    pairs = read_pairs(_file(tmp_path, ROW, "", ROW | {"task": "chat"}))
    assert pairs[0] == PreferencePair(({"role": "user", "content": "Hi"},), "Good day!", "What?")
    assert pairs[1].task == "chat"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"messages": ', "2: not JSON"),
        ("[1]", "2: a list, not an object"),
        ({"messages": ROW["messages"], "chosen": "a"}, "2: field rejected is missing"),
        (ROW | {"chosen": 3}, "2: field chosen is 3"),
        (ROW | {"chosen": " "}, "2: field chosen is ' '"),
        (ROW | {"rejected": "Good day!"}, "chosen and rejected are the same"),
        (ROW | {"messages": []}, r"2: field messages is \[\]"),
        (ROW | {"messages": "Hi"}, "2: field messages is 'Hi'"),
        (ROW | {"messages": [{"role": "human", "content": "Hi"}]}, r"2: field messages\[0\] is"),
        (ROW | {"messages": [{"role": "user"}]}, r"2: field messages\[0\]\.content is None"),
        (ROW | {"messages": [*ROW["messages"], {"role": "assistant", "content": "x"}]}, "ends with an assistant turn"),
        (ROW | {"task": 1}, "2: field task is 1"),
    ],
)
def test_an_error_names_file_line_and_field(tmp_path: Path, row: Any, message: str) -> None:
    path = _file(tmp_path, ROW, row)
    with pytest.raises(UserError, match=message) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no pair"):
        read_pairs(_file(tmp_path, ""))


def test_pairs_of_one_prompt_stay_together_and_the_order_of_the_file_does_not_matter() -> None:
    pairs = [_pair(f"prompt {index % 50}", f"a{index}") for index in range(200)]
    train, held_out = split_by_prompt(pairs, 0.2, seed=1)
    assert len(train) + len(held_out) == 200
    assert 15 <= len(held_out) <= 65
    assert not {str(pair.messages) for pair in train} & {str(pair.messages) for pair in held_out}
    again = split_by_prompt(pairs[::-1], 0.2, seed=1)[1]
    assert sorted(map(str, again)) == sorted(map(str, held_out))
    assert split_by_prompt(pairs, 0.2, seed=2)[1] != held_out


def test_a_split_with_an_empty_side_is_refused() -> None:
    with pytest.raises(UserError, match="give more pairs"):
        split_by_prompt([_pair("one"), _pair("one", "c")], 0.5, seed=0)


def test_the_hash_sees_content_and_order() -> None:
    first, second = _pair("x"), _pair("y")
    assert pairs_hash([first, second]) == pairs_hash([_pair("x"), _pair("y")])
    assert len({pairs_hash(p) for p in ([first], [second], [first, second], [second, first])}) == 4
