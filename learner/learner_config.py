"""What an optimizer step does besides its samples: the learner's config and its learning-rate schedule."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from data.records import UserError
from learner.attention import PACKED_SDPA, check_packing_attention
from learner.logprobs import DEFAULT_CHUNK_BYTES
from learner.lora_settings import LoraSettings
from learner.losses import LOSS_SETTINGS, LossConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """What a step does besides its samples.

    `total_steps` (the optimizer steps of the stage) is needed by the falling schedules; they end at lr * min_lr_ratio.
    `microbatch_tokens` caps one packed row. `dtype` is what products run in; weights, gradients and moments are float32
    always, because a bfloat16 weight rounds small updates away. `chunk_bytes` bounds the logits held at a time.
    `long_samples` says what becomes of a sample that is longer: "refuse" stops the run, "alone" gives it a micro-batch
    of its own with gradient checkpointing, so that memory is bounded by the longest sample instead.
    `share_prompts` computes a prompt once for the samples of a micro-batch that begin with it: the same gradient for
    less work. The balance loss of a router counts every token of every sample: with it prompts are not shared.
    `gradient_checkpointing` runs each layer again in the backward pass and keeps its input alone; `offload_activations`
    has what is kept wait in CPU memory.
    `loss` names a setting of `learner.losses`; `loss_config`, when given, is used instead and `loss` must be "custom".
    `proximal_logprobs`: "recompute" needs `proximal` in every `rl_step` (from `Learner.logprobs` before the first step
    on a batch). With "behavior" there is no such pass: a loss without `importance_cap` takes its ratio to the behavior
    policy; one with it takes the policy of this step, detached, which is exact for one step a batch.
    `adapter`: train a low-rank adapter on frozen weights (`learner.lora_settings`); null trains all weights.
    `train_router`: whether the router of a mixture of experts is trained; it is frozen otherwise, and a model without
    experts refuses it. `router_balance_coef`: weight of `learner.experts.load_balancing_loss` over the global batch.
    `max_skipped_steps`: this many non-finite steps in a row are skipped and counted, one more raises.
    """

    lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    total_steps: int | None = None
    min_lr_ratio: float = 0.0
    microbatch_tokens: int = 8192
    long_samples: Literal["refuse", "alone"] = "refuse"
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: str = PACKED_SDPA
    share_prompts: bool = True
    gradient_checkpointing: bool = False
    offload_activations: bool = False
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    loss: str = "default"
    loss_config: LossConfig | None = None
    proximal_logprobs: Literal["behavior", "recompute"] = "behavior"
    adapter: LoraSettings | None = None
    train_router: bool = False
    router_balance_coef: float = 0.0
    max_skipped_steps: int = 3

    def validate(self) -> None:
        """Raise UserError naming the first field that cannot work."""
        settings = (*LOSS_SETTINGS, "custom")
        custom = self.loss == "custom"
        falls = self.schedule != "constant"
        enough = self.total_steps is not None and self.total_steps > self.warmup_steps
        for name, holds, mend in (
            ("lr", math.isfinite(self.lr) and self.lr > 0, "use a number above 0"),
            ("betas", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "use two numbers in [0, 1)"),
            ("eps", self.eps > 0, "use a number above 0"),
            ("weight_decay", self.weight_decay >= 0, "use 0 or more"),
            ("max_grad_norm", self.max_grad_norm > 0, "use a number above 0"),
            ("warmup_steps", self.warmup_steps >= 0, "use 0 or more"),
            ("schedule", self.schedule in ("constant", "linear", "cosine"), "use constant, linear or cosine"),
            (
                "total_steps",
                enough or not falls or self.total_steps is None,
                f"schedule {self.schedule} needs more steps than warmup_steps",
            ),
            ("min_lr_ratio", 0 <= self.min_lr_ratio <= 1, "use a number from 0 to 1"),
            ("microbatch_tokens", self.microbatch_tokens >= 1, "use at least the longest sample"),
            ("long_samples", self.long_samples in ("refuse", "alone"), "use refuse or alone"),
            ("dtype", self.dtype in ("float32", "bfloat16"), "use float32 or bfloat16"),
            ("chunk_bytes", self.chunk_bytes >= 1, "use a positive number of bytes"),
            ("loss", self.loss in settings, f"use one of {', '.join(settings)}"),
            ("loss_config", custom == (self.loss_config is not None), "give it with loss=custom and only then"),
            ("proximal_logprobs", self.proximal_logprobs in ("behavior", "recompute"), "use behavior or recompute"),
            ("router_balance_coef", 0 <= self.router_balance_coef < math.inf, "use 0 or more"),
            (
                "router_balance_coef",
                self.train_router or not self.router_balance_coef,
                "a frozen router cannot be balanced; set train_router to true or the coefficient to 0",
            ),
            ("max_skipped_steps", self.max_skipped_steps >= 0, "use 0 or more"),
        ):
            if not holds:
                raise UserError(f"learner.{name}={getattr(self, name)!r}: {mend}")
        check_packing_attention(self.attention)
        if self.share_prompts and self.attention != PACKED_SDPA:
            raise UserError(
                f"learner.share_prompts=True: {self.attention} cannot repeat a shared prompt in attention; set "
                f"share_prompts to false, or attention to {PACKED_SDPA}"
            )
        if self.adapter is not None:
            self._check_adapter(self.adapter)
        if self.proximal_logprobs == "recompute" and not self.objective.takes_proximal:
            raise UserError("learner.proximal_logprobs='recompute': the loss has no importance_cap; use behavior")

    def _check_adapter(self, adapter: LoraSettings) -> None:
        adapter.validate()
        if self.train_router:
            raise UserError("learner.train_router=True: with an adapter all other weights are frozen; set it to false")
        if self.dtype == "float32" and (adapter.base_dtype != "float32" or adapter.quantize):
            field = "quantize" if adapter.quantize else "base_dtype"
            raise UserError(
                f"learner.adapter.{field}={getattr(adapter, field)!r}: products would be rounded while "
                "learner.dtype is float32; set learner.dtype to bfloat16"
            )

    def as_json(self) -> dict[str, Any]:
        """The config as JSON gives it back (tuples become lists), so that saved and present ones compare."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def shares_prompts(self) -> bool:
        """Whether samples of one micro-batch share their prompt."""
        return self.share_prompts and not self.router_balance_coef

    @property
    def objective(self) -> LossConfig:
        """The loss that is minimised in RL."""
        return self.loss_config if self.loss_config is not None else LOSS_SETTINGS[self.loss]


def learning_rate(config: LearnerConfig, step: int) -> float:
    """Learning rate of the optimizer step with this index, from 0: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.total_steps is None:
        raise UserError(
            f"learner.total_steps: schedule {config.schedule} needs the number of optimizer steps of the stage"
        )
    progress = min(1.0, (step - config.warmup_steps) / (config.total_steps - config.warmup_steps))
    remaining = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * remaining)
