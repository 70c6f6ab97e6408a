"""The promises of a run folder, tested with real files, real locks and really killed processes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import UserError
from stages.run_dir import (
    JsonLines,
    RunDir,
    RunLock,
    atomic_write,
    is_locked,
    read_json,
    read_rows,
    require_free_space,
    write_json,
)

REPO = Path(__file__).resolve().parents[2]
HOLD_LOCK = """
import sys, time
from stages.run_dir import RunLock
with RunLock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""
HOLD_LOCK_AND_FORK = """
import os, sys, time
from stages.run_dir import RunLock
with RunLock(sys.argv[1]):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(child, flush=True)
    time.sleep(60)
"""


def start(script: str, run_dir: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen([sys.executable, "-c", script, str(run_dir)], stdout=subprocess.PIPE, text=True, env=env)


def rows_of(path: Path) -> list[dict[str, object]]:
    return list(read_rows(path))


# ---------------------------------------------------------------------------------------------------------------- lock


def test_a_second_process_is_refused_with_the_holders_number_and_kill_9_frees_the_lock(tmp_path: Path) -> None:
    holder = start(HOLD_LOCK, tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=rf"{tmp_path} is in use by process {holder.pid} on \S+; ") as caught:
            RunLock(tmp_path).__enter__()
        assert "\n" not in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
    assert not is_locked(tmp_path)
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_forked_child_that_outlives_a_killed_parent_does_not_keep_the_run_locked(tmp_path: Path) -> None:
    parent = start(HOLD_LOCK_AND_FORK, tmp_path)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert is_locked(tmp_path)
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # still alive
        assert not is_locked(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_ends_does_not_free_the_parents_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
        child.start()
        child.join()
        assert is_locked(tmp_path)


def test_the_lock_holds_within_one_process_too_and_can_be_taken_again_after_release(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        RunLock(tmp_path).__enter__()
    assert not is_locked(tmp_path)
    with RunLock(tmp_path):
        assert is_locked(tmp_path)


def test_a_stale_holder_number_in_the_lock_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 123456789 on a-host-with-a-very-long-name\n")
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        assert "long-name" not in (tmp_path / ".lock").read_text()


def test_is_locked_is_false_where_no_run_ever_was(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------------ atomic writing


def test_atomic_write_replaces_text_bytes_and_chunks_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic_write(path, "héllo")
    assert path.read_bytes() == "héllo".encode()
    atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    atomic_write(path, iter([b"ab", b"", b"c"]))
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failure_while_writing_keeps_the_old_file_and_removes_the_partial_one(tmp_path: Path) -> None:
    def chunks():
        yield b"new"
        raise RuntimeError("source failed")

    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="source failed"):
        atomic_write(path, chunks())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_writing_is_one_line_that_names_the_file(tmp_path: Path, monkeypatch, code: int) -> None:
    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"{tmp_path}/file: the disk is full .*bytes free") as caught:
        atomic_write(tmp_path / "file", "new")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"


def test_an_error_other_than_a_full_disk_is_not_called_one(tmp_path: Path, monkeypatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="I/O error") as caught:
        atomic_write(tmp_path / "file", "new")
    assert not isinstance(caught.value, UserError)


def test_taking_the_lock_removes_a_folder_that_was_being_written(tmp_path: Path) -> None:
    state = tmp_path / "stages" / "base-abc" / "state"
    (state / "step-00000002").mkdir(parents=True)
    half = state / ".step-00000004.partial" / "learner" / ".learner.partial"
    half.mkdir(parents=True)
    (half / "weights.safetensors").write_bytes(b"half")
    with RunLock(tmp_path):
        assert [path.name for path in state.iterdir()] == ["step-00000002"]


def test_taking_the_lock_removes_partial_files_of_a_killed_write_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    left = tmp_path / "stages" / f".manifest.json.{'0' * 32}.partial"
    left.write_text("half")
    kept = tmp_path / "stages" / "manifest.json"
    kept.write_text("whole")
    with RunLock(tmp_path):
        assert not left.exists()
        assert kept.read_text() == "whole"


def test_required_space_beyond_the_disk_names_path_free_and_needed(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(UserError, match=r"model\.safetensors: [\d,]+ bytes free, 1,000,000,000,000,000,000 needed"):
        require_free_space(tmp_path / "model.safetensors", 10**18)


def test_json_keeps_key_order_and_non_finite_numbers_stay_visible(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": float("nan"), "a": [float("inf"), {"c": -float("inf")}], "ü": (1, 2.5)})
    assert path.read_text() == (
        '{\n  "b": "NaN",\n  "a": [\n    "Infinity",\n    {\n      "c": "-Infinity"\n    }\n  ],\n'
        '  "ü": [\n    1,\n    2.5\n  ]\n}\n'
    )
    assert read_json(path)["ü"] == [1, 2.5]


def test_a_broken_or_missing_json_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(UserError, match=r"a\.json:2: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


# ---------------------------------------------------------------------------------------------------------- JSON lines

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    SCALARS | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_rows_come_back_as_they_were_one_line_each(rows: list[dict], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with JsonLines(path) as lines:
        for row in rows:
            lines.append(row)
    assert path.read_bytes().count(b"\n") == len(rows)
    assert rows_of(path) == rows


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_after_a_cut_at_any_byte_reader_and_writer_keep_the_same_whole_rows(
    rows: list[dict], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    with JsonLines(path) as lines:
        for row in rows:
            lines.append(row)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    # A row counts when all of it but perhaps its newline is there.
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    kept = sum(end <= cut for end in ends)
    assert rows_of(path) == rows[:kept]
    with JsonLines(path) as lines:
        lines.append({"after": 1})
    assert rows_of(path) == [*rows[:kept], {"after": 1}]


def test_a_half_last_line_longer_than_the_read_chunk_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"text": "' + b"x" * 200_000)
    JsonLines(path).close()
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_broken_middle_line_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for broken in (b'{"a": 1', b"[1]", b"", b'{"a": "\xff"}'):
        path.write_bytes(b'{"a": 0}\n' + broken + b'\n{"a": 2}\n')
        with pytest.raises(UserError, match=r"rows\.jsonl:2: not a JSON object"):
            rows_of(path)


def test_a_broken_last_line_with_a_newline_is_an_error_since_no_kill_leaves_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 0}\n{"a": \n')
    with pytest.raises(UserError, match=r"rows\.jsonl:2"):
        rows_of(path)


def test_reading_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: no such file"):
        rows_of(tmp_path / "metrics.jsonl")


def test_rewinding_to_a_synced_length_drops_exactly_the_later_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1})
        saved = lines.sync()
        lines.append({"step": 2, "text": "lost with the crash"})
        assert saved == len('{"step": 1}\n')
    with JsonLines(path) as lines:
        lines.rewind(saved)
        lines.append({"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    with JsonLines(path) as lines:
        lines.rewind(0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("num_bytes", [-1, 5, 13])
def test_rewinding_into_a_line_or_past_the_end_is_refused(tmp_path: Path, num_bytes: int) -> None:
    with JsonLines(tmp_path / "rows.jsonl") as lines:
        lines.append({"step": 1})
        with pytest.raises(UserError, match=rf"rows\.jsonl: no line ends at byte {num_bytes}.*delete its stage folder"):
            lines.rewind(num_bytes)
    assert rows_of(tmp_path / "rows.jsonl") == [{"step": 1}]


def test_a_disk_that_fills_up_in_a_line_leaves_only_whole_lines(tmp_path: Path, monkeypatch) -> None:
    real_write = os.write
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1})
        monkeypatch.setattr(os, "write", lambda fd, line: real_write(fd, line[:4]))
        with pytest.raises(UserError, match=r"rows\.jsonl: the disk is full"):
            lines.append({"step": 2})
        monkeypatch.undo()
        lines.append({"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_text_without_a_utf8_form_is_escaped_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"completion": "lone \ud800 surrogate"})
        lines.append({"completion": "数学 \u2028"})
    assert rows_of(path) == [{"completion": "lone \ud800 surrogate"}, {"completion": "数学 \u2028"}]
    assert "数学".encode() in path.read_bytes()


def test_a_non_finite_metric_is_written_as_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:
        lines.append({"step": 1, "grad_norm": float("inf")})
    assert path.read_bytes() == b'{"step": 1, "grad_norm": "Infinity"}\n'


def test_lines_appended_from_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonLines(path) as lines:

        def write(worker: int) -> None:
            for index in range(50):
                lines.append({"worker": worker, "index": index, "text": "x" * 500})

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lines.sync() == path.stat().st_size
    rows = rows_of(path)
    assert [sum(row["worker"] == worker for row in rows) for worker in range(4)] == [50] * 4


# ------------------------------------------------------------------------------------------------------- run directory


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
