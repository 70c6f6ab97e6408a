"""The processes that train one model together: who this one is, and what they exchange.

Data-parallel ranks each hold the model and run their share of a step's micro-batches; their gradients are added up
before the norm is taken, so that one rank and many take the same step. One rank alone is `Ranks()`, and exchanges
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 32 * 2**20
"""Gradients travel in flat pieces of about this size: few messages, and no second copy of all gradients."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number among `size` that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, rank: int, size: int, *, address: str, device: torch.device | str, timeout_s: float) -> Ranks:
        """Meet the other ranks at `address` (tcp://host:port, served by rank 0); gloo on a CPU, NCCL on CUDA.

        Raises RuntimeError when not all have come within `timeout_s`.
        """
        # Objects are gathered through gloo on either device; NCCL carries the tensors.
        backend = "cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo"
        dist.init_process_group(
            backend, init_method=address, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s)
        )
        return cls(rank, size)

    def leave(self) -> None:
        """End the connection; harmless without one."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """Every rank's value in the order of ranks, on every rank; values must pickle."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """The first rank's value, on every rank."""
        return self.gather(value)[0]

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Add up each gradient over the ranks, in place; all ranks end with the same bits."""
        if self.size == 1:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            offset = 0
            for gradient in bucket:
                gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
                offset += gradient.numel()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type in order, cut at `BUCKET_BYTES`; a larger one stands alone."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
