"""A low-rank adapter on its way from the learner to an engine or a folder: PEFT's own names, numbers and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "base_model.model."
"""What PEFT puts before the name of a module in the file of an adapter."""

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One version of an adapter: `config` is PEFT's adapter_config.json, `tensors` its file, on the CPU."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def write(self, folder: Path) -> None:
        """Fill `folder`, which exists, so that `PeftModel.from_pretrained` and the engine load it."""
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, folder / ADAPTER_FILE)
        (folder / "adapter_config.json").write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n")
