"""An ablation with the real Ray, engine and learner: two variants that share a prefix, in one set of services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learner.checkpoint import verify_checkpoint
from stages.ablation_config import load_ablation, plan_ablation
from tests.integration.run_process import Command

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")

ABLATION = f"""
name: micro
recipe: {RECIPE}
num_resamples: 500
set:
  evaluation.stages: [cold_start, reasoning_rl]
  evaluation.budget_benchmarks: []
  reasoning_rl.rl.num_steps: 2
variants:
  cold_start: {{until: cold_start}}
  short: {{until: reasoning_rl}}
  other_loss:
    until: reasoning_rl
    set: {{reasoning_rl.rl.learner: {{loss: dapo, loss_config: null}}}}
    against: short
"""


def test_variants_share_their_prefix_one_engine_and_one_learner(tmp_path: Path) -> None:
    path, folder = tmp_path / "micro.yaml", tmp_path / "run"
    path.write_text(ABLATION)
    arguments = ("ablate", path, f"run_dir={folder}")
    command = Command(*arguments, "--plain", "--json", logs=tmp_path / "logs").finish()

    # Base and cold start were made once, reasoning RL once for each objective: four folders with a checkpoint, and the
    # later runs say of the shared ones that they were there.
    made = sorted(file.parents[1].name.rsplit("-", 1)[0] for file in folder.glob("stages/*/checkpoint/manifest.json"))
    assert made == ["base", "cold_start", "reasoning_rl", "reasoning_rl"]
    log = command.stderr
    assert log.count("starting the rollout engine") == 1
    assert log.count(" base: finished before, reused") == 2
    assert log.count(" cold_start: finished before, reused") == 2
    assert log.count(" evaluate cold_start: measured before, reused") == 2
    assert "variant 3 of 3: other_loss, seed 0, 1 of 3 stages to make" in log
    assert command.processes() == []

    short, other = (run.stages[-1] for run in plan_ablation(load_ablation(path, [f"run_dir={folder}"]))[1:])
    costs = [verify_checkpoint(stage.checkpoint_folder).cost for stage in (short, other)]
    assert all(cost["flops"] == cost["train_flops"] + cost["generation_flops"] > 0 for cost in costs)
    weights = [(stage.checkpoint_folder / "model.safetensors").read_bytes() for stage in (short, other)]
    assert weights[0] != weights[1]

    document = command.document
    assert [column["name"] for column in document["columns"]] == ["cold_start", "short", "other_loss"]
    assert {(cell["benchmark"], cell["mode"], cell["num_prompts"]) for cell in document["cells"]} == {
        ("arithmetic", "thinking", 16), ("arithmetic", "non_thinking", 16), ("think_follow", "mixed", 16),
    }  # fmt: skip
    assert json.loads((folder / "tables/variants.json").read_text()) == document
    assert (folder / "variants/other_loss-seed0/report.md").exists()

    again = Command(*arguments, "--plain", "--json", logs=tmp_path / "logs").finish()
    assert again.document == document
    assert "starting" not in again.stderr
