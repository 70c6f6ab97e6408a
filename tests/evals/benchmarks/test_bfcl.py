"""BFCL: golden rows of every kind of category, tools in JSON Schema, files of two kinds, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.chat import render
from data.records import UserError
from evals.benchmarks.bfcl import CATEGORIES, tool_of
from evals.benchmarks.registry import load_benchmark, read_benchmark
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import score

FUNCTION: dict[str, Any] = {
    "name": "geo.area",
    "description": "Area of a triangle.",
    "parameters": {
        "type": "dict",
        "properties": {
            "base": {"type": "integer", "description": "Base."},
            "height": {"type": "float"},
            "points": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
            "options": {"type": "dict", "properties": {"type": {"type": "any"}}, "default": {"type": "dict"}},
        },
        "required": ["base", "height"],
    },
}
QUESTION = {"id": "simple_python_0", "question": [[{"role": "user", "content": "Area?"}]], "function": [FUNCTION]}
TRUTH = {"id": "simple_python_0", "ground_truth": [{"geo.area": {"base": [10], "height": [5.0], "points": [""]}}]}
RIGHT = '<tool_call>\n{"name": "geo.area", "arguments": {"base": 10, "height": 5}}\n</tool_call>'


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    """A folder as the package ships it, with one row in each of four categories."""
    jsonl = "data/rows.jsonl"
    for category in ("simple_python", "irrelevance", "live_relevance", "multi_turn_base"):
        write({**QUESTION, "id": f"{category}_0"}, name=jsonl).rename(tmp_path / "data" / f"BFCL_v4_{category}.json")
    (tmp_path / "data" / "possible_answer").mkdir()
    write(TRUTH, name=jsonl).rename(tmp_path / "data" / "possible_answer" / "BFCL_v4_simple_python.json")
    return tmp_path / "data"


def test_a_folder_gives_the_single_turn_categories_and_names_the_others(folder: Path) -> None:
    loaded = read_benchmark("bfcl", folder)
    assert sorted(prompt.domain for prompt in loaded.prompts) == ["irrelevance", "live_relevance", "simple_python"]
    assert "not read: multi_turn_base" in loaded.notes
    assert [prompt.task for prompt in loaded.prompts] == ["bfcl"] * 3


def test_each_category_expects_what_is_right_there(folder: Path) -> None:
    by_category = {prompt.domain: prompt for prompt in load_benchmark("bfcl", folder)}
    verdicts = {
        category: [score(prompt, completion).outcome for completion in (RIGHT, "No function fits.")]
        for category, prompt in by_category.items()
    }
    assert verdicts == {
        "simple_python": ["correct", "incorrect"],
        "irrelevance": ["incorrect", "correct"],
        "live_relevance": ["correct", "incorrect"],
    }
    assert by_category["simple_python"].messages == ({"role": "user", "content": "Area?"},)


def test_tools_are_json_schema_with_the_hint_and_render_in_the_chat_format(folder: Path) -> None:
    tool = tool_of(FUNCTION)
    described = tool["function"]
    assert tool["type"] == "function"
    assert described["description"] == "Area of a triangle. Note that the provided function is in Python 3 syntax."
    parameters = described["parameters"]
    assert parameters["type"] == "object"
    assert parameters["properties"]["height"] == {"type": "number"}
    assert parameters["properties"]["points"] == {
        "type": "array", "items": {"type": "array", "items": {"type": "number"}},
    }  # fmt: skip
    # An argument may be called "type", and a default is a value, not a schema.
    assert parameters["properties"]["options"] == {
        "type": "object", "properties": {"type": {"type": "string"}}, "default": {"type": "dict"},
    }  # fmt: skip
    prompt = load_benchmark("bfcl", folder)[0]
    assert '"name": "geo.area"' in render(prompt.messages, tools=prompt.tools, add_generation_prompt=True)


def test_one_file_is_read_with_the_answers_beside_it_also_of_release_three(folder: Path) -> None:
    (folder / "BFCL_v4_simple_python.json").rename(folder / "BFCL_v3_simple.json")
    (folder / "possible_answer" / "BFCL_v4_simple_python.json").rename(folder / "possible_answer/BFCL_v3_simple.json")
    (prompt,) = load_benchmark("bfcl", folder / "BFCL_v3_simple.json")
    assert prompt.domain == "simple_python"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"question": [[], []]}, "field 'question' must be one turn of messages"),
        ({"question": [[{"role": "user"}]]}, "field 'question' must be one turn of messages"),
        ({"function": [{"name": "f"}]}, "field 'function' must be a list of described functions (f has no parameters"),
        (
            {"function": [{"name": "f", "parameters": {"properties": {"x": {"type": "HashMap"}}}}]},
            "f: the type of 'x' is unknown",
        ),
        ({"id": "other"}, "no possible answer has the id 'other'; use files of one release"),
    ],
)
def test_a_row_of_another_schema_is_refused(
    folder: Path, write: Write, tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    write({**QUESTION, **change}, name="data/rows.jsonl").rename(folder / "BFCL_v4_simple_python.json")
    with pytest.raises(UserError) as caught:
        load_benchmark("bfcl", folder / "BFCL_v4_simple_python.json")
    assert part in str(caught.value)


def test_files_that_are_missing_or_not_scored_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "possible_answer" / "BFCL_v4_simple_python.json").unlink()
    for path, part in (
        (folder, "no such file; the possible answers lie in a folder beside the questions"),
        (folder / "BFCL_v4_multi_turn_base.json", "category 'multi_turn_base' is not scored here; use simple_python"),
        (tmp_path / "possible", "give the folder bfcl_eval/data"),
    ):
        with pytest.raises(UserError) as caught:
            load_benchmark("bfcl", path)
        assert part in str(caught.value)


def test_the_categories_are_the_single_turn_ones_of_python() -> None:
    assert len(CATEGORIES) == 11
    assert not [name for name in CATEGORIES if "java" in name or "multi_turn" in name]
