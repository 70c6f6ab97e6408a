"""Checkpoints that are a few bytes long, with a whole manifest: what a registry copies and verifies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from learner.checkpoint import Manifest, Parent, write_checkpoint

WEIGHTS = "model.safetensors"


def small_manifest(stage: str = "general_rl", **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": stage, "key": "k-" + stage, "parent": Parent("models/base", "k-base"), "config_hash": "c" * 64,
        "data_hash": "d" * 64, "contract": {"vocab_size": 300}, "rewards": ("math",), "seeds": {"run": 7},
        "code_commit": "0123abc", "packages": {"torch": "2.13.0"}, "metrics": {"reward": 0.5}, "cost": {"seconds": 2.5},
    }  # fmt: skip
    return Manifest(**(values | changes))


def small_checkpoint(folder: Path, *, fill: int = 0, stage: str = "general_rl", size: int = 64, **changes: Any) -> Path:
    """A folder whose weights are one tensor of `size` bytes of the value `fill`."""

    def write(partial: Path) -> None:
        header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        (partial / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes([fill]) * size)
        (partial / "config.json").write_text('{"model_type": "qwen3"}')
        (partial / "tokenizer").mkdir()
        (partial / "tokenizer" / "vocab.json").write_text('{"a": 0}')

    write_checkpoint(folder, small_manifest(stage, **changes), write)
    return folder
