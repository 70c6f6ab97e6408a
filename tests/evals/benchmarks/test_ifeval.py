"""IFEval and Multi-IF: golden rows, arguments as tables and CSV give them, what cannot be checked, and the dialogue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data.episodes import EpisodeLimits
from evals.benchmarks.registry import load_benchmark, read_benchmark
from rewards.episodes import play
from rewards.registry import environment_factory, get_task
from tests.evals.benchmarks.conftest import Write
from tests.evals.benchmarks.loading import only_prompt, refusal, score

IFEVAL_ROW: dict[str, Any] = {
    "key": 1000, "prompt": "Write about boats without commas, in at least 5 words.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{}, {"relation": "at least", "num_words": 5}],
}  # fmt: skip
NO_COMMA, TITLE = "punctuation:no_comma", "detectable_format:title"
END = "startend:end_checker"


def message(text: str) -> str:
    return json.dumps({"role": "user", "content": text})


def multi_if_row(**changes: Any) -> dict[str, Any]:
    """One dialogue as the published CSV has it: everything is text."""
    ids = [[NO_COMMA], [NO_COMMA, TITLE], [NO_COMMA, TITLE, END]]
    kwargs = [["{}"], ["{}", "{}"], ["{}", "{}", json.dumps({"end_phrase": "That is all."})]]
    row: dict[str, Any] = {"turns": "[]", "responses": "[]", "key": "12:1:en", "turn_index": "0", "language": "English"}
    texts = ("Write about boats without commas.", "Add a title.", "End with: That is all.")
    for number, text in enumerate(texts, start=1):
        row[f"turn_{number}_prompt"] = message(text)
        row[f"turn_{number}_instruction_id_list"] = json.dumps(ids[number - 1])
        row[f"turn_{number}_kwargs"] = json.dumps(kwargs[number - 1])
    return {**row, **changes}


def test_an_ifeval_row_is_asked_as_it_is(write: Write) -> None:
    prompt = only_prompt("ifeval", write(IFEVAL_ROW))
    assert prompt.messages == ({"role": "user", "content": IFEVAL_ROW["prompt"]},)
    assert prompt.reference == {
        "instructions": [[NO_COMMA, {}], ["length_constraints:number_words", {"relation": "at least", "num_words": 5}]]
    }
    assert score(prompt, "Old boats come home at night.").outcome == "correct"
    assert score(prompt, "Old boats, come home at night.").reason == f"not followed: {NO_COMMA}"


def test_arguments_that_a_table_filled_up_are_the_same(write: Write) -> None:
    plain = only_prompt("ifeval", write(IFEVAL_ROW))
    filled = [{"num_words": None, "relation": None}, {"relation": "at least", "num_words": 5.0, "language": None}]
    assert only_prompt("ifeval", write({**IFEVAL_ROW, "kwargs": filled}, name="table.jsonl")) == plain
    texts = {**IFEVAL_ROW, "kwargs": [json.dumps(given) for given in IFEVAL_ROW["kwargs"]]}
    assert only_prompt("ifeval", write(texts, name="texts.jsonl")) == plain


@pytest.mark.parametrize(
    ("ids", "kwargs", "part"),
    [
        (["language:response_language"], [{"language": "kn"}], "no detector for language 'kn'"),
        (["startend:new"], [{}], "no checker for instruction 'startend:new'"),
        ([NO_COMMA], [{"number": 1}], "instruction 'punctuation:no_comma' with {'number': 1}"),
    ],
)
def test_instructions_that_cannot_be_checked_leave_their_row_out(
    write: Write, ids: list[str], kwargs: list[Any], part: str
) -> None:
    row = {**IFEVAL_ROW, "key": 7, "instruction_id_list": ids, "kwargs": kwargs}
    loaded = read_benchmark("ifeval", write(IFEVAL_ROW, row))
    assert len(loaded.prompts) == 1
    ((reason, count),) = loaded.left_out.items()
    assert count == 1
    assert part in reason
    assert any(part in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"kwargs": [{}]}, "field 'kwargs' must be a list of 2 objects, one an instruction"),
        ({"kwargs": [{}, 3]}, "field 'kwargs' must be a list of objects, got 3"),
        ({"instruction_id_list": []}, "field 'instruction_id_list' must be a list of instruction ids"),
        ({"prompt": None}, "field 'prompt' is missing"),
    ],
)
def test_an_ifeval_row_of_another_schema_is_refused(write: Write, change: dict[str, Any], part: str) -> None:
    assert f"rows.jsonl:1: {part}" in refusal("ifeval", write({**IFEVAL_ROW, **change}))


def test_a_dialogue_is_read_from_the_published_csv(write: Write) -> None:
    prompt = only_prompt("multi_if", write(multi_if_row(), name="multiIF.csv"))
    assert prompt.messages == ({"role": "user", "content": "Write about boats without commas."},)
    turns = prompt.reference["turns"]
    assert [turn["prompt"] for turn in turns][1:] == ["Add a title.", "End with: That is all."]
    assert turns[2]["instructions"] == [[NO_COMMA, {}], [TITLE, {}], [END, {"end_phrase": "That is all."}]]
    assert prompt.domain == "English"
    assert environment_factory(prompt.task) is not None


def test_a_turn_that_is_left_empty_is_not_played(write: Write) -> None:
    prompt = only_prompt("multi_if", write(multi_if_row(turn_3_prompt=""), name="multiIF.csv"))
    assert len(prompt.reference["turns"]) == 2


def test_a_dialogue_of_another_schema_is_refused_and_one_that_cannot_be_checked_left_out(write: Write) -> None:
    broken = multi_if_row(turn_2_prompt="Add a title.")
    assert "row 1: field 'turn_2_prompt' must be JSON" in refusal("multi_if", write(broken, name="a.csv"))
    unknown = multi_if_row(turn_2_instruction_id_list=json.dumps([NO_COMMA, "x:y"]), key="2")
    assert read_benchmark("multi_if", write(multi_if_row(), unknown, name="b.csv")).left_out == {
        "no checker for instruction 'x:y'": 1
    }


FIRST = "Boats come home at night."
SECOND = f"<<The boats>>\n{FIRST}"
THIRD = f"{SECOND} That is all."


@pytest.mark.parametrize(
    ("answers", "reward"),
    [
        ([FIRST, SECOND, THIRD], 1.0),
        # Second turn without title: strict and loose, none whole and one of two instructions, (0 + 1/2 + 0 + 1/2) / 4.
        ([FIRST, FIRST, THIRD], (1 + 0.25 + 1) / 3),
        # Third turn with an end that only the loose reading lets pass, which drops the asterisks:
        # (0 + 2/3 + 1 + 1) / 4.
        ([FIRST, SECOND, f"{SECOND} That is all.*"], (1 + 1 + (0 + 2 / 3 + 1 + 1) / 4) / 3),
        # The dialogue is ended by force after the first answer.
        ([FIRST], 1 / 3),
    ],
)
def test_a_dialogue_is_played_and_every_turn_is_scored(write: Write, answers: list[str], reward: float) -> None:
    prompt = only_prompt("multi_if", write(multi_if_row(), name="multiIF.csv"))
    task = get_task("multi_if")
    turns = [f"<think>\nhm\n</think>\n\n{answer}" for answer in answers]
    request = play(task, prompt, turns, limits=EpisodeLimits(max_turns=8))
    assert task.score(request).reward == pytest.approx(reward)


def test_a_last_turn_that_is_cut_off_costs_that_turn_alone(write: Write) -> None:
    prompt = only_prompt("multi_if", write(multi_if_row(), name="multiIF.csv"))
    task = get_task("multi_if")
    request = play(task, prompt, [FIRST, SECOND, "<<The"], finish_reason="length")
    assert task.score(request).reward == pytest.approx(2 / 3)


def test_the_user_says_the_published_turns_and_sees_no_reasoning(write: Write) -> None:
    prompt = load_benchmark("multi_if", write(multi_if_row(), name="multiIF.csv"))[0]
    request = play(
        get_task("multi_if"), prompt, [f"<think>\nsecret\n</think>\n\n{text}" for text in (FIRST, SECOND, THIRD)]
    )
    assert request.ended == "answered"
    assert request.outcome == {"answers": [FIRST, SECOND, THIRD]}
