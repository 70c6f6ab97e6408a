"""Figures of a candidate that passes every gate, to be spoilt one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.figures import (
    ContractFigures,
    Figures,
    FileFigures,
    GapFigures,
    LineageFigures,
    LoadFigures,
    Place,
    Scores,
)
from serving.gates_config import BenchmarkGate, GatesConfig, LicenceGate, LoadGate, ParityGate, ThinkFollowGate

SUMS: Place = ("sums", "thinking")
FOLLOW: Place = ("think_follow", "mixed")
FAST = (0.1,) * 100
"""Seconds to first tokens that pass."""


def scores(values: Any, *, seeds: tuple[int, ...] = (0,), first: int = 0) -> Scores:
    """Scores [S, P]; a plain list is one seed. Prompts are called p0, p1, ... from `first` on."""
    values_SP = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return Scores(seeds, tuple(f"p{first + index}" for index in range(values_SP.shape[1])), values_SP)


def gates(**changes: Any) -> GatesConfig:
    values: dict[str, Any] = {
        "name": "test", "licence": LicenceGate(spdx="Apache-2.0"), "parity": ParityGate(max_gap=1e-3, mean_gap=1e-4),
        "benchmarks": BenchmarkGate(at_least={"sums": {"thinking": 0.5}}, margin=0.1),
        "think_follow": ThinkFollowGate(at_least=0.9),
        "load": LoadGate(
            max_median_s=1.0, max_p95_s=2.0, max_first_token_median_s=0.2, max_first_token_p99_s=0.4,
            min_tokens_per_s=100.0,
        ),
    }  # fmt: skip
    return GatesConfig(**(values | changes))


def lineage(**changes: Any) -> LineageFigures:
    values: dict[str, Any] = {
        "stage": "general_rl", "has_parent": True, "data_hash": "d" * 64, "config_hash": "c" * 64,
        "code_commit": "0123abcd0123abcd", "chain": ("general_rl", "base"), "licence": None,
    }  # fmt: skip
    return LineageFigures(**(values | changes))


def good_figures(**changes: Any) -> Figures:
    found = {SUMS: scores([0.9] * 100), FOLLOW: scores([1.0] * 100)}
    values: dict[str, Any] = {
        "files": FileFigures(5, 1000, None), "contract": ContractFigures(None), "lineage": lineage(), "loads_s": 3.2,
        "parity": GapFigures(2e-5, 1e-6, 500), "scores": found, "current": "v1-general_rl-00000000",
        "current_scores": found, "load": LoadFigures((0.5,) * 20, 2000, 10.0, FAST),
    }  # fmt: skip
    return Figures(**(values | changes))
