"""The licence that a model folder declares, in the front matter of its README.md, where model hubs look for it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from data.records import UserError

CARD = "README.md"
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*(?:\r?\n|\Z)", re.DOTALL)


def declared_licence(folder: Path) -> str | None:
    """The `license:` of a folder's README.md, None without one.

    Raises UserError for front matter that is not YAML.
    """
    path = folder / CARD
    found = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if found is None:
        return None
    try:
        front = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise UserError(f"{path}: its front matter is not YAML ({' '.join(str(error).split())[:120]})") from error
    licence = front.get("license") if isinstance(front, dict) else None
    return licence if isinstance(licence, str) and licence else None


def declare_licence(folder: Path, licence: str) -> None:
    """Write a README.md that declares `licence` (an SPDX identifier; hubs want it in small letters)."""
    front = yaml.safe_dump({"license": licence.lower(), "library_name": "transformers"}, sort_keys=False)
    text = "The licence is that of the model from which training began. Lineage and hashes are in `manifest.json`.\n"
    (folder / CARD).write_text(f"---\n{front}---\n\n{text}", encoding="utf-8")


def require_licence_name(licence: str | None) -> None:
    """Raise UserError unless `licence` is null or could be an SPDX identifier."""
    if licence is not None and not _SPDX.fullmatch(licence):
        raise UserError(f"licence: {licence!r} is no SPDX identifier; write one such as Apache-2.0, or null")


def agreed_licence(stated: str | None, declared: str | None, *, field: str) -> str | None:
    """The licence that settings state or a folder declares; UserError, beginning with `field`, where they differ."""
    if stated is not None and declared is not None and stated.lower() != declared.lower():
        raise UserError(f"{field}: is {stated}, but the model's own {CARD} says {declared}; leave it out or correct it")
    return stated if stated is not None else declared
