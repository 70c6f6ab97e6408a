"""What a checkpoint's folder says by itself, without an engine: its files, its template, where it comes from."""

from __future__ import annotations

from pathlib import Path

from data.licence import declared_licence
from data.records import UserError
from learner.checkpoint import MANIFEST, Manifest, read_manifest, verify_checkpoint
from serving.figures import ContractFigures, FileFigures, LineageFigures
from serving.folder_rules import require_safe_folder, require_trained_contract

_MOST_ANCESTORS = 64


def file_figures(folder: Path) -> FileFigures:
    """Compare every file with the manifest, and look for weights and code that must not be loaded."""
    try:
        require_safe_folder(folder, field="checkpoint")
        files = verify_checkpoint(folder).files  # without the cards and records that a registry lays beside them
    except UserError as error:
        return FileFigures(0, 0, str(error))
    return FileFigures(len(files), sum(record.size_bytes for record in files.values()), None)


def contract_figures(folder: Path) -> ContractFigures:
    """Compare the folder's template and special tokens with those of its manifest."""
    manifest = read_manifest(folder)
    try:
        require_trained_contract(folder, manifest, field="checkpoint")
    except UserError as error:
        return ContractFigures(str(error))
    return ContractFigures(None)


def lineage_figures(folder: Path) -> LineageFigures:
    """Read where a checkpoint comes from, following its parents as far as their folders are there."""
    manifest = read_manifest(folder)
    return LineageFigures(
        stage=manifest.stage,
        has_parent=manifest.parent is not None,
        data_hash=manifest.data_hash,
        config_hash=manifest.config_hash,
        code_commit=manifest.code_commit,
        chain=tuple(_chain(manifest)),
        licence=declared_licence(folder),
    )


def _chain(manifest: Manifest) -> list[str]:
    """The stages from a checkpoint up to its base. A parent whose folder is gone, or holds another checkpoint by now,
    is named by its key alone and ends the chain."""
    chain = [manifest.stage]
    while manifest.parent is not None and len(chain) < _MOST_ANCESTORS:
        folder, key = Path(manifest.parent.path), manifest.parent.key
        try:
            found = read_manifest(folder) if (folder / MANIFEST).is_file() else None
        except UserError:
            found = None  # a parent that was damaged since says nothing more; its key is on record
        if found is None or found.key != key:
            return [*chain, f"({key[:12] or 'unknown'})"]
        manifest = found
        chain.append(manifest.stage)
    return chain
