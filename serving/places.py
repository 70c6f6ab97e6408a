"""Where a registry lies: a folder of this machine, or an object store that fsspec reaches.

A place can do four things, each whole or not at all whatever kills the process: create a small file that must not
exist yet, store a folder under the hash of its content, and give both back. `serving.registry` is built on these alone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from data.files import atomic_write, disk_full_is_user_error, flush, require_free_space
from data.records import UserError
from learner.checkpoint import (
    MANIFEST,
    CheckpointError,
    Manifest,
    atomic_folder,
    check_files,
    parse_manifest,
    read_manifest,
    verify_checkpoint,
)

CONTENTS = "contents"
_STALE_AFTER_S = 3600.0
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
EXCLUSIVE_PROTOCOLS = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Drivers of fsspec whose `pipe_file(mode="create")` lets the store itself refuse a name that is taken."""


class Place(Protocol):
    """What a registry needs of the place it lies in. Names are relative, with `/`."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file whole; False, and nothing changed, when the name is taken."""

    def read(self, name: str) -> bytes:
        """The bytes of a file; UserError when it is missing."""

    def files(self, folder: str) -> list[str]:
        """Names of the files in a folder; none when there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder; none when there is no such folder."""

    def store_folder(self, digest: str, source: Path, names: Sequence[str]) -> None:
        """Keep the manifest and the files `names` of `source` under `digest`; damaged copies are mended."""

    def fetch_folder(self, digest: str) -> Path:
        """The complete local folder of this content; CheckpointError when the place does not hold it."""

    def local_folder(self, digest: str) -> Path:
        """Where `fetch_folder` has the content, whether it is there yet or not."""

    def manifest(self, digest: str) -> Manifest:
        """The manifest of this content, without fetching the rest."""

    def write_into_folder(self, digest: str, name: str, text: str) -> Path:
        """Write a text beside the content, replacing what is there; returns the local path."""


def open_place(place: str | Path, *, cache: Path | None = None) -> Place:
    """The place of that name: a folder (also as `file://…`), or a URL for fsspec.

    `cache` is where the folders of a remote place are kept on this machine. Raises UserError for an unknown protocol
    and for a driver that is not installed.
    """
    text = str(place)
    if not text:
        raise UserError("registry: the place is empty; give a folder or a URL such as s3://bucket/models")
    if text.startswith("file://"):
        return LocalPlace(Path(text.removeprefix("file://")))
    if "://" not in text:
        return LocalPlace(Path(place))
    return RemotePlace(text, cache=cache)


class LocalPlace:
    """A folder. Files are created with a hard link, which fails when the name is taken, and folders are renamed."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def create(self, name: str, data: bytes) -> bool:
        path = self.root / name
        if path.exists():
            return False
        with disk_full_is_user_error(path):
            _make_folder(path.parent)
            _sweep(path.parent)
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
            try:
                with open(partial, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(partial, path)  # the one step that counts: whole, and refused when the name is taken
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                raise UserError(
                    f"registry: {self.root} lies on a file system without hard links ({error.strerror}); keep the "
                    "registry on another one"
                ) from error
            finally:
                partial.unlink(missing_ok=True)
            flush(path.parent)
        return True

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"{self.root / name}: no such file; is {self.root} a registry?") from error

    def files(self, folder: str) -> list[str]:
        return self._names(folder, is_folder=False)

    def folders(self, folder: str) -> list[str]:
        return self._names(folder, is_folder=True)

    def _names(self, folder: str, *, is_folder: bool) -> list[str]:
        path = self.root / folder
        if not path.is_dir():
            return []
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir() == is_folder and not entry.name.startswith(".")]

    def store_folder(self, digest: str, source: Path, names: Sequence[str]) -> None:
        folder = self.local_folder(digest)
        with disk_full_is_user_error(folder), _only_writer(self.root):
            for left in folder.parent.glob(".*.partial"):  # of a writer that died: its lock is gone, and ours is held
                shutil.rmtree(left)
            if folder.is_dir():
                _mend(folder, source, (*names, MANIFEST))
                return
            require_free_space(folder, sum((source / name).stat().st_size for name in names))
            with atomic_folder(folder) as partial:
                for name in (*names, MANIFEST):
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / name, partial / name)
                verify_checkpoint(partial)

    def fetch_folder(self, digest: str) -> Path:
        folder = self.local_folder(digest)
        if not folder.is_dir():
            raise CheckpointError(f"registry {self.root}: {folder} is missing; add the checkpoint again")
        return folder

    def local_folder(self, digest: str) -> Path:
        return self.root / CONTENTS / digest

    def manifest(self, digest: str) -> Manifest:
        return read_manifest(self.fetch_folder(digest))

    def write_into_folder(self, digest: str, name: str, text: str) -> Path:
        path = self.fetch_folder(digest) / name
        _sweep(path.parent)
        atomic_write(path, text)
        return path


class RemotePlace:
    """An object store. Files are put whole by the store itself; a folder counts once its manifest, put last, is there.

    Records are created with the store's own "only if absent". The Hugging Face hub has none in its fsspec driver; there
    the commit names the one that it follows, and the hub refuses all but one of two.
    """

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        import fsspec

        self.url = url
        self.protocol = url.split("://", 1)[0]
        if self.protocol not in EXCLUSIVE_PROTOCOLS | {"hf"}:
            raise UserError(
                f"registry: {url}: a store reached by {self.protocol}:// is not known to refuse a name that is taken, "
                "so two promotions at once could both win; use a folder or one of "
                f"{', '.join(sorted(EXCLUSIVE_PROTOCOLS | {'hf'}))}"
            )
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UserError(f"registry: {url} cannot be opened ({error}); install its driver") from error
        self.cache = cache if cache is not None else _default_cache(url)

    def __str__(self) -> str:
        return self.url

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def create(self, name: str, data: bytes) -> bool:
        if self.protocol == "hf":
            return _commit_if_absent(self.fs, self._path(name), data)
        try:
            self.fs.pipe_file(self._path(name), data, mode="create")
        except OSError:
            # Taken; or a driver that tried again after a lost answer, and met what it had written itself.
            self.fs.invalidate_cache()
            if self._size(self._path(name)) is None:
                raise
            return bytes(self.fs.cat_file(self._path(name))) == data
        self.fs.invalidate_cache()
        return True

    def read(self, name: str) -> bytes:
        try:
            return self.fs.cat_file(self._path(name))
        except FileNotFoundError as error:
            raise UserError(f"{self.url}/{name}: no such file; is {self.url} a registry?") from error

    def files(self, folder: str) -> list[str]:
        return self._names(folder, "file")

    def folders(self, folder: str) -> list[str]:
        return self._names(folder, "directory")

    def _names(self, folder: str, kind: str) -> list[str]:
        self.fs.invalidate_cache()  # a listing from before somebody else's change would be a stale truth
        try:
            entries = self.fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return []
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == kind]

    def store_folder(self, digest: str, source: Path, names: Sequence[str]) -> None:
        if self.local_folder(digest).is_dir():
            _mend(self.local_folder(digest), source, (*names, MANIFEST))
        self._upload(digest, source, names, again=False)
        try:
            self.fetch_folder(digest)
        except CheckpointError:  # a file of the right length and other bytes lay there
            self._upload(digest, source, names, again=True)

    def _upload(self, digest: str, source: Path, names: Sequence[str], *, again: bool) -> None:
        """Put the files that are missing or of another length, or all of them `again`."""
        for name in (*names, MANIFEST):  # the manifest last: a folder without one is no version
            target = self._path(f"{CONTENTS}/{digest}/{name}")
            size = (source / name).stat().st_size
            if again or self._size(target) != size:
                self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self.fs.put_file(str(source / name), target)
                self.fs.invalidate_cache()
            if self._size(target) != size:
                raise UserError(f"registry {self.url}: {name} arrived with {self._size(target)} bytes of {size}")

    def _size(self, target: str) -> int | None:
        try:
            return int(self.fs.info(target)["size"])
        except FileNotFoundError:
            return None

    def fetch_folder(self, digest: str) -> Path:
        folder = self.local_folder(digest)
        if folder.is_dir():
            return folder
        manifest = self.manifest(digest)
        with disk_full_is_user_error(folder), _only_writer(self.cache):
            if not folder.is_dir():  # else another process fetched it meanwhile
                require_free_space(folder, sum(record.size_bytes for record in manifest.files.values()))
                self._download(digest, manifest, folder)
        return folder

    def _download(self, digest: str, manifest: Manifest, folder: Path) -> None:
        with atomic_folder(folder) as partial:
            for name in (*sorted(manifest.files), MANIFEST):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(self._path(f"{CONTENTS}/{digest}/{name}"), str(partial / name))
            check_files(partial, manifest.files)

    def local_folder(self, digest: str) -> Path:
        return self.cache / CONTENTS / digest

    def manifest(self, digest: str) -> Manifest:
        name = f"{CONTENTS}/{digest}/{MANIFEST}"
        return parse_manifest(self.read(name), f"{self.url}/{name}")

    def write_into_folder(self, digest: str, name: str, text: str) -> Path:
        self.fs.pipe_file(self._path(f"{CONTENTS}/{digest}/{name}"), text.encode())
        path = self.fetch_folder(digest) / name
        atomic_write(path, text)
        return path


def _commit_if_absent(fs: Any, path: str, data: bytes) -> bool:
    """Create a file of a hub repository in a commit that follows the one in which it is absent.

    The hub refuses a commit whose parent is no longer the newest, so of two who create at once one is told.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    where = fs.resolve_path(path)
    repository = {"repo_id": where.repo_id, "repo_type": where.repo_type}
    for _ in range(10):
        head = fs._api.repo_info(**repository, revision=where.revision).sha
        if fs._api.file_exists(**repository, filename=where.path_in_repo, revision=head):
            return False
        try:
            fs._api.create_commit(
                **repository,
                operations=[CommitOperationAdd(path_in_repo=where.path_in_repo, path_or_fileobj=data)],
                commit_message=f"create {where.path_in_repo}",
                revision=where.revision,
                parent_commit=head,
            )
        except HfHubHTTPError as error:
            if error.response.status_code not in (409, 412):
                raise
            continue  # somebody committed meanwhile: look again whether it was this name
        fs.invalidate_cache()
        return True
    raise UserError(f"registry hf://{path}: others keep committing; try again")


def _default_cache(url: str) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "fourstage" / "registry" / hashlib.sha256(url.encode()).hexdigest()[:16]


@contextmanager
def _only_writer(root: Path) -> Iterator[None]:
    """Hold the lock of those who write folders below `root`; the system frees it when a process dies."""
    _make_folder(root / CONTENTS)
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _mend(folder: Path, source: Path, names: Sequence[str]) -> None:
    """Put back, one atomic replacement each, the files of a stored folder that are missing or differ from `source`."""
    for name in names:
        if not _same_bytes(folder / name, source / name):
            with open(source / name, "rb") as file:
                atomic_write(folder / name, iter(lambda: file.read(1 << 20), b""))


def _same_bytes(left: Path, right: Path) -> bool:
    if not left.is_file() or left.stat().st_size != right.stat().st_size:
        return False
    with open(left, "rb") as a, open(right, "rb") as b:
        return hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()


def _make_folder(path: Path) -> None:
    """Create a folder and those above it so that each survives a power cut."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    with suppress(FileExistsError):  # somebody else was quicker
        path.mkdir()
    flush(path.parent)


def _sweep(folder: Path) -> None:
    """Remove unfinished records that a process that died long ago left behind; nobody writes one for an hour."""
    for left in folder.glob(".*.partial"):
        with suppress(FileNotFoundError):  # its writer, or another sweep, was quicker
            if time.time() - left.stat().st_mtime > _STALE_AFTER_S:
                left.unlink()
