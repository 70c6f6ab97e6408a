"""What a server needs inside the worker of its engine: weights from a folder, and the thinking budget.

vLLM mixes `ServingWorker` into its worker (`worker_extension_cls`) and calls it by name; plain values alone cross to
the worker, which runs in a process of its own: no pickled function does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

import rollout.end_with_server  # noqa: F401  (starts the watch)
from rollout.forced_tokens import recognise_natural_end
from rollout.weight_transfer import abandon_load, differing_tensors, load_into_worker


class ServingWorker:
    """The calls that `serving.engine_app` makes by name; `self` is vLLM's worker."""

    def fourstage_prepare(self, forced_ids: list[int], natural_ids: list[int]) -> None:
        """Mend the thinking budget of the engine's runner (`recognise_natural_end`)."""
        recognise_natural_end(self, forced_ids, natural_ids)

    def fourstage_reload(self, folder: str, compare: bool) -> str | None:
        """Load the weights of a model folder; what went wrong, None when the engine computes with them.

        An error is told, not raised: the worker goes on, and the caller loads the old weights again.
        """
        try:
            weights = folder_tensors(folder)
            load_into_worker(self, weights)
            names = differing_tensors(self, weights, _tolerance(self)) if compare else []
        except Exception as error:  # whatever a damaged or foreign folder makes the loader raise
            abandon_load(self)
            return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        return f"the engine computes with other weights than {', '.join(names[:3])}" if names else None


def folder_tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a model folder's safetensors files by name, a tied head under its own name as well."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  (not a mapping)
    if "lm_head.weight" not in tensors and "model.embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    return tensors


def _tolerance(worker: Any) -> float:
    """How far two products of the same weights may lie apart: a few roundings of the engine's own precision."""
    dtype = next(worker.model_runner.get_model().parameters()).dtype
    return 1e-4 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
