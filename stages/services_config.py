"""What long-lived parts and reward tasks need of a configuration, whether it is a run's or an evaluation's."""

from __future__ import annotations

from typing import Any, Protocol

from learner.placement import LearnerPlacement
from rewards.judge import JudgeConfig
from rewards.preference import PreferenceConfig
from rollout.config import RolloutConfig
from stages.run_config import RayConfig, VerifierConfig


class NeedsConfig(Protocol):
    """What may serve the needs of reward tasks (`stages.task_needs`)."""

    @property
    def rollout(self) -> RolloutConfig: ...

    @property
    def judge(self) -> JudgeConfig: ...

    @property
    def preference(self) -> PreferenceConfig: ...

    @property
    def embedded_preference(self) -> Any: ...


class ServicesConfig(Protocol):
    """What `stages.services.Services` are started from."""

    @property
    def seed(self) -> int: ...

    @property
    def rollout(self) -> RolloutConfig: ...

    @property
    def learner(self) -> LearnerPlacement: ...

    @property
    def verifiers(self) -> VerifierConfig: ...

    @property
    def judge(self) -> JudgeConfig: ...

    @property
    def preference(self) -> PreferenceConfig: ...

    @property
    def ray(self) -> RayConfig: ...
