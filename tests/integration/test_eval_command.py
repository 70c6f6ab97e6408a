"""`fourstage eval` as a command, with the real Ray and engine on a random model of two layers: killed with kill -9 in
the middle it goes on and leaves the bytes of an evaluation that was left alone, and once all is measured it starts no
engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from learner.model_folder import export_model
from tests.integration.run_process import Command
from tests.integration.tiny_policies import tiny_model, tiny_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.integration]

SUITE = """
name: tiny
seeds: [0, 1]
pass_at: [1, 2, 4]
budgets: [4]
ray: {object_store_gib: 0.2}
rollout:
  num_threads: 1
  engine: {dtype: float32, max_model_len: 2048, max_num_seqs: 16, kv_cache_gib: 1}
evaluation:
  thinking: {temperature: 0.6, top_p: 0.95, top_k: 20, max_tokens: 60}
  non_thinking: {temperature: 0.7, top_p: 0.8, top_k: 20, max_tokens: 40}
  budget_benchmarks: [sums]
  budget_shares: []
  benchmarks:
    sums: {task: arithmetic, num_prompts: 8, num_samples: 2}
    follow: {task: think_follow_noise, levels: [0, 1, 4], modes: [mixed], num_prompts: 6}
    lengths: {task: length_control, num_prompts: 6}
    tools: {task: tool_use, modes: [non_thinking], num_prompts: 4}
"""
NUM_MEASUREMENTS = 2 * (2 + 1 + 2 + 1 + 1)
"""Of each seed: sums and lengths in both modes, follow and tools in one, and the budget."""


@dataclass(frozen=True)
class Finished:
    """What the commands left: the evaluation that was killed and resumed, the one left alone, and a call after it."""

    num_survived: int
    resumed: Command
    whole: Command
    cached: Command
    resumed_folder: Path
    whole_folder: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("eval")
    tokenizer = tiny_tokenizer()
    policy = tiny_model("qwen3", len(tokenizer), tied=False, seed=0, max_positions=2048)  # tools take a long prompt
    model = export_model(policy, tokenizer, folder / "model")
    suite = folder / "tiny.yaml"
    suite.write_text(SUITE)

    def command(out: str) -> Command:
        arguments = ("eval", model, "--suite", suite, "--out", folder / out, "--json")
        return Command(*arguments, logs=folder / "logs")

    killed = command("killed")
    killed.wait_for_rows(folder / "killed", "*/measurements/*.json", 1)
    killed.kill()
    survived = len(list((folder / "killed").glob("*/measurements/*.json")))
    resumed = command("killed").finish(timeout_s=170)
    whole = command("whole").finish(timeout_s=170)
    cached = command("whole").finish(timeout_s=60)
    (resumed_folder,), (whole_folder,) = (folder / "killed").iterdir(), (folder / "whole").iterdir()
    return Finished(survived, resumed, whole, cached, resumed_folder, whole_folder)


def measurements(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "measurements").iterdir()}


def test_a_killed_evaluation_goes_on_and_leaves_the_bytes_of_one_left_alone(finished: Finished) -> None:
    assert 0 < finished.num_survived < NUM_MEASUREMENTS
    assert "going on after step" in finished.resumed.stderr
    found = measurements(finished.resumed_folder)
    assert len(found) == NUM_MEASUREMENTS
    assert found == measurements(finished.whole_folder)
    assert finished.resumed.document == finished.whole.document


def test_once_all_is_measured_no_engine_starts_and_the_results_are_the_same(finished: Finished) -> None:
    assert finished.cached.document == finished.whole.document
    assert "starting the rollout engine" in finished.whole.stderr
    assert "starting" not in finished.cached.stderr
    assert "measurements, made before, reused" in finished.cached.stderr
    assert not any("ray" in name.split()[0] for name in finished.cached.names if name)


def test_nothing_of_it_runs_on(finished: Finished) -> None:
    for command in (finished.resumed, finished.whole, finished.cached):
        assert command.processes() == []


def test_the_results_are_those_of_a_random_model_in_every_benchmark_and_mode(finished: Finished) -> None:
    document: dict[str, Any] = finished.whole.document
    rows = {(row["benchmark"], row["mode"], row["budget_tokens"]): row for row in document["results"]}
    assert list(rows) == [
        ("sums", "thinking", None), ("sums", "non_thinking", None), ("follow", "mixed", None),
        ("lengths", "thinking", None), ("lengths", "non_thinking", None), ("tools", "non_thinking", None),
        ("sums", "thinking", 4),
    ]  # fmt: skip
    sums = rows["sums", "thinking", None]
    assert (sums["samples_per_prompt"], sums["n"], sums["samples"], sums["errors"]) == (4, 8, 32, 0)
    assert set(sums["pass_at"]) == {"1", "2", "4"}
    assert all(0 <= row["interval"][0] <= row["mean"] <= row["interval"][1] <= 1 for row in rows.values())
    assert 0 < sums["mean_tokens"] <= 60
    assert rows["tools", "non_thinking", None]["parts"]["intent"]["n"] == 4
    assert set(rows["follow", "mixed", None]["domains"]) == {"language", "wrong_case", "contradictory"}
    written = next(finished.whole_folder.glob("tiny-*.json"))
    assert json.loads(written.read_text(encoding="utf-8")) == document
