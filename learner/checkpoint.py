"""Checkpoints that cannot lie: what is in a folder, where it comes from, and a refusal by name when a byte differs.

Two kinds of folder are written here, both atomically (a sibling folder, then one rename):
- a checkpoint: an ordinary Hugging Face model folder plus `manifest.json`, the lineage of the stage that made it;
- a trainer state: what exact resumption needs, with `seal.json`; `StateStore` keeps the newest few.

Both JSON files hold size and SHA-256 of every file beside them and a SHA-256 of themselves, so a file that is missing,
truncated or altered, be it the manifest, is named. Hashes find damage and mix-ups; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from data.files import flush
from data.records import UserError

MANIFEST = "manifest.json"
SEAL = "seal.json"
_SELF_HASH = "self_sha256"


class CheckpointError(UserError):
    """A checkpoint or trainer state that must not be used; the text names the file or field."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Content of one file: what makes a truncated file tell apart from an altered one."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Parent:
    """The checkpoint a stage started from: where it lay and its content key."""

    path: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The lineage of one checkpoint.

    `key` is the content address of the stage output; `contract` is the template and special tokens
    (`data.tokenizer.contract`); `cost` is that of `stages.stage_cost`; `files` maps names relative to the folder to
    their content and is filled by `write_checkpoint`.
    """

    stage: str
    key: str
    parent: Parent | None
    config_hash: str
    data_hash: str
    contract: Mapping[str, Any]
    rewards: tuple[str, ...]
    seeds: Mapping[str, int]
    code_commit: str
    packages: Mapping[str, str]
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    files: Mapping[str, FileRecord] = field(default_factory=dict)


def canonical_hash(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order and spacing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A sibling folder to write into; it is flushed to disk and takes the name `folder` when the block ends well.

    A process that dies inside leaves the old folder, if there was one, untouched. A folder that exists is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # left behind by a process that died
    partial.mkdir()
    try:
        yield partial
        _flush_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        replaced = folder.with_name(f".{folder.name}.replaced")
        if replaced.exists():
            shutil.rmtree(replaced)
        folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced)
    else:
        partial.rename(folder)
    flush(folder.parent)


def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)


def hash_files(folder: Path) -> dict[str, FileRecord]:
    """Content of every file under `folder` by relative name, the top-level manifest and seal themselves left out."""
    records: dict[str, FileRecord] = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, SEAL):
            records[name] = _file_record(path)
    return records


def _file_record(path: Path) -> FileRecord:
    with path.open("rb") as stream:
        return FileRecord(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def check_files(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Raise CheckpointError naming the first file that is missing, truncated or altered; extra files are left alone."""
    for name, expected in files.items():
        path = Path(folder) / name
        if not path.is_file():
            raise CheckpointError(f"checkpoint {folder}: {name} is missing; use another checkpoint or make it again")
        size_bytes = path.stat().st_size
        if size_bytes != expected.size_bytes:
            damage = "truncated" if size_bytes < expected.size_bytes else "too long"
            raise CheckpointError(
                f"checkpoint {folder}: {name} is {damage}, {size_bytes} bytes of {expected.size_bytes}; "
                "use another checkpoint or make it again"
            )
        found = _file_record(path)
        if found.sha256 != expected.sha256:
            raise CheckpointError(
                f"checkpoint {folder}: {name} was altered, SHA-256 {found.sha256[:12]} is not "
                f"{expected.sha256[:12]}; use another checkpoint or make it again"
            )


def _write_sealed_json(path: Path, payload: Mapping[str, Any]) -> None:
    sealed = {**payload, _SELF_HASH: canonical_hash(payload)}
    path.write_text(json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_sealed_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path.parent}: {path.name} is missing; name a folder that fourstage wrote")
    return _parse_sealed_json(path.read_bytes(), f"checkpoint {path.parent}: {path.name}")


def _parse_sealed_json(data: bytes, where: str) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except ValueError as error:  # also bytes that are no UTF-8
        raise CheckpointError(f"{where} was truncated or altered, it is not JSON ({error}); use another one") from error
    if not isinstance(payload, dict) or payload.pop(_SELF_HASH, None) != canonical_hash(payload):
        raise CheckpointError(f"{where} was altered; use another checkpoint")
    return payload


def seal_folder(folder: Path) -> None:
    """Write `seal.json` with the content of every file in `folder`."""
    records = {name: asdict(record) for name, record in hash_files(folder).items()}
    _write_sealed_json(Path(folder) / SEAL, {"files": records})


def check_seal(folder: Path) -> None:
    """Raise CheckpointError naming the file unless the folder is as it was sealed."""
    payload = _read_sealed_json(Path(folder) / SEAL)
    check_files(Path(folder), {name: FileRecord(**record) for name, record in payload["files"].items()})


def write_checkpoint(folder: Path, manifest: Manifest, writer: Callable[[Path], None]) -> Manifest:
    """Let `writer` fill a new folder, add the manifest with the content of its files, and put it in place atomically.

    Returns the manifest as written.
    """
    with atomic_folder(Path(folder)) as partial:
        writer(partial)
        complete = replace(manifest, files=hash_files(partial))
        _write_sealed_json(partial / MANIFEST, asdict(complete))
    return complete


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises CheckpointError when it is missing, altered or of another format."""
    return _manifest_of(_read_sealed_json(Path(folder) / MANIFEST), f"checkpoint {folder}: {MANIFEST}")


def parse_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in the bytes of a `manifest.json`; raises CheckpointError, beginning with `where`, as
    `read_manifest` does."""
    return _manifest_of(_parse_sealed_json(data, where), where)


def _manifest_of(payload: dict[str, Any], where: str) -> Manifest:
    names = {item.name for item in fields(Manifest)}
    if payload.keys() != names:
        wrong = ", ".join(sorted(payload.keys() ^ names))
        raise CheckpointError(f"{where} has other fields ({wrong}); make the checkpoint again")
    payload["parent"] = None if payload["parent"] is None else Parent(**payload["parent"])
    payload["rewards"] = tuple(payload["rewards"])
    payload["files"] = {name: FileRecord(**record) for name, record in payload["files"].items()}
    return Manifest(**payload)


def verify_checkpoint(folder: Path) -> Manifest:
    """The manifest, after every file was compared with it; raises CheckpointError naming the file that differs."""
    manifest = read_manifest(folder)
    check_files(Path(folder), manifest.files)
    return manifest


def check_contract(parent: Manifest, contract: Mapping[str, Any]) -> None:
    """Refuse a parent that was trained with another chat template or other special tokens.

    A template that changes between stages trains the model away from what it learned, and nothing else shows it.
    Raises CheckpointError with both contract hashes and the fields that differ.
    """
    contract = json.loads(json.dumps(dict(contract)))  # as a manifest gives it back: tuples become lists
    theirs, ours = canonical_hash(dict(parent.contract)), canonical_hash(contract)
    if theirs == ours:
        return
    names = sorted(parent.contract.keys() | contract.keys())
    differing = [name for name in names if parent.contract.get(name) != contract.get(name)]
    detail = ", ".join(f"{name} {parent.contract.get(name)!r} != {contract.get(name)!r}" for name in differing)
    raise CheckpointError(
        f"contract: parent stage {parent.stage!r} has {theirs[:12]}, this stage {ours[:12]} ({detail}); "
        "use one template and tokenizer for the whole pipeline, or run the parent stage again"
    )


@dataclass(frozen=True, slots=True)
class LatestState:
    """The newest trainer state that is whole (None: start afresh), and why newer ones were refused, newest first."""

    step: int
    folder: Path | None
    refused: tuple[str, ...]


_STATE_NAME = re.compile(r"step-(\d{8})")


class StateStore:
    """A rolling store of trainer states: `step-00000012` folders, of which the newest `keep` stay.

    More than one is kept because a crash, or a bad disk, may spoil the newest.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise UserError(f"keep: {keep} trainer states cannot be resumed from; use at least 1, better 2")
        self.folder = Path(folder)
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps that have a folder, oldest first, whole or not."""
        if not self.folder.is_dir():
            return []
        matches = (_STATE_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in matches if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, writer: Callable[[Path], None]) -> Path:
        """Let `writer` fill the state of `step`, seal it, put it in place, and drop what is no longer needed.

        States of later steps belong to a history that was abandoned on resuming and go too.
        """
        with atomic_folder(self.path(step)) as partial:
            writer(partial)
            seal_folder(partial)
        kept = [known for known in self.steps() if known <= step][-self.keep :]
        for known in self.steps():
            if known not in kept:
                shutil.rmtree(self.path(known))
        return self.path(step)

    def latest(self) -> LatestState:
        """The newest state whose files are all as written; refused ones are reported by name, never removed here."""
        refused: list[str] = []
        for step in reversed(self.steps()):
            try:
                check_seal(self.path(step))
            except CheckpointError as error:
                refused.append(str(error))
                continue
            return LatestState(step, self.path(step), tuple(refused))
        return LatestState(0, None, tuple(refused))
