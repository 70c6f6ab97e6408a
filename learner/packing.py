"""Packing: many training samples in one row of tokens, so that no linear layer works on padding.

`pack` chooses which samples share a micro-batch, `PackedBatch` lays them end to end. Position ids restart at each
sample and `cu_seqlens` marks the borders; `learner.attention` keeps samples from seeing each other. The loss mask is
taken from the samples and never inferred from a padding id, so an end-of-text token that doubles as padding keeps its
loss.

Shape suffixes: S sequences of a micro-batch, T tokens of the packed row, N tokens that carry loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
import torch
from torch import Tensor

from data.records import TrainingSample, UserError


def pack(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Sample indices for each micro-batch of at most `max_tokens` tokens: first-fit decreasing, ties in input order.

    Johnson's bound: at most 11/9 of the least possible number of micro-batches, plus one. Each index occurs exactly
    once; within a micro-batch lengths fall, which keeps attention buckets tight. Raises UserError for a sample that
    fits nowhere, since a silent micro-batch of its own would break the memory bound, and for an empty sample.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > max_tokens:
            raise UserError(
                f"microbatch_tokens: {max_tokens} is less than the {length} tokens of sample {index}; "
                f"set microbatch_tokens to at least {length} or shorten the samples"
            )
        if length < 1:
            raise UserError(f"training sample {index}: it has no tokens; drop it before the learner")
        for slot, free in enumerate(room):
            if free >= length:
                bins[slot].append(index)
                room[slot] -= length
                break
        else:
            bins.append([index])
            room.append(max_tokens - length)
    return bins


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """One micro-batch as a packed row.

    Token t of the row is predicted by the hidden state of token t-1: `loss_positions_N` are the t with loss mask 1, and
    `loss_positions_N - 1` lies in the same sequence, because a sample's first token never carries loss.
    """

    token_ids_T: Tensor
    position_ids_T: Tensor
    sequence_ids_T: Tensor
    loss_mask_T: Tensor
    behavior_logprobs_T: Tensor
    advantages_T: Tensor
    temperature_T: Tensor
    cu_seqlens: Tensor
    lengths: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        return int(self.token_ids_T.shape[0])

    @property
    def max_seqlen(self) -> int:
        return max(self.lengths, default=0)

    @property
    def loss_positions_N(self) -> Tensor:
        return self.loss_mask_T.nonzero().squeeze(1)

    @classmethod
    def from_samples(cls, samples: Sequence[TrainingSample], device: torch.device | str = "cpu") -> PackedBatch:
        """The samples end to end, in the given order; integers as int64, the rest as float32."""
        lengths = tuple(len(sample.token_ids_T) for sample in samples)
        num_tokens = sum(lengths)
        lengths_S = np.asarray(lengths, dtype=np.int64)
        starts_S = np.cumsum(lengths_S) - lengths_S

        def flat(rows: Iterable[Iterable[float]], dtype: type) -> Tensor:
            return torch.from_numpy(np.fromiter(chain.from_iterable(rows), dtype, count=num_tokens)).to(device)

        def spread(values_S: np.ndarray) -> Tensor:
            return torch.from_numpy(np.repeat(values_S, lengths_S)).to(device)

        return cls(
            token_ids_T=flat((sample.token_ids_T for sample in samples), np.int64),
            position_ids_T=torch.from_numpy(np.arange(num_tokens) - np.repeat(starts_S, lengths_S)).to(device),
            sequence_ids_T=spread(np.arange(len(lengths))),
            loss_mask_T=flat((sample.loss_mask_T for sample in samples), np.int64),
            behavior_logprobs_T=flat((sample.behavior_logprobs_T for sample in samples), np.float32),
            advantages_T=flat((sample.advantages_T for sample in samples), np.float32),
            temperature_T=spread(np.asarray([sample.temperature for sample in samples], dtype=np.float32)),
            cu_seqlens=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
            lengths=lengths,
        )

    def unpack(self, values_T: Tensor) -> list[Tensor]:
        """Per-token values of the row as one tensor for each sequence, in the order of packing."""
        return list(torch.split(values_T, list(self.lengths)))
