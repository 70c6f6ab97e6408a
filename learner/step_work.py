"""What a step is divided by, and what its micro-batches amounted to: tokens, packing's gains and losses, operations,
memory.

Each rank counts its own micro-batches; the counts of all ranks add up to those of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from data import process_memory
from data.records import TrainingSample
from learner import accelerators
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
    num_long: int = 0
    model_flops: float = 0.0

    def add(self, batch: PackedBatch, num_slots: int, flops: ModelFlops, *, num_long: int = 0) -> None:
        self.num_microbatches += 1
        self.num_tokens += batch.num_row_tokens
        self.num_distinct += batch.num_tokens
        self.num_slots += num_slots
        self.num_long += num_long
        self.model_flops += flops.train(batch.num_tokens, batch.lengths, int(batch.target_ids_N.shape[0]))

    @classmethod
    def total(cls, parts: Sequence[StepWork]) -> StepWork:
        return cls(*(sum(getattr(part, name) for part in parts) for name in cls.__slots__))

    def metrics(self) -> dict[str, float]:
        """Tokens of all samples, the share of them that a shared prompt saved, the share of attention that was padding,
        the samples longer than a micro-batch, and the operations that the model needs for them."""
        return {
            "num_microbatches": float(self.num_microbatches),
            "num_tokens": float(self.num_tokens),
            "num_long_samples": float(self.num_long),
            "shared_prompt_share": 1.0 - self.num_distinct / self.num_tokens,
            "padding_share": 1.0 - self.num_tokens / self.num_slots,
            "model_flops": self.model_flops,
        }


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What a rank's process and device have held at the most, in bytes, and what the device can compute, if known."""

    process_bytes: int
    device_bytes: int | None
    peak_flops: float | None

    @classmethod
    def now(cls, device: torch.device, dtype: str) -> DeviceUse:
        return cls(
            process_memory.peak_memory_bytes(),
            accelerators.peak_memory_bytes(device),
            accelerators.peak_flops(device, dtype),
        )

    @classmethod
    def reset(cls, device: torch.device) -> None:
        """Let the peaks begin again, as when a stage starts."""
        process_memory.reset_peak_memory()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @staticmethod
    def timing(ranks: Sequence[DeviceUse]) -> dict[str, float]:
        """For the step's `timing`: memory of the rank that took most, and what all devices could compute a second."""
        found = {"learner_peak_bytes": float(max(use.process_bytes for use in ranks))}
        device_bytes = [use.device_bytes for use in ranks if use.device_bytes is not None]
        if device_bytes:
            found["learner_device_peak_bytes"] = float(max(device_bytes))
        peaks = [use.peak_flops for use in ranks if use.peak_flops is not None]
        if len(peaks) == len(ranks):
            found["peak_flops_per_s"] = sum(peaks)
        return found
