"""Structured formats: what is written is read back, cell by cell, and documents that unfold are refused quickly."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import ScoreRequest, item_of, make_prompt
from rewards.tasks.structured_format import _TRICKY, FORMATS, write

TASK = get_task("structured_format")


def _score(text: str, form: str, records: list[dict[str, Any]]) -> str:
    return TASK.score(ScoreRequest(TASK.name, (), {"format": form, "records": records}, text)).outcome


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", _TRICKY)
def test_tricky_texts_survive_every_format(form: str, text: str) -> None:
    records = [{"name": "Ada", "age": 34, "note": text}]
    assert _score(write(form, records), form, records) == "correct"
    assert _score(write(form, [{"name": "Ada", "age": 35, "note": text}]), form, records) == "incorrect"


@pytest.mark.parametrize("form", FORMATS)
def test_printable_texts_are_read_back(form: str) -> None:
    plain = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(plain, st.integers(-999, 999)), min_size=1, max_size=4))
    def check(rows: list[tuple[str, int]]) -> None:
        records = [{"name": name, "age": age} for name, age in rows]
        assert _score(write(form, records), form, records) == "correct"

    check()


def test_formats_are_told_apart() -> None:
    records = [{"name": "Ada", "age": 34}, {"name": "Ben", "age": 27}]
    for form in FORMATS:
        for other in FORMATS:
            expected = "correct" if form == other else "incorrect"
            assert _score(write(form, records), other, records) == expected
            assert _score(f"```{form}\n{write(form, records)}\n```", form, records) == "incorrect"


@pytest.mark.parametrize(
    ("text", "note"),
    [("no", "boolean"), ("007", "octal or integer"), ("2024-01-02", "date"), ("null", "null"), ("1.0", "float")],
)
def test_yaml_texts_that_turn_into_another_type_are_wrong(text: str, note: str) -> None:
    records = [{"name": text, "age": 34}]
    assert _score(f"- name: {text}\n  age: 34", "yaml", records) == "incorrect", note
    assert _score(f"- name: '{text}'\n  age: 34", "yaml", records) == "correct", note


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yaml", "[" * 500), ("yaml", "{" * 500), ("yaml", "- " * 250), ("yaml", "a: " * 150), ("yaml", "? " * 250),
        ("yaml", "- name: " + "9" * 450), ("yaml", "1:" * 200 + "1"), ("yaml", "- <<: {name: Ada}\n  age: 34"),
        ("yaml", "- name: \x00"), ("yaml", "%YAML 9.9\n--- 1"), ("yaml", "---\n- name: Ada\n---\n- name: Ben"),
        ("xml", "<a>" * 150), ("xml", "<rows>&lol;</rows>"), ("xml", "<rows>\x00</rows>"),
        ("xml", '<?xml version="1.0" encoding="utf-7"?><rows/>'), ("xml", "<rows>\ud800</rows>"),
        ("csv", '"' * 400), ("csv", '"name\n' * 60), ("csv", "\x00"), ("csv", "\r" * 300),
        ("markdown", "|" * 450), ("markdown", "*[" * 220), ("markdown", "> " * 220),
        ("markdown", "|a|\n|-|\n" + "`" * 400),
    ],
)  # fmt: skip
def test_hostile_documents_are_wrong_and_quick(form: str, text: str) -> None:
    started = time.perf_counter()
    assert _score(text, form, [{"name": "Ada", "age": 34}]) == "incorrect"
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("yaml", "- name: Ada # as asked\n  age: 34", "incorrect"),
        ("yaml", "- name: |- # as asked\n    Ada\n  age: 34", "incorrect"),
        ("yaml", "- name: |-\n    Ada\n  age: 34", "correct"),
        ("yaml", "- name: Ada\n  age: 34\n...\n# Bye.", "incorrect"),
        ("yaml", "%Yes, here:\n---\n- name: Ada\n  age: 34", "incorrect"),
        ("yaml", "---\n- name: Ada\n  age: 34", "correct"),
        ("xml", "<?yes here?><rows><row><name>Ada</name><age>34</age></row></rows>", "incorrect"),
        (
            "xml",
            '<?xml version="1.0" encoding="UTF-8"?>\n<rows><row><name>Ada</name><age>34</age></row></rows>',
            "correct",
        ),
    ],
)
def test_what_readers_skip_is_no_place_for_prose(form: str, text: str, expected: str) -> None:
    assert _score(text, form, [{"name": "Ada", "age": 34}]) == expected


@pytest.mark.parametrize("piece", ["[", "{", "[{", "- [", "{a: "])
def test_nested_yaml_brackets_are_refused_before_the_scanner_runs_ahead(piece: str) -> None:
    started = time.perf_counter()
    for _ in range(10):
        assert _score((piece * 500)[:700], "yaml", [{"name": "Ada", "age": 34}] * 8) == "incorrect"
    assert time.perf_counter() - started < 0.5


def test_a_document_far_longer_than_the_records_is_not_read() -> None:
    records = [{"name": "Ada", "age": 34}]
    request = ScoreRequest(TASK.name, (), {"format": "yaml", "records": records}, "- a\n" * 4_500)
    assert TASK.score(request).reason == "far longer than the records are"


def test_level_0_is_short_and_every_format_occurs_at_every_level() -> None:
    for level in range(4):
        prompts = [make_prompt(TASK, seed=1, index=index, difficulty=level) for index in range(60)]
        assert {prompt.reference["format"] for prompt in prompts} == set(FORMATS)
        for prompt in prompts:
            shown = prompt.messages[0]["content"]
            assert all(str(value) in shown for record in prompt.reference["records"] for value in record.values())
            if level == 0:
                assert len(shown) <= 50
                assert len(TASK.answer(item_of(prompt))) <= 60  # type: ignore[misc]
