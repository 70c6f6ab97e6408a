"""Log-probability and entropy of given tokens straight from hidden states, without the [tokens, vocabulary] logits.

The largest tensor of a training step is by far the logits: 16,384 tokens over 151,936 words are 9.3 GiB in float32.
Here the language-model head and the log-softmax are one autograd function over chunks of tokens. The forward pass keeps
hidden states, weight, targets and two numbers per token; the backward pass computes each chunk's logits once more. So
both passes hold a few [chunk, V] buffers and nothing that grows with tokens times vocabulary.

Place in the flow: `learner.learner` runs the backbone on a packed row, picks the positions whose next token carries
loss, and calls `chunked_logprobs`; the losses see log-probabilities only.

Shape suffixes: N selected tokens, H hidden size, V vocabulary, C tokens of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DEFAULT_CHUNK_BYTES = 64 * 2**20


def tokens_per_chunk(vocab_size: int, chunk_bytes: int, *, element_bytes: int = 4) -> int:
    """How many tokens' logits fit into `chunk_bytes` (at least one token).

    The passes hold at most four buffers of this size at a time.
    """
    return max(1, chunk_bytes // (element_bytes * vocab_size))


def chunked_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    *,
    temperature_N: Tensor | float = 1.0,
    chunk_tokens: int | None = None,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    with_entropy: bool = True,
    bias: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each target and entropy of its distribution, in nats, [N] and [N] (None without entropy).

    With z = (W h + b) / T: log p(y) = z_y - logsumexp(z) and H = logsumexp(z) - sum_v p_v z_v. Both are
    differentiable in hidden states, weight and bias; temperature is a constant. Products run in `compute_dtype`
    (default: that of the hidden states), everything after them in float32 at least, since a bfloat16 logsumexp over a
    large vocabulary is off by more than a clipping range. The weight's gradient is summed over chunks in float32.

    The caller selects the tokens that carry loss beforehand. `chunk_tokens` overrides `chunk_bytes`. Raises ValueError
    for shapes that do not match and for a temperature that is not positive.
    """
    inverse_temperature_N, chunk, reduce_dtype = head_arguments(
        hidden_NH, weight_VH, targets_N, temperature_N, chunk_tokens, chunk_bytes
    )
    logprobs_N, entropy_N = _ChunkedLogprobs.apply(
        hidden_NH, weight_VH, bias, targets_N, inverse_temperature_N, chunk, with_entropy,
        compute_dtype or hidden_NH.dtype, reduce_dtype,
    )  # fmt: skip
    return logprobs_N, entropy_N if with_entropy else None


def head_arguments(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    temperature_N: Tensor | float,
    chunk_tokens: int | None,
    chunk_bytes: int,
) -> tuple[Tensor, int, torch.dtype]:
    """1/T of each token [N], tokens of a chunk, and the type for what follows the products: checked, for either pass.

    Raises ValueError for shapes that do not match and for a temperature that is not positive.
    """
    num_tokens, vocab_size = hidden_NH.shape[0], weight_VH.shape[0]
    if targets_N.shape != (num_tokens,) or hidden_NH.shape[-1] != weight_VH.shape[-1]:
        raise ValueError(
            f"language-model head: hidden {tuple(hidden_NH.shape)}, weight {tuple(weight_VH.shape)} and "
            f"targets {tuple(targets_N.shape)} do not match"
        )
    reduce_dtype = torch.promote_types(hidden_NH.dtype, torch.float32)
    temperature_N = torch.as_tensor(temperature_N, dtype=reduce_dtype, device=hidden_NH.device).expand(num_tokens)
    if num_tokens and not bool((temperature_N > 0).all()):
        raise ValueError(f"language-model head: temperature must be positive, got {float(temperature_N.min())}")
    chunk = chunk_tokens or tokens_per_chunk(vocab_size, chunk_bytes, element_bytes=reduce_dtype.itemsize)
    return temperature_N.reciprocal(), chunk, reduce_dtype


def chunk_logits(
    hidden_CH: Tensor, weight_VH: Tensor, bias: Tensor | None, inverse_temperature_C: Tensor, reduce_dtype: torch.dtype
) -> Tensor:
    logits_CV = (hidden_CH @ weight_VH.t()).to(reduce_dtype)
    if bias is not None:
        logits_CV += bias.to(reduce_dtype)
    return logits_CV.mul_(inverse_temperature_C[:, None])


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias: Tensor | None,
        targets_N: Tensor,
        inverse_temperature_N: Tensor,
        chunk: int,
        with_entropy: bool,
        compute_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        num_tokens = hidden_NH.shape[0]
        logprobs_N, log_z_N, entropy_N = (hidden_NH.new_zeros(num_tokens, dtype=reduce_dtype) for _ in range(3))
        with torch.autocast(hidden_NH.device.type, enabled=False):
            weight_compute_VH = weight_VH.to(compute_dtype)
            for start in range(0, num_tokens, chunk):
                rows = slice(start, start + chunk)
                hidden_CH = hidden_NH[rows].to(compute_dtype)
                logits_CV = chunk_logits(hidden_CH, weight_compute_VH, bias, inverse_temperature_N[rows], reduce_dtype)
                max_C1 = logits_CV.amax(dim=1, keepdim=True)
                logits_CV.sub_(max_C1)  # the largest is 0 now: exp cannot overflow
                target_C = logits_CV.gather(1, targets_N[rows, None]).squeeze(1)
                weights_CV = logits_CV.exp()
                z_C = weights_CV.sum(dim=1)
                log_z_C = z_C.log()
                logprobs_N[rows] = target_C - log_z_C
                log_z_N[rows] = log_z_C + max_C1.squeeze(1)
                if with_entropy:
                    entropy_N[rows] = log_z_C - weights_CV.mul_(logits_CV).sum(dim=1) / z_C
        ctx.save_for_backward(hidden_NH, weight_VH, bias, targets_N, inverse_temperature_N, log_z_N, entropy_N)
        ctx.chunk, ctx.compute_dtype, ctx.reduce_dtype = chunk, compute_dtype, reduce_dtype
        ctx.set_materialize_grads(False)  # a metric-only entropy then costs nothing in the backward pass
        if not with_entropy:
            ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs_N: Tensor | None, grad_entropy_N: Tensor | None) -> tuple[Tensor | None, ...]:
        """Chunk by chunk: d logp/dz = onehot(y) - p and dH/dz = -p (log p + H), then through z = (W h + b) / T."""
        hidden_NH, weight_VH, bias, targets_N, inverse_temperature_N, log_z_N, entropy_N = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        if grad_logprobs_N is None and grad_entropy_N is None:
            return (None,) * 9
        grad_hidden_NH = torch.zeros_like(hidden_NH) if need_hidden else None
        # One buffer for the whole pass: a tensor per chunk, summed by autograd, would be V x H each time.
        grad_weight_VH = torch.zeros_like(weight_VH, dtype=ctx.reduce_dtype) if need_weight else None
        grad_bias_V = torch.zeros_like(bias, dtype=ctx.reduce_dtype) if need_bias and bias is not None else None
        with torch.autocast(hidden_NH.device.type, enabled=False):
            weight_compute_VH = weight_VH.to(ctx.compute_dtype)
            for start in range(0, hidden_NH.shape[0], ctx.chunk):
                rows = slice(start, start + ctx.chunk)
                hidden_CH = hidden_NH[rows].to(ctx.compute_dtype)
                logits_CV = chunk_logits(
                    hidden_CH, weight_compute_VH, bias, inverse_temperature_N[rows], ctx.reduce_dtype
                )
                grad_logits_CV = _grad_logits(
                    logits_CV.sub_(log_z_N[rows, None]), targets_N[rows], entropy_N[rows],
                    None if grad_logprobs_N is None else grad_logprobs_N[rows],
                    None if grad_entropy_N is None else grad_entropy_N[rows],
                ).mul_(inverse_temperature_N[rows, None])  # fmt: skip
                if grad_bias_V is not None:
                    grad_bias_V += grad_logits_CV.sum(dim=0)
                grad_logits_CV = grad_logits_CV.to(ctx.compute_dtype)
                if grad_hidden_NH is not None:
                    grad_hidden_NH[rows] = (grad_logits_CV @ weight_compute_VH).to(grad_hidden_NH.dtype)
                if grad_weight_VH is not None:
                    accumulate_product(grad_weight_VH, grad_logits_CV.t(), hidden_CH)
        grad_weight = None if grad_weight_VH is None else grad_weight_VH.to(weight_VH.dtype)
        grad_bias = None if grad_bias_V is None or bias is None else grad_bias_V.to(bias.dtype)
        return grad_hidden_NH, grad_weight, grad_bias, None, None, None, None, None, None


def _grad_logits(
    logp_CV: Tensor, targets_C: Tensor, entropy_C: Tensor, grad_logp_C: Tensor | None, grad_entropy_C: Tensor | None
) -> Tensor:
    """Gradient with respect to the tempered logits: g_logp (onehot - p) - g_H p (log p + H)."""
    probs_CV = logp_CV.exp()
    if grad_entropy_C is None:
        assert grad_logp_C is not None
        grad_CV = probs_CV.mul_(-grad_logp_C[:, None])
    else:
        grad_CV = logp_CV.add_(entropy_C[:, None]).mul_(grad_entropy_C[:, None])
        if grad_logp_C is not None:
            grad_CV.add_(grad_logp_C[:, None])
        grad_CV.mul_(probs_CV).neg_()
    if grad_logp_C is not None:
        grad_CV.scatter_add_(1, targets_C[:, None], grad_logp_C[:, None])
    return grad_CV


def accumulate_product(total_VH: Tensor, left_VC: Tensor, right_CH: Tensor) -> None:
    """total += left @ right, in place when the types agree, else through one product rounded to the compute type."""
    if left_VC.dtype == total_VH.dtype:
        total_VH.addmm_(left_VC, right_CH)
    else:
        total_VH.add_(left_VC @ right_CH)
