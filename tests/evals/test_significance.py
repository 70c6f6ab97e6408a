"""The crossed bootstrap against all its resamples, and Holm's correction against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evals.significance import crossed_bootstrap, holm
from evals.statistics import bootstrap_interval

PROBABILITIES = st.lists(st.floats(0, 1), max_size=12)
MATRICES = st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]))
)

# ---------------------------------------------------------------------------------------------- Holm


def test_holm_on_known_p_values() -> None:
    # Ranks 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last is raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"p_values: 1\.5 is no probability"):
        holm([0.1, 1.5])
    with pytest.raises(ValueError, match="nan is no probability"):
        holm([float("nan")])


@given(p_values=PROBABILITIES)
def test_holm_never_rejects_more_than_uncorrected_nor_less_than_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p_value, corrected in zip(p_values, adjusted, strict=True):
        assert p_value <= corrected <= min(1.0, len(p_values) * p_value) or corrected == pytest.approx(
            min(1.0, len(p_values) * p_value)
        )


@given(p_values=PROBABILITIES, data=st.data())
def test_holm_does_not_depend_on_the_order_and_keeps_the_ranks(p_values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(p_values))))
    adjusted = holm(p_values)
    assert [holm([p_values[index] for index in order])] == [[adjusted[index] for index in order]]
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert [corrected for _, corrected in ranked] == sorted(adjusted)


# ---------------------------------------------------------------------------------------------- the bootstrap


def every_resample(values_SP: Sequence[Sequence[float]]) -> np.ndarray:
    """Brute force: the mean of each of the S^S P^P equally likely resamples of a crossed design."""
    values = np.asarray(values_SP)
    seeds, prompts = (list(product(range(size), repeat=size)) for size in values.shape)
    return np.array([values[np.ix_(rows, columns)].mean() for rows in seeds for columns in prompts])


def test_bounds_and_p_value_equal_those_of_every_resample() -> None:
    values = [[1.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, -0.5]]
    means = every_resample(values)  # 4 * 256 of them
    (found,) = crossed_bootstrap([values], confidence=0.8, num_resamples=40_000, seed=3)
    assert found.mean == 0.375
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])), abs=0.063)  # a step
    # Prompt means 0.75, 0, 0.75, 0: two differ from zero, so that p is at least 2^-1.
    assert found.p_value == 0.5
    assert (found.num_seeds, found.num_prompts) == (2, 4)


def test_the_p_value_is_twice_the_share_of_resamples_beyond_zero_where_the_sign_test_does_not_bound_it() -> None:
    values = [[1.0, -0.5, 0.75, -0.25, 0.5]]
    means = every_resample(values)
    expected = 2 * min((means <= 0).mean(), (means >= 0).mean())
    assert expected > 2.0**-4
    (found,) = crossed_bootstrap([values], num_resamples=40_000, seed=1)
    assert found.p_value == pytest.approx(expected, abs=0.012)


def test_a_handful_of_prompts_that_all_moved_one_way_shows_no_more_than_a_sign_test() -> None:
    for num_moved, bound in ((1, 1.0), (2, 0.5), (5, 0.0625)):
        (found,) = crossed_bootstrap([[[1.0] * num_moved + [0.0] * 20]], num_resamples=2000, seed=0)
        assert found.p_value >= bound
    (nothing,) = crossed_bootstrap([[[0.0] * 30]], num_resamples=200, seed=0)
    assert (nothing.mean, nothing.low, nothing.high, nothing.p_value) == (0.0, 0.0, 0.0, 1.0)
    (all_moved,) = crossed_bootstrap([[[1.0] * 30]], num_resamples=999, seed=0)
    assert all_moved.p_value == 2 / 1000


def test_one_seed_gives_the_interval_of_the_ordinary_bootstrap() -> None:
    values = (np.random.default_rng(0).random(300) < 0.4).astype(float)
    (found,) = crossed_bootstrap([values[None]], num_resamples=8000, seed=5)
    plain = bootstrap_interval(values, num_resamples=8000, seed=5)
    assert found.mean == pytest.approx(plain.mean)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.007)


def test_seeds_that_differ_widen_the_interval_however_many_prompts_there_are() -> None:
    calm, restless = np.full((4, 400), 0.5), np.full((4, 400), 0.5)
    restless += np.array([-0.3, -0.1, 0.1, 0.3])[:, None]
    steady, spread = crossed_bootstrap([calm, restless], num_resamples=4000, seed=0)
    assert (steady.low, steady.high) == (0.5, 0.5)
    means = every_resample(np.array([-0.3, -0.1, 0.1, 0.3])[:, None] + 0.5)
    assert (spread.low, spread.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.051)


def test_missing_scores_leave_the_mean_and_empty_seeds_and_prompts_leave_the_count() -> None:
    nan = float("nan")
    (found,) = crossed_bootstrap([[[1.0, nan, nan], [0.0, 0.5, nan], [nan, nan, nan]]], num_resamples=200, seed=0)
    assert (found.mean, found.num_seeds, found.num_prompts) == (0.5, 2, 2)
    with pytest.raises(ValueError, match="holds no score"):
        crossed_bootstrap([[[nan, nan]]], seed=0)
    with pytest.raises(ValueError, match=r"shape \[seeds, prompts\]"):
        crossed_bootstrap([[1.0, 2.0]], seed=0)


@settings(max_examples=60, deadline=None)
@given(matrix=MATRICES, seed=st.integers(0, 2**20))
def test_the_interval_holds_the_mean_stays_within_the_data_and_flips_with_the_sign(
    matrix: np.ndarray, seed: int
) -> None:
    (found,) = crossed_bootstrap([matrix], num_resamples=100, seed=seed)
    assert matrix.min() <= found.low <= found.mean <= found.high <= matrix.max()
    (flipped,) = crossed_bootstrap([-matrix], num_resamples=100, seed=seed)
    assert flipped.p_value == found.p_value
    assert (flipped.low, flipped.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(matrices=st.lists(MATRICES, min_size=1, max_size=4), seed=st.integers(0, 2**20))
def test_an_estimate_does_not_depend_on_the_others_of_its_table(matrices: list[np.ndarray], seed: int) -> None:
    together = crossed_bootstrap(matrices, num_resamples=50, seed=seed)
    alone = [crossed_bootstrap([matrix], num_resamples=50, seed=seed)[0] for matrix in matrices]
    assert together == alone


def test_draws_in_parts_serve_large_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.significance._MAX_COUNTS_AT_ONCE", 1000)
    values = (np.random.default_rng(1).random((2, 300)) < 0.5).astype(float)
    (found,) = crossed_bootstrap([values], num_resamples=2000, seed=0)
    assert found.low < found.mean < found.high
