"""The trainer's state on disk: what a bitwise resumption needs, beside the exported model.

Weights and AdamW moments in float32, random generators, and a JSON record of counters and config, sealed so that a
damaged file is refused by name. `learner.learner` saves and loads its own state through here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from learner.checkpoint import CheckpointError, atomic_folder, check_seal, seal_folder

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainerState:
    """A saved state after all checks: counters, random generators by device, and tensors by parameter name."""

    counters: Mapping[str, int]
    generators: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]


def random_generators(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators that training on `device` may draw from."""
    generators = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(device)
    return generators


def write_trainer_state(
    folder: Path,
    *,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    counters: Mapping[str, int],
    config: Mapping[str, Any],
) -> None:
    """Write the state atomically; `config` is JSON and compared on reading. A state at step 0 has no moments."""
    moments = {
        f"{name}.{key}": value.contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    weights = {name: parameter.detach().contiguous() for name, parameter in parameters.items()}
    record = {"counters": dict(counters), "config": dict(config), "has_moments": bool(moments)}
    with atomic_folder(folder) as partial:
        save_file(weights, partial / "weights.safetensors")
        save_file(moments, partial / "optimizer.safetensors")
        save_file(random_generators(device), partial / "rng.safetensors")
        (partial / "state.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        seal_folder(partial)


def read_trainer_state(
    folder: Path, *, parameters: Mapping[str, Tensor], device: torch.device, config: Mapping[str, Any]
) -> TrainerState:
    """The state, for a learner with these parameters on this device and with this config.

    Raises CheckpointError naming the file that is missing, truncated, altered or of another model, or the config field
    that differs: a run resumed with another value would not equal the uninterrupted one.
    """
    check_seal(folder)
    record: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    saved = record["config"]
    for name in sorted(config.keys() | saved.keys()):
        if config.get(name) != saved.get(name):
            raise CheckpointError(
                f"learner.{name}={config.get(name)!r}: the state in {folder} was saved with {saved.get(name)!r}; "
                "resume with that value or start a new run"
            )
    weights, moments, generators = (
        load_file(folder / f"{part}.safetensors") for part in ("weights", "optimizer", "rng")
    )
    keys = MOMENTS if record["has_moments"] else ()
    trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    fits = {
        "weights.safetensors": {name: tensor.shape for name, tensor in weights.items()}
        == {name: parameter.shape for name, parameter in parameters.items()},
        "optimizer.safetensors": moments.keys() == {f"{name}.{key}" for name in trained for key in keys},
        "rng.safetensors": generators.keys() == random_generators(device).keys(),
    }
    for file, fit in fits.items():
        if not fit:
            raise CheckpointError(
                f"checkpoint {folder}: {file} is of another model or device; resume with its own state"
            )
    moments_by_name = {name: {key: moments[f"{name}.{key}"] for key in keys} for name in trained} if keys else {}
    return TrainerState(record["counters"], generators, weights, moments_by_name)
