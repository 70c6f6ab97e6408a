"""Structured formats: documents that an independent reader reads back, and what lenient readers let pass."""

from __future__ import annotations

import json
import time
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt

TASK = get_task("structured_format")
FORMATS = ("csv", "markdown", "yaml", "xml")
CELLS = st.text(st.sampled_from("abz ,;:|\"'&<>-_*7.!"), max_size=8).map(str.strip)


def _reward(answer: str, form: str, rows: list, fields: tuple = ("name", "note")) -> float | None:
    reference = {"format": form, "fields": list(fields), "rows": rows}
    return TASK.score(ScoreRequest(TASK.name, (), reference, answer)).reward


def _gold(form: str, rows: list) -> str:
    item = item_of(make_prompt(TASK, seed=0, index=0, difficulty=0))
    reference = {"format": form, "fields": ["name", "note"], "rows": rows}
    return TASK.answer(type(item)(item.messages, reference))  # type: ignore[misc]


def test_level_0_is_short_and_its_prompts_differ() -> None:
    prompts = [make_prompt(TASK, seed=0, index=index, difficulty=0) for index in range(1000)]
    assert len({prompt.messages[0]["content"] for prompt in prompts}) > 900
    assert all(len(prompt.messages[0]["content"]) <= 90 for prompt in prompts)
    assert all(len(TASK.answer(item_of(prompt))) <= 40 for prompt in prompts)  # type: ignore[misc]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_the_prompt_names_every_field_and_cell(level: int) -> None:
    formats = set()
    for index in range(80):
        prompt = make_prompt(TASK, seed=1, index=index, difficulty=level)
        formats.add(prompt.reference["format"])
        text = prompt.messages[0]["content"]
        cells = [cell for row in prompt.reference["rows"] for cell in row]
        assert all(str(piece) in text for piece in [*prompt.reference["fields"], *cells])
        assert len(set(prompt.reference["fields"])) == len(prompt.reference["fields"]) >= 2
    assert formats == set(FORMATS[: (1, 2, 4, 4)[level]])


@given(st.sampled_from(FORMATS), st.lists(st.lists(CELLS.filter(bool), min_size=2, max_size=2), min_size=1, max_size=3))
def test_any_cell_survives_writing_and_reading(form: str, rows: list[list[str]]) -> None:
    assert _reward(_gold(form, rows), form, rows) == 1.0


@given(st.sampled_from(FORMATS), st.text(min_size=1, max_size=12).filter(lambda text: text.strip()))
def test_text_after_the_document_spoils_it(form: str, text: str) -> None:
    rows = [["Ada", "red"], ["Ben", "blue"]]
    gold = _gold(form, rows)
    if form == "yaml" and text.strip() in ("...", "---"):
        return  # marks of the format itself
    assert _reward(f"{gold}\n{text}x", form, rows) == 0.0


def test_the_gold_documents_agree_with_readers_of_their_own() -> None:
    for index in range(60):
        prompt = make_prompt(TASK, seed=4, index=index, difficulty=3)
        fields, rows = prompt.reference["fields"], prompt.reference["rows"]
        text = TASK.answer(item_of(prompt))  # type: ignore[misc]
        if prompt.reference["format"] == "yaml":
            assert [list(record.values()) for record in yaml.safe_load(text)] == rows
        elif prompt.reference["format"] == "xml":
            found = [[cell.text for cell in record] for record in ElementTree.fromstring(text)]
            assert found == [[str(cell) for cell in row] for row in rows]
            assert [cell.tag for cell in ElementTree.fromstring(text)[0]] == fields


@pytest.mark.parametrize("value", ["no", "007", "1e3", "true", "null", "12:30", "2024-01-01"])
def test_yaml_texts_that_look_like_something_else_need_quotes(value: str) -> None:
    quoted = f"- name: Ada\n  note: {json.dumps(value)}"
    assert _reward(quoted, "yaml", [["Ada", value]]) == 1.0
    if value != "1e3":  # YAML 1.1 asks for a period in a number with an exponent
        assert _reward(quoted.replace('"', ""), "yaml", [["Ada", value]]) == 0.0


@pytest.mark.parametrize("note", ["2024-99-99", "0b_", "0x_", "9" * 150, "!!int x", "=", "<<", "? x", "\x00", "\ud800"])
def test_hostile_yaml_values_are_wrong_answers(note: str) -> None:
    assert _reward(f"- name: Ada\n  note: {note}", "yaml", [["Ada", "red"]]) == 0.0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("piece", ["[", "<a>", "|", '"', ",", "- ", "&a ", "? ", "{", "\n", "a\n|-\n"])
def test_floods_end_at_once(form: str, piece: str) -> None:
    start = time.perf_counter()
    for size in (300, 19_000):
        assert _reward((piece * size)[:size] + "x", form, [["Ada", "red"]] * 8) == 0.0
    assert time.perf_counter() - start < 1.0
