"""What is left when promote or rollback dies, or is given something broken: production is whole, and says which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving_faults import (
    FaultBench,
    full_disk,
    kill_at_every_point,
    kill_promotions_and_rollbacks,
    other_faults,
)
from data.records import UserError
from serving.registry import Registry


@pytest.fixture
def bench(tmp_path: Path) -> FaultBench:
    return FaultBench(tmp_path, weight_bytes=1 << 20)


@pytest.mark.parametrize("operation", ["promote", "rollback"])
def test_a_kill_before_any_change_of_the_disk_leaves_production_whole(bench: FaultBench, operation: str) -> None:
    tally = kill_at_every_point(bench, operation)
    assert tally.violations == []
    if operation == "rollback":  # flush, link | remove the other name, flush
        assert (tally.kills, tally.before, tally.after) == (4, 2, 2)
    else:  # copy, flush and rename the folder, name it, write the card; then as above
        assert tally.kills > 15
        assert (tally.before, tally.after) == (tally.kills - 2, 2)


def test_kills_at_random_moments_leave_production_whole(bench: FaultBench) -> None:
    tallies = kill_promotions_and_rollbacks(bench, kills=6, seed=0)
    assert [tally.violations for tally in tallies.values()] == [[], []]
    assert all(tally.kills == tally.before + tally.after == 6 for tally in tallies.values())


def test_a_checkpoint_that_is_damaged_or_fails_a_gate_is_refused_and_leaves_production(bench: FaultBench) -> None:
    found = other_faults(bench)
    assert found == {
        "a truncated weight file": (1, []),
        "a flipped byte": (1, []),
        "a template that is not that of training": (1, []),
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with full_disk(tmp_path / "disk", free_bytes=5 << 20) as disk:
            yield disk
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_a_full_disk_is_said_in_one_line_and_leaves_production(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, is_seen_before: bool
) -> None:
    bench = FaultBench(tmp_path / "bench", weight_bytes=1 << 20, place=small_disk / "models")
    before = bench.now()
    disk = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - 300_000))
    if not is_seen_before:
        monkeypatch.setattr("serving.places.require_free_space", lambda path, num_bytes: None)
    with pytest.raises(UserError, match="free some space"):
        Registry(bench.place).add(bench.checkpoint())
    assert bench.faults(before) == []
    assert bench.finish(bench.rollback()) == 0  # a rollback needs no room to speak of
    (small_disk / "filler").unlink()
    assert bench.finish(bench.promote(bench.checkpoint())) == 0
    assert not list(bench.place.glob("contents/.*"))
