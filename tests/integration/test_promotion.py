"""Promotion with the real engine: all gates are measured, and a second candidate is held against the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learner.checkpoint import read_manifest
from serving.figures import GapFigures, LoadFigures, Scores
from serving.gates_config import load_gates
from serving.gates_record import engine_of_gates, measured_scores
from serving.measured_engine import MeasuredEngine
from serving.registry import Registry, content_hash
from stages.gate_measuring import measure_figures
from stages.promotion import promote_checkpoint
from tests.integration.serving_scene import narrow
from tests.serving.served_models import THINKS_A_SAYS_B, save_checkpoint

pytestmark = pytest.mark.integration

SUITE = """
name: tiny
seeds: [0]
rollout:
  num_threads: 1
  engine: {dtype: float32, max_model_len: 384, max_num_seqs: 32, kv_cache_gib: 1}
ray: {object_store_gib: 0.2}
evaluation:
  thinking: {temperature: 0.6, top_p: 0.95, top_k: 20, max_tokens: 16}
  non_thinking: {temperature: 0.7, top_p: 0.8, top_k: 20, max_tokens: 16}
  benchmarks:
    sums: {task: arithmetic, levels: [0], num_prompts: 40}
    follow: {task: mode_flags, levels: [0], modes: [mixed], num_prompts: 40}
"""
GATES = """
name: tiny
suite: SUITE
licence: {spdx: Apache-2.0}
parity: {num_rows: 4, max_tokens: 16, max_gap: 1.0e-3, mean_gap: 1.0e-4}
benchmarks: {at_least: {sums: {thinking: 0.0}}, margin: 0.2}
think_follow: {benchmark: follow, at_least: 0.0}
load:
  concurrency: 4
  num_requests: 12
  num_tokens: 8
  max_median_s: 60
  max_p95_s: 60
  max_first_token_median_s: 60
  max_first_token_p99_s: 60
  min_tokens_per_s: 0.1
"""


def test_every_gate_is_measured_and_a_second_candidate_is_held_against_the_first(tmp_path: Path) -> None:
    suite, gates = tmp_path / "suite.yaml", tmp_path / "gates.yaml"
    suite.write_text(SUITE)
    gates.write_text(GATES.replace("SUITE", str(suite)))
    config, registry, out = load_gates(str(gates)), Registry(tmp_path / "models"), tmp_path / "eval"
    first = save_checkpoint(tmp_path / "first", script=THINKS_A_SAYS_B, stage="base")
    found = promote_checkpoint(registry, str(first), "production", config, out=out, plain=True)
    verdicts = {verdict.gate: verdict for verdict in found.verdicts}
    assert [gate for gate, verdict in verdicts.items() if verdict.status != "passed"] == []
    assert found.move is not None
    assert found.move.done
    assert found.card is not None
    assert "log-probabilities" in found.card.read_text()
    assert found.version is not None
    assert engine_of_gates(registry, found.version, "production") == MeasuredEngine("float32", 384, 1, on_gpu=False)
    assert "float32, 384 tokens, CPU" in verdicts["engine"].measured
    assert measured_scores(registry, found.version).keys() == {"sums, thinking", "sums, non-thinking", "follow, mixed"}

    second = save_checkpoint(tmp_path / "second", seed=1, stage="base")
    current = registry.resolve("production")
    figures = measure_figures(config, second, current, out, plain=True)
    assert isinstance(figures.parity, GapFigures)
    assert figures.parity.max_gap < 1e-3
    assert figures.parity.num_tokens > 4 * 16
    assert isinstance(figures.load, LoadFigures)
    assert len(figures.load.latencies_s) == 12
    assert figures.load.num_tokens == 12 * 8
    assert len(figures.load.first_token_s) == 12 - 4
    assert isinstance(figures.loads_s, float)
    assert isinstance(figures.scores, dict)
    assert isinstance(figures.current_scores, dict)
    places = [("sums", "thinking"), ("sums", "non_thinking"), ("follow", "mixed")]
    assert list(figures.scores) == list(figures.current_scores) == places
    ours, theirs = figures.scores["follow", "mixed"], figures.current_scores["follow", "mixed"]
    assert isinstance(ours, Scores)
    assert ours.uids == theirs.uids
    assert len(ours.uids) == 40

    unloadable = save_checkpoint(tmp_path / "unloadable", seed=2, stage="base", spoil=narrow)
    before = registry.alias("production")
    refused = promote_checkpoint(registry, str(unloadable), "production", config, out=out, plain=True)
    verdict_of = {verdict.gate: verdict for verdict in refused.verdicts}
    assert [verdict_of[gate].status for gate in ("files", "template", "lineage", "engine")] == [
        "passed", "passed", "passed", "failed",
    ]  # fmt: skip
    assert verdict_of["log-probabilities"].measured == "not measured: the engine did not start"
    assert refused.move is not None
    assert refused.move.reason is not None
    assert not refused.move.done
    assert registry.alias("production") == before  # its generation too
    registry.verify(current)
    assert content_hash(read_manifest(current.folder)) == current.content_hash
    json.dumps(refused.document())
