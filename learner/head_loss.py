"""Language-model head and loss in one pass: the gradient of each chunk of logits is taken while the chunk exists.

`learner.logprobs` computes every chunk's logits twice, because a loss may be any function of all log-probabilities. The
losses of training are nearly always a sum over tokens. Then the derivative at a token is known as soon as its own
log-probability is, and the chunk's gradients can be taken on the spot: one product with the head less, one exponential
less, and still nothing that grows with tokens times vocabulary. (The idea is that of Liger Kernel's fused linear
cross-entropy, Hsu et al. 2024, arXiv 2410.10989; here the loss may be any separable one, and the entropy
comes with it.)

Shape suffixes: N selected tokens, H hidden size, V vocabulary, C tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.logprobs import (
    DEFAULT_CHUNK_BYTES,
    accumulate_product,
    chunk_logits,
    head_arguments,
)

TokenLoss = Callable[[Tensor, Tensor, slice], Tensor]
"""A scalar that adds up over chunks, of log-probabilities [C] and entropies [C] in nats of the tokens in a slice."""


def head_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    targets_N: Tensor,
    token_loss: TokenLoss,
    *,
    temperature_N: Tensor | float = 1.0,
    chunk_tokens: int | None = None,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    bias: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Tensor:
    """The sum over chunks of `token_loss(log p, H, slice)`, differentiable in hidden states, weight and bias.

    With z = (W h + b) / T: log p(y) = z_y - logsumexp(z), H = logsumexp(z) - sum_v p_v z_v, and for g = dL/dlog p,
    e = dL/dH of a token: dL/dz = g (onehot(y) - p) - e p (log p + H). `token_loss` is called once a chunk, in the order
    of the tokens, and must add up: a term that needs tokens of two chunks would silently be another one. Arguments as
    in `learner.logprobs.chunked_logprobs`, with the same arithmetic in the same types; backward may run once.
    """
    inverse_temperature_N, chunk, reduce_dtype = head_arguments(
        hidden_NH, weight_VH, targets_N, temperature_N, chunk_tokens, chunk_bytes
    )
    return _HeadLoss.apply(
        hidden_NH, weight_VH, bias, targets_N, inverse_temperature_N, token_loss, chunk,
        compute_dtype or hidden_NH.dtype, reduce_dtype,
    )  # fmt: skip


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias: Tensor | None,
        targets_N: Tensor,
        inverse_temperature_N: Tensor,
        token_loss: TokenLoss,
        chunk: int,
        compute_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden_NH = torch.zeros_like(hidden_NH) if need_hidden else None
        grad_weight_VH = torch.zeros_like(weight_VH, dtype=reduce_dtype) if need_weight else None
        grad_bias_V = torch.zeros_like(bias, dtype=reduce_dtype) if need_bias and bias is not None else None
        total = hidden_NH.new_zeros((), dtype=reduce_dtype)
        with torch.autocast(hidden_NH.device.type, enabled=False):
            weight_compute_VH = weight_VH.to(compute_dtype)
            for start in range(0, hidden_NH.shape[0], chunk):
                rows = slice(start, min(start + chunk, hidden_NH.shape[0]))
                hidden_CH = hidden_NH[rows].to(compute_dtype)
                logits_CV = chunk_logits(hidden_CH, weight_compute_VH, bias, inverse_temperature_N[rows], reduce_dtype)
                loss, grad_logits_CV = _chunk(logits_CV, targets_N[rows], token_loss, rows)
                total += loss
                if grad_logits_CV is None:
                    continue
                grad_logits_CV.mul_(inverse_temperature_N[rows, None])
                if grad_bias_V is not None:
                    grad_bias_V += grad_logits_CV.sum(dim=0)
                grad_logits_CV = grad_logits_CV.to(compute_dtype)
                if grad_hidden_NH is not None:
                    grad_hidden_NH[rows] = (grad_logits_CV @ weight_compute_VH).to(grad_hidden_NH.dtype)
                if grad_weight_VH is not None:
                    accumulate_product(grad_weight_VH, grad_logits_CV.t(), hidden_CH)
        # Not among the saved tensors: what is handed on once need not be copied.
        ctx.gradients = (
            grad_hidden_NH,
            None if grad_weight_VH is None else grad_weight_VH.to(weight_VH.dtype),
            None if grad_bias_V is None or bias is None else grad_bias_V.to(bias.dtype),
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("head_loss: backward runs once; the gradients are gone after it")
        gradients, ctx.gradients = ctx.gradients, None
        if grad_loss.device.type != "cpu" or float(grad_loss) != 1.0:
            gradients = tuple(None if gradient is None else gradient.mul_(grad_loss) for gradient in gradients)
        return (*gradients, None, None, None, None, None, None)


def _chunk(logits_CV: Tensor, targets_C: Tensor, token_loss: TokenLoss, rows: slice) -> tuple[Tensor, Tensor | None]:
    """The loss of one chunk and its gradient with respect to the tempered logits, whose memory it takes over."""
    logits_CV.sub_(logits_CV.amax(dim=1, keepdim=True))  # the largest is 0 now: exp cannot overflow
    target_C = logits_CV.gather(1, targets_C[:, None]).squeeze(1)
    weights_CV = logits_CV.exp()
    z_C = weights_CV.sum(dim=1)
    log_z_C = z_C.log()
    # The batched product of a row with itself: a sum of products without another [C, V] buffer.
    mean_logit_C = torch.bmm(weights_CV[:, None, :], logits_CV[:, :, None]).flatten() / z_C
    with torch.enable_grad():
        logprobs_C = (target_C - log_z_C).requires_grad_()
        entropy_C = (log_z_C - mean_logit_C).requires_grad_()
        loss = token_loss(logprobs_C, entropy_C, rows)
    if not loss.requires_grad:
        return loss, None
    grad_logp_C, grad_entropy_C = torch.autograd.grad(loss, (logprobs_C, entropy_C), allow_unused=True)
    if grad_entropy_C is None:
        if grad_logp_C is None:
            return loss.detach(), None
        grad_CV = weights_CV.mul_((-grad_logp_C / z_C)[:, None])
    else:
        grad_CV = logits_CV.add_((entropy_C.detach() - log_z_C)[:, None]).mul_(grad_entropy_C[:, None])
        if grad_logp_C is not None:
            grad_CV.add_(grad_logp_C[:, None])
        grad_CV.mul_(weights_CV.mul_((-1.0 / z_C)[:, None]))
    if grad_logp_C is not None:
        grad_CV.scatter_add_(1, targets_C[:, None], grad_logp_C[:, None])
    return loss.detach(), grad_CV
