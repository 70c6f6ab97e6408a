from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from learner.head_loss import head_loss
from learner.logprobs import chunked_logprobs
from tests.learner.test_logprobs import NUM_TOKENS, _LargestTensor, brute_force, inputs

UPSTREAM = torch.linspace(-1, 1, NUM_TOKENS, dtype=torch.float64)
Loss = Callable[[Tensor, Tensor, slice], Tensor]


def through_logprobs(logprobs: Tensor, entropy: Tensor, rows: slice) -> Tensor:
    return (UPSTREAM[rows] * logprobs).sum()


def through_entropy(logprobs: Tensor, entropy: Tensor, rows: slice) -> Tensor:
    return (UPSTREAM[rows] * entropy).sum()


def through_both(logprobs: Tensor, entropy: Tensor, rows: slice) -> Tensor:
    return (UPSTREAM[rows] * (logprobs - 0.3).exp() * 2 - 0.1 * entropy.square()).sum()


LOSSES = [through_logprobs, through_entropy, through_both]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 100])
def test_value_and_gradients_equal_brute_force_for_every_chunk_size(loss: Loss, chunk_tokens: int) -> None:
    hidden, weight, bias, targets, temperature = inputs()
    kwargs: dict[str, Any] = {"temperature_N": temperature, "chunk_tokens": chunk_tokens, "bias": bias}
    mine = head_loss(hidden, weight, targets, loss, **kwargs)
    reference = loss(*brute_force(hidden, weight, bias, targets, temperature), slice(None))
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)
    expected = torch.autograd.grad(reference, (hidden, weight, bias))
    torch.testing.assert_close(torch.autograd.grad(mine, (hidden, weight, bias)), expected, rtol=0, atol=1e-12)


def test_a_factor_behind_the_loss_reaches_every_gradient() -> None:
    hidden, weight, bias, targets, _ = inputs()
    found = torch.autograd.grad(
        -2.5 * head_loss(hidden, weight, targets, through_both, chunk_tokens=2, bias=bias), (hidden, weight, bias)
    )
    reference = -2.5 * through_both(*brute_force(hidden, weight, bias, targets, 1.0), slice(None))
    torch.testing.assert_close(found, torch.autograd.grad(reference, (hidden, weight, bias)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_tokens", [2, 7])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_log_probabilities_have_the_bits_of_the_scoring_pass(chunk_tokens: int, dtype: torch.dtype | None) -> None:
    hidden, weight, bias, targets, temperature = inputs(torch.float32)
    seen: list[Tensor] = []

    def loss(logprobs: Tensor, entropy: Tensor, rows: slice) -> Tensor:
        seen.append(logprobs.detach().clone())
        return logprobs.sum()

    kwargs: dict[str, Any] = {
        "temperature_N": temperature, "chunk_tokens": chunk_tokens, "bias": bias, "compute_dtype": dtype
    }  # fmt: skip
    head_loss(hidden, weight, targets, loss, **kwargs)
    assert torch.equal(torch.cat(seen), chunked_logprobs(hidden, weight, targets, **kwargs)[0])


def test_no_tokens_and_a_constant_loss_give_zero_gradients_instead_of_none() -> None:
    hidden, weight, _, targets, _ = inputs()
    for rows, loss in ((slice(0, 0), through_both), (slice(None), lambda *_: torch.zeros((), dtype=torch.float64))):
        hidden.grad = weight.grad = None
        head_loss(hidden[rows], weight, targets[rows], loss).backward()
        for tensor in (hidden, weight):
            assert tensor.grad is not None
            assert torch.count_nonzero(tensor.grad) == 0


def test_shapes_that_do_not_match_and_temperatures_that_are_not_positive_are_refused() -> None:
    hidden, weight, _, targets, _ = inputs()
    with pytest.raises(ValueError, match="do not match"):
        head_loss(hidden, weight, targets[1:], through_logprobs)
    with pytest.raises(ValueError, match="temperature must be positive"):
        head_loss(hidden, weight, targets, through_logprobs, temperature_N=0.0)


def test_backward_runs_once() -> None:
    hidden, weight, _, targets, _ = inputs()
    loss = head_loss(hidden, weight, targets, through_logprobs)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward runs once"):
        loss.backward()


def test_logits_of_all_tokens_never_exist() -> None:
    hidden = torch.randn(2048, 16, requires_grad=True)
    weight = torch.randn(4096, 16, requires_grad=True)
    with _LargestTensor() as largest:
        head_loss(
            hidden, weight, torch.randint(4096, (2048,)), lambda logprobs, *_: logprobs.sum(), chunk_bytes=2**20
        ).backward()
    assert largest.numel == 2**20 // 4
