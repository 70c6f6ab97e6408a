"""The first look at a Hugging Face model folder: whether what everybody needs of it is there at all.

The engine, the learner and the pipeline each read such a folder with a library of their own, and each of these says
something else, late and at length, when a file is missing. This check comes first and names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.records import UserError

MODEL_FILES = ("config.json", "tokenizer.json", "*.safetensors")


def require_model_folder(folder: str | Path, *, field: str = "model", files: Sequence[str] = MODEL_FILES) -> None:
    """Raise UserError, naming `field` and what is missing, unless `folder` holds a model with weights and tokenizer."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{field}: {folder} is no folder; give a Hugging Face model folder ({', '.join(MODEL_FILES)})")
    for pattern in files:
        if not any(folder.glob(pattern)):
            raise UserError(f"{field}: {folder} holds no {pattern}; it is not a whole Hugging Face model folder")
