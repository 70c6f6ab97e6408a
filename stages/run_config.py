"""The configuration of a run: every stage's settings and the machines they run on, from one recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data.records import UserError
from evals.evaluate import EvaluationConfig
from learner.placement import LearnerPlacement
from rewards.judge import JudgeConfig
from rewards.preference import PreferenceConfig
from rollout.config import RolloutConfig
from serving.gates_config import PromotionConfig
from stages.base import BaseConfig
from stages.cold_start import ColdStartConfig
from stages.general_rl import GeneralRLConfig
from stages.metrics_sinks import TrackingConfig
from stages.preference_model import PreferenceModelConfig
from stages.profile import ProfileConfig
from stages.reasoning_rl import ReasoningRLConfig
from stages.thinking_fusion import ThinkingFusionConfig

STAGES = ("base", "cold_start", "reasoning_rl", "thinking_fusion", "general_rl")


@dataclass(frozen=True, kw_only=True, slots=True)
class RayConfig:
    """Ray: embedded in this machine (address null), or a cluster (address "auto" or host:port)."""

    address: str | None = None
    object_store_gib: float = 0.5

    def validate(self) -> None:
        if not self.object_store_gib >= 0.1:
            raise UserError(f"object_store_gib: {self.object_store_gib} must be 0.1 or more, and hold the weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierConfig:
    """Killable verifier processes, and the share of failed verifications past which the run stops."""

    num_workers: int = 1
    timeout_s: float = 5.0
    max_error_share: float = 0.05

    def validate(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"num_workers: {self.num_workers} must be 1 or more")
        if not self.timeout_s > 0:
            raise UserError(f"timeout_s: {self.timeout_s} must be above 0")
        if not 0 <= self.max_error_share <= 1:
            raise UserError(f"max_error_share: {self.max_error_share} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run. `stages` is the pipeline in order; a stage that is left out passes its parent's checkpoint on.

    `embedded_preference` trains a preference model from the base checkpoint when a task needs one and
    `preference.folder` names none. With `promotion` a run that finished all its stages ends in a promotion.
    """

    name: str
    run_dir: str = "runs/${name}"
    seed: int = 0
    stages: tuple[str, ...] = STAGES
    base: BaseConfig
    cold_start: ColdStartConfig
    reasoning_rl: ReasoningRLConfig
    thinking_fusion: ThinkingFusionConfig
    general_rl: GeneralRLConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerPlacement = field(default_factory=LearnerPlacement)
    verifiers: VerifierConfig = field(default_factory=VerifierConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    embedded_preference: PreferenceModelConfig | None = None
    ray: RayConfig = field(default_factory=RayConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    promotion: PromotionConfig | None = None

    def validate(self) -> None:
        unknown = [stage for stage in self.stages if stage not in STAGES]
        if unknown:
            raise UserError(f"stages: {unknown[0]!r} is no stage; choose from {', '.join(STAGES)}")
        if list(self.stages) != [stage for stage in STAGES if stage in self.stages]:
            raise UserError(f"stages: {list(self.stages)} must be in the order {', '.join(STAGES)}, each at most once")
        if not self.stages:
            raise UserError(f"stages: name at least one of {', '.join(STAGES)}")
        measured = {f"benchmarks.{name}.stages": item.stages or () for name, item in self.evaluation.benchmarks.items()}
        for place, stages in {"stages": self.evaluation.stages, **measured}.items():
            for stage in stages:
                if stage not in STAGES:
                    raise UserError(f"evaluation.{place}: {stage!r} is no stage; choose from {', '.join(STAGES)}")

        self._check_adapters()

    def _check_adapters(self) -> None:
        """An adapter has to fit the engine that serves it and the device it is trained on, before anything runs."""
        for stage in STAGES:
            part = self.of_stage(stage)
            loop = part.rl if hasattr(part, "rl") else part.train
            adapter = loop.learner.adapter
            if adapter is None:
                continue
            if stage == "base":
                raise UserError("base.train.learner.adapter: a base is trained from nothing; set it to null")
            where = f"{stage}.{'rl' if hasattr(part, 'rl') else 'train'}"
            try:
                adapter.check_device(self.learner.device)
                adapter.serves_adapter(self.rollout.engine.max_lora_rank)
            except UserError as error:
                raise UserError(f"{where}.{error}") from error

    def of_stage(self, stage: str) -> Any:
        """The settings of one stage."""
        return getattr(self, stage)
