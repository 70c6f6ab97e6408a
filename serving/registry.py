"""The registry of models that serving takes its weights from: versions that never change, and aliases that move.

Stands between a run's checkpoints and a server. A checkpoint is copied in once, under the hash of its content, and is
complete and verified before any name leads to it. An alias such as `production` is a row of numbered changes, each a
file of its own that is created whole and exclusively: the newest is the truth, the others are its history, and of two
who write the same number one wins and the other is refused. So there is nothing that a crash can leave half done.

    REGISTRY/contents/<sha256>/              a Hugging Face folder with its manifest.json
    REGISTRY/versions/00000003.json          the name of the third version, and its content
    REGISTRY/aliases/production/00000007.json    the seventh change of the alias
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from data.records import UserError
from learner.checkpoint import CheckpointError, Manifest, canonical_hash, check_files, read_manifest, verify_checkpoint
from serving.places import CONTENTS, Place, open_place

ALIAS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
VERSION_NAME = re.compile(r"v[1-9][0-9]*-[a-z0-9_]+-[0-9a-f]{8}")
_RECORD_NAME = re.compile(r"([0-9]{8})\.json")
_SEAL = "self_sha256"
_MOST_ATTEMPTS = 100

ChangeKind = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Version:
    """One model of the registry: its name, its complete Hugging Face folder, its lineage, the hash of all of it.

    The name is counter, stage and the first eight hex digits of the content hash: "v3-thinking_fusion-1a2b3c4d". For a
    place elsewhere the folder is the local copy; `Registry.versions` names it without fetching it.
    """

    name: str
    folder: Path
    manifest: Manifest
    content_hash: str


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One move of an alias: to `version`, from `before` (None: there was none), when (ISO, UTC) and why.

    `forced` holds the reason given for passing over failed gates. `generation` counts the moves of this alias from 1
    and only grows, going back included.
    """

    alias: str
    version: str
    before: str | None
    at: str
    reason: str
    forced: str | None
    generation: int
    kind: ChangeKind = "promote"


class RegistryConflict(UserError):
    """Somebody else moved the alias first; the text names both versions. Nothing was changed."""


def content_hash(manifest: Manifest) -> str:
    """SHA-256 over the manifest, which holds the SHA-256 of every file: one number for folder and lineage together."""
    return canonical_hash(asdict(manifest))


def version_before(history: Sequence[AliasChange]) -> str | None:
    """The version that a rollback returns to, None when there is none; `history` is oldest first.

    Going back twice goes two versions back, and not forth again: a promotion puts its version on a pile, a rollback
    takes off what lies above the version that it returned to.
    """
    pile: list[str] = []
    for change in history:
        if change.kind == "rollback" and change.version in pile:
            while pile[-1] != change.version:
                pile.pop()
        elif not pile or pile[-1] != change.version:
            pile.append(change.version)
    return pile[-2] if len(pile) > 1 else None


class Registry:
    """Versions and aliases in one place: a folder, or a URL that fsspec understands (`s3://…`, `memory://…`, `hf://…`).

    Any number of processes may read and write at once.
    """

    def __init__(self, place: str | Path, *, cache: Path | None = None) -> None:
        self.place: Place = open_place(place, cache=cache)

    # ---- versions

    def versions(self) -> list[Version]:
        """All versions, oldest first, each content once; CheckpointError for a manifest that is missing or damaged."""
        return [self._version_of(name, digest) for digest, name in self._names().items()]

    def names(self) -> list[str]:
        """The names of all versions, oldest first, without a look at what is in them."""
        return list(self._names().values())

    def name_of(self, digest: str) -> str | None:
        """The name of the version with this content hash, None when it was never added."""
        return self._names().get(digest)

    def version(self, name: str) -> Version:
        """The version called `name`, its folder fetched; UserError suggests names that are near.

        Whether other versions are whole is of no account here: an old one that is damaged must keep nobody from going
        on, or back, to another.
        """
        known = {name: digest for digest, name in self._names().items()}
        if name not in known:
            raise UserError(f"version: {name!r} is not in the registry {self.place}; {_suggestion(name, known)}")
        self.place.fetch_folder(known[name])
        return self._version_of(name, known[name])

    def resolve(self, name_or_alias: str) -> Version:
        """The version of that name, or the one that the alias points to."""
        if ALIAS_NAME.fullmatch(name_or_alias) and not VERSION_NAME.fullmatch(name_or_alias):
            change = self.alias(name_or_alias)
            if change is not None:
                return self.version(change.version)
        names = self.names()
        if name_or_alias in names:
            return self.version(name_or_alias)
        raise UserError(
            f"model: {name_or_alias!r} is neither a version nor an alias of the registry {self.place}; "
            f"{_suggestion(name_or_alias, [*names, *self.aliases()])}"
        )

    def add(self, checkpoint: Path) -> Version:
        """Copy a checkpoint in; the same content twice is one version.

        Only the files that its manifest counts are taken, and each is compared with its hash before and after.
        Raises CheckpointError naming a file that differs, UserError when there is no room.
        """
        manifest = verify_checkpoint(Path(checkpoint))
        _require_plain_names(manifest, Path(checkpoint))
        digest = content_hash(manifest)
        self.place.store_folder(digest, Path(checkpoint), sorted(manifest.files))
        if self.name_of(digest) is None:
            self._name_content(digest, manifest, source=str(checkpoint))
        self.place.fetch_folder(digest)
        return self._version_of(self._names()[digest], digest)

    def verify(self, version: Version) -> None:
        """Compare every file of the version, manifest included, with its hash; CheckpointError names the file."""
        folder = self.place.fetch_folder(version.content_hash)
        manifest = read_manifest(folder)
        found = content_hash(manifest)
        if found != version.content_hash:
            raise CheckpointError(
                f"version {version.name}: {folder / 'manifest.json'} is that of other content ({found[:12]}, not "
                f"{version.content_hash[:12]}); add the checkpoint again"
            )
        check_files(folder, manifest.files)

    def write_beside(self, version: Version, name: str, text: str) -> Path:
        """Write a file that is no part of the content, such as the model card, into the version's folder, atomically.

        Raises ValueError for a name that belongs to the content.
        """
        if name in version.manifest.files or name == "manifest.json" or "/" in name:
            raise ValueError(f"write_beside: {name!r} belongs to the content of {version.name}")
        return self.place.write_into_folder(version.content_hash, name, text)

    def read_beside(self, version: Version, prefix: str) -> dict[str, str]:
        """The texts beside the content whose names begin with `prefix`, by name, without fetching the rest."""
        folder = f"{CONTENTS}/{version.content_hash}"
        names = sorted(name for name in self.place.files(folder) if name.startswith(prefix))
        return {name: self.place.read(f"{folder}/{name}").decode() for name in names}

    # ---- aliases

    def aliases(self) -> list[str]:
        """The aliases that point somewhere, in order of the alphabet."""
        return sorted(name for name in self.place.folders("aliases") if self._records(f"aliases/{name}", newest=True))

    def alias(self, alias: str) -> AliasChange | None:
        """The newest change of an alias, which says where it points; None when it was never set."""
        records = self._records(f"aliases/{_checked_alias(alias)}", newest=True)
        return _change_of(*records[0]) if records else None

    def history(self, alias: str) -> list[AliasChange]:
        """All changes of an alias, oldest first."""
        return [_change_of(*numbered) for numbered in self._records(f"aliases/{_checked_alias(alias)}")]

    def point(
        self,
        alias: str,
        version: str,
        *,
        expected_generation: int,
        reason: str,
        forced: str | None = None,
        kind: ChangeKind = "promote",
    ) -> AliasChange:
        """Move an alias to a version whose files are as they should be, if nobody moved it since (compare and swap).

        `expected_generation` is that of the change that the caller saw, 0 for an alias that was never set. Raises
        RegistryConflict when the alias has moved since, CheckpointError when the version is damaged; the alias then
        is where it was.
        """
        self.verify(self.version(version))
        current = self.alias(alias)
        generation = current.generation if current is not None else 0
        if generation != expected_generation:
            raise _conflict(alias, version, current, expected_generation)
        change = AliasChange(
            alias=_checked_alias(alias),
            version=version,
            before=current.version if current is not None else None,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            reason=reason,
            forced=forced,
            generation=generation + 1,
            kind=kind,
        )
        if not self.place.create(f"aliases/{alias}/{change.generation:08d}.json", _sealed(asdict(change))):
            raise _conflict(alias, version, self.alias(alias), expected_generation)
        return change

    # ---- records

    def _names(self) -> dict[str, str]:
        """The name of each content hash, oldest first."""
        found: dict[str, str] = {}
        for _, record in self._records("versions"):  # of two who add one content at the same moment the first counts
            found.setdefault(str(record["content_hash"]), str(record["name"]))
        return found

    def _name_content(self, digest: str, manifest: Manifest, *, source: str) -> None:
        """Give content the next free number."""
        for _ in range(_MOST_ATTEMPTS):
            number = max((number for number, _ in self._records("versions")), default=0) + 1
            record = {
                "name": f"v{number}-{_plain_stage(manifest.stage)}-{digest[:8]}",
                "content_hash": digest,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "source": source,
            }
            if self.place.create(f"versions/{number:08d}.json", _sealed(record)):
                return
        raise UserError(f"registry {self.place}: {_MOST_ATTEMPTS} numbers were taken by others; try again")

    def _records(self, folder: str, *, newest: bool = False) -> list[tuple[int, dict[str, Any]]]:
        """The sealed records of a folder with their numbers, in order; the last one alone with `newest`."""
        numbers = sorted(int(match[1]) for name in self.place.files(folder) if (match := _RECORD_NAME.fullmatch(name)))
        wanted = numbers[-1:] if newest else numbers
        return [(number, self._record(f"{folder}/{number:08d}.json")) for number in wanted]

    def _record(self, name: str) -> dict[str, Any]:
        return _unsealed(self.place.read(name), f"{self.place}/{name}")

    def _version_of(self, name: str, digest: str) -> Version:
        return Version(name, self.place.local_folder(digest), self.place.manifest(digest), digest)


def _plain_stage(stage: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", stage.lower()).strip("_") or "model"


def _checked_alias(alias: str) -> str:
    if not ALIAS_NAME.fullmatch(alias) or VERSION_NAME.fullmatch(alias):
        raise UserError(
            f"alias: {alias!r} is no alias; use small letters, digits, - and _, as in production, and no version's name"
        )
    return alias


def _require_plain_names(manifest: Manifest, folder: Path) -> None:
    """Refuse a manifest that names files outside its folder."""
    for name in manifest.files:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
            raise CheckpointError(f"checkpoint {folder}: the manifest names {name!r}, which is no file of the folder")


def _suggestion(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]!r}?"
    return "`fourstage models` lists them" if known else "it is empty, `fourstage promote` fills it"


def _conflict(alias: str, version: str, current: AliasChange | None, expected: int) -> RegistryConflict:
    now = "points nowhere" if current is None else f"is at {current.version} (generation {current.generation})"
    return RegistryConflict(
        f"alias {alias}: {now} and no longer at generation {expected}, somebody else moved it meanwhile; "
        f"{version} was not made {alias}, look at `fourstage models` and decide again"
    )


def _sealed(payload: Mapping[str, Any]) -> bytes:
    sealed = {**payload, _SEAL: canonical_hash(dict(payload))}
    return (json.dumps(sealed, indent=2, ensure_ascii=False) + "\n").encode()


def _unsealed(data: bytes, where: str) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); restore the file from a copy") from error
    if not isinstance(payload, dict) or payload.pop(_SEAL, None) != canonical_hash(payload):
        raise UserError(f"{where}: was altered, its hash differs; restore the file from a copy")
    return payload


def _change_of(number: int, record: Mapping[str, Any]) -> AliasChange:
    names = {item.name for item in fields(AliasChange)}
    if record.keys() != names or record["generation"] != number:
        raise UserError(f"alias: change {number} is of another format or number; restore the file from a copy")
    return AliasChange(**record)
