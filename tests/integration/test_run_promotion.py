"""A recipe that ends in a promotion, as the command that a user calls: promoted, called again, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learner.checkpoint import verify_checkpoint
from serving.registry import Registry
from tests.integration.run_process import Command

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
SHORT = (
    "stages=[base]", "evaluation.stages=[]", "evaluation.budget_benchmarks=[]", "base.train.max_steps=20",
    "base.train.save_every=20",
)  # fmt: skip
GATES = """
name: folder alone
licence: {allowed: [ALLOWED]}
parity: null
benchmarks: null
think_follow: null
"""


def test_a_run_ends_in_a_promotion_once_and_a_refused_one_is_an_exit_code_and_no_loss(tmp_path: Path) -> None:
    run, place = tmp_path / "run", tmp_path / "models"

    def start(allowed: str) -> Command:
        gates = tmp_path / f"{allowed}.yaml"
        gates.write_text(GATES.replace("ALLOWED", allowed))
        promotion = (f"promotion.gates={gates}", f"promotion.registry={place}")
        return Command("run", RECIPE, f"run_dir={run}", "--plain", "--json", *SHORT, *promotion, logs=tmp_path / "logs")

    refused = start("MIT").finish(code=1)
    (checkpoint,) = run.glob("stages/base-*/checkpoint")
    manifest = verify_checkpoint(checkpoint)
    assert "production: v1-base-" in refused.stderr
    assert "was not promoted: 1 of 3 gates failed: lineage" in refused.stderr
    assert isinstance(json.loads(refused.stdout), dict)
    assert Registry(place).aliases() == []

    start("Apache-2.0").finish()
    registry = Registry(place)
    (version,) = registry.versions()
    registry.verify(version)
    assert version.manifest == manifest
    assert {alias: registry.history(alias)[-1].version for alias in registry.aliases()} == {
        "production": version.name, "staging": version.name,
    }  # fmt: skip

    histories = [registry.history(alias) for alias in registry.aliases()]
    again = start("Apache-2.0").finish()
    assert [registry.history(alias) for alias in registry.aliases()] == histories
    assert f"production: {version.name} was promoted before (generation 1)" in again.stderr
