"""What the micro-batches of a step amounted to: tokens, what packing saved and wasted of them, and operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from learner.flops import ModelFlops
from learner.packing import PackedBatch


@dataclass(slots=True)
class StepWork:
    """Counts of one rank, or of all of them together (`total`)."""

    num_microbatches: int = 0
    num_tokens: int = 0
    num_distinct: int = 0
    num_slots: int = 0
    model_flops: float = 0.0

    def add(self, batch: PackedBatch, num_slots: int, flops: ModelFlops) -> None:
        self.num_microbatches += 1
        self.num_tokens += batch.num_row_tokens
        self.num_distinct += batch.num_tokens
        self.num_slots += num_slots
        self.model_flops += flops.train(batch.num_tokens, batch.lengths, int(batch.target_ids_N.shape[0]))

    @classmethod
    def total(cls, parts: Sequence[StepWork]) -> StepWork:
        return cls(*(sum(getattr(part, name) for part in parts) for name in cls.__slots__))

    def metrics(self) -> dict[str, float]:
        """Tokens of all samples, the share of them that a shared prompt saved, the share of attention that was padding,
        and the operations that the model needs for them."""
        return {
            "num_microbatches": float(self.num_microbatches),
            "num_tokens": float(self.num_tokens),
            "shared_prompt_share": 1.0 - self.num_distinct / self.num_tokens,
            "padding_share": 1.0 - self.num_tokens / self.num_slots,
            "model_flops": self.model_flops,
        }
