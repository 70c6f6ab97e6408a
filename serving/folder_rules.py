"""Which model folders may be served, and which may replace each other in a running engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import read_json
from data.model_folder import require_model_folder, tensor_shapes
from data.records import UserError
from data.tokenizer import contract, require_chat_tokens
from learner.checkpoint import Manifest

CODE_IN_WEIGHTS = (
    "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "*.dill", "*.npy", "*.npz", "*.h5", "*.keras",
    "*.msgpack", "*.so", "*.dll",
)  # fmt: skip
"""Files whose loading runs, or may run, what somebody wrote into them."""

ENGINE_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
"""What the engine and its application read once, when they start: in a swap these have to be equal."""

_UNREAD_BY_THE_ENGINE = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"})


def require_safe_folder(folder: Path, *, field: str = "model") -> None:
    """Raise UserError, naming the file, unless a folder holds safetensors alone and needs no code of its own."""
    for pattern in CODE_IN_WEIGHTS:
        for path in sorted(folder.rglob(pattern)):
            raise UserError(
                f"{field}: {path} may run code when it is loaded; only safetensors are served, convert the weights "
                "and take the file out"
            )
    for path in sorted(folder.rglob("*.py")):
        raise UserError(f"{field}: {path} is code; trust_remote_code is off and stays so, take the file out")
    require_model_folder(folder, field=field)
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and "auto_map" in read_json(path):
            raise UserError(
                f"{field}: {path} has auto_map, the model needs trust_remote_code to load; that is off and stays so, "
                "export the model with an architecture that transformers has"
            )


def require_trained_contract(folder: Path, manifest: Manifest, *, field: str = "model") -> None:
    """Raise UserError unless the folder's tokenizer and template are those that its manifest was trained with."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    require_chat_tokens(tokenizer, str(folder))
    found = json.loads(json.dumps(contract(tokenizer)))  # as a manifest gives it back: tuples become lists
    trained = dict(manifest.contract)
    differing = sorted(name for name in found.keys() | trained.keys() if found.get(name) != trained.get(name))
    if differing:
        raise UserError(
            f"{field}: {differing[0]} of the folder is not what the model was trained with "
            f"({found.get(differing[0])!r}, the manifest has {trained.get(differing[0])!r}); promote the checkpoint as "
            "its stage wrote it"
        )


def swap_fault(old: Path, new: Path) -> str | None:
    """Why the weights of `new` cannot take the place of those of `old` in a running engine; None when they can."""
    before, after = (_engine_config(folder) for folder in (old, new))
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differing:
        name = differing[0]
        return (
            f"config.json: {name} is {after.get(name)!r} and was {before.get(name)!r}; start a new server for a model "
            "of another shape"
        )
    for name in ENGINE_FILES:
        if _content(old / name) != _content(new / name):
            return f"{name} differs from that of the model that is served; start a new server for it"
    return _shape_fault(tensor_shapes(old), tensor_shapes(new))


def _shape_fault(before: Mapping[str, tuple[int, ...]], after: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first tensor that is missing, one too many, or of another shape."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            had, has = (list(shapes[name]) if name in shapes else "none" for shapes in (before, after))
            return f"weights: {name} has shape {has}, that of the model that is served has {had}; export it again"
    return None


def _engine_config(folder: Path) -> Mapping[str, Any]:
    return {key: value for key, value in read_json(folder / "config.json").items() if key not in _UNREAD_BY_THE_ENGINE}


def _content(path: Path) -> Any:
    """A JSON file without the release of transformers that wrote it, any other as it is; None when there is none."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if path.suffix != ".json":
        return data
    value = json.loads(data)
    return {key: item for key, item in value.items() if key not in _UNREAD_BY_THE_ENGINE}
