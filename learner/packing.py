"""Packing: many training samples in one row of tokens, so that no linear layer works on padding or on a prompt twice.

`plan_microbatches` chooses which samples share a micro-batch and which rank runs it; `PackedBatch` lays them end to
end. The samples of a group begin with the same prompt, and a causal model computes the same hidden states for it in
each of them: their prompt is laid down once, followed by every sample's own tokens (Prefix Grouper, Liu et al. 2025,
arXiv 2506.05433, has the same idea with attention cut in two). That is exact; attention alone reads a sample as a whole
and sees the prompt once a sample (`learner.attention`). Loss masks are taken from the samples and never inferred from a
padding id, so an end-of-text token that doubles as padding keeps its loss.

Shape suffixes: S samples of a micro-batch, T distinct tokens of the packed row, R tokens of all samples one after the
other (prompts repeated), N tokens that carry loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from data.records import TrainingSample, UserError

ATTENTION_COPIES = 2
"""A micro-batch holds at most this many times `microbatch_tokens` in attention, where a shared prompt is repeated."""

MAX_IMBALANCE = 0.1
"""How much more than the mean a rank may have to do before groups are split to even the ranks out."""

MIN_SHARED_PROMPT = 8
"""Shorter prompts stand in every sample: what sharing saves would not pay for taking the row apart in attention."""

Cost = Callable[[int, Sequence[int]], float]
"""What a micro-batch costs: of its number of distinct tokens and the lengths of its samples."""


def pack(lengths: Sequence[int], max_tokens: int, *, long_alone: bool = False) -> list[list[int]]:
    """Indices for each bin of at most `max_tokens`: first-fit decreasing, ties in input order.

    Johnson's bound: at most 11/9 of the least possible number of bins, plus one. Each index occurs exactly once. Raises
    UserError for a sample that fits nowhere, since a silent bin of its own would break the memory bound, and for an
    empty one. With `long_alone` it gets one, which nothing else shares.
    """
    _require_fit(lengths, max_tokens, long_alone=long_alone)
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        for slot, free in enumerate(room):
            if free >= length:
                bins[slot].append(index)
                room[slot] -= length
                break
        else:
            bins.append([index])
            room.append(max_tokens - length)
    return bins


def _require_fit(lengths: Sequence[int], max_tokens: int, *, long_alone: bool) -> None:
    for index, length in enumerate(lengths):
        if length > max_tokens and not long_alone:
            raise UserError(
                f"microbatch_tokens: {max_tokens} is less than the {length} tokens of sample {index}; "
                f"set microbatch_tokens to at least {length}, or long_samples to alone, or shorten the samples"
            )
        if length < 1:
            raise UserError(f"training sample {index}: it has no tokens; drop it before the learner")


# -- samples that share a prompt --------------------------------------------------------------------------------------


def prompt_length(sample: TrainingSample) -> int:
    """Tokens before the first one that carries loss: the part that samples of one prompt have in common."""
    try:
        return sample.loss_mask_T.index(1)
    except ValueError:  # no token carries loss
        return len(sample.token_ids_T)


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Samples of one micro-batch that begin with the same `prompt_tokens` tokens, by index."""

    indices: tuple[int, ...]
    lengths: tuple[int, ...]
    prompt_tokens: int

    @property
    def num_tokens(self) -> int:
        """Distinct tokens: the prompt once, and every sample's own."""
        return self.prompt_tokens + sum(self.lengths) - self.prompt_tokens * len(self.lengths)

    @property
    def size(self) -> int:
        """What the group takes of `microbatch_tokens`: its distinct tokens, or its share of what attention may hold."""
        return max(self.num_tokens, -(-sum(self.lengths) // ATTENTION_COPIES))

    def halves(self) -> tuple[PromptGroup, PromptGroup]:
        middle = len(self.indices) // 2
        first = PromptGroup(self.indices[:middle], self.lengths[:middle], self.prompt_tokens)
        return first, PromptGroup(self.indices[middle:], self.lengths[middle:], self.prompt_tokens)


def prompt_groups(
    samples: Sequence[TrainingSample], max_tokens: int, *, share_prompts: bool = True, long_alone: bool = False
) -> list[PromptGroup]:
    """The samples by common prompt, in order of first appearance, cut so that each group fits into `max_tokens`.

    Without `share_prompts` every sample stands alone. With `long_alone` a longer sample is a group of its own.
    """
    lengths = [len(sample.token_ids_T) for sample in samples]
    _require_fit(lengths, max_tokens, long_alone=long_alone)
    open_groups: dict[tuple[int, ...], int] = {}
    groups: list[PromptGroup] = []
    for index, sample in enumerate(samples):
        prompt = sample.token_ids_T[: prompt_length(sample)]
        place = open_groups.get(prompt) if share_prompts and len(prompt) >= MIN_SHARED_PROMPT else None
        if place is not None:
            group = groups[place]
            grown = PromptGroup((*group.indices, index), (*group.lengths, lengths[index]), len(prompt))
            if grown.size <= max_tokens:
                groups[place] = grown
                continue
        open_groups[prompt] = len(groups)
        groups.append(PromptGroup((index,), (lengths[index],), len(prompt)))
    return groups


# -- micro-batches and ranks ------------------------------------------------------------------------------------------


def plan_microbatches(
    samples: Sequence[TrainingSample],
    max_tokens: int,
    *,
    share_prompts: bool = True,
    long_alone: bool = False,
    num_ranks: int = 1,
    cost: Cost = lambda num_tokens, lengths: float(num_tokens),
) -> list[list[list[int]]]:
    """Sample indices by rank and micro-batch: plan[rank][micro-batch].

    Every rank gets the same number of micro-batches, because ranks that share weights wait for each other in each; some
    may be empty when there is too little to do. On several ranks the micro-batches have nearly the same `cost`. Raises
    UserError as `pack` does, unless `long_alone` gives a longer sample a micro-batch of its own.
    """
    groups = prompt_groups(samples, max_tokens, share_prompts=share_prompts, long_alone=long_alone)
    packed = pack([group.size for group in groups], max_tokens, long_alone=long_alone)
    bins = [[groups[place] for place in members] for members in packed]
    if num_ranks > 1:
        bins = _balanced(groups, bins, max_tokens, num_ranks, cost)
    per_rank = len(bins) // num_ranks
    plan: list[list[list[int]]] = [[] for _ in range(num_ranks)]
    loads = [0.0] * num_ranks
    for members in sorted(bins, key=lambda held: -_cost(held, cost)):
        rank = min((r for r in range(num_ranks) if len(plan[r]) < per_rank), key=lambda r: (loads[r], r))
        plan[rank].append([index for group in members for index in group.indices])
        loads[rank] += _cost(members, cost)
    return plan


def _cost(groups: Sequence[PromptGroup], cost: Cost) -> float:
    lengths = [length for group in groups for length in group.lengths]
    return cost(sum(group.num_tokens for group in groups), lengths) if lengths else 0.0


def _balanced(
    groups: list[PromptGroup], tight: list[list[PromptGroup]], max_tokens: int, num_ranks: int, cost: Cost
) -> list[list[PromptGroup]]:
    """The groups in as few bins as the ranks can share evenly, largest first into the lightest bin with room.

    A group that makes one bin much heavier than the mean is cut in two, at the price of its prompt. Where the greedy
    order finds no room, the tight bins are kept and the ranks without one get an empty bin.
    """
    num_bins = -(-len(tight) // num_ranks) * num_ranks
    parts = list(groups)
    while True:
        bins = _spread(parts, num_bins, max_tokens, cost)
        if bins is None:
            return tight + [[] for _ in range(num_bins - len(tight))]
        loads = [_cost(members, cost) for members in bins]
        heaviest = bins[loads.index(max(loads))]
        largest = max(heaviest, key=lambda group: (_cost([group], cost), -group.indices[0]))
        if max(loads) <= (1 + MAX_IMBALANCE) * sum(loads) / num_bins or len(largest.indices) == 1:
            return bins
        parts.remove(largest)
        parts += largest.halves()


def _spread(
    groups: Sequence[PromptGroup], num_bins: int, max_tokens: int, cost: Cost
) -> list[list[PromptGroup]] | None:
    bins: list[list[PromptGroup]] = [[] for _ in range(num_bins)]
    loads, room = [0.0] * num_bins, [max_tokens] * num_bins
    for group in sorted(groups, key=lambda group: (-_cost([group], cost), group.indices[0])):
        # A group that no bin can hold goes into an empty one, where it leaves no room.
        fitting = [place for place in range(num_bins) if room[place] >= min(group.size, max_tokens)]
        if not fitting:
            return None
        place = min(fitting, key=lambda p: (loads[p], p))
        bins[place].append(group)
        loads[place] += _cost([group], cost)
        room[place] -= group.size
    return bins


# -- one micro-batch as tensors ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """One micro-batch as a packed row.

    `token_of_row_R` says which of the T tokens each token of each sample is, sample after sample. The loss tokens stand
    by themselves, in the order of the samples: the hidden state of `predictor_N` predicts `target_ids_N`, and
    `row_position_N` is the place of the token among the R.
    """

    token_ids_T: Tensor
    position_ids_T: Tensor
    token_of_row_R: Tensor
    lengths: tuple[int, ...]
    predictor_N: Tensor
    target_ids_N: Tensor
    row_position_N: Tensor
    sequence_ids_N: Tensor
    behavior_logprobs_N: Tensor
    advantages_N: Tensor
    temperature_N: Tensor

    @property
    def num_tokens(self) -> int:
        """Distinct tokens, what the linear layers work on."""
        return int(self.token_ids_T.shape[0])

    @property
    def num_row_tokens(self) -> int:
        """Tokens of all samples, shared prompts counted for each."""
        return sum(self.lengths)

    @property
    def cu_seqlens(self) -> Tensor:
        """Borders of the samples, int32, for attention that takes them; needs a row without shared prompts."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=self.token_ids_T.device)

    @classmethod
    def from_samples(
        cls, samples: Sequence[TrainingSample], device: torch.device | str = "cpu", *, share_prompts: bool = True
    ) -> PackedBatch:
        """The samples end to end, a prompt that several begin with once; integers as int64, the rest as float32."""
        token_ids: list[np.ndarray] = []
        positions: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        loss: list[_LossRow] = []
        prompts: dict[tuple[int, ...], np.ndarray] = {}
        num_tokens = num_row_tokens = 0

        def lay_down(ids: Sequence[int], start: int) -> np.ndarray:
            nonlocal num_tokens
            token_ids.append(np.asarray(ids, dtype=np.int64))
            positions.append(np.arange(start, start + len(ids)))
            num_tokens += len(ids)
            return np.arange(num_tokens - len(ids), num_tokens)

        for number, sample in enumerate(samples):
            cut = prompt_length(sample)
            prompt = sample.token_ids_T[:cut]
            laid = prompts.get(prompt) if share_prompts and cut >= MIN_SHARED_PROMPT else None
            if laid is None:
                laid = prompts[prompt] = lay_down(prompt, 0)
            row = np.concatenate([laid, lay_down(sample.token_ids_T[cut:], cut)])
            rows.append(row)
            loss.append(_LossRow.of(sample, row, number, num_row_tokens))
            num_row_tokens += len(row)

        def joined(parts: Sequence[np.ndarray], dtype: type) -> Tensor:
            whole = np.concatenate(parts) if parts else np.zeros(0)
            return torch.from_numpy(whole.astype(dtype, copy=False)).to(device)

        return cls(
            token_ids_T=joined(token_ids, np.int64),
            position_ids_T=joined(positions, np.int64),
            token_of_row_R=joined(rows, np.int64),
            lengths=tuple(len(row) for row in rows),
            predictor_N=joined([part.predictor for part in loss], np.int64),
            target_ids_N=joined([part.target for part in loss], np.int64),
            row_position_N=joined([part.row_position for part in loss], np.int64),
            sequence_ids_N=joined([part.sequence for part in loss], np.int64),
            behavior_logprobs_N=joined([part.behavior for part in loss], np.float32),
            advantages_N=joined([part.advantages for part in loss], np.float32),
            temperature_N=joined([part.temperature for part in loss], np.float32),
        )

    def rows_of(self, values_N: Tensor) -> list[Tensor]:
        """Values of the loss tokens as one row for each sample, in the order of packing, 0 where there is no loss."""
        values_R = values_N.new_zeros(self.num_row_tokens).index_copy_(0, self.row_position_N, values_N)
        return list(torch.split(values_R, list(self.lengths)))

    def at_loss(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """The other way round: float32 values of every token, row by row, at the loss tokens.

        Raises ValueError for rows of other lengths than the samples'.
        """
        if [len(row) for row in rows] != list(self.lengths):
            raise ValueError(f"per-token rows hold {[len(row) for row in rows]} values for {list(self.lengths)} tokens")
        values_R = torch.tensor([value for row in rows for value in row], dtype=torch.float32)
        return values_R.to(self.row_position_N.device)[self.row_position_N]


@dataclass(frozen=True, slots=True)
class _LossRow:
    """The loss tokens of one sample."""

    predictor: np.ndarray
    target: np.ndarray
    row_position: np.ndarray
    sequence: np.ndarray
    behavior: np.ndarray
    advantages: np.ndarray
    temperature: np.ndarray

    @classmethod
    def of(cls, sample: TrainingSample, row: np.ndarray, number: int, offset: int) -> _LossRow:
        at = np.flatnonzero(np.asarray(sample.loss_mask_T))
        return cls(
            predictor=row[at - 1],  # a sample's first token never carries loss
            target=np.asarray(sample.token_ids_T, dtype=np.int64)[at],
            row_position=at + offset,
            sequence=np.full(len(at), number),
            behavior=np.asarray(sample.behavior_logprobs_T, dtype=np.float32)[at],
            advantages=np.asarray(sample.advantages_T, dtype=np.float32)[at],
            temperature=np.full(len(at), sample.temperature),
        )
