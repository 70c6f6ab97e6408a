"""A small config of every supported shape, for the tests of loading and of types."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)

    def validate(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")


@dataclass(frozen=True)
class Learner:
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=5e-4))
    num_steps: int = 10
    algorithm: Literal["grpo", "gspo", "off"] = "grpo"
    num_inner_steps: Literal[1, 2] = 1


@dataclass(frozen=True)
class TaskWeight:
    weight: float = 1.0
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=2.0))


@dataclass(frozen=True)
class Recipe:
    name: str = "tiny"
    model: Path = Path("models/tiny")
    learner: Learner = field(default_factory=Learner)
    warm_start: Path | None = None
    resume: bool = False
    seeds: tuple[int, ...] = (0,)
    tasks: dict[str, TaskWeight] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    teacher: Optimizer | None = None


@dataclass(frozen=True)
class Required:
    model: str
    learner: Learner
