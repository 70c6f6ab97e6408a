"""Moving an alias with its servers: what is refused, what is undone, and what the history then says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data.records import UserError
from learner.checkpoint import CheckpointError
from serving.gates import Verdict
from serving.live import SwapResult
from serving.promote import Move, promote, rollback
from serving.registry import Registry, RegistryConflict, Version
from tests.serving.checkpoints import WEIGHTS, small_checkpoint

PASSED = [Verdict("files", "passed", "", ""), Verdict("load", "off", "", "")]
FAILED = [*PASSED, Verdict("sums, thinking", "failed", "0.2", "0.5 or more")]


@dataclass
class FakeServer:
    """Follows the registry as it is asked, except to the versions that it cannot load."""

    registry: Registry
    cannot_load: tuple[str, ...] = ()
    serves: str = ""
    waited_for: list[int] = field(default_factory=list)

    def wait_for(self, generation: int, timeout_s: float) -> SwapResult:
        self.waited_for.append(generation)
        change = self.registry.alias("production")
        assert change is not None
        assert change.generation >= generation
        if change.version in self.cannot_load:
            return SwapResult(self.serves, 0.0, f"{change.version} did not load")
        self.serves = change.version
        return SwapResult(self.serves, 0.2, None)


class Bench:
    """A registry with three versions, of which the first two went to production, and servers that follow it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "reg")
        self.versions = [self.registry.add(small_checkpoint(folder / f"made-{n}", fill=n)) for n in range(3)]
        self.servers: list[FakeServer] = []
        for version in self.versions[:2]:
            assert self.promote(version).done

    def promote(self, version: Version, verdicts: Sequence[Verdict] = PASSED, forced: str | None = None) -> Move:
        return promote(
            self.registry, version, "production", verdicts, seen=self.registry.alias("production"),
            forced=forced, servers_of=lambda registry, alias: self.servers, timeout_s=1.0,
        )  # fmt: skip

    def rollback(self, reason: str = "tool calls break") -> Move:
        return rollback(
            self.registry, "production", reason=reason, servers_of=lambda registry, alias: self.servers, timeout_s=1.0
        )

    @property
    def now(self) -> str:
        change = self.registry.alias("production")
        assert change is not None
        return change.version

    def server(self, *cannot_load: Version) -> FakeServer:
        found = FakeServer(self.registry, tuple(version.name for version in cannot_load), serves=self.now)
        self.servers.append(found)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_promotion_moves_the_alias_and_says_what_passed(bench: Bench) -> None:
    server = bench.server()
    move = bench.promote(bench.versions[2])
    assert move.done
    assert move.change is not None
    assert (move.change.version, move.change.before) == (bench.versions[2].name, bench.versions[1].name)
    assert (move.change.reason, move.change.forced) == ("1 of 1 gates passed", None)
    assert server.serves == bench.now == bench.versions[2].name
    assert move.swaps == (SwapResult(bench.now, 0.2, None),)


def test_a_failed_gate_moves_nothing_and_asks_no_server(bench: Bench) -> None:
    server, history = bench.server(), bench.registry.history("production")
    move = bench.promote(bench.versions[2], FAILED)
    assert not move.done
    assert move.reason == "1 of 2 gates failed: sums, thinking"
    assert bench.registry.history("production") == history
    assert server.waited_for == []


def test_a_forced_promotion_is_recorded_with_its_reason(bench: Bench) -> None:
    move = bench.promote(bench.versions[2], FAILED, forced="demo on Friday")
    assert move.done
    (*_, change) = bench.registry.history("production")
    assert (change.version, change.forced, change.reason) == (
        bench.versions[2].name, "demo on Friday", "1 of 2 gates passed",
    )  # fmt: skip


def test_a_reason_to_force_is_not_recorded_where_nothing_had_to_be_forced(bench: Bench) -> None:
    move = bench.promote(bench.versions[2], PASSED, forced="to be sure")
    assert move.change is not None
    assert move.change.forced is None


def test_a_damaged_version_cannot_be_forced(bench: Bench) -> None:
    (bench.versions[2].folder / WEIGHTS).write_bytes(b"short")
    with pytest.raises(CheckpointError, match="is truncated"):
        bench.promote(bench.versions[2], FAILED, forced="please")
    assert bench.now == bench.versions[1].name


def test_what_is_there_already_is_not_moved_again(bench: Bench) -> None:
    move = bench.promote(bench.versions[1])
    assert (move.done, move.change) == (True, None)
    assert len(bench.registry.history("production")) == 2


def test_gates_that_compared_with_another_version_than_the_present_one_are_void(bench: Bench) -> None:
    seen = bench.registry.alias("production")
    bench.promote(bench.versions[2])
    for version in (bench.versions[0], bench.versions[1]):
        with pytest.raises(RegistryConflict, match="somebody else moved it meanwhile"):
            promote(
                bench.registry, version, "production", PASSED, seen=seen, forced=None,
                servers_of=lambda registry, alias: [], timeout_s=1.0,
            )  # fmt: skip
    assert bench.now == bench.versions[2].name


def test_a_server_that_cannot_load_it_takes_the_alias_back(bench: Bench) -> None:
    good, bad = bench.server(), bench.server(bench.versions[2])
    move = bench.promote(bench.versions[2])
    assert not move.done
    assert move.undone is not None
    assert bench.now == bench.versions[1].name == move.undone.version
    assert move.reason == f"{bench.versions[2].name} did not load; production is at {bench.now} as before"
    assert good.serves == bad.serves == bench.versions[1].name
    assert good.waited_for == [3, 4]
    assert bench.rollback().change.version == bench.versions[0].name  # type: ignore[union-attr]


def test_a_failure_to_load_the_very_first_version_says_that_there_is_none_to_return_to(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "reg")
    version = registry.add(small_checkpoint(tmp_path / "made"))
    server = FakeServer(registry, (version.name,))
    move = promote(
        registry, version, "production", PASSED, seen=None, forced=None,
        servers_of=lambda registry, alias: [server], timeout_s=1.0,
    )  # fmt: skip
    assert not move.done
    assert move.reason is not None
    assert "no version before" in move.reason


def test_a_rollback_returns_to_the_version_before_and_is_kept_in_the_history(bench: Bench) -> None:
    server = bench.server()
    move = bench.rollback()
    assert move.done
    assert server.serves == bench.now == bench.versions[0].name
    (*_, change) = bench.registry.history("production")
    assert (change.kind, change.reason, change.before) == ("rollback", "tool calls break", bench.versions[1].name)
    with pytest.raises(UserError, match="nothing came before it; promote a version instead"):
        bench.rollback()


def test_a_rollback_that_a_server_cannot_follow_is_undone_and_can_be_tried_again(bench: Bench) -> None:
    server = bench.server(bench.versions[0])
    move = bench.rollback()
    assert not move.done
    assert bench.now == server.serves == bench.versions[1].name
    server.cannot_load = ()
    assert bench.rollback().done
    assert bench.now == server.serves == bench.versions[0].name


def test_a_rollback_to_a_damaged_version_is_refused_and_leaves_the_alias(bench: Bench) -> None:
    (bench.versions[0].folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        bench.rollback()
    assert bench.now == bench.versions[1].name


def test_an_alias_that_points_nowhere_has_nothing_to_return_to(bench: Bench) -> None:
    with pytest.raises(UserError, match="alias staging: points nowhere"):
        rollback(bench.registry, "staging", reason="r", servers_of=lambda registry, alias: [], timeout_s=1.0)


def test_a_list_of_servers_that_cannot_be_read_stops_before_anything_moved(bench: Bench) -> None:
    def unreadable(registry: Registry, alias: str) -> Sequence[FakeServer]:
        raise UserError("servers/x.json: not JSON")

    moves: list[Callable[[], Move]] = [
        lambda: rollback(bench.registry, "production", reason="r", servers_of=unreadable, timeout_s=1.0),
    ]
    with pytest.raises(UserError, match="not JSON"):
        moves[0]()
    assert bench.now == bench.versions[1].name
