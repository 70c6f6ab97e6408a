from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.long_context import measured_apart
from learner.logprobs import chunked_logprobs, tokens_per_chunk

NUM_TOKENS, VOCAB, HIDDEN = 7, 11, 5


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(NUM_TOKENS, HIDDEN, dtype=dtype, generator=generator).requires_grad_()
    weight = torch.randn(VOCAB, HIDDEN, dtype=dtype, generator=generator).requires_grad_()
    bias = torch.randn(VOCAB, dtype=dtype, generator=generator).requires_grad_()
    targets = torch.randint(VOCAB, (NUM_TOKENS,), generator=generator)
    temperature = torch.rand(NUM_TOKENS, dtype=dtype, generator=generator) + 0.5
    return hidden, weight, bias, targets, temperature


def brute_force(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: Any
) -> tuple[Tensor, Tensor]:
    logits = hidden @ weight.t() + (0 if bias is None else bias)
    logp = (logits / (temperature[:, None] if isinstance(temperature, Tensor) else temperature)).log_softmax(-1)
    return logp.gather(1, targets[:, None]).squeeze(1), -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 7, 100])
def test_values_and_gradients_equal_brute_force_for_every_chunk_size(chunk_tokens: int) -> None:
    hidden, weight, bias, targets, temperature = inputs()
    for output in (0, 1):  # through log-probabilities, then through entropy
        kwargs: dict[str, Any] = {"temperature_N": temperature, "chunk_tokens": chunk_tokens, "bias": bias}
        mine = chunked_logprobs(hidden, weight, targets, **kwargs)[output]
        reference = brute_force(hidden, weight, bias, targets, temperature)[output]
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)
        assert mine is not None
        upstream = torch.linspace(-1, 1, NUM_TOKENS, dtype=torch.float64)
        found = torch.autograd.grad(mine, (hidden, weight, bias), upstream)
        expected = torch.autograd.grad(reference, (hidden, weight, bias), upstream)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_gradcheck_through_logprobs_and_entropy_together() -> None:
    hidden, weight, bias, targets, temperature = inputs()

    def both(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        logprobs, entropy = chunked_logprobs(
            hidden, weight, targets, temperature_N=temperature, chunk_tokens=3, bias=bias
        )
        assert entropy is not None
        return logprobs, entropy

    assert torch.autograd.gradcheck(both, (hidden, weight, bias))


def test_one_temperature_for_all_tokens_divides_the_logits() -> None:
    hidden, weight, _, targets, _ = inputs()
    found, entropy = chunked_logprobs(hidden, weight, targets, temperature_N=0.6)
    expected, expected_entropy = brute_force(hidden, weight, None, targets, 0.6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(entropy, expected_entropy, rtol=0, atol=1e-12)
    assert not torch.allclose(found, brute_force(hidden, weight, None, targets, 1.0)[0])


def test_two_equal_logits_give_log_one_half_and_entropy_log_two() -> None:
    hidden, weight = torch.ones(1, 1), torch.full((2, 1), 30000.0)  # exp(30000) would overflow
    logprobs, entropy = chunked_logprobs(hidden, weight, torch.tensor([1]))
    assert logprobs.item() == pytest.approx(-0.693147, abs=1e-6)
    assert entropy is not None
    assert entropy.item() == pytest.approx(0.693147, abs=1e-6)


def test_without_entropy_only_logprobs_come_back() -> None:
    hidden, weight, _, targets, _ = inputs()
    logprobs, entropy = chunked_logprobs(hidden, weight, targets, with_entropy=False)
    assert entropy is None
    torch.testing.assert_close(logprobs, brute_force(hidden, weight, None, targets, 1.0)[0])


def test_no_tokens_give_zero_gradients_instead_of_none() -> None:
    hidden, weight, _, _, _ = inputs()
    logprobs, _ = chunked_logprobs(hidden[:0], weight, torch.empty(0, dtype=torch.int64))
    logprobs.sum().backward()
    assert weight.grad is not None
    assert torch.count_nonzero(weight.grad) == 0
    assert hidden.grad is not None


def test_full_vocabulary_agrees_with_float64_where_bfloat16_logsumexp_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 32, generator=generator).bfloat16()
    weight = torch.randn(151_936, 32, generator=generator).bfloat16()
    targets = torch.tensor([0, 151_935, 77, 9])
    logits = (hidden @ weight.t()).double()  # the products as the engine rounds them; what follows must not round
    expected = logits.log_softmax(-1)
    logprobs, entropy = chunked_logprobs(hidden, weight, targets)
    assert entropy is not None
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs.double(), expected.gather(1, targets[:, None]).squeeze(1), rtol=0, atol=2e-5)
    torch.testing.assert_close(entropy.double(), -(expected.exp() * expected).sum(-1), rtol=0, atol=2e-5)
    in_bfloat16 = (logits.bfloat16().gather(1, targets[:, None]).squeeze(1) - logits.bfloat16().logsumexp(-1)).double()
    assert (in_bfloat16 - expected.gather(1, targets[:, None]).squeeze(1)).abs().max() > 1e-2


def test_bfloat16_products_keep_float32_gradients_of_master_weights() -> None:
    hidden, weight, _, targets, _ = inputs(torch.float32)
    logprobs, _ = chunked_logprobs(hidden, weight, targets, compute_dtype=torch.bfloat16, chunk_tokens=2)
    logprobs.sum().backward()
    expected = torch.autograd.grad(brute_force(hidden, weight, None, targets, 1.0)[0].sum(), weight)[0]
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, expected, rtol=0, atol=0.05)


def test_chunk_size_follows_the_byte_budget() -> None:
    assert tokens_per_chunk(151_936, 64 * 2**20) == 110  # 67,108,864 / (4 * 151,936) = 110.4
    assert tokens_per_chunk(10**9, 1) == 1


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    hidden, weight, _, targets, _ = inputs()
    with pytest.raises(ValueError, match="temperature must be positive"):
        chunked_logprobs(hidden, weight, targets, temperature_N=temperature)


class _LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for item in output if isinstance(output, tuple | list) else (output,):
            if isinstance(item, Tensor):
                self.numel = max(self.numel, item.numel())
        return output


def _forward_and_backward(chunked: bool, num_tokens: int, vocab: int, width: int) -> tuple[int, int]:
    """Largest tensor (elements) and peak of live bytes above the start, over both passes."""
    hidden = torch.randn(num_tokens, width, requires_grad=True)
    weight = torch.randn(vocab, width, requires_grad=True)
    targets = torch.randint(vocab, (num_tokens,))
    with _LargestTensor() as largest, torch.profiler.profile(profile_memory=True) as profile:
        if chunked:
            logprobs, entropy = chunked_logprobs(hidden, weight, targets, chunk_bytes=2**20)
        else:
            logprobs, entropy = brute_force(hidden, weight, None, targets, 1.0)
        assert entropy is not None
        (logprobs.sum() + entropy.sum()).backward()
    events = profile.profiler.kineto_results.events()
    allocations = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, size_bytes in allocations:
        live += size_bytes
        peak = max(peak, live)
    return largest.numel, peak


def test_forward_and_backward_never_hold_the_logits_of_all_tokens() -> None:
    num_tokens, vocab, width = 2048, 4096, 16
    largest, peak_bytes = _forward_and_backward(True, num_tokens, vocab, width)
    chunk_elements = 2**20 // 4
    assert largest == chunk_elements
    assert 2 * 2**20 < peak_bytes < 6 * 2**20  # four chunk buffers and gradients of 0.4 MB; all logits are 32 MiB
    largest_naive, peak_naive = _forward_and_backward(False, num_tokens, vocab, width)
    assert largest_naive == num_tokens * vocab  # the instrument does see them when they exist
    assert peak_naive > 64 * 2**20


@pytest.mark.parametrize("method", ["head_loss", "chunked_logprobs"])
def test_the_process_does_not_grow_by_more_than_a_few_chunks_over_both_passes(method: str) -> None:
    """As `benchmarks/long_context.py` at 32,768 x 151,936: above hidden states, weight and its gradient."""
    found = measured_apart(num_tokens=4096, vocab=32_768, hidden=16, chunk_bytes=4 * 2**20, method=method)
    assert found["peak_bytes"] < 64 * 2**20  # all logits are 512 MiB; the weight's gradient is 2 MiB
