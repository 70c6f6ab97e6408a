"""The registry: names that never change what they mean, aliases of which one of two who move them wins."""

from __future__ import annotations

import multiprocessing
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import UserError
from learner.checkpoint import CheckpointError, read_manifest
from serving.registry import (
    AliasChange,
    ChangeKind,
    Registry,
    RegistryConflict,
    Version,
    content_hash,
    version_before,
)
from tests.serving.checkpoints import WEIGHTS, small_checkpoint

MakeRegistry = Callable[[], Registry]


@pytest.fixture(params=["folder", "file url", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeRegistry:
    """Makes a registry object for one and the same place, as another process would."""
    bucket = f"memory://{uuid.uuid4().hex}/models"
    places: dict[str, Any] = {"folder": tmp_path / "reg", "file url": f"file://{tmp_path}/reg", "memory": bucket}
    return lambda: Registry(places[request.param], cache=tmp_path / "cache")


def added(registry: Registry, tmp_path: Path, *, fill: int = 0, stage: str = "general_rl") -> Version:
    return registry.add(small_checkpoint(tmp_path / f"made-{stage}-{fill}", fill=fill, stage=stage))


# ---------------------------------------------------------------------------------------------- versions


def test_a_version_is_a_whole_copy_named_by_number_stage_and_content(make: MakeRegistry, tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path / "made", fill=3, stage="thinking_fusion")
    (source / "optimizer.pt").write_bytes(b"not counted by the manifest")
    version = make().add(source)
    digest = content_hash(read_manifest(source))
    assert version.name == f"v1-thinking_fusion-{digest[:8]}"
    assert version.content_hash == digest
    names = {path.relative_to(version.folder).as_posix() for path in version.folder.rglob("*") if path.is_file()}
    assert names == {WEIGHTS, "config.json", "tokenizer/vocab.json", "manifest.json"}
    assert (version.folder / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    make().verify(version)
    assert make().version(version.name) == version == make().resolve(version.name)


def test_the_same_content_twice_is_one_version_and_other_content_another(make: MakeRegistry, tmp_path: Path) -> None:
    registry = make()
    first, again = added(registry, tmp_path), registry.add(small_checkpoint(tmp_path / "elsewhere"))
    second = added(registry, tmp_path, fill=1)
    assert first == again
    assert [version.name[:3] for version in make().versions()] == ["v1-", "v2-"]
    assert make().versions() == [first, second]


def test_two_checkpoints_with_the_same_weights_and_another_lineage_are_two_versions(
    make: MakeRegistry, tmp_path: Path
) -> None:
    registry = make()
    added(registry, tmp_path)
    registry.add(small_checkpoint(tmp_path / "b", metrics={"reward": 0.6}))
    assert len(registry.versions()) == 2


def test_an_unknown_name_is_refused_with_the_nearest_one(make: MakeRegistry, tmp_path: Path) -> None:
    registry = make()
    with pytest.raises(UserError, match="it is empty, `fourstage promote` fills it"):
        registry.version("v1-general_rl-00000000")
    version = added(registry, tmp_path)
    registry.point("production", version.name, expected_generation=0, reason="first")
    with pytest.raises(UserError, match="did you mean 'production'"):
        registry.resolve("prodction")
    with pytest.raises(UserError, match=f"did you mean '{version.name}'"):
        registry.version(version.name[:-1])
    assert registry.resolve("production") == version


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_checkpoint_is_refused_by_the_name_of_the_file_and_nothing_is_added(
    make: MakeRegistry, tmp_path: Path, damage: str
) -> None:
    source = small_checkpoint(tmp_path / "made")
    spoil(source / WEIGHTS, damage)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} (is|was) {damage}"):
        make().add(source)
    assert make().versions() == []


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_an_alias_never_moves_to_a_damaged_version_and_adding_the_checkpoint_again_mends_it(
    make: MakeRegistry, tmp_path: Path, damage: str
) -> None:
    registry = make()
    version = added(registry, tmp_path)
    spoil(version.folder / WEIGHTS, damage)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} (is|was) {damage}"):
        registry.point("production", version.name, expected_generation=0, reason="first")
    assert registry.alias("production") is None
    assert added(registry, tmp_path) == version
    registry.verify(version)
    assert registry.point("production", version.name, expected_generation=0, reason="first").generation == 1


def test_a_manifest_of_other_content_is_noticed(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "reg")
    version, other = added(registry, tmp_path), added(registry, tmp_path, fill=1)
    (version.folder / "manifest.json").write_bytes((other.folder / "manifest.json").read_bytes())
    with pytest.raises(CheckpointError, match="is that of other content"):
        registry.verify(version)


@pytest.mark.parametrize("damage", ["altered", "missing", "no folder"])
def test_an_old_version_that_is_damaged_keeps_nobody_from_going_on_or_back_to_another(
    tmp_path: Path, damage: str
) -> None:
    registry = Registry(tmp_path / "reg")
    old, first, second = (added(registry, tmp_path, fill=fill) for fill in range(3))
    if damage == "no folder":
        shutil.rmtree(old.folder)
    else:
        spoil(old.folder / "manifest.json", damage)
    registry.point("production", first.name, expected_generation=0, reason="r")
    registry.point("production", second.name, expected_generation=1, reason="r")
    assert registry.resolve("production") == second
    assert registry.point("production", first.name, expected_generation=2, reason="back").generation == 3
    newest = added(registry, tmp_path, fill=3)
    assert registry.names() == [old.name, first.name, second.name, newest.name]
    assert registry.name_of(newest.content_hash) == newest.name
    with pytest.raises(CheckpointError, match=r"manifest\.json|is missing"):
        registry.point("production", old.name, expected_generation=3, reason="r")
    assert added(registry, tmp_path) == old  # the checkpoint, added again, mends it
    assert len(registry.versions()) == 4


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a//b"])
def test_a_manifest_that_names_files_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    from serving.registry import _require_plain_names
    from tests.serving.checkpoints import small_manifest

    manifest = replace(small_manifest(), files={name: None})  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="which is no file of the folder"):
        _require_plain_names(manifest, tmp_path)


def test_what_a_dead_writer_left_behind_is_swept_and_no_version(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "reg")
    left = tmp_path / "reg" / "contents" / f".{'0' * 64}.partial"
    left.mkdir(parents=True)
    (left / WEIGHTS).write_bytes(b"half")
    assert registry.versions() == []
    added(registry, tmp_path)
    assert not left.exists()
    assert len(registry.versions()) == 1


def test_a_stored_folder_that_no_record_names_is_no_version_and_is_named_by_the_next_try(tmp_path: Path) -> None:
    """What a kill between the rename of the folder and the record leaves."""
    registry, source = Registry(tmp_path / "reg"), small_checkpoint(tmp_path / "made")
    manifest = read_manifest(source)
    registry.place.store_folder(content_hash(manifest), source, sorted(manifest.files))
    assert registry.versions() == []
    assert registry.add(source).name.startswith("v1-")


def test_a_file_beside_the_content_leaves_the_version_as_it_was(make: MakeRegistry, tmp_path: Path) -> None:
    registry = make()
    version = added(registry, tmp_path)
    path = registry.write_beside(version, "README.md", "# card")
    assert path.read_text() == "# card"
    make().verify(version)
    with pytest.raises(ValueError, match="belongs to the content"):
        registry.write_beside(version, WEIGHTS, "x")


# ---------------------------------------------------------------------------------------------- aliases


def test_an_alias_moves_by_compare_and_swap_and_keeps_its_history(make: MakeRegistry, tmp_path: Path) -> None:
    registry = make()
    first, second = added(registry, tmp_path), added(registry, tmp_path, fill=1)
    assert registry.alias("production") is None
    one = registry.point("production", first.name, expected_generation=0, reason="gates passed")
    two = registry.point("production", second.name, expected_generation=1, reason="r", forced="demo on Friday")
    assert (one.version, one.before, one.generation, one.forced) == (first.name, None, 1, None)
    assert (two.version, two.before, two.generation, two.forced) == (second.name, first.name, 2, "demo on Friday")
    assert make().alias("production") == two
    assert make().history("production") == [one, two]
    assert make().aliases() == ["production"]


def test_who_saw_an_older_state_is_refused_and_changes_nothing(make: MakeRegistry, tmp_path: Path) -> None:
    registry = make()
    first, second = added(registry, tmp_path), added(registry, tmp_path, fill=1)
    moved = registry.point("production", first.name, expected_generation=0, reason="a")
    with pytest.raises(RegistryConflict, match=f"is at {first.name} .*no longer at generation 0"):
        registry.point("production", second.name, expected_generation=0, reason="b")
    assert make().history("production") == [moved]


def test_of_two_who_write_the_same_generation_at_the_same_moment_the_second_is_refused(
    make: MakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make(), make()
    first, second = added(ours, tmp_path), added(ours, tmp_path, fill=1)
    create = ours.place.create

    def overtaken(name: str, data: bytes) -> bool:
        theirs.point("production", second.name, expected_generation=0, reason="theirs")
        return create(name, data)

    monkeypatch.setattr(ours.place, "create", overtaken)
    with pytest.raises(RegistryConflict, match=f"is at {second.name}"):
        ours.point("production", first.name, expected_generation=0, reason="ours")
    assert [change.reason for change in make().history("production")] == ["theirs"]


def _move(place: str, version: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    try:
        Registry(place).point("production", version, expected_generation=0, reason="r")
        results.put(version)
    except RegistryConflict:
        results.put(None)


def test_of_six_processes_that_move_an_alias_at_once_one_wins(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "reg")
    names = [added(registry, tmp_path, fill=fill).name for fill in range(6)]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    movers = [context.Process(target=_move, args=(str(tmp_path / "reg"), name, barrier, results)) for name in names]
    for mover in movers:
        mover.start()
    outcomes = [results.get(timeout=30) for _ in movers]
    for mover in movers:
        mover.join(30)
    (winner,) = [name for name in outcomes if name is not None]
    (change,) = registry.history("production")
    assert change.version == winner


def _add(place: str, source: str, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(Registry(place).add(Path(source)).name)


def test_processes_that_add_at_once_agree_on_the_names(tmp_path: Path) -> None:
    sources = [small_checkpoint(tmp_path / f"made-{index}", fill=index // 2) for index in range(6)]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    adders = [
        context.Process(target=_add, args=(str(tmp_path / "reg"), str(source), barrier, results)) for source in sources
    ]
    for adder in adders:
        adder.start()
    names = [results.get(timeout=30) for _ in adders]
    for adder in adders:
        adder.join(30)
    versions = Registry(tmp_path / "reg").versions()
    assert sorted(set(names)) == sorted(version.name for version in versions)
    assert len(versions) == 3


@pytest.mark.parametrize("alias", ["Production", "", "a/b", "../up", "v1-general_rl-0123abcd", "x" * 65])
def test_what_is_no_alias_is_refused_by_name(tmp_path: Path, alias: str) -> None:
    with pytest.raises(UserError, match="is no alias"):
        Registry(tmp_path).alias(alias)


def test_an_altered_record_is_named_and_not_believed(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "reg")
    version = added(registry, tmp_path)
    registry.point("production", version.name, expected_generation=0, reason="first")
    path = tmp_path / "reg" / "aliases" / "production" / "00000001.json"
    path.write_text(path.read_text().replace('"first"', '"other"'))
    with pytest.raises(UserError, match=r"00000001\.json: was altered"):
        registry.alias("production")
    path.write_text(path.read_text()[:20])
    with pytest.raises(UserError, match=r"00000001\.json: not JSON"):
        registry.alias("production")


# ---------------------------------------------------------------------------------------------- going back


def changes(*moves: str) -> list[AliasChange]:
    """A history: "a" promotes version a, "<a" rolls back to it."""
    found, before = [], None
    for generation, move in enumerate(moves, start=1):
        kind: ChangeKind = "rollback" if move.startswith("<") else "promote"
        version = move.removeprefix("<")
        found.append(
            AliasChange("production", version, before, "2026-01-01T00:00:00+00:00", "", None, generation, kind)
        )
        before = version
    return found


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], None),
        (["a"], None),
        (["a", "b"], "a"),
        (["a", "b", "<a"], None),  # back at the beginning, not forth to b
        (["a", "b", "c", "<b"], "a"),
        (["a", "b", "c", "<b", "<a"], None),
        (["a", "b", "<a", "c"], "a"),
        (["a", "b", "b"], "a"),  # promoting what is there already is no step
        (["a", "b", "a"], "b"),  # an old version that is promoted anew can be taken back too
        (["a", "b", "a", "<b"], "a"),
    ],
)
def test_a_rollback_returns_to_the_version_before(moves: list[str], expected: str | None) -> None:
    assert version_before(changes(*moves)) == expected


@given(st.lists(st.sampled_from("abcd"), max_size=12))
def test_going_back_again_and_again_ends_at_the_first_version(promoted: list[str]) -> None:
    moves = list(promoted)
    for _ in range(len(promoted)):
        back = version_before(changes(*moves))
        if back is None:
            break
        moves.append(f"<{back}")
    assert version_before(changes(*moves)) is None
    assert not promoted or moves[-1].removeprefix("<") == promoted[0]


def spoil(path: Path, damage: str) -> None:
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
