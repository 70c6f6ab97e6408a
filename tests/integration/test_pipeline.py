"""The whole pipeline with the real Ray, engine and learner on a model of two layers: what a run leaves behind, what a
second run does again, and that a run killed in every stage equals one that was left alone.

The recipe is `micro.yaml`. One uninterrupted run and one that is killed five times serve the module.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs.load import load_config
from data.chat import chat_template
from data.licence import declared_licence
from stages.pipeline import plan_stages
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir
from tests.integration.micro_run import RECIPE, Finished, Run, start
from tests.integration.run_process import Command

pytestmark = [pytest.mark.engine, pytest.mark.integration]

MAX_GAP = 1e-3
NO_EVALUATION = ("evaluation.stages=[]", "evaluation.budget_benchmarks=[]")
SHORT_BASE = ("--until", "base", *NO_EVALUATION, "base.train.max_steps=40", "base.train.save_every=15")

KILL_AFTER = {
    "base": (30, 110),
    "cold_start": (3, 7),
    "reasoning_rl": (3, 4),
    "thinking_fusion": (3, 9),
    "general_rl": (3, 4),
}
"""In each stage the first and last row of its metrics after which the kill may fall: a state is saved by then, and
there is more to do."""
KILL_DELAY_S = 0.01  # at the most, after the row was seen: steps take longer than that


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return Finished(Run(folder), start(folder).finish())


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same run, killed once in every stage at a random step, and started again with the same command."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    rng = random.Random(20261122)
    killed = 0
    for stage in STAGES:
        command = start(folder)
        command.wait_for_rows(folder, f"stages/{stage}-*/metrics.jsonl", rng.randint(*KILL_AFTER[stage]))
        time.sleep(rng.uniform(0, KILL_DELAY_S))
        killed += command.kill()
        states = {status.stage: status.state for status in RunDir(folder).status()}
        assert states[stage] == "interrupted", f"{stage} was over before the kill: {states}"
        assert command.processes() == []
    return Finished(Run(folder), start(folder).finish(), killed)


# ---------------------------------------------------------------------------------------------- what a run leaves


def test_a_run_leaves_its_configuration_metrics_samples_summary_and_report(whole: Finished) -> None:
    run = whole.run
    config = load_config(RunConfig, [run.folder / "config.yaml"], [])
    assert config == load_config(RunConfig, [RECIPE], [f"run_dir={run.folder}"])
    assert [(stage, key[:12]) for stage, key in RunDir(run.folder).plan()] == [
        (planned.name, planned.key[:12]) for planned in plan_stages(config, RunDir(run.folder), STAGES)
    ]
    metrics = run.rows("metrics.jsonl")
    assert list(dict.fromkeys(row["stage"] for row in metrics)) == list(STAGES)
    for stage in STAGES:
        assert [row["step"] for row in run.steps(stage)] == list(range(1, len(run.steps(stage)) + 1))
        assert all(row["timing"]["tokens_per_s"] > 0 for row in run.steps(stage))
    assert len(run.steps("reasoning_rl")) == config.reasoning_rl.rl.num_steps
    assert not list(run.folder.rglob("*.partial"))


def test_samples_hold_rollouts_with_their_scores(whole: Finished) -> None:
    samples = whole.run.rows("samples.jsonl")
    assert {row["stage"] for row in samples} == {"reasoning_rl", "general_rl"}
    for row in samples:
        assert row["prompt"][-1]["role"] == "user"
        assert row["completion"]
        assert row["reward"] in (0.0, 1.0)
        assert (row["outcome"] == "correct") == (row["reward"] == 1.0)
        (part,) = row["rendered"]
        sampled = [piece for piece, mark in zip(part["pieces"], part["loss_mask"], strict=True) if mark == "1"]
        assert "".join(sampled) == row["completion"]
        assert part["pieces"][0] == "<|im_start|>"
    assert {row["reward"] for row in samples} == {0.0, 1.0}
    assert len(samples) == 2 * (5 + 5)  # samples_per_step of each step


def test_the_summary_has_mean_interval_and_n_of_each_stage_mode_and_benchmark(whole: Finished) -> None:
    summary = json.loads((whole.run.folder / "summary.json").read_text())
    assert whole.command.document == summary
    expected = {("thinking", "arithmetic"), ("non_thinking", "arithmetic"), ("mixed", "think_follow")}
    for stage in STAGES:
        assert {(mode, name) for mode, cells in summary[stage].items() for name in cells} == expected
        for cells in summary[stage].values():
            for cell in cells.values():
                low, high = cell["interval"]
                assert 0 <= low <= cell["mean"] <= high <= 1
                assert (cell["n"], cell["errors"]) == (16, 0)
    curve = summary["budget_curve"]
    assert [point["budget_share"] for point in curve] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert curve[0]["budget_tokens"] == 0
    assert [point["n"] for point in curve] == [16] * 5
    assert "general_rl - reasoning_rl: arithmetic, thinking" in summary["comparisons"]


def test_the_report_names_every_stage_and_benchmark(whole: Finished) -> None:
    report = (whole.run.folder / "report.md").read_text(encoding="utf-8")
    for name in (*STAGES, "arithmetic", "think_follow"):
        assert name in report
    page = (whole.run.folder / "report.html").read_text(encoding="utf-8")
    for stage in STAGES:
        assert whole.run.manifest(stage).key[:12] in report
        assert whole.run.manifest(stage).key[:12] in page


def test_every_stage_leaves_its_metrics_as_event_files(whole: Finished) -> None:
    folders = {folder.name: folder for folder in (whole.run.folder / "tensorboard").iterdir()}
    assert set(folders) == {f"{stage}-{whole.run.manifest(stage).key[:12]}" for stage in STAGES}
    assert all(any(folder.glob("events.out.tfevents.*")) for folder in folders.values())


def test_checkpoints_form_a_chain_and_share_one_contract(whole: Finished) -> None:
    manifests = [whole.run.manifest(stage) for stage in STAGES]
    assert manifests[0].parent is None
    for parent, child in pairwise(manifests):
        assert child.parent is not None
        assert child.parent.key == parent.key
        assert child.parent.path == str(whole.run.checkpoint(parent.stage))
    assert [manifest.stage for manifest in manifests] == list(STAGES)
    assert {declared_licence(whole.run.checkpoint(stage)) for stage in STAGES} == {"apache-2.0"}
    assert len({manifest.key for manifest in manifests}) == len(STAGES)
    assert all(manifest.contract == manifests[0].contract for manifest in manifests)
    template = hashlib.sha256(chat_template().encode()).hexdigest()
    assert manifests[0].contract["chat_template_sha256"] == template
    assert [manifest.rewards for manifest in manifests] == [
        ("arithmetic", "mode_flags"), ("arithmetic",), ("arithmetic", "mode_flags"), ("arithmetic",),
        ("arithmetic", "mode_flags"),
    ]  # fmt: skip
    for manifest in manifests:
        assert manifest.cost["tokens"] > 0
        assert manifest.cost["seconds"] > 0
        assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(manifest.files)


def test_every_stage_changes_the_weights(whole: Finished) -> None:
    weights = [load_file(whole.run.checkpoint(stage) / "model.safetensors") for stage in STAGES]
    weights.insert(0, load_file(whole.run.stage("base") / "initial" / "model.safetensors"))
    for before, after in pairwise(weights):
        assert before.keys() == after.keys()
        assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_a_checkpoint_is_an_ordinary_hugging_face_folder(whole: Finished) -> None:
    folder = whole.run.checkpoint("general_rl")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, stored["model.embed_tokens.weight"])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Compute 1 + 2 + 3 + 4."}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        completion = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(completion).startswith("<think>\n")  # what all stages taught it to begin with


# ---------------------------------------------------------------------------------------------- the objective in a run


@pytest.mark.parametrize("stage", ["reasoning_rl", "general_rl"])
def test_engine_and_learner_agree_in_every_step(whole: Finished, stage: str) -> None:
    rows = whole.run.steps(stage)
    assert all(0 <= row["sync_gap_max"] < MAX_GAP for row in rows)
    learned = [row for row in rows if not row["empty_steps"]]
    assert learned, "every group was uniform in every step: nothing was tested"
    # The first minibatch of a step is on-policy: what differs is rounding, not staleness.
    assert all(row["engine_gap_max"] < MAX_GAP for row in learned)
    assert all(row["num_loss_tokens"] == row["batch/loss_tokens"] for row in learned)


def test_with_one_minibatch_a_step_every_ratio_is_one(whole: Finished) -> None:
    for row in whole.run.steps("general_rl"):
        if not row["empty_steps"]:
            assert abs(row["ratio_max"] - 1) < MAX_GAP
            assert row["clip_fraction_low"] == row["clip_fraction_high"] == 0


def test_the_second_minibatch_is_off_policy_and_its_ratios_say_so(whole: Finished) -> None:
    two = [row for row in whole.run.steps("reasoning_rl") if row["num_microbatches"] >= 2]
    assert max(row["ratio_deviation_max"] for row in two) > 10 * MAX_GAP


def test_what_was_dropped_is_counted(whole: Finished) -> None:
    for row in [*whole.run.steps("reasoning_rl"), *whole.run.steps("general_rl")]:
        dropped = sum(value for name, value in row.items() if name.startswith("batch/dropped_rows/"))
        assert row["batch/completions"] == 6 * 4 == row["batch/samples"] + dropped
        assert math.isfinite(row["reward"])
    counts = {path.stem: json.loads(path.read_text()) for path in (whole.run.folder / "stages").rglob("data/*.json")}
    assert counts["corpus"]["documents"] + counts["corpus"]["dropped_held_out"] == 400
    facts = json.loads((whole.run.stage("reasoning_rl") / "data" / "query_filters.json").read_text())
    assert facts["drawn"] == 48 == facts["kept"] + sum(facts["dropped"].values())


# ---------------------------------------------------------------------------------------------- and nothing else


def test_no_process_and_no_port_is_left(whole: Finished, interrupted: Finished) -> None:
    for finished in (whole, interrupted):
        assert any("raylet" in name for name in finished.command.names)  # so the look at processes does see them
        assert finished.command.ports
        assert finished.command.processes() == []
        assert finished.command.ports_left() == set()
    assert interrupted.killed > 5 * 4  # each time the command, Ray's daemons and a worker at least


def test_a_second_run_reuses_every_stage_and_starts_nothing(whole: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole.run.folder / "stages").rglob("*") if path.is_file()}
    again = start(whole.run.folder).finish()
    assert again.document == whole.command.document
    assert again.stderr.count("reused") == 2 * len(STAGES)
    assert not any("ray" in name.split("/")[-1] for name in again.names)
    assert again.ports == set()
    assert again.seconds < 30
    assert before == {
        path: path.stat().st_mtime_ns for path in (whole.run.folder / "stages").rglob("*") if path.is_file()
    }


def test_status_shows_every_stage_done(whole: Finished) -> None:
    rows = Command("status", whole.run.folder, "--json", logs=whole.run.folder.parent / "logs").finish().document
    assert [(row["stage"], row["state"]) for row in rows] == [(stage, "done") for stage in STAGES]
    assert [row["step"] for row in rows] == [len(whole.run.steps(stage)) for stage in STAGES]
    assert [row["key"] for row in rows] == [whole.run.manifest(stage).key for stage in STAGES]


# ---------------------------------------------------------------------------------------------- exact resume


def without_timing(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "timing"} for row in run.rows("metrics.jsonl")]


def test_a_run_killed_in_every_stage_equals_an_uninterrupted_one(whole: Finished, interrupted: Finished) -> None:
    for stage in STAGES:
        assert interrupted.run.weights(stage) == whole.run.weights(stage), stage
        assert interrupted.run.manifest(stage).files == whole.run.manifest(stage).files
        for path in sorted((whole.run.stage(stage) / "data").iterdir()):
            other = interrupted.run.stage(stage) / "data" / path.name
            assert other.read_bytes() == path.read_bytes(), other
    # Text, not floats: NaN and the last bit count too.
    assert json.dumps(without_timing(interrupted.run)) == json.dumps(without_timing(whole.run))
    samples = [(finished.run.folder / "samples.jsonl").read_bytes() for finished in (interrupted, whole)]
    assert samples[0] == samples[1]
    assert interrupted.command.document == whole.command.document


def test_the_interrupted_run_did_go_on_from_a_saved_state(interrupted: Finished) -> None:
    logs = "".join(path.read_text() for path in (interrupted.run.folder.parent / "logs").glob("*.stderr"))
    resumed = {stage: int(step) for stage, step in re.findall(r"^(\w+): resumed at step (\d+) \(", logs, re.MULTILINE)}
    assert set(resumed) == set(STAGES)
    for stage, step in resumed.items():
        assert 0 < step < len(interrupted.run.steps(stage))
    assert "restored weights, optimizer, schedule" in logs


# ---------------------------------------------------------------------------------------------- parts of the pipeline


def test_a_stage_alone_from_the_same_checkpoint_gives_the_same_checkpoint(whole: Finished, tmp_path: Path) -> None:
    parent = whole.run.checkpoint("base")
    command = start(tmp_path / "run", "--only", "cold_start", "--start", parent, *NO_EVALUATION).finish()
    run = Run(tmp_path / "run")
    assert run.manifest("cold_start").key == whole.run.manifest("cold_start").key
    assert run.manifest("cold_start").parent.path == str(parent)  # type: ignore[union-attr]
    assert run.weights("cold_start") == whole.run.weights("cold_start")
    assert [path.name.split("-")[0] for path in (run.folder / "stages").iterdir()] == ["cold_start"]
    assert command.document == {}


@dataclass(frozen=True)
class Stopped:
    """A run of the base alone that SIGTERM stopped, its state then, and the command that finished it."""

    run: Run
    command: Command
    states: list[str]
    left: list[Any]
    finished: Command


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    run = Run(tmp_path_factory.mktemp("stopped") / "run")
    command = start(run.folder, *SHORT_BASE)
    command.wait_for_rows(run.folder, "stages/base-*/metrics.jsonl", 5)
    command.terminate()
    command.finish(code=130)
    left = command.processes()
    states = [status.state for status in RunDir(run.folder).status()]
    return Stopped(run, command, states, left, start(run.folder, *SHORT_BASE).finish())


def test_sigterm_stops_a_run_cleanly_and_the_same_command_finishes_it(stopped: Stopped) -> None:
    assert stopped.command.stderr.splitlines()[-1] == "stopped; the same command resumes"
    assert "Traceback" not in stopped.command.stderr
    assert stopped.left == []
    assert stopped.states == ["interrupted"]
    (status,) = RunDir(stopped.run.folder).status()
    assert status.state == "done"


def test_until_stops_and_from_runs_again_and_a_spoilt_checkpoint_is_made_again(stopped: Stopped) -> None:
    run = stopped.run
    assert [stage for stage, _ in RunDir(run.folder).plan()] == ["base"]
    first, metrics = run.weights("base"), without_timing(run)

    spoilt = bytearray(first)
    spoilt[-1] ^= 1
    (run.checkpoint("base") / "model.safetensors").write_bytes(spoilt)
    again = start(run.folder, *SHORT_BASE).finish()
    assert "base: refused the finished checkpoint" in again.stderr
    assert "model.safetensors was altered" in again.stderr
    assert "base: resumed at step 30" in again.stderr
    assert run.weights("base") == first
    assert without_timing(run) == metrics

    began = time.time()
    fresh = start(run.folder, *SHORT_BASE, "--from", "base").finish()
    assert "reused" not in fresh.stderr
    assert "resumed" not in fresh.stderr
    assert (run.checkpoint("base") / "model.safetensors").stat().st_mtime > began
    assert run.weights("base") == first  # one that nobody stopped has the bytes of the one that was


def test_an_engine_that_dies_at_start_is_one_line_with_its_own_last_words(whole: Finished, tmp_path: Path) -> None:
    folder = shutil.copytree(whole.run.checkpoint("base"), tmp_path / "model")
    (folder / "manifest.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F99"'))
    command = start(tmp_path / "run", "--only", "cold_start", "--start", folder, *NO_EVALUATION).finish(code=2)
    assert "Traceback" not in command.stderr
    *_, error = command.stderr.splitlines()
    assert command.stderr.count("error: ") == 1
    assert error.startswith("error: rollout: engine 0 died at start; its last lines (")
    assert "F99" in error
    assert command.stdout == ""
    assert command.processes() == []
