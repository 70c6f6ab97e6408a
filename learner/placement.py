"""Where the learner runs: settings apart from the module that imports Ray, which reading a recipe does not start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlacement:
    """Where the learner runs."""

    num_gpus: float = 0.0
    num_threads: int = 0  # 0: all cores of the machine
    device: str = "cpu"
    timeout_s: float = 3600.0
