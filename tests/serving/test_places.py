"""Where a registry may lie: what a remote store has to refuse, what is fetched, and what is put again."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError

from data.records import UserError
from learner.checkpoint import CheckpointError
from serving.places import RemotePlace, _commit_if_absent, open_place
from serving.registry import Registry, Version
from tests.serving.checkpoints import WEIGHTS, small_checkpoint


def added(registry: Registry, tmp_path: Path) -> Version:
    return registry.add(small_checkpoint(tmp_path / "made"))


def test_a_remote_file_of_the_right_length_and_other_bytes_is_put_again_by_the_next_add(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/models"
    registry = Registry(url, cache=tmp_path / "one")
    version = added(registry, tmp_path)
    assert isinstance(registry.place, RemotePlace)
    path = f"{registry.place.root}/contents/{version.content_hash}/{WEIGHTS}"
    registry.place.fs.pipe_file(path, bytes(len(registry.place.fs.cat_file(path))))
    other = Registry(url, cache=tmp_path / "two")
    assert added(other, tmp_path) == replace(version, folder=tmp_path / "two" / "contents" / version.content_hash)
    other.verify(other.version(version.name))


@pytest.mark.parametrize(
    ("place", "message"),
    [("", "is empty"), ("ftp://host/models", r"ftp:// is not known to refuse a name that is taken")],
)
def test_a_place_that_is_none_is_refused(place: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_place(place)


def test_a_remote_version_comes_back_through_an_empty_cache(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/models"
    version = added(Registry(url, cache=tmp_path / "one"), tmp_path)
    elsewhere = Registry(url, cache=tmp_path / "two")
    (listed,) = elsewhere.versions()
    assert not listed.folder.exists()  # listing fetches manifests alone
    fetched = elsewhere.version(version.name)
    assert fetched.folder == tmp_path / "two" / "contents" / version.content_hash
    elsewhere.verify(fetched)


def test_a_remote_file_that_was_altered_on_the_way_is_named_and_not_kept(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/models"
    registry = Registry(url, cache=tmp_path / "one")
    version = added(registry, tmp_path)
    assert isinstance(registry.place, RemotePlace)
    registry.place.fs.pipe_file(f"{registry.place.root}/contents/{version.content_hash}/{WEIGHTS}", b"short")
    other = Registry(url, cache=tmp_path / "two")
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is truncated"):
        other.version(version.name)
    assert not (tmp_path / "two" / "contents" / version.content_hash).exists()


def test_a_store_that_met_its_own_writing_on_a_second_try_has_created_it(tmp_path: Path) -> None:
    place = open_place(f"memory://{uuid.uuid4().hex}/models", cache=tmp_path)
    assert [place.create("a.json", data) for data in (b"one", b"one", b"two")] == [True, True, False]
    assert place.read("a.json") == b"one"


class FakeHub:
    """The parts of the hub's driver and API that create a file: commits that have to follow the newest one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.commits = 0
        self.overtaken_by: list[tuple[str, bytes]] = []
        self._api = self

    def resolve_path(self, path: str) -> Any:
        return SimpleNamespace(repo_id="team/models", repo_type="model", revision="main", path_in_repo=path)

    def repo_info(self, **_: Any) -> Any:
        return SimpleNamespace(sha=str(self.commits))

    def file_exists(self, *, filename: str, **_: Any) -> bool:
        return filename in self.files

    def create_commit(self, *, operations: Any, parent_commit: str, **_: Any) -> None:
        for name, data in self.overtaken_by:
            self.files[name] = data
            self.commits += 1
        self.overtaken_by = []
        if parent_commit != str(self.commits):
            raise HfHubHTTPError("412", response=SimpleNamespace(status_code=412, headers={}, request=None))  # type: ignore[arg-type]
        (operation,) = operations
        self.files[operation.path_in_repo] = operation.path_or_fileobj
        self.commits += 1

    def invalidate_cache(self) -> None:
        return None


def test_on_the_hub_a_commit_of_somebody_else_is_looked_at_and_a_taken_name_refused() -> None:
    hub = FakeHub()
    assert _commit_if_absent(hub, "a.json", b"one")
    assert not _commit_if_absent(hub, "a.json", b"two")
    hub.overtaken_by = [("other.json", b"x")]
    assert _commit_if_absent(hub, "b.json", b"one")
    hub.overtaken_by = [("c.json", b"theirs")]
    assert not _commit_if_absent(hub, "c.json", b"ours")
    assert hub.files == {"a.json": b"one", "other.json": b"x", "b.json": b"one", "c.json": b"theirs"}
