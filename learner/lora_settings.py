"""Settings of a low-rank adapter, apart from the module that works with PEFT, which reading a recipe does not start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from data.records import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """A low-rank adapter (LoRA) that is trained in place of the weights, which are frozen.

    Every target gets W + (alpha / rank) B A with A [rank, in] random and B [out, rank] zero at the start. `alpha` null
    is the rank: a scaling of 1. `target_modules` null is every linear layer except the head, by the last part of its
    name (q_proj, ...). `dropout` acts on the adapter's input and must be 0 in RL. `base_dtype`: what the frozen weights
    are kept in, since they need no float32 masters. `quantize` "nf4" keeps them in 4 bit (QLoRA), on CUDA alone.
    `serve`: "adapter" has the engine serve base and adapter apart, "merged" sends it merged weights, "auto" takes the
    first where `rollout.engine.max_lora_rank` allows the rank. `export_adapter` puts the adapter in PEFT's format into
    the folder `adapter` of each checkpoint, beside the merged model.
    Source: LoRA [2106.09685], QLoRA [2305.14314].
    """

    rank: int = 64
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["nf4"] | None = None
    serve: Literal["adapter", "merged", "auto"] = "auto"
    export_adapter: bool = False

    def validate(self) -> None:
        """Raise UserError naming the first field that cannot work."""
        alpha = self.alpha
        for name, holds, mend in (
            ("rank", self.rank >= 1, "use 1 or more"),
            ("alpha", alpha is None or (math.isfinite(alpha) and alpha > 0), "use a number above 0, or null"),
            ("dropout", 0 <= self.dropout < 1, "use a number from 0 to below 1"),
            ("target_modules", self.target_modules != (), "name at least one linear layer, or null for all"),
            ("base_dtype", self.base_dtype in ("float32", "bfloat16"), "use float32 or bfloat16"),
            ("quantize", self.quantize in (None, "nf4"), "use nf4 or null"),
            ("serve", self.serve in ("adapter", "merged", "auto"), "use adapter, merged or auto"),
        ):
            if not holds:
                raise UserError(f"learner.adapter.{name}={getattr(self, name)!r}: {mend}")

    def check_for_rl(self) -> None:
        """Raise UserError for dropout: log-probabilities before and after a step would be of two different networks."""
        if self.dropout:
            raise UserError(
                f"learner.adapter.dropout={self.dropout!r}: in RL the importance ratio would compare two different "
                "networks; use 0"
            )

    def check_device(self, device: str) -> None:
        """Raise UserError for 4 bit on another device than CUDA."""
        if self.quantize is not None and not device.startswith("cuda"):
            raise UserError(
                f"learner.adapter.quantize={self.quantize!r}: the 4-bit kernels run on CUDA alone and the learner's "
                f"device is {device!r}; set it to null (base_dtype=bfloat16 halves the base instead)"
            )

    def serves_adapter(self, max_lora_rank: int) -> bool:
        """Whether an engine that takes adapters up to `max_lora_rank` (0: none) gets the adapter rather than weights.

        Raises UserError when `serve` insists and the engine was started without room for the rank.
        """
        fits = self.rank <= max_lora_rank
        if self.serve == "adapter" and not fits:
            raise UserError(
                f"learner.adapter.serve='adapter': rollout.engine.max_lora_rank={max_lora_rank} does not hold rank "
                f"{self.rank}; raise it, or use serve=auto or merged"
            )
        return fits and self.serve != "merged"

    @property
    def scaling(self) -> float:
        """alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank
