"""The objectives of training, as pure functions of log-probabilities: one policy loss with named settings, and SFT.

Place in the flow: `learner.advantages` makes TrainingSamples, packing turns them into [B, T] tensors, the fused head
gives the log-probabilities, and the functions here turn those into one scalar a micro-batch. Nothing here sees a model.

Three conventions hold throughout.
- Index t of every tensor belongs to token t: `logprobs_BT[b, t]` is log π(token_t | tokens before t), in nats.
- Denominators count the whole optimizer step (all micro-batches, all ranks), never the micro-batch. The losses and
  gradients of micro-batches therefore ADD UP to those of the full batch; nobody may divide once more afterwards.
- A masked position contributes nothing, even when it holds NaN or inf: values are selected with `where` before any
  arithmetic, so that neither the loss nor the gradient sees them. A non-finite value at a kept position stays visible.

Shapes: B rows, T tokens, V vocabulary. Paper symbols: r ratio, A advantage, ε clip, π policy, μ behavior policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from data.records import UserError

Aggregation = Literal["token_mean", "sequence_mean", "constant"]
RatioLevel = Literal["token", "sequence"]
Surrogate = Literal["clipped", "cispo"]
KLEstimator = Literal["k1", "k2", "k3"]


def _require(holds: bool, name: str, value: object, mend: str) -> None:
    if not holds:
        raise UserError(f"loss.{name}={value!r}: {mend}")


def _require_choice(name: str, value: object, kind: object) -> None:
    _require(value in get_args(kind), name, value, f"use one of {', '.join(get_args(kind))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """The knobs of the policy loss; the defaults are the project's own objective.

    clip_low, clip_high: ε of the interval [1 − clip_low, 1 + clip_high] of the ratio. The upper BOUND is 1 + clip_high,
    also for CISPO, where some libraries take the bound itself (ε_max = 1 + clip_high).
    aggregation: `token_mean` Σ_t / tokens; `sequence_mean` mean over tokens of a sequence, then over sequences;
    `constant` Σ_t / (sequences · max_tokens), which needs `max_tokens`.
    ratio: per `token`, or per `sequence` as exp of the MEAN log-ratio. There is no sum-based sequence ratio: its size
    grows with length, so that long answers would always be cut off.
    surrogate: `clipped` min(r A, clip(r) A), or `cispo` sg(clip(r)) A log π.
    importance_cap: cap of the truncated importance weight from the engine's to the trainer's distribution; when it is
    set the loss takes proximal log-probabilities. None: the ratio is taken to the behavior policy directly.
    kl_coef, kl_estimator: penalty towards a reference policy; at 0 no reference model is needed.
    entropy_coef: bonus; an entropy controller replaces it every step.
    std_normalise: whether the ADVANTAGES are divided by the group's deviation. The loss does not read it; it stands
    here because a named setting is the paper's only together with it (`advantages.training_samples` takes it).
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    aggregation: Aggregation = "token_mean"
    ratio: RatioLevel = "token"
    surrogate: Surrogate = "clipped"
    max_tokens: int | None = None
    importance_cap: float | None = 2.0
    kl_coef: float = 0.0
    kl_estimator: KLEstimator = "k2"
    entropy_coef: float = 0.0
    std_normalise: bool = False

    def __post_init__(self) -> None:
        _require_choice("aggregation", self.aggregation, Aggregation)
        _require_choice("ratio", self.ratio, RatioLevel)
        _require_choice("surrogate", self.surrogate, Surrogate)
        _require_choice("kl_estimator", self.kl_estimator, KLEstimator)
        _require(0.0 <= self.clip_low <= 1.0, "clip_low", self.clip_low, "use a number from 0 to 1")
        _require(self.clip_high >= 0.0, "clip_high", self.clip_high, "use a number >= 0")
        _require(0.0 <= self.kl_coef < math.inf, "kl_coef", self.kl_coef, "use a finite number >= 0")
        _require(0.0 <= self.entropy_coef < math.inf, "entropy_coef", self.entropy_coef, "use a finite number >= 0")
        cap = self.importance_cap
        _require(cap is None or cap > 0.0, "importance_cap", cap, "use a number > 0, or null to switch it off")
        self._check_mix()

    def _check_mix(self) -> None:
        """Refuse settings that are legal one by one and wrong together."""
        if self.ratio == "sequence":
            hint = "with ratio=sequence"
            _require(self.aggregation == "sequence_mean", "aggregation", self.aggregation, f"{hint} use sequence_mean")
            _require(self.surrogate == "clipped", "surrogate", self.surrogate, f"{hint} use clipped")
            # The sequence ratio already is the correction towards the behavior policy; a second, token-wise one would
            # weight tokens inside a term that is meant to treat the sequence as one action.
            _require(self.importance_cap is None, "importance_cap", self.importance_cap, f"{hint} use null")
        has_constant = self.max_tokens is not None and self.max_tokens > 0
        if self.aggregation == "constant":
            _require(has_constant, "max_tokens", self.max_tokens, "aggregation=constant needs the completion limit")
        else:
            _require(self.max_tokens is None, "max_tokens", self.max_tokens, "only aggregation=constant takes it")
        has_gradient = self.kl_coef == 0.0 or self.kl_estimator != "k1"
        _require(has_gradient, "kl_estimator", self.kl_estimator, "as a loss k1 has a gradient of mean 0; use k2")

    @property
    def takes_proximal(self) -> bool:
        """Whether the loss needs the trainer's own log-probabilities from before the step."""
        return self.importance_cap is not None

    @property
    def separable(self) -> bool:
        """Whether the loss is a sum over tokens, so that a part of a sequence can be taken by itself."""
        return self.aggregation != "sequence_mean" and self.ratio == "token"


LOSS_SETTINGS: Mapping[str, LossConfig] = {
    "default": LossConfig(),
    "grpo": LossConfig(
        clip_low=0.2, clip_high=0.2, aggregation="sequence_mean", importance_cap=None, kl_coef=0.04, kl_estimator="k3",
        std_normalise=True,
    ),
    "dr_grpo": LossConfig(clip_low=0.2, clip_high=0.2, aggregation="constant", max_tokens=3000, importance_cap=None),
    "dapo": LossConfig(clip_low=0.2, clip_high=0.28, importance_cap=None, std_normalise=True),
    "gspo": LossConfig(
        clip_low=3e-4, clip_high=4e-4, aggregation="sequence_mean", ratio="sequence", importance_cap=None,
        std_normalise=True,
    ),
    "cispo": LossConfig(clip_low=1.0, clip_high=4.0, surrogate="cispo", importance_cap=None, std_normalise=True),
}  # fmt: skip
"""Named settings of `policy_loss`; o_i the completions, N = Σ|o_i|, A group-relative.

- grpo (DeepSeekMath, arXiv 2402.03300, eq. 3): −(1/G) Σ_i (1/|o_i|) Σ_t {min[r A, clip(r, 1±ε) A] − β k3},
  A = (R − mean)/std, β = 0.04. The paper gives no ε; 0.2 is PPO's.
- dr_grpo (arXiv 2503.20783): −(1/G) Σ_i Σ_t min[r A, clip(r, 1±ε) A], A = R − mean, neither 1/|o_i| nor std. As in the
  authors' code the sum is divided by a constant, the completion limit `max_tokens` (set yours).
- dapo (arXiv 2503.14476, eq. 8): −(1/N) Σ_i Σ_t min[r A, clip(r, 1 − 0.2, 1 + 0.28) A], no KL. Departure: N counts
  the whole optimizer step; the paper's expectation is over prompts, N over one group.
- gspo (arXiv 2507.18071, eq. 5-7): −(1/G) Σ_i min[s A, clip(s, 1 − 3e-4, 1 + 4e-4) A],
  s_i = exp((1/|o_i|) Σ_t (log π − log μ)).
- cispo (MiniMax-M1, arXiv 2506.13585, eq. 4-5): −(1/N) Σ_i Σ_t sg(clip(r, 1 − ε_low, 1 + ε_high)) A log π. The paper
  sets no lower bound (clip_low = 1 gives 0) and prints no ε_high; the bound 1 + clip_high = 5 is this project's choice.
- default: dapo's asymmetric clip and token mean over the step, without std (as dr_grpo), without KL, with truncated
  importance weights against the engine. In all settings G is the number of sequences of the whole step.
"""


def grpo_loss(
    logprobs_BT: Tensor, behavior_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, *,
    clip_low: float, clip_high: float, num_loss_tokens: int, aggregation: Aggregation = "token_mean",
    ratio: RatioLevel = "token", surrogate: Surrogate = "clipped", proximal_logprobs_BT: Tensor | None = None,
    importance_cap: float | None = None, num_sequences: int | None = None, max_tokens: int | None = None,
    sequence_ids_BT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The clipped group-relative policy loss of one micro-batch: −Σ_t w_t min(r_t A_t, clip(r_t) A_t) / denominator.

    r_t = exp(log π − log π_old), where π_old is the proximal policy when given, else the behavior policy μ.
    w_t = min(exp(log π_prox − log μ), importance_cap), detached; 1 without proximal log-probabilities. This is the
    decoupled objective (Hilton et al. 2021, arXiv 2110.00641) with truncated weights (Yao et al. 2025, "Your Efficient
    RL Framework Secretly Brings You Off-Policy RL Training"). For a single on-policy step the proximal policy is
    `logprobs_BT.detach()`: r is then exactly 1 and the engine's mismatch sits in w alone.

    All tensors are [B, T]; `num_loss_tokens` and `num_sequences` (those with a loss token) count the whole optimizer
    step. Packed rows need `sequence_ids_BT` (int64, −1 padding, distinct within a row) whenever the aggregation or the
    ratio is per sequence; the default is one sequence a row. A sequence must lie whole in one row.
    Returns the loss and metrics for `reduce_metrics`. Raises ValueError for a denominator that is missing or not > 0.
    """
    if importance_cap is not None and proximal_logprobs_BT is None:
        raise ValueError("importance_cap needs proximal_logprobs_BT: give logprobs_BT.detach() for one on-policy step")
    keep_BT = mask_BT.bool()
    logprobs_BT = _select(logprobs_BT, keep_BT)
    behavior_BT = _select(behavior_logprobs_BT, keep_BT).detach()
    advantages_BT = _select(advantages_BT, keep_BT).detach()
    old_BT = behavior_BT if proximal_logprobs_BT is None else _select(proximal_logprobs_BT, keep_BT).detach()
    raw_weight_BT = (old_BT - behavior_BT).exp()  # exactly 1 when both are the behavior policy
    weight_BT = raw_weight_BT if importance_cap is None else raw_weight_BT.clamp(max=importance_cap)

    log_ratio_BT = logprobs_BT - old_BT
    if ratio == "sequence":
        means_S, slots_BT = _sequence_means(log_ratio_BT, keep_BT, sequence_ids_BT)
        log_ratio_BT = torch.where(keep_BT, means_S[slots_BT], 0.0)
    ratio_BT = log_ratio_BT.exp()
    surrogate_BT, binds_low_BT, binds_high_BT = _surrogate_terms(
        ratio_BT, advantages_BT, logprobs_BT, surrogate, 1.0 - clip_low, 1.0 + clip_high
    )
    objective_BT = weight_BT * surrogate_BT
    loss = -aggregate_tokens(
        objective_BT, keep_BT, aggregation=aggregation, num_loss_tokens=num_loss_tokens, num_sequences=num_sequences,
        max_tokens=max_tokens, sequence_ids_BT=sequence_ids_BT,
    )  # fmt: skip
    metrics = {
        "loss": loss,
        "num_tokens": keep_BT.sum(),
        # An infinite ratio may hide behind the clip in the loss while its gradient is NaN (0 · inf): it counts too.
        "non_finite_count": _num_non_finite(objective_BT + 0.0 * ratio_BT + 0.0 * raw_weight_BT),
        "clip_fraction_low_sum": (keep_BT & binds_low_BT).sum(),
        "clip_fraction_high_sum": (keep_BT & binds_high_BT).sum(),
        "ratio_max": _largest(torch.where(keep_BT, ratio_BT, 0.0)),
        "ratio_deviation_max": _largest(torch.where(keep_BT, ratio_BT - 1.0, 0.0).abs()),
        "behavior_kl_sum": kl_penalty(behavior_BT, logprobs_BT, "k3").sum(),
        "importance_weight_sum": torch.where(keep_BT, weight_BT, 0.0).sum(),
        "importance_capped_sum": (keep_BT & (weight_BT < raw_weight_BT)).sum(),
    }
    return loss, {name: value.detach() for name, value in metrics.items()}


def _surrogate_terms(
    ratio_BT: Tensor, advantages_BT: Tensor, logprobs_BT: Tensor, surrogate: Surrogate, lower: float, upper: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Each token's objective without its weight, and where the lower and the upper bound take effect."""
    clipped_BT = ratio_BT.clamp(lower, upper)
    below_BT, above_BT = ratio_BT < lower, ratio_BT > upper
    if surrogate == "cispo":
        return clipped_BT.detach() * advantages_BT * logprobs_BT, below_BT, above_BT
    # The minimum takes the clipped branch on one side only, by the sign of A.
    surrogate_BT = torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    return surrogate_BT, below_BT & (advantages_BT < 0), above_BT & (advantages_BT > 0)


def policy_loss(
    logprobs_BT: Tensor, behavior_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, *,
    config: LossConfig, num_loss_tokens: int, num_sequences: int | None = None, sequence_ids_BT: Tensor | None = None,
    proximal_logprobs_BT: Tensor | None = None, reference_logprobs_BT: Tensor | None = None,
    entropy_BT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """What one RL micro-batch minimises: grpo_loss + kl_coef · KL(π‖π_ref) − entropy_coef · H, all aggregated alike.

    Arguments as in `grpo_loss`; `reference_logprobs_BT` is needed when kl_coef > 0, `entropy_BT` (nats, with its
    graph) when entropy_coef > 0; an entropy given at coefficient 0 is only recorded. As in DeepSeekMath the KL term
    carries no importance ratio, so its estimator is exact for samples of the present policy only.
    Raises ValueError when a tensor that the config calls for is missing.
    """
    keep_BT = mask_BT.bool()

    def aggregate(terms_BT: Tensor) -> Tensor:
        return aggregate_tokens(
            terms_BT, keep_BT, aggregation=config.aggregation, num_loss_tokens=num_loss_tokens,
            num_sequences=num_sequences, max_tokens=config.max_tokens, sequence_ids_BT=sequence_ids_BT,
        )  # fmt: skip

    loss, metrics = grpo_loss(
        logprobs_BT, behavior_logprobs_BT, advantages_BT, keep_BT, clip_low=config.clip_low, clip_high=config.clip_high,
        num_loss_tokens=num_loss_tokens, aggregation=config.aggregation, ratio=config.ratio, surrogate=config.surrogate,
        proximal_logprobs_BT=proximal_logprobs_BT, importance_cap=config.importance_cap, num_sequences=num_sequences,
        max_tokens=config.max_tokens, sequence_ids_BT=sequence_ids_BT,
    )  # fmt: skip
    if config.kl_coef > 0.0:
        if reference_logprobs_BT is None:
            raise ValueError(f"kl_coef={config.kl_coef} needs reference_logprobs_BT")
        # Selected before the estimator: its exponential must not meet the padding.
        kept_logprobs_BT, kept_reference_BT = _select(logprobs_BT, keep_BT), _select(reference_logprobs_BT, keep_BT)
        kl_BT = kl_penalty(kept_logprobs_BT, kept_reference_BT, config.kl_estimator)
        loss = loss + config.kl_coef * aggregate(kl_BT)
        metrics["reference_kl_sum"] = kl_BT.detach().sum()
        metrics["non_finite_count"] = metrics["non_finite_count"] + _num_non_finite(kl_BT)
    if config.entropy_coef > 0.0 and entropy_BT is None:
        raise ValueError(f"entropy_coef={config.entropy_coef} needs entropy_BT")
    if entropy_BT is not None:
        kept_entropy_BT = _select(entropy_BT, keep_BT)
        metrics["entropy_sum"] = kept_entropy_BT.detach().sum()
        metrics["non_finite_count"] = metrics["non_finite_count"] + _num_non_finite(kept_entropy_BT)
        if config.entropy_coef > 0.0:
            loss = loss - config.entropy_coef * aggregate(kept_entropy_BT)
    return loss, metrics | {"loss": loss.detach()}


def kl_penalty(logprobs: Tensor, reference_logprobs: Tensor, estimator: KLEstimator = "k2") -> Tensor:
    """A term for each sampled token that estimates KL(π‖π_ref) in nats, any shape; differentiable in `logprobs`.

    With d = log π − log π_ref: k1 = d, k2 = d²/2, k3 = exp(−d) − 1 + d (Schulman 2020, "Approximating KL Divergence").
    As a NUMBER k1 and k3 are unbiased for samples of π, and k2 is biased a little. As a LOSS it is the other way round,
    because E[∇ estimator] leaves out the dependence of the sampling on π:
    - ∇k2 = d ∇log π has the expectation ∇KL(π‖π_ref): the right one, hence the default;
    - ∇k1 = ∇log π has the expectation zero: no penalty at all, only noise;
    - ∇k3 = (1 − π_ref/π) ∇log π has the expectation ∇KL(π_ref‖π): the gradient of the other direction.
    Raises UserError for an unknown estimator.
    """
    _require_choice("kl_estimator", estimator, KLEstimator)
    log_ratio = logprobs - reference_logprobs.detach()
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio.square()
    return torch.expm1(-log_ratio) + log_ratio


def entropy_from_logits(logits_BTV: Tensor) -> Tensor:
    """Entropy H = log Z − Σ_v p_v z_v of each token's distribution, [B, T] in nats, from [B, T, V] logits.

    Computed in at least float32. For tests and small vocabularies: training takes it from the fused head, which never
    holds all logits. A logit of −inf (a forbidden token) counts as probability 0.
    """
    logits_BTV = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    log_probs_BTV = logits_BTV.log_softmax(dim=-1)
    # Selected before the product: 0 · (−inf) is NaN, while the limit of p log p is 0.
    safe_BTV = torch.where(torch.isneginf(log_probs_BTV), 0.0, log_probs_BTV)
    return -(log_probs_BTV.exp() * safe_BTV).sum(dim=-1)


def sft_loss(logprobs_BT: Tensor, mask_BT: Tensor, *, num_loss_tokens: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood −Σ_t m_t log π(token_t) / num_loss_tokens of one micro-batch, nats a token, and metrics.

    `num_loss_tokens` counts the whole optimizer step. Raises ValueError when it is not > 0.
    """
    keep_BT = mask_BT.bool()
    logprobs_BT = _select(logprobs_BT, keep_BT)
    loss = -aggregate_tokens(logprobs_BT, keep_BT, aggregation="token_mean", num_loss_tokens=num_loss_tokens)
    metrics = {
        "loss": loss.detach(),
        "num_tokens": keep_BT.sum(),
        "non_finite_count": _num_non_finite(logprobs_BT),
        "negative_log_likelihood_sum": -logprobs_BT.detach().sum(),
    }
    return loss, metrics


def aggregate_tokens(
    terms_BT: Tensor, mask_BT: Tensor, *, aggregation: Aggregation, num_loss_tokens: int,
    num_sequences: int | None = None, max_tokens: int | None = None, sequence_ids_BT: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """This micro-batch's share of the step's aggregate of `terms_BT`; arguments and errors as in `grpo_loss`."""
    _require_choice("aggregation", aggregation, Aggregation)
    num_loss_tokens = _positive("num_loss_tokens", num_loss_tokens)
    keep_BT = mask_BT.bool()
    # `where` and not a product: 0 · NaN is NaN. A sum over nothing stays in the graph, so that a rank whose rows are
    # all masked still runs its backward pass.
    terms_BT = torch.where(keep_BT, terms_BT, 0.0)
    if aggregation == "token_mean":
        return terms_BT.sum() / num_loss_tokens
    num_sequences = _positive("num_sequences", num_sequences)
    if aggregation == "constant":
        return terms_BT.sum() / (num_sequences * _positive("max_tokens", max_tokens))
    means_S, _ = _sequence_means(terms_BT, keep_BT, sequence_ids_BT)
    return means_S.sum() / num_sequences


def reduce_metrics(metrics: Sequence[Mapping[str, Tensor | float]]) -> dict[str, float]:
    """One flat record for the step from the metrics of all its micro-batches (and ranks).

    The rule is in the name: `x_sum` adds up and becomes `x`, the mean over the step's `num_tokens`; `x_max` is the
    maximum, NaN if any is NaN; everything else (`loss`, `num_tokens`, `non_finite_count`) adds up. Raises ValueError
    for no metrics, for keys that differ, and for means over no tokens.
    """
    if not metrics or any(entry.keys() != metrics[0].keys() for entry in metrics):
        raise ValueError(f"reduce_metrics: need metrics with equal keys, got {[sorted(entry) for entry in metrics]}")
    columns = {name: [float(entry[name]) for entry in metrics] for name in metrics[0]}
    num_tokens = sum(columns["num_tokens"])
    if num_tokens <= 0:
        raise ValueError("reduce_metrics: the step has no loss tokens")
    reduced: dict[str, float] = {}
    for name, values in columns.items():
        if name.endswith("_max"):
            reduced[name] = math.nan if any(map(math.isnan, values)) else max(values)
        elif name.endswith("_sum"):
            reduced[name.removesuffix("_sum")] = sum(values) / num_tokens
        else:
            reduced[name] = sum(values)
    return reduced


def _select(values_BT: Tensor, keep_BT: Tensor) -> Tensor:
    """Kept values in at least float32 (bfloat16 cannot tell ratios near 1 apart), 0 elsewhere."""
    values_BT = values_BT.to(torch.promote_types(values_BT.dtype, torch.float32))
    return torch.where(keep_BT, values_BT, 0.0)


def _sequence_means(values_BT: Tensor, keep_BT: Tensor, sequence_ids_BT: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean over the kept tokens of each sequence, [S], and the index into it of each position, [B, T].

    Padding shares the first index of its row and adds nothing; an index without kept tokens has mean 0.
    """
    num_rows = keep_BT.shape[0]
    slots_BT = torch.arange(num_rows, device=keep_BT.device).unsqueeze(1).expand_as(keep_BT)
    ids_per_row = 1
    if sequence_ids_BT is not None:
        if bool((keep_BT & (sequence_ids_BT < 0)).any()):
            raise ValueError("sequence_ids_BT marks a position with loss as padding (-1)")
        ids_BT = sequence_ids_BT.clamp(min=0)
        ids_per_row = int(_largest(ids_BT)) + 1
        slots_BT = slots_BT * ids_per_row + ids_BT
    zeros_S, slots_N = values_BT.new_zeros(num_rows * ids_per_row), slots_BT.reshape(-1)
    sums_S = zeros_S.index_add(0, slots_N, torch.where(keep_BT, values_BT, 0.0).reshape(-1))
    lengths_S = zeros_S.index_add(0, slots_N, keep_BT.to(values_BT.dtype).reshape(-1))
    return sums_S / lengths_S.clamp(min=1), slots_BT


def _num_non_finite(values_BT: Tensor) -> Tensor:
    return (~torch.isfinite(values_BT.detach())).sum()


def _largest(values_BT: Tensor) -> Tensor:
    """The maximum, 0 for a micro-batch without any position."""
    return values_BT.max() if values_BT.numel() else values_BT.new_zeros(())


def _positive(name: str, count: int | None) -> int:
    if count is None or count <= 0:
        raise ValueError(f"{name}={count!r}: this aggregation divides by it; give the count of the whole step (> 0)")
    return count
