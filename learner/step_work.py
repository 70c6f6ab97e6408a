"""What a step is divided by, and what its micro-batches amounted to: tokens, packing's gains and losses, operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.records import TrainingSample
from learner.flops import ModelFlops
from learner.packing import PackedBatch


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The denominators of one optimizer step, over all micro-batches and ranks."""

    num_loss_tokens: int
    num_sequences: int

    @classmethod
    def of(cls, samples: Iterable[TrainingSample]) -> StepTotals:
        """Loss tokens, and sequences that have at least one."""
        counts = [sum(sample.loss_mask_T) for sample in samples]
        return cls(sum(counts), sum(1 for count in counts if count))


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
