"""What is left when promote or rollback dies, or is given something broken: production is whole, and says which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machine import file_system
from benchmarks.serving_fault_bench import FaultBench
from benchmarks.serving_faults import kill_at_every_point, kill_at_random, table
from benchmarks.serving_other_faults import input_faults, server_faults, small_disk, two_at_once
from data.records import UserError
from serving.registry import Registry


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> FaultBench:
    """One registry for all: what a test does to it has to leave it whole."""
    return FaultBench(tmp_path_factory.mktemp("bench"), weight_bytes=1 << 20)


@pytest.mark.parametrize("operation", ["promote", "rollback"])
def test_a_kill_before_any_change_of_the_disk_leaves_production_whole(bench: FaultBench, operation: str) -> None:
    tally = kill_at_every_point(bench, operation)
    assert tally.violations == []
    if operation == "rollback":  # flush, link | remove the other name, flush
        assert (tally.kills, tally.before, tally.after) == (4, 2, 2)
    else:  # copy, flush and rename the folder, name it, write the card; then as above
        assert tally.kills > 15
        assert (tally.before, tally.after) == (tally.kills - 2, 2)


@pytest.mark.parametrize("operation", ["promote", "rollback"])
def test_kills_at_random_moments_leave_production_whole(bench: FaultBench, operation: str) -> None:
    tally = kill_at_random(bench, operation, kills=5, seed=0)
    assert tally.violations == []
    assert tally.kills == tally.before + tally.after == 5


def test_the_table_adds_up_the_rows_of_several_recordings() -> None:
    rows = [
        {"killed": "promote", "file_system": "ext4", "kills": 3, "before": 2, "after": 1, "violations": []},
        {"fault": "a flipped byte", "file_system": "ext4", "exit_code": 1, "violations": []},
        {"killed": "promote", "file_system": "ext4", "kills": 4, "before": 4, "after": 0, "violations": ["x"]},
        {
            "killed": "promote",
            "file_system": "tmpfs (in memory)",
            "kills": 5,
            "before": 5,
            "after": 0,
            "violations": [],
        },
        {"killed": "promote", "kills": 1, "before": 1, "after": 0, "violations": []},
    ]
    lines = table(rows).splitlines()
    assert lines[2:5] == [
        "| promote | ext4 | 7 | 6 | 1 | 1 |",
        "| promote | tmpfs (in memory) | 5 | 5 | 0 | 0 |",
        "| promote | not recorded | 1 | 1 | 0 | 0 |",
    ]
    assert lines[-1] == "| a flipped byte | ext4 | 1 | whole, as before |"


def test_a_checkpoint_that_is_damaged_or_fails_a_gate_is_refused_and_leaves_production(bench: FaultBench) -> None:
    found = input_faults(bench)
    assert found == {
        "a truncated weight file": (1, []),
        "a flipped byte": (1, []),
        "a template that is not that of training": (1, []),
    }


def test_a_server_that_does_not_come_up_with_the_new_version_sends_production_back(bench: FaultBench) -> None:
    assert server_faults(bench) == {
        "a server that cannot load it": (1, []),
        "a server that dies of it": (1, []),
        "a server that does not answer": (1, []),
    }


def test_production_that_moved_or_changed_is_noticed(bench: FaultBench) -> None:
    before = bench.standing()
    assert (bench.untouched_since(before), bench.moved_since(before, None)) == ([], (False, []))
    assert bench.finish(bench.promote(bench.checkpoint())) == 0
    target = bench.now()
    assert bench.moved_since(before, target) == (True, [])
    assert "not at one of" in bench.untouched_since(before)[0]
    assert bench.finish(bench.rollback()) == 0  # the version of before, by two moves
    (fault,) = bench.untouched_since(before)
    assert f"production was at {before} and is at" in fault
    assert bench.untouched_since(before, num_moves=2) == []
    assert "production moved 2 times" in bench.moved_since(before, before.version)[1]
    weights = Registry(bench.place).resolve("production").folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + b"x")
    assert "model.safetensors was altered" in bench.untouched_since(before, num_moves=2)[0]
    weights.write_bytes(data)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(bench: FaultBench) -> None:
    found = two_at_once(bench, rounds=3)
    assert found["violations"] == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk") as disk:
            yield disk
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_a_full_disk_is_said_in_one_line_and_leaves_production(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, is_seen_before: bool
) -> None:
    bench = FaultBench(tmp_path / "bench", weight_bytes=1 << 20, place=disk / "models")
    before = bench.standing()
    room = os.statvfs(disk)
    assert file_system(bench.place) == "tmpfs (in memory)"
    (disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - 300_000))
    if not is_seen_before:
        monkeypatch.setattr("serving.places.require_free_space", lambda path, num_bytes: None)
    with pytest.raises(UserError, match="free some space"):
        Registry(bench.place).add(bench.checkpoint())
    assert bench.untouched_since(before) == []
    assert bench.finish(bench.promote(bench.checkpoint())) == 2
    assert bench.untouched_since(before) == []
    assert bench.finish(bench.rollback()) == 0  # a rollback needs no room to speak of
    (disk / "filler").unlink()
    assert bench.finish(bench.promote(bench.checkpoint())) == 0
    assert not list(bench.place.glob("contents/.*"))
