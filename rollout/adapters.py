"""Versions of a low-rank adapter in an engine: each is a folder of its own with an id that is never used again.

The engine loads an adapter from a folder and keeps it by its id, so a version under an old id would go on being served.
Requests keep the version they were submitted with; its folder stays until the last of them has finished.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.adapter import AdapterWeights
from data.records import UserError

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of the architectures that are taken, which are what an adapter may be on."""


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """One version of the adapter: the engine's handle on it and where it lies."""

    version: int
    number: int
    request: Any
    folder: Path


def adapter_arguments(max_rank: int) -> dict[str, Any]:
    """The engine's arguments: room for two versions at a time, the one of requests in flight and the newest.

    The linear layers alone may carry one. With a head that may, vLLM 0.32 on a CPU fails on prompt log-probabilities of
    several rows.
    """
    if not max_rank:
        return {}
    return {
        "enable_lora": True, "max_lora_rank": max_rank, "max_loras": 2, "max_cpu_loras": 4,
        "lora_target_modules": list(LINEAR_LAYERS),
    }  # fmt: skip


def require_adapters_served(model_folder: str | Path, max_rank: int, *, on_cpu: bool) -> None:
    """Raise UserError where vLLM 0.32 cannot serve adapters: a mixture of experts on a CPU."""
    config = json.loads((Path(model_folder) / "config.json").read_text(encoding="utf-8"))
    if max_rank and on_cpu and (config.get("num_experts") or config.get("num_local_experts")):
        raise UserError(
            f"rollout.engine.max_lora_rank={max_rank}: on a CPU no adapter is served on a mixture of experts "
            "without a merge; set it to 0, and merged weights are sent"
        )


class AdapterShelf:
    """The versions that an engine may still need; `current` goes with new requests, None serves the base alone.

    `new_request(name, number, path)` makes the engine's handle.
    """

    def __init__(self, new_request: Callable[[str, int, str], Any]) -> None:
        self._new_request = new_request
        self._root = Path(tempfile.mkdtemp(prefix="fourstage-adapters-"))
        self._number = 0
        self._kept: list[ServedAdapter] = []
        self.current: ServedAdapter | None = None

    def put(self, weights: AdapterWeights, version: int) -> ServedAdapter:
        """Write `weights` under a new number and make them current."""
        self._number += 1
        folder = self._root / f"{self._number}"
        folder.mkdir()
        weights.write(folder)
        request = self._new_request(f"adapter-{self._number}", self._number, str(folder))
        self.current = ServedAdapter(version, self._number, request, folder)
        self._kept.append(self.current)
        return self.current

    def drop_unused(self, in_flight: Iterable[ServedAdapter | None]) -> list[ServedAdapter]:
        """Remove the folders of versions that neither new requests nor those in flight use, and return them."""
        needed = {served.number for served in (self.current, *in_flight) if served is not None}
        dropped = [served for served in self._kept if served.number not in needed]
        self._kept = [served for served in self._kept if served.number in needed]
        for served in dropped:
            shutil.rmtree(served.folder)
        return dropped

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
