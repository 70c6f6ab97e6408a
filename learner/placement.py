"""Where the learner runs: settings apart from the module that imports Ray, which reading a recipe does not start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.records import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlacement:
    """Where the learner runs: `num_workers` ranks that share the samples of every step.

    `sharding`: "replicate" keeps the whole model and optimizer on every rank, "full" keeps a part of each (FSDP2).
    `offload_optimizer` keeps sharded weights and moments in CPU memory and updates them there.
    On a CPU two ranks of one thread train a small model half as fast again as one rank of two threads, because only
    matrix products use a second thread well.
    """

    num_workers: int = 1
    num_gpus: float = 0.0  # of one rank
    num_threads: int = 0  # of one rank; 0: the machine's cores shared among the ranks
    device: str = "cpu"
    sharding: Literal["replicate", "full"] = "replicate"
    offload_optimizer: bool = False
    timeout_s: float = 3600.0

    def validate(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"num_workers: {self.num_workers} must be 1 or more")
        for name in ("num_gpus", "num_threads"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: {getattr(self, name)} must be 0 or more")
        if self.sharding not in ("replicate", "full"):
            raise UserError(f"sharding: {self.sharding!r}; use replicate or full")
        if self.offload_optimizer and self.sharding != "full":
            raise UserError("offload_optimizer: true needs sharding: full")
        if not self.timeout_s > 0:
            raise UserError(f"timeout_s: {self.timeout_s} must be above 0")
