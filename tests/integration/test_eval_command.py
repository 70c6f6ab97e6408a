"""`fourstage eval` as a command, with the real Ray and engine on a random model of two layers: killed with kill -9 in
the middle it goes on, what it measures again has the same bytes, and once all is measured no engine starts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from learner.model_folder import export_model
from stages.eval_suite import load_suite
from stages.evaluate_checkpoint import evaluate_checkpoint
from tests.integration.run_process import Command
from tests.integration.tiny_policies import tiny_model, tiny_tokenizer
from tests.rewards.leaky_task import registry_as_it_was

pytestmark = [pytest.mark.engine, pytest.mark.integration]

SUITE = """
name: tiny
seeds: [0, 1]
pass_at: [1, 2, 4]
budgets: [4]
ray: {object_store_gib: 0.2}
rollout:
  num_threads: 1
  episodes: {max_turns: 2, max_calls: 4}
  engine: {dtype: float32, max_model_len: 2048, max_num_seqs: 16, kv_cache_gib: 1}
evaluation:
  thinking: {temperature: 0.6, top_p: 0.95, top_k: 20, max_tokens: 40}
  non_thinking: {temperature: 0.7, top_p: 0.8, top_k: 20, max_tokens: 20}
  budget_benchmarks: [sums]
  budget_shares: []
  benchmarks:
    sums: {task: arithmetic, num_prompts: 8, num_samples: 2}
    follow: {task: think_follow_noise, levels: [0, 1, 4], modes: [mixed], num_prompts: 6}
    lengths: {task: length_control, num_prompts: 6}
    tools: {task: tool_use, modes: [non_thinking], num_prompts: 2}
"""
NUM_MEASUREMENTS = 2 * (2 + 1 + 2 + 1 + 1)
"""Of each seed: sums and lengths in both modes, follow and tools in one, and the budget."""


@dataclass(frozen=True)
class Finished:
    """What a killed evaluation had written, one measurement of it that was then taken away, and what resuming left."""

    model: Path
    suite: Path
    survived: dict[str, bytes]
    taken: str
    resumed: Command
    folder: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("eval")
    tokenizer = tiny_tokenizer()
    policy = tiny_model("qwen3", len(tokenizer), tied=False, seed=0, max_positions=2048)  # tools take a long prompt
    model = export_model(policy, tokenizer, folder / "model")
    suite = folder / "tiny.yaml"
    suite.write_text(SUITE)
    arguments = ("eval", model, "--suite", suite, "--out", folder / "out", "--json")

    killed = Command(*arguments, logs=folder / "logs")
    while len(list((folder / "out").glob("*/measurements/*.json"))) < 2:
        assert time.monotonic() - killed.began < 170, killed.stderr[-4000:]
        assert killed.processes(), killed.stderr[-4000:]
        time.sleep(0.02)
    killed.kill()
    (out,) = (folder / "out").iterdir()
    survived = measurements(out)
    taken = sorted(survived)[0]
    (out / "measurements" / taken).unlink()
    resumed = Command(*arguments, logs=folder / "logs").finish(timeout_s=170)
    with registry_as_it_was():
        yield Finished(model, suite, survived, taken, resumed, out)


def measurements(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "measurements").iterdir() if path.suffix == ".json"}


def test_a_killed_evaluation_goes_on_and_measures_the_same_bytes(finished: Finished) -> None:
    assert 2 <= len(finished.survived) < NUM_MEASUREMENTS
    assert "going on after step" in finished.resumed.stderr
    found = measurements(finished.folder)
    assert len(found) == NUM_MEASUREMENTS
    assert found.items() >= finished.survived.items()  # what was there, and what was measured by another process
    assert not list(finished.folder.rglob(".*.partial"))
    assert finished.resumed.processes() == []


def test_once_all_is_measured_no_engine_starts_and_the_results_are_the_same(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    before = measurements(finished.folder)
    suite = load_suite(str(finished.suite), [])
    document, folder = evaluate_checkpoint(suite, finished.model, finished.folder.parent, plain=True)
    assert folder == finished.folder
    assert document == finished.resumed.document
    assert measurements(folder) == before
    said = capsys.readouterr().err
    assert "measurements, made before, reused" in said
    assert "starting" not in said
    assert "starting the rollout engine" in finished.resumed.stderr


def test_the_results_are_those_of_a_random_model_in_every_benchmark_and_mode(finished: Finished) -> None:
    document: dict[str, Any] = finished.resumed.document
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
    assert 0 < sums["mean_tokens"] <= 40
    assert rows["tools", "non_thinking", None]["parts"]["intent"]["n"] == 2
    assert set(rows["follow", "mixed", None]["domains"]) == {"language", "wrong_case", "contradictory"}
    written = next(finished.folder.glob("tiny-*.json"))
    assert json.loads(written.read_text(encoding="utf-8")) == document
