"""The KL estimators: their values by hand, and which of them has the right gradient when used as a loss.

On a vocabulary of five tokens both are exact: the expectation of an estimator under π is a sum over five tokens.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from data.records import UserError
from learner.losses import LossConfig, kl_penalty, policy_loss

POLICY_LOGITS = torch.tensor([0.3, -1.0, 0.9, 0.0, -0.4], dtype=torch.float64)
REFERENCE = torch.tensor([-0.5, 0.4, 0.2, -0.8, 1.0], dtype=torch.float64).log_softmax(dim=0)


def exact_kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first‖second) from two vectors of log-probabilities."""
    return (first.exp() * (first - second)).sum()


def logit_gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits)[0]


def estimator_gradient(estimator: str) -> Tensor:
    """E_{v∼π} ∇ estimator(v), exactly: the weights of the five tokens are constants, as samples are."""
    logits = POLICY_LOGITS.clone().requires_grad_()
    log_policy = logits.log_softmax(dim=0)
    weights = log_policy.detach().exp()
    return logit_gradient((weights * kl_penalty(log_policy, REFERENCE, estimator)).sum(), logits)


def kl_gradient(direction: str) -> Tensor:
    logits = POLICY_LOGITS.clone().requires_grad_()
    log_policy = logits.log_softmax(dim=0)
    reverse = exact_kl(log_policy, REFERENCE)
    return logit_gradient(reverse if direction == "policy‖reference" else exact_kl(REFERENCE, log_policy), logits)


def test_values_worked_out_by_hand() -> None:
    # d = log 2: k1 = 0.6931, k2 = 0.6931² / 2 = 0.2402, k3 = 1/2 − 1 + 0.6931 = 0.1931.
    # d = −log 2: k1 = −0.6931, k2 the same, k3 = 2 − 1 − 0.6931 = 0.3069.
    reference = torch.tensor([-2.0, -2.0], dtype=torch.float64)
    logprobs = reference + torch.tensor([math.log(2.0), -math.log(2.0)], dtype=torch.float64)
    assert kl_penalty(logprobs, reference, "k1").tolist() == pytest.approx([math.log(2), -math.log(2)])
    assert kl_penalty(logprobs, reference, "k2").tolist() == pytest.approx([math.log(2) ** 2 / 2] * 2)
    assert kl_penalty(logprobs, reference, "k3").tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2)])


def test_equal_policies_have_penalty_zero_and_gradient_zero_for_k2_and_k3() -> None:
    for estimator in ("k2", "k3"):
        logprobs = torch.tensor([-1.0, -3.0], requires_grad=True)
        penalty = kl_penalty(logprobs, logprobs.detach(), estimator)
        assert penalty.tolist() == [0.0, 0.0]
        assert logit_gradient(penalty.sum(), logprobs).tolist() == [0.0, 0.0]


def test_as_a_number_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    log_policy = POLICY_LOGITS.log_softmax(dim=0)
    exact = exact_kl(log_policy, REFERENCE).item()
    weights = log_policy.exp()
    mean = {name: (weights * kl_penalty(log_policy, REFERENCE, name)).sum().item() for name in ("k1", "k2", "k3")}
    assert mean["k1"] == pytest.approx(exact, abs=1e-12)
    assert mean["k3"] == pytest.approx(exact, abs=1e-12)
    assert abs(mean["k2"] - exact) > 0.01


def test_as_a_loss_k2_has_the_gradient_of_the_kl_to_the_reference() -> None:
    assert torch.allclose(estimator_gradient("k2"), kl_gradient("policy‖reference"), atol=1e-12)
    assert kl_gradient("policy‖reference").norm() > 0.1


def test_as_a_loss_k1_has_no_gradient_in_expectation() -> None:
    assert torch.allclose(estimator_gradient("k1"), torch.zeros(5, dtype=torch.float64), atol=1e-12)


def test_as_a_loss_k3_has_the_gradient_of_the_other_direction() -> None:
    assert torch.allclose(estimator_gradient("k3"), kl_gradient("reference‖policy"), atol=1e-12)
    assert (estimator_gradient("k3") - kl_gradient("policy‖reference")).norm() > 0.05


def test_monte_carlo_gradient_of_the_penalty_in_the_loss_is_the_exact_one() -> None:
    # Advantages are 0, so that the KL term is the whole loss. 200,000 samples: standard error about 0.002 a component.
    num_samples = 200_000
    logits = POLICY_LOGITS.clone().requires_grad_()
    log_policy = logits.log_softmax(dim=0)
    tokens = torch.multinomial(
        log_policy.detach().exp(), num_samples, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    logprobs = log_policy[tokens].unsqueeze(0)
    loss, _ = policy_loss(
        logprobs, logprobs.detach(), torch.zeros_like(logprobs), torch.ones_like(logprobs),
        config=LossConfig(importance_cap=None, kl_coef=1.0, kl_estimator="k2"), num_loss_tokens=num_samples,
        reference_logprobs_BT=REFERENCE[tokens].unsqueeze(0),
    )  # fmt: skip
    assert torch.allclose(logit_gradient(loss, logits), kl_gradient("policy‖reference"), atol=0.01)


def test_no_gradient_reaches_the_reference() -> None:
    reference = torch.tensor([-1.0], requires_grad=True)
    penalty = kl_penalty(torch.tensor([-2.0], requires_grad=True), reference, "k2")
    assert torch.autograd.grad(penalty.sum(), reference, allow_unused=True) == (None,)


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(UserError, match="k4"):
        kl_penalty(torch.zeros(1), torch.zeros(1), "k4")  # type: ignore[arg-type]
