"""Bradley-Terry against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from learner.preference_loss import bradley_terry_loss


def _pairs(*values: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor[:, 0].clone().requires_grad_(), tensor[:, 1].clone().requires_grad_()


def test_equal_scores_cost_log_two() -> None:
    loss, _ = bradley_terry_loss(*_pairs((3.0, 3.0)), num_pairs=1)
    assert float(loss.detach()) == pytest.approx(math.log(2))


def test_the_loss_is_the_mean_negative_log_probability_of_the_order() -> None:
    # sigmoid(log 3) = 3/4 and sigmoid(-log 3) = 1/4.
    loss, metrics = bradley_terry_loss(*_pairs((math.log(3), 0.0), (0.0, math.log(3))), num_pairs=2)
    assert float(loss.detach()) == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2)
    assert float(metrics["num_correct"]) == 1.0
    assert float(metrics["gap_sum"]) == pytest.approx(0.0)


def test_the_gradient_is_the_probability_of_the_wrong_order() -> None:
    chosen, rejected = _pairs((math.log(3), 0.0), (0.0, math.log(3)))
    loss, _ = bradley_terry_loss(chosen, rejected, num_pairs=2)
    loss.backward()
    assert chosen.grad.tolist() == pytest.approx([-1 / 8, -3 / 8])  # type: ignore[union-attr]
    assert rejected.grad.tolist() == pytest.approx([1 / 8, 3 / 8])  # type: ignore[union-attr]


def test_a_margin_asks_for_a_larger_gap() -> None:
    margin = torch.tensor([math.log(3)], dtype=torch.float64)
    loss, metrics = bradley_terry_loss(*_pairs((math.log(3), 0.0)), num_pairs=1, margin_B=margin)
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert float(metrics["num_correct"]) == 1.0  # the order is right, whatever the margin


def test_centring_sees_the_constant_that_the_likelihood_does_not() -> None:
    plain, _ = bradley_terry_loss(*_pairs((1.0, 0.0)), num_pairs=1)
    shifted, _ = bradley_terry_loss(*_pairs((101.0, 100.0)), num_pairs=1)
    assert float(plain.detach()) == pytest.approx(float(shifted.detach()))
    centred, metrics = bradley_terry_loss(*_pairs((2.0, 1.0)), num_pairs=1, centring_coef=0.5)
    assert float(centred.detach()) == pytest.approx(float(plain.detach()) + 0.5 * 9.0)
    assert float(metrics["loss_sum"]) == pytest.approx(float(plain.detach()))


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    pairs = [(1.0, 0.2), (-0.3, 0.4), (2.0, 2.0)]
    whole, _ = bradley_terry_loss(*_pairs(*pairs), num_pairs=3, centring_coef=0.1)
    first, _ = bradley_terry_loss(*_pairs(*pairs[:1]), num_pairs=3, centring_coef=0.1)
    rest, _ = bradley_terry_loss(*_pairs(*pairs[1:]), num_pairs=3, centring_coef=0.1)
    assert float((first + rest).detach()) == pytest.approx(float(whole.detach()))


def test_a_gap_beyond_what_exp_can_hold_stays_finite() -> None:
    chosen, rejected = _pairs((-2000.0, 2000.0))
    loss, _ = bradley_terry_loss(chosen, rejected, num_pairs=1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4000.0)
    assert chosen.grad.tolist() == [-1.0]  # type: ignore[union-attr]


def test_a_tie_counts_half() -> None:
    _, metrics = bradley_terry_loss(*_pairs((1.0, 1.0), (1.0, 0.0)), num_pairs=2)
    assert float(metrics["num_correct"]) == 1.5


@pytest.mark.parametrize(("shape", "num_pairs"), [((2,), 0), ((2, 1), 2)])
def test_a_missing_denominator_and_other_shapes_are_refused(shape: tuple[int, ...], num_pairs: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        bradley_terry_loss(torch.zeros(shape), torch.zeros(shape), num_pairs=num_pairs)
