"""Which differences of a table would hold with other prompts and seeds: a crossed bootstrap and Holm's correction.

A stage or variant is measured on the same held-out prompts with every seed, so a difference is a matrix of seeds by
prompts. Both are samples of what there might have been, and a table has many differences, some of which pass any single
test by luck. Pure functions of numbers.

Shapes: S seeds, P prompts, R resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_MAX_COUNTS_AT_ONCE = 2_000_000
"""Resampling counts held in memory at a time (16 MB)."""

_ZERO = 1e-12
"""Means nearer to zero than this are zero: what rounding leaves of scores that cancel."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and prompts with its interval, and how unlikely it is under a true mean of zero.

    `p_value` is two-sided and not corrected. It means something for differences; for a plain mean it is of no interest.
    """

    mean: float
    low: float
    high: float
    p_value: float
    num_seeds: int
    num_prompts: int


def crossed_bootstrap(
    matrices: Sequence[ArrayLike], *, confidence: float = 0.95, num_resamples: int = 20_000, seed: int
) -> list[Estimate]:
    """The mean of each [S, P] matrix with its percentile interval, resampling seeds and, over all of them, prompts.

    A resample draws S seeds, then P prompts, both with replacement, and takes the mean over the crossing: every drawn
    seed meets the same drawn prompts, as in the evaluation. With one seed this is the ordinary bootstrap over prompts,
    and the interval says nothing about other seeds; with few seeds it is somewhat too narrow, by about the root of
    (S - 1) / S in the part that seeds cause. NaN marks a score that is missing; seeds and prompts with no score at all
    are left out, and so are resamples that meet no score.

    p = 2 min(#{mean <= 0} + 1, #{mean >= 0} + 1) / (R + 1), at most 1. Departure: p is at least 2^(1 - n) with n the
    prompts that differ from zero, which is what a sign test can show; without that bound the bootstrap calls two
    prompts that moved the same way significant.

    Matrices of one shape share their draws, which makes tables of hundreds of cells quick; each estimate by itself is
    as if drawn for it alone, and does not depend on the others. Raises ValueError for a matrix without a score.
    Source: Owen, "The pigeonhole bootstrap" (2007); p as in Davison and Hinkley, "Bootstrap Methods and their
    Application" (1997), section 4.2.
    """
    if not 0 < confidence < 1 or num_resamples < 1:
        raise ValueError(f"confidence {confidence} must lie in (0, 1) and num_resamples {num_resamples} be positive")
    kept = [_without_empty_lines(np.asarray(matrix, dtype=np.float64)) for matrix in matrices]
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, matrix in enumerate(kept):
        by_shape[matrix.shape].append(index)
    estimates: dict[int, Estimate] = {}
    for (num_seeds, num_prompts), indices in by_shape.items():
        means: dict[int, list[Floats]] = {index: [] for index in indices}
        for seeds_RS, prompts_RP in _draws(num_seeds, num_prompts, num_resamples, seed):
            for index in indices:
                means[index].append(_resampled_means(kept[index], seeds_RS, prompts_RP))
        for index in indices:
            estimates[index] = _estimate(kept[index], np.concatenate(means.pop(index)), confidence)
    return [estimates[index] for index in range(len(kept))]


def _without_empty_lines(values_SP: Floats) -> Floats:
    """The matrix without seeds and prompts that have no score."""
    if values_SP.ndim != 2 or np.isinf(values_SP).any():
        raise ValueError(f"matrices: need finite numbers or NaN of shape [seeds, prompts], got {values_SP!r}")
    known_SP = ~np.isnan(values_SP)
    if not known_SP.any():
        raise ValueError(f"matrices: a matrix of shape {values_SP.shape} holds no score")
    return values_SP[known_SP.any(axis=1)][:, known_SP.any(axis=0)]


def _draws(num_seeds: int, num_prompts: int, num_resamples: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """How often each seed [R, S] and each prompt [R, P] is drawn, some resamples at a time."""
    rng = np.random.default_rng([seed, num_seeds, num_prompts])
    at_once = max(1, _MAX_COUNTS_AT_ONCE // max(num_seeds, num_prompts))
    for start in range(0, num_resamples, at_once):
        count = min(at_once, num_resamples - start)
        yield _counts(rng, count, num_seeds), _counts(rng, count, num_prompts)


def _counts(rng: np.random.Generator, num_resamples: int, size: int) -> Floats:
    """Counts [R, size] of `size` draws with replacement."""
    drawn = rng.integers(size, size=(num_resamples, size)) + size * np.arange(num_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=num_resamples * size).reshape(num_resamples, size).astype(np.float64)


def _resampled_means(values_SP: Floats, seeds_RS: Floats, prompts_RP: Floats) -> Floats:
    """Mean of each resample over the scores that it meets; resamples that meet none are left out."""
    known_SP = ~np.isnan(values_SP)
    sums_R = ((prompts_RP @ np.where(known_SP, values_SP, 0.0).T) * seeds_RS).sum(axis=1)
    if known_SP.all():
        return sums_R / values_SP.size
    counts_R = ((prompts_RP @ known_SP.T.astype(np.float64)) * seeds_RS).sum(axis=1)
    return sums_R[counts_R > 0] / counts_R[counts_R > 0]


def _estimate(values_SP: Floats, means_R: Floats, confidence: float) -> Estimate:
    mean = float(np.nanmean(values_SP))
    if not means_R.size:  # very few scores, far apart: no resample met one
        return Estimate(mean, mean, mean, 1.0, *values_SP.shape)
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(means_R, [tail, 1 - tail]))
    means_R = np.where(np.abs(means_R) < _ZERO, 0.0, means_R)
    num_beyond = min(int((means_R <= 0).sum()), int((means_R >= 0).sum()))
    num_moved = int((np.abs(np.nanmean(values_SP, axis=0)) >= _ZERO).sum())
    p_value = min(1.0, max(2 * (num_beyond + 1) / (means_R.size + 1), 2.0 ** (1 - num_moved)))
    # With extreme skew, or by rounding, a quantile can lie on the wrong side of the mean that it is to bound.
    return Estimate(mean, min(low, mean), max(high, mean), p_value, *values_SP.shape)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: reject those at or below alpha, and the chance of any false rejection among
    all of them is at most alpha, however they depend on each other.

        adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    Raises ValueError for a value outside [0, 1]. Source: Holm, "A Simple Sequentially Rejective Multiple Test
    Procedure" (1979).
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ValueError(f"p_values: {p_value} is no probability")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
