"""Content keys: everything that decides a measurement changes its key, and nothing else does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from evals.cache_keys import CODE, ROOT, code_key, files_key, job_key, job_name
from evals.evaluate import BenchmarkConfig, EvaluationConfig, benchmark_prompts, build_job
from evals.measurement import Job
from tests.data.byte_tokenizer import byte_tokenizer

SUMS = BenchmarkConfig(task="arithmetic", num_prompts=3, num_samples=2)


def job(benchmark: BenchmarkConfig = SUMS, *, mode: Any = "thinking", seed: int = 0, budget: int | None = None) -> Job:
    config = EvaluationConfig(benchmarks={"sums": benchmark})
    prompts = benchmark_prompts("sums", benchmark, config.seed)
    return build_job("sums", mode, prompts, config, tokenizer=byte_tokenizer(), seed=seed, budget=budget)


def key(job: Job, checkpoint: str = "c", **setting: Any) -> str:
    return job_key(job, checkpoint=checkpoint, setting={"code": "1", **setting})


def test_the_key_of_a_job_is_the_same_for_the_same_content() -> None:
    assert key(job()) == key(job())
    assert len(key(job())) == 64
    assert key(job()) == key(job(dataclasses.replace(SUMS, category="numbers", stages=("base",))))


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "non_thinking"},
        {"mode": "mixed"},
        {"seed": 1},
        {"budget": 8},
        {"benchmark": dataclasses.replace(SUMS, num_prompts=4)},
        {"benchmark": dataclasses.replace(SUMS, num_samples=3)},
        {"benchmark": dataclasses.replace(SUMS, levels=(1,))},
        {"benchmark": dataclasses.replace(SUMS, thinking_budget=8)},
        {"benchmark": dataclasses.replace(SUMS, max_tokens=8)},
    ],
)
def test_what_is_asked_is_in_the_key(other: dict[str, Any]) -> None:
    assert key(job(**other)) != key(job())


def test_checkpoint_setting_reference_and_tools_are_in_the_key() -> None:
    made = job()
    assert key(made, "d") != key(made)
    assert key(made, code="2") != key(made)
    assert key(made, judge={"model": "x"}) != key(made)
    first, *others = made.prompts
    for changed in (
        dataclasses.replace(first, reference={"answer": -1}),
        dataclasses.replace(first, tools=({"name": "x"},)),
    ):
        assert key(dataclasses.replace(made, prompts=(changed, *others))) != key(made)


def test_the_name_of_a_file_is_plain_and_ends_in_the_key() -> None:
    made = job(budget=16, seed=3)
    assert job_name(made, "f" * 64) == f"sums-thinking-budget_16-seed_3-{'f' * 12}.json"
    strange = dataclasses.replace(job(), benchmark="../a b/ç.1")
    assert job_name(strange, "0" * 64) == f".._a_b_ç.1-thinking-seed_0-{'0' * 12}.json"


def test_files_are_told_apart_by_name_and_content() -> None:
    assert files_key({"a": "1", "b": "2"}) == files_key({"b": "2", "a": "1"})
    assert files_key({"a": "1", "b": "2"}) != files_key({"a": "2", "b": "1"})
    assert files_key({"a": "1"}) != files_key({"a": "1", "b": "2"})


def test_code_is_told_apart_by_name_and_content_and_not_by_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "rewards"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1")
    (tmp_path / "alone.py").write_text("y = 1")
    before = code_key(tmp_path, ("rewards", "alone.py"))
    (folder / "notes.md").write_text("text")
    assert code_key(tmp_path, ("rewards", "alone.py")) == code_key(tmp_path, ("alone.py", "rewards")) == before
    (folder / "a.py").write_text("x = 2")
    changed = code_key(tmp_path, ("rewards", "alone.py"))
    (folder / "a.py").rename(folder / "b.py")
    assert len({before, changed, code_key(tmp_path, ("rewards", "alone.py"))}) == 3


def test_the_sources_in_the_key_are_there() -> None:
    assert all((ROOT / part).exists() for part in CODE)
