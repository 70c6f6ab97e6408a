"""The workloads of the speed comparisons: forced lengths, made-up words, and the reward that differs within a group."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.letter_share import letter_share
from benchmarks.sides.learner_rows import packed_rows
from benchmarks.workloads import LONGEST, SHORTEST, WORKLOADS, long_tailed_lengths, made_up_words, workload
from data.records import UserError


@given(seed=st.integers(0, 10_000), count=st.integers(1, 300))
def test_lengths_stay_within_their_bounds_and_repeat(seed: int, count: int) -> None:
    lengths = long_tailed_lengths(count, seed=seed)
    assert len(lengths) == count
    assert all(SHORTEST <= length <= LONGEST for length in lengths)
    assert lengths == long_tailed_lengths(count, seed=seed)


def test_lengths_have_a_long_tail() -> None:
    lengths = long_tailed_lengths(20_000, seed=3)
    # A log-normal with median 72 and sigma 0.9: the mean is e^0.405 = 1.5 times the median before the cut at 512.
    assert statistics.median(lengths) == pytest.approx(72, rel=0.05)
    assert 1.3 < statistics.mean(lengths) / statistics.median(lengths) < 1.5
    # P(length > 512) = P(z > ln(512 / 72) / 0.9 = 2.18) = 1.5 %; P(length < 16) = P(z < -1.67) = 4.7 %.
    assert sum(length == LONGEST for length in lengths) / len(lengths) == pytest.approx(0.015, abs=0.004)
    assert sum(length == SHORTEST for length in lengths) / len(lengths) == pytest.approx(0.048, abs=0.008)


def test_another_seed_draws_other_lengths() -> None:
    assert long_tailed_lengths(50, seed=0) != long_tailed_lengths(50, seed=1)


def test_made_up_words_fill_a_range_of_ids_with_distinct_text() -> None:
    words = made_up_words(1000, 3000)
    assert sorted(words.values()) == list(range(1000, 3000))
    assert len(words) == 2000


def test_an_unknown_workload_is_named_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="workload 'D' does not exist: choose from A, B, C, V"):
        workload("D")
    assert WORKLOADS["C"].max_new_tokens == 512
    assert WORKLOADS["A"].max_new_tokens == 128


@pytest.mark.parametrize(("text", "share"), [("", 0.5), ("123 é", 0.5), ("am", 1.0), ("NZ", 0.0), ("abcz!", 0.75)])
def test_the_reward_is_the_share_of_the_first_half_of_the_alphabet(text: str, share: float) -> None:
    assert letter_share(text) == share


def test_packed_rows_hold_the_same_tokens_in_rows_of_one_length() -> None:
    rows = [[1, 2, 3], [4], [5, 6, 7, 8]]
    assert packed_rows(rows) == [[1, 2], [3, 4], [5, 6]]  # 8 tokens in 3 rows: 2 each, 2 are left over
    assert packed_rows([[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
