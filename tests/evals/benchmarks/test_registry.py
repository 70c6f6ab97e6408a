"""The way in: names, counts, notes, limits and identity of loaded benchmarks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from data.records import UserError
from evals.benchmarks.registry import BENCHMARKS, get_benchmark, load_benchmark, read_benchmark
from rewards.registry import all_tasks, benchmark_tasks, get_task
from rewards.task import make_prompt
from tests.evals.benchmarks.conftest import Write

NAMES = {
    "aime24", "aime25", "math_500", "gsm8k", "gpqa_diamond", "mmlu_redux", "livecodebench", "livecodebench_all",
    "humaneval", "ifeval", "multi_if", "bfcl",
}  # fmt: skip


def problems(count: int) -> list[dict[str, str]]:
    return [{"problem": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(count)]


def test_every_benchmark_of_the_issue_is_there_with_its_licence_and_scorer() -> None:
    assert set(BENCHMARKS) == NAMES
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.name == name
        assert benchmark.licence
        assert benchmark.expected_rows
        assert get_task(benchmark.task) in benchmark_tasks()


def test_samples_and_lengths_are_the_reports() -> None:
    assert {name: b.num_samples for name, b in BENCHMARKS.items() if b.num_samples != 1} == {
        "aime24": 64, "aime25": 64, "gpqa_diamond": 10,
    }  # fmt: skip
    assert {b.max_tokens for name, b in BENCHMARKS.items() if name.startswith("aime")} == {38_912}
    assert {b.max_tokens for name, b in BENCHMARKS.items() if not name.startswith("aime")} == {32_768}


def test_no_benchmark_can_be_trained_on() -> None:
    names = {task.name for task in all_tasks()}
    for task in benchmark_tasks():
        assert task.name not in names
        with pytest.raises(UserError, match="evaluation only"):
            make_prompt(task, seed=0, index=0, difficulty=0)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'gpqa_diamond'"):
        get_benchmark("gpqa_diamnd")
    with pytest.raises(UserError, match="known ones: aime24"):
        get_benchmark("zzz")


def test_a_number_of_rows_that_was_not_published_is_reported(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write(*problems(3))
    with caplog.at_level(logging.WARNING):
        assert len(load_benchmark("aime24", path)) == 3
    assert f"{path} has 3 rows, the published AIME'24 30" in caplog.text
    assert read_benchmark("aime24", write(*problems(30), name="all.jsonl")).notes == ()


def test_a_limit_chooses_by_content_keeps_the_order_and_is_reported(write: Write) -> None:
    rows = problems(30)
    loaded = read_benchmark("aime24", write(*rows), limit=5)
    backwards = read_benchmark("aime24", write(*rows[::-1], name="backwards.jsonl"), limit=5)
    assert len(loaded.prompts) == 5
    assert [prompt.uid for prompt in loaded.prompts] == [prompt.uid for prompt in backwards.prompts][::-1]
    assert loaded.notes == ("limit: 5 of 30 prompts",)
    assert len(load_benchmark("aime24", write(*rows), limit=99)) == 30
    with pytest.raises(UserError, match="limit: must be at least 1, got 0"):
        load_benchmark("aime24", write(*rows), limit=0)


def test_a_row_that_is_published_twice_counts_twice_under_two_names(write: Write) -> None:
    (row,) = problems(1)
    first, second = load_benchmark("aime24", write(row, row))
    assert second.uid == f"{first.uid}-2"
    assert (first.messages, first.reference) == (second.messages, second.reference)


def test_two_benchmarks_never_share_a_uid(write: Write) -> None:
    path = write(*problems(2))
    uids = [prompt.uid for name in ("aime24", "aime25") for prompt in load_benchmark(name, path)]
    assert len(set(uids)) == 4
    assert uids[0].startswith("aime24/")


def test_a_missing_path_an_empty_file_and_an_unknown_format_are_refused(write: Write, tmp_path: Path) -> None:
    for path, part in (
        (tmp_path / "gone.jsonl", "no such file or folder; download the benchmark first"),
        (write(name="empty.jsonl"), "no prompt of AIME'24 among 0 rows (empty)"),
        (write({"a": 1}, name="rows.txt"), "cannot read .txt; use .jsonl, .jsonl.gz, .json, .csv"),
    ):
        with pytest.raises(UserError) as caught:
            load_benchmark("aime24", path)
        assert part in str(caught.value)
