"""The first look at a Hugging Face model folder: whether what everybody needs of it is there and whole.

The engine, the learner and the pipeline each read such a folder with a library of their own, and each of these says
something else, late and at length, when a file is missing or cut short. This check comes first and names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from data.records import UserError

MODEL_FILES = ("config.json", "tokenizer.json", "*.safetensors")
_LENGTH_BYTES = 8


def require_model_folder(folder: str | Path, *, field: str = "model", files: Sequence[str] = MODEL_FILES) -> None:
    """Raise UserError, naming `field` and the file, unless `folder` holds a model with whole weights and tokenizer."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{field}: {folder} is no folder; give a Hugging Face model folder ({', '.join(MODEL_FILES)})")
    for pattern in files:
        if not any(folder.glob(pattern)):
            raise UserError(f"{field}: {folder} holds no {pattern}; it is not a whole Hugging Face model folder")
    for weights in sorted(folder.glob("*.safetensors")):
        fault = weight_file_fault(weights)
        if fault is not None:
            raise UserError(f"{field}: {weights} {fault}; copy, download or export it again")


def require_positions(folder: str | Path, max_model_len: int) -> None:
    """Raise UserError when an engine shall take longer rows than the model has positions for."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    positions = config.get("max_position_embeddings")
    if positions is not None and max_model_len > positions:
        raise UserError(
            f"rollout.engine.max_model_len: {max_model_len:,} is more than the {positions:,} positions of {folder} "
            "(max_position_embeddings); lower it, or stretch the positions with base.yarn.factor"
        )


def tensor_shapes(folder: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in the safetensors files of a folder, out of their headers; the files must be whole."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(_LENGTH_BYTES), "little")))
        shapes.update({name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"})
    return shapes


def weight_file_fault(path: Path) -> str | None:
    """What is wrong with the length of a safetensors file, None when it has all the bytes that its header counts.

    Eight bytes give the header's length, little-endian; the header is JSON with each tensor's place behind it. The
    tensors themselves are not read.
    """
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        begin = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if num_bytes < max(begin, _LENGTH_BYTES + 2):
            return f"has {num_bytes:,} bytes and no whole safetensors header (cut short, or a Git LFS pointer?)"
        try:
            header = json.loads(file.read(begin - _LENGTH_BYTES))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "has a header that is not that of a safetensors file"
    needed = begin + max(ends, default=0)
    return None if num_bytes == needed else f"has {num_bytes:,} bytes, its header counts {needed:,}"
