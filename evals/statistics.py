"""What a handful of prompts can say: means with intervals, paired differences, and pass@k.

Every accuracy that fourstage reports carries an interval, because the benchmarks of this field are small (AIME has 30
problems) and two stages often differ by less than that. Pure functions of numbers; nothing here reads a file.

Shapes: P prompts, K samples of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MAX_DRAWS_AT_ONCE = 4_000_000
"""Resampled values held in memory at a time (32 MB), so that a benchmark of 100,000 prompts needs no more."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over n prompts and the bounds of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class AccuracySummary:
    """avg@K of one benchmark: the mean over prompts of each prompt's mean reward, errors left out.

    `prompt_indices` says which of the prompts given have a scored sample; `per_prompt`, `num_scored` and `num_correct`
    are theirs, in that order.
    """

    interval: Interval
    prompt_indices: tuple[int, ...]
    per_prompt: tuple[float, ...]
    num_scored: tuple[int, ...]
    num_correct: tuple[int, ...]
    num_errors: int


def bootstrap_interval(
    values_P: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int
) -> Interval:
    """Percentile bootstrap interval of the mean of `values_P`, resampling prompts with replacement.

    For avg@K pass the K-sample mean of each prompt: samples of one prompt are not independent, prompts are. The
    interval says how far the mean would move with other prompts of the same kind, so one prompt gives zero width.
    Raises ValueError for no values, values that are not finite, or settings out of range.
    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979).
    """
    values = np.asarray(values_P, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"values_P: need a non-empty list of finite numbers, got shape {values.shape}: {values!r}")
    if not 0 < confidence < 1 or num_resamples < 1:
        raise ValueError(f"confidence {confidence} must lie in (0, 1) and num_resamples {num_resamples} be positive")
    mean = float(values.mean())
    means_R = _resampled_means(values, num_resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    # With extreme skew, or by rounding, a quantile can lie on the wrong side of the mean that it is to bound.
    return Interval(mean, min(float(low), mean), max(float(high), mean), values.size)


def _resampled_means(values_P: Floats, num_resamples: int, rng: np.random.Generator) -> Floats:
    num_values = values_P.size
    rows_at_once = max(1, _MAX_DRAWS_AT_ONCE // num_values)
    means = [
        values_P[rng.integers(num_values, size=(min(rows_at_once, num_resamples - start), num_values))].mean(axis=1)
        for start in range(0, num_resamples, rows_at_once)
    ]
    return np.concatenate(means)


def macro_interval(
    groups_GP: Sequence[ArrayLike], *, confidence: float = 0.95, num_resamples: int = 2000, seed: int
) -> Interval:
    """The mean over groups of each group's mean, every group weighing the same, with its percentile bootstrap interval.

    For a category of several benchmarks: prompts are resampled within each benchmark, so that a benchmark with many
    prompts neither outweighs the others nor lends them its certainty. `n` counts all prompts. Raises ValueError for no
    group and what `bootstrap_interval` refuses. Source: Efron (1979), resampling within strata.
    """
    if not groups_GP or not 0 < confidence < 1 or num_resamples < 1:
        raise ValueError(f"groups_GP: {len(groups_GP)} groups, confidence {confidence}, {num_resamples} resamples")
    rng = np.random.default_rng(seed)
    means_GR, means_G, count = [], [], 0
    for group in groups_GP:
        values = np.asarray(group, dtype=np.float64)
        if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
            raise ValueError(f"groups_GP: need non-empty lists of finite numbers, got shape {values.shape}")
        means_GR.append(_resampled_means(values, num_resamples, rng))
        means_G.append(values.mean())
        count += values.size
    mean = float(np.mean(means_G))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.mean(means_GR, axis=0), [tail, 1 - tail])
    return Interval(mean, min(float(low), mean), max(float(high), mean), count)


def paired_difference(
    a_P: ArrayLike,
    b_P: ArrayLike,
    *,
    uids_a: Sequence[str],
    uids_b: Sequence[str],
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int,
) -> Interval:
    """Interval of mean(a - b) over the same prompts: how much a is better than b, with prompt difficulty cancelled.

    The difference of two separate intervals would be far too wide, since a hard prompt is hard for both. Raises
    ValueError unless both sides name the same prompts, each once, in the same order.
    """
    a, b = np.asarray(a_P, dtype=np.float64), np.asarray(b_P, dtype=np.float64)
    if not len(uids_a) == len(uids_b) == a.size == b.size:
        raise ValueError(f"paired_difference: lengths differ: {a.size}, {b.size}, uids {len(uids_a)}, {len(uids_b)}")
    for position, (uid_a, uid_b) in enumerate(zip(uids_a, uids_b, strict=True)):
        if uid_a != uid_b:
            raise ValueError(f"paired_difference: prompt {position} is {uid_a!r} in a and {uid_b!r} in b")
    if len(set(uids_a)) != len(uids_a):
        raise ValueError("paired_difference: a prompt occurs twice")
    return bootstrap_interval(a - b, confidence=confidence, num_resamples=num_resamples, seed=seed)


def pass_at_k(num_samples: ArrayLike, num_correct: ArrayLike, k: int) -> Floats:
    """Unbiased estimate per prompt of the chance that at least one of k samples is correct.

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i=0}^{k-1} (n - c - i) / (n - i)

    `num_samples` n and `num_correct` c are counts of shape [P] (or scalars). Raises ValueError when k exceeds n or c
    lies outside [0, n]. Source: Chen et al. 2021 (arXiv 2107.03374), section 2.1. Departure: the product runs over the
    k draws instead of over the c correct samples, which is the same number and vectorises over prompts.
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples, dtype=np.int64), np.asarray(num_correct, dtype=np.int64))
    if k < 1 or (n < k).any():
        raise ValueError(f"k: must lie in [1, num_samples], got {k} with {n.min() if n.size else 0} samples")
    if (c < 0).any() or (c > n).any():
        raise ValueError(f"num_correct: must lie in [0, num_samples], got {c.tolist()} of {n.tolist()}")
    draws_K = np.arange(k)
    all_wrong = np.maximum(n[..., None] - c[..., None] - draws_K, 0) / (n[..., None] - draws_K)
    return 1.0 - all_wrong.prod(axis=-1)


def accuracy_summary(
    rewards_PK: Sequence[Sequence[float | None]], *, confidence: float = 0.95, num_resamples: int = 2000, seed: int
) -> AccuracySummary:
    """avg@K with its interval from the rewards of each prompt's samples; None is a score that failed.

    A failed score leaves numerator and denominator, and a prompt with no score at all leaves the benchmark; both show
    in the counts. Raises ValueError when no sample was scored.
    """
    scored_P = [[reward for reward in rewards if reward is not None] for rewards in rewards_PK]
    kept = tuple(index for index, scored in enumerate(scored_P) if scored)
    if not kept:
        raise ValueError(f"rewards_PK: none of the {len(rewards_PK)} prompts has a scored sample")
    per_prompt = tuple(sum(scored_P[index]) / len(scored_P[index]) for index in kept)
    return AccuracySummary(
        interval=bootstrap_interval(per_prompt, confidence=confidence, num_resamples=num_resamples, seed=seed),
        prompt_indices=kept,
        per_prompt=per_prompt,
        num_scored=tuple(len(scored_P[index]) for index in kept),
        num_correct=tuple(sum(reward == 1.0 for reward in scored_P[index]) for index in kept),
        num_errors=sum(reward is None for rewards in rewards_PK for reward in rewards),
    )
