"""The objective of a preference model as a pure function of its scores: Bradley-Terry on pairs.

Place in the flow: `learner.preference_trainer` scores both answers of a pair; the function here turns the scores into
one scalar a micro-batch. Denominators count the whole optimizer step, as in `learner.losses`: micro-batches add up.

Shapes: B pairs. Symbols: r score, σ the logistic function, m margin, η centring.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    num_pairs: int,
    margin_B: Tensor | None = None,
    centring_coef: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ_b [−log σ(r_chosen − r_rejected − m) + η (r_chosen + r_rejected)²] / num_pairs, in nats a pair.

    The first term is the likelihood of the pairs under Bradley and Terry (1952), as in arXiv 2203.02155, eq. 1; the
    margin is that of Llama 2 (arXiv 2307.09288, eq. 2). It is blind to a constant added to all scores; the second term
    (arXiv 2312.09244) keeps their sum near 0, so that scores of different runs can be compared.
    `num_pairs` counts the whole optimizer step. Returns the loss and sums over the pairs of this micro-batch
    (`loss_sum` the first term alone, `num_correct`, a tie counting half, and `gap_sum` of r_chosen − r_rejected).
    Raises ValueError when shapes differ or the denominator is not above 0.
    """
    if chosen_B.shape != rejected_B.shape or chosen_B.ndim != 1:
        raise ValueError(f"scores must be two [B], got {tuple(chosen_B.shape)} and {tuple(rejected_B.shape)}")
    if num_pairs < 1:
        raise ValueError(f"num_pairs={num_pairs} must be the pairs of the optimizer step, 1 or more")
    gap_B = chosen_B - rejected_B
    likelihood_B = -logsigmoid(gap_B if margin_B is None else gap_B - margin_B)
    loss = likelihood_B.sum() / num_pairs
    if centring_coef:
        loss = loss + centring_coef * (chosen_B + rejected_B).square().sum() / num_pairs
    correct_B = torch.where(gap_B == 0, 0.5, (gap_B > 0).to(gap_B.dtype))
    metrics = {"loss_sum": likelihood_B.sum(), "num_correct": correct_B.sum(), "gap_sum": gap_B.sum()}
    return loss, {name: value.detach() for name, value in metrics.items()}
