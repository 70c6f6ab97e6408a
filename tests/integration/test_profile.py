"""`--profile` with the real Ray, engine and learner: traces that open, of every stage, and no bit changed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data.files import read_rows
from evals.time_split import PHASES
from tests.integration.run_process import Command
from tests.stages.stage_fakes import rows_of

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
MAX_BYTES = 50 * 2**20
SETTINGS = (
    "--until", "reasoning_rl", "evaluation.stages=[]", "evaluation.budget_benchmarks=[]",
    "profile.engine_steps=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The same run without and with `--profile`, and what the second said."""
    folder = tmp_path_factory.mktemp("profile")
    said = ""
    for name, options in (("plain", ()), ("profiled", ("--profile",))):
        command = Command("run", RECIPE, f"run_dir={folder / name}", *SETTINGS, *options, "--plain", logs=folder / "l")
        said = command.finish().stderr
    return folder / "plain", folder / "profiled", said


def events(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    assert len(text) < MAX_BYTES
    found = json.loads(text)["traceEvents"]
    assert all(event["ph"] != "X" or (event["dur"] >= 0 and "ts" in event and "pid" in event) for event in found)
    return found


def test_every_stage_leaves_traces_of_learner_engine_and_phases(runs: tuple[Path, Path, str]) -> None:
    _, run, _ = runs
    names = sorted(path.name for path in (run / "profile").iterdir())
    assert [name for name in names if name.startswith("reasoning_rl")] == [
        "reasoning_rl-step4-engine.json.gz", "reasoning_rl-step4-learner.json.gz",
        "reasoning_rl-step5-engine.json.gz", "reasoning_rl-step5-learner.json.gz", "reasoning_rl-timeline.json",
    ]  # fmt: skip
    assert {"base-step4-learner.json.gz", "base-timeline.json", "cold_start-timeline.json"} <= set(names)
    learner = {event["name"] for event in events(run / "profile" / "base-step4-learner.json.gz")}
    assert {"learner.pack", "learner.forward", "learner.backward", "learner.update", "aten::mm"} <= learner
    engine = [event["name"] for event in events(run / "profile" / "reasoning_rl-step4-engine.json.gz")]
    assert engine.count("engine.step") == 8
    assert any(name.startswith("aten::") for name in engine)
    phases = {event["name"] for event in events(run / "profile" / "reasoning_rl-timeline.json") if event["ph"] == "X"}
    assert {"step 1", "step 5", "generate", "score", "sync", "check", "save"} <= phases


def test_profiling_changes_no_metric_no_sample_and_no_weight(runs: tuple[Path, Path, str]) -> None:
    plain, profiled, _ = runs
    assert json.dumps(rows_of(profiled / "metrics.jsonl")) == json.dumps(rows_of(plain / "metrics.jsonl"))
    assert (profiled / "samples.jsonl").read_bytes() == (plain / "samples.jsonl").read_bytes()
    for stage in ("base", "cold_start", "reasoning_rl"):
        (a,), (b,) = ((run / "stages").glob(f"{stage}-*/checkpoint/model.safetensors") for run in (plain, profiled))
        assert a.read_bytes() == b.read_bytes(), stage


def test_each_step_adds_up_and_each_stage_ends_with_its_table(runs: tuple[Path, Path, str]) -> None:
    plain, _, said = runs
    rows = list(read_rows(plain / "metrics.jsonl"))
    for row in rows:
        timing = row["timing"]
        assert sum(timing.get(f"{name}_s", 0.0) for name in PHASES) == pytest.approx(timing["step_s"], rel=1e-6)
        assert 0 < timing["host_memory_share"] < 1
    learned = [row["timing"] for row in rows if "learn_s" in row["timing"]]
    assert all(timing["forward_s"] > 0 and timing["flops_per_s"] > 0 for timing in learned)
    assert all(100 * 2**20 < timing["learner_peak_bytes"] < 2**36 for timing in learned)
    assert all(row["timing"]["engine_peak_bytes"] > 100 * 2**20 for row in rows if row["stage"] == "reasoning_rl")
    for stage in ("base", "cold_start", "reasoning_rl"):
        assert f"{stage}: {sum(row['stage'] == stage for row in rows)} steps in " in said
    assert "\x1b" not in said
    report = (plain / "report.md").read_text()
    assert "figures/time-split.png" in report
    assert (plain / "figures" / "time-split.png").stat().st_size > 5000
