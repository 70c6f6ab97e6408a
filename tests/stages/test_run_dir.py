"""A run folder as a whole: its stages' places, the joined files, the plan and the status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.files import JsonLines, read_rows
from data.records import UserError
from stages.run_dir import RunDir


def test_stage_folders_carry_the_stage_and_twelve_characters_of_the_key(tmp_path: Path) -> None:
    assert RunDir(tmp_path).stage_dir("cold_start", "0123456789abcdef") == tmp_path / "stages/cold_start-0123456789ab"
    with pytest.raises(ValueError, match="plain"):
        RunDir(tmp_path).stage_dir("../up", "0123")


def train(run: RunDir, stage: str, first_step: int, last_step: int, saves: dict[str, int]) -> None:
    """A stand-in for a stage: two files a step, and after every second step a saved state with the files' lengths."""
    directory = run.stage_dir(stage, f"{stage}-key")
    with JsonLines(directory / "metrics.jsonl") as metrics, JsonLines(directory / "samples.jsonl") as samples:
        if saves:
            metrics.rewind(saves["metrics"])
            samples.rewind(saves["samples"])
        for step in range(first_step, last_step + 1):
            metrics.append({"stage": stage, "step": step, "loss": 1 / step})
            samples.append({"stage": stage, "step": step, "completion": "text\n" * step})
            if step % 2 == 0:
                saves |= {"step": step, "metrics": metrics.sync(), "samples": samples.sync()}


def test_a_resumed_run_leaves_the_same_run_level_bytes_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = RunDir(tmp_path / "whole"), RunDir(tmp_path / "resumed")
    for stage in ("cold_start", "reasoning_rl"):
        train(whole, stage, 1, 6, {})
        saves: dict[str, int] = {}
        train(resumed, stage, 1, 5, saves)
        with open(resumed.stage_dir(stage, f"{stage}-key") / "metrics.jsonl", "ab") as file:
            file.write(b'{"stage": "reas')  # the kill came while step 6 was being written
        assert saves["step"] == 4
        train(resumed, stage, 5, 6, saves)
    for run in (whole, resumed):
        run.assemble([run.stage_dir(stage, f"{stage}-key") for stage in ("cold_start", "reasoning_rl")])
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (whole.path / name).read_bytes() == (resumed.path / name).read_bytes()
    steps = [(row["stage"], row["step"]) for row in read_rows(whole.path / "metrics.jsonl")]
    assert steps == [(stage, step) for stage in ("cold_start", "reasoning_rl") for step in range(1, 7)]


def test_assembling_a_run_in_flight_takes_whole_lines_only_and_stages_without_files_are_fine(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for stage, content in (("a", b'{"step": 1}\n{"st'), ("b", b'{"step": 2}'), ("c", b"")):
        run.stage_dir(stage, "key").mkdir(parents=True)
        (run.stage_dir(stage, "key") / "metrics.jsonl").write_bytes(content)
    run.assemble([run.stage_dir(stage, "key") for stage in ("a", "b", "c", "never")])
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert (tmp_path / "samples.jsonl").read_bytes() == b""


def test_status_tells_done_running_interrupted_and_not_started(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_plan([("cold_start", "k1"), ("reasoning_rl", "k2"), ("thinking_fusion", "k3")])
    run.record_stage("cold_start", "k1", done=True, seconds=12.5)
    run.record_stage("reasoning_rl", "k2", done=False, seconds=3.0)
    with JsonLines(run.stage_dir("reasoning_rl", "k2") / "metrics.jsonl") as metrics:
        metrics.append({"stage": "reasoning_rl", "step": 7})
    status = run.status()
    assert [(s.stage, s.key, s.state, s.step, s.seconds) for s in status] == [
        ("cold_start", "k1", "done", None, 12.5),
        ("reasoning_rl", "k2", "interrupted", 7, 3.0),
        ("thinking_fusion", "k3", "not started", None, None),
    ]
    assert [str(s) for s in status] == ["done", "interrupted at step 7", "not started"]
    with run.lock():
        assert [str(s) for s in run.status()] == ["done", "running at step 7", "not started"]


def test_a_stage_killed_before_its_first_row_is_interrupted_without_a_step(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_plan([("cold_start", "k1")])
    run.stage_dir("cold_start", "k1").mkdir(parents=True)
    assert [str(s) for s in run.status()] == ["interrupted"]


def test_status_of_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.json: no such file; is this a run directory\?"):
        RunDir(tmp_path).status()


def test_the_plan_is_plain_json_in_order(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_plan([("b", "2"), ("a", "1")])
    assert json.loads((tmp_path / "plan.json").read_text()) == [{"stage": "b", "key": "2"}, {"stage": "a", "key": "1"}]
    assert run.plan() == [("b", "2"), ("a", "1")]


# ---------------------------------------------------------------------------------------------- shared stages


def test_runs_that_share_stages_find_each_others_outputs_and_move_together(tmp_path: Path) -> None:
    root, variant = RunDir(tmp_path / "a"), RunDir(tmp_path / "a/variants/x")
    root.record_stage("base", "k" * 64, done=True, seconds=2.0)
    variant.share_stages(root.path)
    variant.share_stages(root.path)  # again is no harm
    assert variant.stage_dir("base", "k" * 64) == root.stage_dir("base", "k" * 64)
    assert (variant.shared_path, root.shared_path) == (root.path, root.path)
    variant.write_plan([("base", "k" * 64), ("cold_start", "m" * 64)])
    assert [status.state for status in variant.status()] == ["done", "not started"]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = RunDir(tmp_path / "b/variants/x")
    assert [status.state for status in moved.status()] == ["done", "not started"]
    assert moved.stage_dir("base", "k" * 64) == tmp_path / f"b/stages/base-{'k' * 12}"


def test_stages_of_a_runs_own_are_not_hidden_by_a_link(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "x")
    run.record_stage("base", "k" * 64, done=True, seconds=2.0)
    with pytest.raises(UserError, match=r"stages: exists and is no link to \.\./a/stages; move it away"):
        run.share_stages(tmp_path / "a")
