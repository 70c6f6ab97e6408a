"""Intervals and pass@k against brute force, closed forms and laws that hold for all data."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import statistics
from evals.statistics import Interval, accuracy_summary, bootstrap_interval, paired_difference, pass_at_k

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(values=VALUES, seed=st.integers(0, 2**32))
def test_the_interval_contains_the_mean_and_stays_within_the_data(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, num_resamples=200, seed=seed)
    slack = 1e-9 * max(map(abs, values))
    assert interval.low <= interval.mean <= interval.high
    assert min(values) - slack <= interval.low
    assert interval.high <= max(values) + slack
    assert interval.n == len(values)


@settings(max_examples=40, deadline=None)
@given(value=st.floats(-1e6, 1e6), n=st.integers(1, 200))
def test_constant_data_gives_zero_width(value: float, n: int) -> None:
    interval = bootstrap_interval([value] * n, num_resamples=50, seed=0)
    assert interval.low == interval.mean == interval.high


def test_two_prompts_give_the_quantiles_of_the_four_equally_likely_resamples() -> None:
    # Resample means of (0, 1): 0 with 1/4, 1/2 with 1/2, 1 with 1/4.
    assert bootstrap_interval([0.0, 1.0], confidence=0.95, seed=1) == Interval(0.5, 0.0, 1.0, 2)
    assert bootstrap_interval([0.0, 1.0], confidence=0.4, seed=1) == Interval(0.5, 0.5, 0.5, 2)


def test_the_interval_matches_the_exhaustive_bootstrap_of_five_values() -> None:
    values = [0.0, 0.25, 0.5, 1.0, 1.0]
    every_mean = [np.mean(draw) for draw in product(values, repeat=5)]
    interval = bootstrap_interval(values, confidence=0.9, num_resamples=40_000, seed=3)
    assert interval.mean == 0.55
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(every_mean, [0.05, 0.95])), abs=0.051)


def test_the_interval_has_the_normal_width_for_many_prompts() -> None:
    values = np.random.default_rng(0).random(2000) < 0.3
    interval = bootstrap_interval(values, seed=0)
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert (interval.high - interval.low) / 2 == pytest.approx(half_width, rel=0.06)


def test_the_interval_shrinks_with_the_root_of_the_number_of_prompts() -> None:
    widths = []
    for n in (100, 400, 1600):
        interval = bootstrap_interval([0.0, 1.0] * (n // 2), seed=5)
        widths.append(interval.high - interval.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.1)


def test_the_95_percent_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        interval = bootstrap_interval(rng.random(100) < 0.5, num_resamples=300, seed=seed)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered / 300 <= 0.985  # the binomial spread of 300 trials at 0.95 is 0.0126


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    values = np.random.default_rng(2).random(50)
    half, most = (bootstrap_interval(values, confidence=confidence, seed=0) for confidence in (0.5, 0.95))
    assert half.high - half.low < 0.5 * (most.high - most.low)


def test_the_seed_alone_decides_the_draws() -> None:
    values = np.random.default_rng(4).random(40)
    assert bootstrap_interval(values, seed=7) == bootstrap_interval(list(values), seed=7)
    assert bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)


def test_drawing_in_several_blocks_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(40)
    at_once = bootstrap_interval(values, num_resamples=100, seed=7)
    monkeypatch.setattr(statistics, "_MAX_DRAWS_AT_ONCE", 40 * 8)
    assert bootstrap_interval(values, num_resamples=100, seed=7) == at_once


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")], [[1.0, 2.0]]])
def test_no_values_or_values_that_are_not_finite_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="values_P"):
        bootstrap_interval(values, seed=0)


@pytest.mark.parametrize("settings_", [{"confidence": 0.0}, {"confidence": 1.0}, {"num_resamples": 0}])
def test_settings_out_of_range_are_refused(settings_: dict) -> None:
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([1.0], seed=0, **settings_)


# ------------------------------------------------------------------------------------------------------------- pairing


def test_a_paired_difference_is_a_minus_b_and_cancels_prompt_difficulty() -> None:
    difficulty = np.random.default_rng(0).random(60)
    uids = [f"p{index}" for index in range(60)]
    paired = paired_difference(difficulty + 0.125, difficulty, uids_a=uids, uids_b=uids, seed=0)
    assert paired.mean == pytest.approx(0.125)
    assert paired.high - paired.low < 1e-12
    alone = bootstrap_interval(difficulty, seed=0)
    assert alone.high - alone.low > 0.1


def test_a_paired_difference_flips_its_sign_with_the_sides() -> None:
    a, b, uids = [0.0, 1.0, 0.5], [1.0, 1.0, 0.0], ["x", "y", "z"]
    forward = paired_difference(a, b, uids_a=uids, uids_b=uids, seed=0)
    backward = paired_difference(b, a, uids_a=uids, uids_b=uids, seed=0)
    assert forward.mean == pytest.approx(-1 / 6)
    assert (backward.low, backward.mean, backward.high) == pytest.approx((-forward.high, -forward.mean, -forward.low))


@pytest.mark.parametrize(
    ("uids_a", "uids_b", "message"),
    [
        (["x", "y"], ["y", "x"], "prompt 0 is 'x' in a and 'y' in b"),
        (["x", "y"], ["x"], "lengths differ"),
        (["x", "x"], ["x", "x"], "occurs twice"),
    ],
)
def test_a_paired_difference_of_other_prompts_is_refused(uids_a: list[str], uids_b: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference([0.0, 1.0], [0.0, 1.0], uids_a=uids_a, uids_b=uids_b, seed=0)


# -------------------------------------------------------------------------------------------------------------- pass@k


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_equals_the_share_of_k_subsets_with_a_correct_sample(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations([True] * c + [False] * (n - c), k))
            expected = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_by_hand() -> None:
    # n=4, c=1, k=2: 1 - C(3,2)/C(4,2) = 1 - 3/6. n=10, c=3, k=5: 1 - C(7,5)/C(10,5) = 1 - 21/252.
    assert pass_at_k([4, 10], [1, 3], 2)[0] == pytest.approx(0.5)
    assert pass_at_k([10], [3], 5)[0] == pytest.approx(1 - 21 / 252)


def test_pass_at_1_is_the_mean_and_pass_at_n_asks_for_any_correct_sample() -> None:
    assert pass_at_k([64, 64, 64], [0, 16, 64], 1) == pytest.approx([0.0, 0.25, 1.0])
    assert pass_at_k([64, 64, 64], [0, 1, 64], 64).tolist() == [0.0, 1.0, 1.0]


def test_pass_at_k_stays_exact_where_binomials_overflow() -> None:
    # 1 - prod_{i<1000} (9999 - i)/(10000 - i) telescopes to 1 - 9000/10000.
    assert pass_at_k(10_000, 1, 1000) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [([4, 2], [1, 1], 3), ([4], [1], 0), ([4], [5], 1), ([4], [-1], 1)])
def test_counts_that_cannot_be_are_refused(n: list[int], c: list[int], k: int) -> None:
    with pytest.raises(ValueError, match=r"k: must lie|num_correct"):
        pass_at_k(n, c, k)


# ------------------------------------------------------------------------------------------------------------- summary


def test_errors_leave_numerator_and_denominator() -> None:
    summary = accuracy_summary([[1.0, None], [0.0, 1.0], [None, None], [0.5, 0.0]], seed=0)
    assert summary.per_prompt == (1.0, 0.5, 0.25)
    assert summary.prompt_indices == (0, 1, 3)
    assert summary.num_scored == (1, 2, 2)
    assert summary.num_correct == (1, 1, 0)
    assert summary.num_errors == 3
    assert summary.interval.mean == pytest.approx(1.75 / 3)
    assert summary.interval.n == 3


def test_a_benchmark_whose_scores_all_failed_has_no_accuracy() -> None:
    with pytest.raises(ValueError, match="none of the 2 prompts has a scored sample"):
        accuracy_summary([[None], [None]], seed=0)
