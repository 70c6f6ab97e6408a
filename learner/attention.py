"""Attention over a packed row in which no sequence sees another.

Transformers hands attention to a named function; this module registers `packed_sdpa`. It lifts the packed
[1, heads, T, d] queries, keys and values into a few right-padded blocks of samples of like length, runs causal
scaled-dot-product attention on each block, and puts the results back into the row. So only attention touches padding,
every linear layer works on real tokens, and the cost stays the sum of squared lengths: a dense block-diagonal mask
over the row would pay for the square of their sum. A causal query cannot reach the padding keys to its right, hence
no mask exists at all. A prompt that several samples share is lifted into each of them; its gradient is the sum over
the copies.

On an accelerator with FlashAttention, keyword arguments of its own drive `flash_attention_2` (not run on a GPU here);
it cannot repeat a prompt, so it needs rows without shared ones. Every other attention would let packed samples attend
to each other and is refused.

Shape suffixes: T distinct tokens of the packed row, R tokens of all samples (shared prompts repeated), K slots of all
padded blocks together, h heads, d head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from data.records import UserError
from learner.packing import PackedBatch

PACKED_SDPA = "packed_sdpa"
FLASH = "flash_attention_2"
PACKING_ATTENTIONS = (PACKED_SDPA, FLASH)

BUCKET_RATIO = 0.9
"""A block takes sequences down to this share of its longest: at most 19 % of a block's attention cost is padding, and
lengths from 50 to 150 need at most eleven blocks. Completions with a long tail (16 to 512 tokens) waste 2 to 3 % of the
slots; with 0.8 it was 6 to 8 %."""


def check_packing_attention(attention: str) -> None:
    """Raise UserError unless `attention` keeps packed samples apart."""
    if attention not in PACKING_ATTENTIONS:
        raise UserError(
            f"attention={attention!r}: packed samples would attend to each other; use {' or '.join(PACKING_ATTENTIONS)}"
        )


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where each token of the row sits in the padded blocks.

    `blocks` holds (number of samples, padded length); the blocks' slots follow each other. `token_of_slot_K` points
    padding slots at token 0: nobody reads what they compute. `slot_of_token_T` is the first slot of a token; with
    `shared` some tokens sit in several. `identity` says that row and slots are the same.
    """

    blocks: tuple[tuple[int, int], ...]
    token_of_slot_K: Tensor
    slot_of_token_T: Tensor
    shared: bool
    identity: bool

    @property
    def num_slots(self) -> int:
        return int(self.token_of_slot_K.shape[0])

    @classmethod
    def from_rows(
        cls, lengths: Sequence[int], token_of_row: np.ndarray, device: torch.device | str = "cpu"
    ) -> PackedLayout:
        """Group samples of these lengths, whose tokens in the packed row are `token_of_row` [R], by like length."""
        starts = np.cumsum([0, *lengths])
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        buckets = _buckets(lengths, order)
        num_tokens = int(token_of_row.max()) + 1 if len(token_of_row) else 0
        token_of_slot = np.zeros(sum(len(members) * lengths[members[0]] for members in buckets), dtype=np.int64)
        slot_of_token = np.full(num_tokens, -1, dtype=np.int64)
        blocks: list[tuple[int, int]] = []
        offset = 0
        for members in buckets:
            padded = lengths[members[0]]
            blocks.append((len(members), padded))
            for index in members:
                tokens = token_of_row[starts[index] : starts[index + 1]]
                token_of_slot[offset : offset + len(tokens)] = tokens
                first = slot_of_token[tokens] < 0
                slot_of_token[tokens[first]] = offset + np.flatnonzero(first)
                offset += padded
        return cls(
            blocks=tuple(blocks),
            token_of_slot_K=torch.from_numpy(token_of_slot).to(device),
            slot_of_token_T=torch.from_numpy(slot_of_token).to(device),
            shared=len(token_of_row) > num_tokens,
            identity=bool(len(token_of_slot) == len(slot_of_token) and np.all(np.diff(slot_of_token) == 1)),
        )


def _buckets(lengths: Sequence[int], order: Sequence[int]) -> list[list[int]]:
    buckets: list[list[int]] = []
    for index in order:
        if buckets and lengths[index] >= BUCKET_RATIO * lengths[buckets[-1][0]]:
            buckets[-1].append(index)
        else:
            buckets.append([index])
    return buckets


def attention_kwargs(batch: PackedBatch, attention: str) -> dict[str, Any]:
    """Keyword arguments that a transformers backbone passes down to every attention layer for this packed row.

    Raises UserError for an attention that cannot keep the samples apart, ValueError for one that cannot repeat the
    prompt that they share.
    """
    check_packing_attention(attention)
    if attention == PACKED_SDPA:
        token_of_row = batch.token_of_row_R.cpu().numpy()
        return {"packed_layout": PackedLayout.from_rows(batch.lengths, token_of_row, batch.token_ids_T.device)}
    if batch.num_row_tokens != batch.num_tokens:
        raise ValueError(f"{attention}: the packed row shares prompts; pack it with share_prompts=False")
    borders, longest = batch.cu_seqlens, max(batch.lengths, default=0)
    return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}


class _TokensToSlots(torch.autograd.Function):
    """Lift into the padded blocks; padding slots never receive a gradient, so that the way back is a gather too.

    Where prompts are shared the gradients of a token's copies add up.
    """

    @staticmethod
    def forward(ctx: Any, values_Thd: Tensor, layout: PackedLayout) -> Tensor:
        ctx.layout = layout
        return values_Thd.index_select(0, layout.token_of_slot_K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Khd: Tensor) -> tuple[Tensor, None]:
        layout: PackedLayout = ctx.layout
        if not layout.shared:
            return grad_Khd.index_select(0, layout.slot_of_token_T), None
        grad_Thd = grad_Khd.new_zeros(layout.slot_of_token_T.shape[0], *grad_Khd.shape[1:])
        return grad_Thd.index_add_(0, layout.token_of_slot_K, grad_Khd), None


class _SlotsToTokens(torch.autograd.Function):
    """Gather back into the row, from a token's first slot; the gradient of all other slots is exactly zero."""

    @staticmethod
    def forward(ctx: Any, values_Khd: Tensor, layout: PackedLayout) -> Tensor:
        ctx.layout = layout
        return values_Khd.index_select(0, layout.slot_of_token_T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Thd: Tensor) -> tuple[Tensor, None]:
        grad_Khd = grad_Thd.new_zeros(ctx.layout.num_slots, *grad_Thd.shape[1:])
        return grad_Khd.index_copy_(0, ctx.layout.slot_of_token_T, grad_Thd), None


def _causal_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, scaling: float) -> Tensor:
    """Causal grouped-query attention on each padded block: [K, h, d] in, [K, h, d] out."""
    sizes = [num_sequences * padded for num_sequences, padded in layout.blocks]
    outputs: list[Tensor] = []
    for (num_sequences, padded), *parts in zip(
        layout.blocks, query.split(sizes), key.split(sizes), value.split(sizes), strict=True
    ):
        q, k, v = (part.unflatten(0, (num_sequences, padded)).transpose(1, 2) for part in parts)
        grouped = q.shape[1] != k.shape[1]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        outputs.append(mixed.transpose(1, 2).flatten(0, 1))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def packed_sdpa_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    packed_layout: PackedLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for a packed row in transformers' calling convention: [1, h, T, d] in, ([1, T, h, d], None) out.

    Raises ValueError where it would have to guess: without the layout of the row, with a mask, dropout or a sliding
    window.
    """
    if packed_layout is None or query.shape[0] != 1 or query.shape[2] != packed_layout.slot_of_token_T.shape[0]:
        raise ValueError(f"{PACKED_SDPA}: pass attention_kwargs(...) and one packed row, got {tuple(query.shape)}")
    if attention_mask is not None or dropout or sliding_window is not None:
        raise ValueError(f"{PACKED_SDPA}: masks, dropout and sliding windows are not supported")
    # On a CPU the float32 kernel is two to four times as fast as the bfloat16 one, forward and backward together, and
    # under autocast queries and keys leave the rotary embedding in float32 anyhow.
    dtype = value.dtype if value.device.type != "cpu" or value.dtype == torch.float64 else torch.float32
    rows = [tensor[0].transpose(0, 1).to(dtype) for tensor in (query, key, value)]
    with torch.autocast(query.device.type, enabled=False):
        if packed_layout.identity:
            mixed_Thd = _causal_attention(rows[0], rows[1], rows[2], packed_layout, scaling)
        else:
            slots = [_TokensToSlots.apply(row, packed_layout) for row in rows]
            mixed_Thd = _SlotsToTokens.apply(
                _causal_attention(slots[0], slots[1], slots[2], packed_layout, scaling), packed_layout
            )
    return mixed_Thd.to(value.dtype).unsqueeze(0), None


# Registered for attention and deliberately not for masks: transformers builds no mask for a name it does not know.
ALL_ATTENTION_FUNCTIONS.register(PACKED_SDPA, packed_sdpa_forward)
