"""Runs of the recipe `micro.yaml` by the command, and what they leave in their folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.checkpoint import Manifest, verify_checkpoint
from tests.integration.run_process import Command

RECIPE = Path(__file__).with_name("micro.yaml")


class Run:
    """What one run left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, name: str) -> Path:
        (found,) = (self.folder / "stages").glob(f"{name}-*")
        return found

    def checkpoint(self, name: str) -> Path:
        return self.stage(name) / "checkpoint"

    def manifest(self, name: str) -> Manifest:
        return verify_checkpoint(self.checkpoint(name))

    def weights(self, name: str) -> bytes:
        return (self.checkpoint(name) / "model.safetensors").read_bytes()

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]

    def steps(self, stage: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("metrics.jsonl") if row["stage"] == stage]


@dataclass(frozen=True)
class Finished:
    """A run to its end, with the command that made it (the last one of several)."""

    run: Run
    command: Command
    killed: int = 0


def start(folder: Path, *arguments: str | Path) -> Command:
    """`fourstage run` of the recipe in `folder`."""
    return Command("run", RECIPE, f"run_dir={folder}", "--plain", "--json", *arguments, logs=folder.parent / "logs")
