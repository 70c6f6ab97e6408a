"""Reading prompts: shapes of rows, stable uids, and one-line refusals that name file, row and field."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from data.records import Prompt, UserError
from data.sources import generated_prompts, load_prompts, prompt_uid, read_prompts, split_prompts

QUESTION = {"question": "What is 3 + 4?", "answer": "7"}


@pytest.fixture
def write(tmp_path: Path):
    def write(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_prompts(path, **{"task": "math", **arguments})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def questions(prompts: list[Prompt]) -> list[str]:
    return [prompt.messages[0]["content"] for prompt in prompts]


# ---------------------------------------------------------------------------------------------- rows


def test_a_question_and_its_answer_become_a_user_message_and_a_reference(write) -> None:
    (prompt,) = load_prompts(write(QUESTION), task="math")
    assert prompt.messages == ({"role": "user", "content": "What is 3 + 4?"},)
    assert (prompt.task, prompt.reference, prompt.enable_thinking, prompt.domain) == ("math", {"answer": "7"}, None, "")


def test_messages_and_reference_are_taken_as_they_are(write) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sort 3, 1."}]
    row = {
        "messages": messages,
        "reference": {"sorted": [1, 3]},
        "domain": "lists",
        "difficulty": 2,
        "other": "ignored",
    }
    (prompt,) = load_prompts(write({**row, "enable_thinking": False, "tools": [{"name": "f"}]}), task="sort")
    assert prompt.messages == tuple(messages)
    assert prompt.reference == {"sorted": [1, 3]}
    assert (prompt.domain, prompt.difficulty, prompt.enable_thinking) == ("lists", 2, False)
    assert prompt.tools == ({"name": "f"},)


def test_fields_can_be_named_and_prompt_stands_for_question(write) -> None:
    renamed = write({"problem": "Q", "solution": 7.5})
    (prompt,) = load_prompts(renamed, task="math", question_field="problem", answer_field="solution")
    assert prompt.reference == {"answer": "7.5"}
    assert questions(load_prompts(write({"prompt": "P", "answer": "1"}), task="math")) == ["P"]


def test_a_row_can_name_its_task_and_has_to_if_the_caller_does_not(write) -> None:
    path = write({**QUESTION, "task": "sums"}, {"question": "Q", "answer": "1", "task": "other"})
    assert [prompt.task for prompt in load_prompts(path)] == ["sums", "other"]
    assert "field 'task' is None" in refusal(write(QUESTION), task=None)


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(QUESTION).encode() + b"\r\n\r\n")
    assert questions(load_prompts(path, task="math")) == ["What is 3 + 4?"]


def test_a_line_separator_inside_text_does_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "a\u2028b", "answer": "1"}, ensure_ascii=False), encoding="utf-8")
    assert questions(load_prompts(path, task="math")) == ["a\u2028b"]


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"question": "Q", ', ("rows.jsonl:2", "not JSON")),
        ("[1]", ("rows.jsonl:2", "JSON object", "list")),
        ({"answer": "7"}, ("rows.jsonl:2", "'question' is missing", "'answer'")),
        ({"question": " ", "answer": "7"}, ("rows.jsonl:2", "'question' must be text")),
        ({"question": 3, "answer": "7"}, ("rows.jsonl:2", "'question' must be text")),
        ({"question": "Q"}, ("rows.jsonl:2", "'answer' must be text or a number", "None")),
        ({"question": "Q", "answer": ""}, ("'answer' must be text or a number",)),
        ({"question": "Q", "answer": True}, ("'answer' must be text or a number", "True")),
        ({"question": "Q", "answer": ["7"]}, ("'answer' must be text or a number", "'messages' and 'reference'")),
        ({"messages": [], "reference": 1}, ("rows.jsonl:2", "'messages' must be a list")),
        ({"messages": [{"role": "bot", "content": "x"}], "reference": 1}, ("messages[0]", "role")),
        ({"messages": [{"role": "user", "content": ["x"]}], "reference": 1}, ("messages[0].content", "must be text")),
        ({"messages": [{"role": "user", "content": "x"}]}, ("'reference' is missing",)),
        ({"messages": [{"role": "assistant", "content": "x"}], "reference": 1}, ("ends with 'assistant'",)),
        ({**QUESTION, "difficulty": "hard"}, ("'difficulty' must be int", "'hard'")),
        ({**QUESTION, "difficulty": True}, ("'difficulty' must be int", "True")),
        ({**QUESTION, "enable_thinking": "no"}, ("'enable_thinking' must be bool",)),
        ({**QUESTION, "tools": ["f"]}, ("'tools' must be a list of JSON objects",)),
    ],
)
def test_a_broken_row_is_refused_with_file_line_and_field(write, line: Any, parts: tuple[str, ...]) -> None:
    message = refusal(write({"question": "fine", "answer": "1"}, line))
    assert all(part in message for part in parts), message


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(QUESTION).encode() + b'\n{"question": "\xff"}\n')
    assert f"{path}:2: not UTF-8" in refusal(path)


def test_a_missing_an_empty_and_an_unknown_file_are_refused(write, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.jsonl")
    assert "holds no rows" in refusal(write("", name="empty.jsonl"))
    assert "use .jsonl or .parquet" in refusal(write("a,b", name="rows.csv"))
    assert "a file is one split" in refusal(write(QUESTION), split="train")
    assert "limit" in refusal(write(QUESTION), limit=0)


# ---------------------------------------------------------------------------------------------- identity and limits


def test_the_uid_follows_from_what_the_policy_sees_and_from_nothing_else(write) -> None:
    (first,) = load_prompts(write(QUESTION, name="a.jsonl"), task="math")
    (second,) = load_prompts(write({**QUESTION, "answer": "8", "domain": "x"}, name="b.jsonl"), task="math")
    assert first.uid == second.uid
    # sha256 of {"messages":[{"content":"What is 3 + 4?","role":"user"}]}, worked out with sha256sum.
    assert first.uid == "math/3f7ad26c4b09"
    others = [
        prompt_uid("sums", first.messages),
        prompt_uid("math", [*first.messages, *first.messages]),
        prompt_uid("math", first.messages, enable_thinking=False),
        prompt_uid("math", first.messages, tools=[{"name": "f"}]),
    ]
    assert len({first.uid, *others}) == 5


def test_repeated_questions_are_dropped_counted_and_reported(write, caplog: pytest.LogCaptureFixture) -> None:
    path = write(QUESTION, {"question": "Q", "answer": "1"}, QUESTION, {**QUESTION, "answer": "8"})
    with caplog.at_level(logging.WARNING):
        loaded = read_prompts(path, task="math")
    assert (len(loaded.prompts), loaded.num_rows, loaded.num_duplicates, loaded.num_conflicts) == (2, 4, 2, 1)
    assert loaded.prompts[0].reference == {"answer": "7"}
    assert "2 duplicate questions dropped, 1 of them with another reference" in caplog.text


def test_a_limit_chooses_by_seed_and_content_and_keeps_the_order_of_the_file(write) -> None:
    rows = [{"question": f"q{index}", "answer": "1"} for index in range(20)]
    chosen = load_prompts(write(*rows), task="math", limit=5, seed=3)
    assert len(chosen) == 5
    assert questions(chosen) == sorted(questions(chosen), key=lambda text: int(text[1:]))
    reversed_rows = load_prompts(write(*rows[::-1], name="b.jsonl"), task="math", limit=5, seed=3)
    assert {prompt.uid for prompt in reversed_rows} == {prompt.uid for prompt in chosen}
    assert load_prompts(write(*rows), task="math", limit=5, seed=4) != chosen
    assert len(load_prompts(write(*rows), task="math", limit=99)) == 20


# ---------------------------------------------------------------------------------------------- folders and tables


def test_a_folder_is_read_by_split(write, tmp_path: Path) -> None:
    write({"question": "t0", "answer": "1"}, name="set/train-00000-of-00002.jsonl")
    write({"question": "t1", "answer": "1"}, name="set/train-00001-of-00002.jsonl")
    write({"question": "e", "answer": "1"}, name="set/test/part.jsonl")
    assert questions(load_prompts(tmp_path / "set", task="math", split="train")) == ["t0", "t1"]
    assert questions(load_prompts(tmp_path / "set", task="math", split="test")) == ["e"]
    assert "holds the splits test, train" in refusal(tmp_path / "set")
    assert "no data files of split 'dev'; found test, train" in refusal(tmp_path / "set", split="dev")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    assert "no .jsonl, no .parquet and no saved dataset" in refusal(tmp_path)


def test_parquet_without_pyarrow_names_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    assert "pip install pyarrow" in refusal(tmp_path / "rows.parquet")


def test_parquet_rows_lose_the_fields_that_the_table_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Q", "answer": "1", "messages": None, "reference": None, "difficulty": None},
        {"question": None, "answer": None, "messages": [{"role": "user", "content": "M"}], "reference": None},
    ]
    parquet = ModuleType("pyarrow.parquet")
    parquet.read_table = lambda path: SimpleNamespace(to_pylist=lambda: rows)  # type: ignore[attr-defined]
    package = ModuleType("pyarrow")
    package.parquet = parquet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", package)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    (tmp_path / "rows.parquet").write_bytes(b"")
    prompts = load_prompts(tmp_path / "rows.parquet", task="math")
    assert [prompt.reference for prompt in prompts] == [{"answer": "1"}, None]
    rows[0]["answer"] = ""
    assert "rows.parquet:row 1: field 'answer'" in refusal(tmp_path / "rows.parquet")


def test_a_saved_dataset_needs_the_datasets_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in refusal(tmp_path)
    fake = ModuleType("datasets")
    fake.load_from_disk = lambda path: {"train": [QUESTION], "test": []}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert questions(load_prompts(tmp_path, task="math", split="train")) == ["What is 3 + 4?"]
    assert "choose one of test, train" in refusal(tmp_path)


# ---------------------------------------------------------------------------------------------- generators and splits


def sums(*, seed: int, index: int, difficulty: int) -> Prompt:
    """A generator with 5 different questions at difficulty 0 and a new one for each index at others."""
    text = f"{seed}: {index % 5 if difficulty == 0 else index} at {difficulty}"
    return Prompt(f"any/{index}", "any", ({"role": "user", "content": text},), index, domain="sums")


def test_generated_prompts_are_different_and_take_the_difficulties_in_turn() -> None:
    prompts = generated_prompts(sums, task="math", seed=1, count=6, difficulty=(1, 2))
    assert questions(prompts) == ["1: 0 at 1", "1: 1 at 2", "1: 2 at 1", "1: 3 at 2", "1: 4 at 1", "1: 5 at 2"]
    assert [prompt.difficulty for prompt in prompts] == [1, 2, 1, 2, 1, 2]
    assert all(prompt.uid == prompt_uid("math", prompt.messages) for prompt in prompts)
    assert prompts == generated_prompts(sums, task="math", seed=1, count=6, difficulty=(1, 2))
    assert prompts[:4] == generated_prompts(sums, task="math", seed=1, count=4, difficulty=(1, 2))


def test_a_generator_that_runs_out_is_refused_and_not_repeated() -> None:
    assert len(generated_prompts(sums, task="math", seed=1, count=5)) == 5
    with pytest.raises(UserError, match=r"only 5 different prompts at difficulty 0, 6 asked for"):
        generated_prompts(sums, task="math", seed=1, count=6)
    for arguments in ({"count": 0}, {"count": 1, "difficulty": ()}):
        with pytest.raises(UserError, match="count >= 1"):
            generated_prompts(sums, task="math", seed=1, **arguments)


def test_a_split_partitions_in_order_and_a_share_is_stable_when_data_grows() -> None:
    prompts = generated_prompts(sums, task="math", seed=1, count=200, difficulty=1)
    train, held = split_prompts(prompts, 0.2, seed=5)
    assert sorted(train + held, key=prompts.index) == prompts
    assert train == [prompt for prompt in prompts if prompt in train]
    assert 20 <= len(held) <= 60
    early_held = split_prompts(prompts[:100], 0.2, seed=5)[1]
    assert early_held == [prompt for prompt in prompts[:100] if prompt in held]
    assert split_prompts(prompts, 0.2, seed=6)[1] != held


def test_a_count_holds_out_exactly_that_many_whatever_the_order() -> None:
    prompts = generated_prompts(sums, task="math", seed=1, count=30, difficulty=1)
    held = split_prompts(prompts, 7)[1]
    assert len(held) == 7
    assert split_prompts(prompts[::-1], 7)[1] == held[::-1]


@pytest.mark.parametrize("holdout", [0, 30, 31, -1, 0.0, 1.0])
def test_a_split_that_leaves_a_side_empty_is_refused(holdout: float) -> None:
    with pytest.raises(UserError, match="holdout"):
        split_prompts(generated_prompts(sums, task="math", seed=1, count=30, difficulty=1), holdout)
