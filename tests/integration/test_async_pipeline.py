"""A whole stage with `max_staleness` above 0: real engine, learner and verifiers, killed in the middle and resumed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stages.prompts import prompt_of_record
from stages.rollout_collection import batch_of_step
from tests.integration.run_process import Command

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
NUM_STEPS, PER_STEP, GROUP, BOUND = 6, 6, 4, 2
SETTINGS = (
    f"reasoning_rl.rl.max_staleness={BOUND}", f"reasoning_rl.rl.num_steps={NUM_STEPS}",
    "reasoning_rl.rl.minibatches=1", "reasoning_rl.rl.learner.loss=default", "reasoning_rl.rl.learner.loss_config=null",
    "reasoning_rl.rl.samples_per_step=6", "evaluation.stages=[]", "evaluation.budget_benchmarks=[]",
)  # fmt: skip


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(f"stages/reasoning_rl-*/{name}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_stage_stays_within_the_bound_and_resumes_with_every_group_trained_on_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("run", RECIPE, f"run_dir={folder}", "--plain", "--json", *SETTINGS, "--until", "reasoning_rl")
    command = Command(*arguments, logs=tmp_path / "logs")
    command.wait_for_rows(folder, "stages/reasoning_rl-*/metrics.jsonl", 3)
    command.kill()
    command = Command(*arguments, logs=tmp_path / "logs").finish()
    metrics = rows(folder, "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, NUM_STEPS + 1))
    for row in metrics:
        assert 0 <= row["staleness/mean"] <= row["staleness/max"] <= BOUND
        assert row["staleness/dropped_groups"] == 0
        assert row["sync_gap_max"] < 1e-3
        assert row["batch/completions"] == PER_STEP * GROUP
        assert 0 <= row["timing"]["hidden_share"] <= 1
    assert max(row["staleness/max"] for row in metrics) > 0
    queries = [prompt_of_record(row) for row in rows(folder, "data/queries.jsonl")]
    batches = [batch_of_step(queries, step, size=PER_STEP, seed=0) for step in range(NUM_STEPS)]
    trained = Counter(row["uid"] for row in rows(folder, "samples.jsonl"))  # one row for each group
    assert trained == Counter(prompt.uid for batch in batches for prompt in batch)
    assert command.processes() == []
