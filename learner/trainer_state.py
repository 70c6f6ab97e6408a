"""The trainer's state on disk: what a bitwise resumption needs, beside the exported model.

Weights and AdamW moments in float32, random generators, and a JSON record of counters and config, sealed so that a
damaged file is refused by name. `learner.learner` saves and loads its own state through here.

A sharded learner writes one file a rank, `shard-*.safetensors`, all at once and into one folder, which ranks on several
machines have to share (`torch.distributed.checkpoint` with safetensors). Either kind of state is read by any number of
ranks, sharded or not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from learner.checkpoint import CheckpointError, atomic_folder, check_seal, seal_folder
from learner.ranks import Ranks

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
    ranks: Ranks,
) -> None:
    """Write the state atomically; `config` is JSON and compared on reading. A state at step 0 has no moments.

    All ranks call it and return when it is in place; the first one writes what every rank has alike.
    """
    moments = {
        f"{name}.{key}": value.contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    weights = {name: parameter.detach().contiguous() for name, parameter in parameters.items()}
    sharded = _any_sharded(parameters)
    record = {
        "counters": dict(counters), "config": dict(config), "has_moments": bool(moments), "sharded": sharded
    }  # fmt: skip
    if ranks.rank == 0:
        with atomic_folder(folder) as partial:
            if sharded:
                _save_shards(ranks.from_first(partial), weights | moments)
            else:
                save_file(weights, partial / "weights.safetensors")
                save_file(moments, partial / "optimizer.safetensors")
            save_file(random_generators(device), partial / "rng.safetensors")
            (partial / "state.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            seal_folder(partial)
    elif sharded:
        _save_shards(ranks.from_first(Path()), weights | moments)
    ranks.gather(None)  # nobody goes on before the state is in place


def _any_sharded(tensors: Mapping[str, Tensor]) -> bool:
    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


def _save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    dcp.save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_trainer_state(
    folder: Path, *, parameters: Mapping[str, Tensor], device: torch.device, config: Mapping[str, Any]
) -> TrainerState:
    """The state, for a learner with these parameters on this device and with this config; sharded as they are.

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
    keys = MOMENTS if record["has_moments"] else ()
    trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    generators = load_file(folder / "rng.safetensors")
    if record["sharded"] or _any_sharded(parameters):
        weights, moments = _read_shards(folder, parameters, trained, keys)
    else:
        weights, moments = (load_file(folder / f"{part}.safetensors") for part in ("weights", "optimizer"))
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


def _read_shards(
    folder: Path, parameters: Mapping[str, Tensor], trained: Sequence[str], keys: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and moments from files cut in any way, each rank reading the parts that it holds."""
    weights = {name: torch.empty_like(parameter) for name, parameter in parameters.items()}
    moments = {
        f"{name}.{key}": torch.empty(()) if key == "step" else torch.empty_like(parameters[name])
        for name in trained
        for key in keys
    }
    reader = HuggingFaceStorageReader(str(folder))
    try:
        dcp.load({**weights, **moments}, storage_reader=reader, no_dist=not _any_sharded(parameters))
    except (CheckpointException, ValueError, RuntimeError) as error:  # what it raises for other names and shapes
        reason = " ".join(str(error).split())[-300:]
        raise CheckpointError(
            f"checkpoint {folder}: its shards are of another model ({reason}); resume with its own state"
        ) from error
    return weights, moments
