"""Several seeds put together: every number worked out by hand, and what must hold whatever the rewards are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.measurement import Measurement, Sample, benchmark_result, measurement_of_record, measurement_record
from evals.pooling import PooledResult, by_category, pool, result_dict
from evals.statistics import Interval, bootstrap_interval, macro_interval


def measured(
    rewards: list[list[float | None]],
    *,
    seed: int = 0,
    benchmark: str = "sums",
    budget: int | None = None,
    domains: list[str] | None = None,
    parts: dict[int, dict[str, float]] | None = None,
) -> Measurement:
    """One measurement; `rewards` has a list of samples for each prompt, `parts` those of the n-th sample of all."""
    samples = [
        Sample(f"p{prompt}", reward, num_tokens=10 * (prompt + 1), truncated=reward == 0.0)
        for prompt, row in enumerate(rewards)
        for reward in row
    ]
    for index, found in (parts or {}).items():
        old = samples[index]
        samples[index] = Sample(old.uid, old.reward, old.num_tokens, old.truncated, found)
    names = domains or ["arithmetic"] * len(rewards)
    return Measurement(
        benchmark, "thinking", seed, budget, tuple(samples), {f"p{i}": name for i, name in enumerate(names)}, (), ()
    )


def test_samples_of_a_prompt_are_pooled_over_seeds() -> None:
    first = measured([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], seed=0)
    second = measured([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], seed=7)
    found = pool([first, second], pass_at=(1, 2, 4))
    assert found.per_prompt == (0.25, 0.25, 1.0)
    assert found.accuracy.mean == 0.5
    assert (found.accuracy.n, found.samples_per_prompt, found.num_samples) == (3, 4, 12)
    # n = 4 samples with c = 1, 1 and 4 right: pass@2 = 1 - C(3,2)/C(4,2) = 1/2 for c = 1
    assert found.pass_at[1].mean == pytest.approx((0.25 + 0.25 + 1) / 3)
    assert found.pass_at[2].mean == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.pass_at[4].mean == 1.0
    assert found.seed_means == {0: 0.5, 7: 0.5}
    assert found.seed_deviation == 0.0
    assert found.mean_tokens == 20.0
    assert found.truncated_share == 0.5


def test_a_failed_verifier_leaves_average_and_pass_at_k_and_is_counted() -> None:
    found = pool([measured([[1.0, None], [None, None], [0.0, 1.0]])], pass_at=(1, 2))
    assert found.per_prompt == (1.0, 0.5)
    assert (found.num_errors, found.accuracy.n) == (3, 2)
    assert found.pass_at[1].mean == 0.75
    assert (found.pass_at[2].mean, found.pass_at[2].n) == (1.0, 1)  # only the last prompt has two scores


def test_a_graded_reward_counts_in_the_average_and_does_not_pass() -> None:
    found = pool([measured([[0.5, 0.9]])], pass_at=(1, 2))
    assert found.accuracy.mean == pytest.approx(0.7)
    assert [found.pass_at[k].mean for k in (1, 2)] == [0.0, 0.0]


def test_a_k_that_no_prompt_has_samples_for_is_left_out() -> None:
    assert set(pool([measured([[1.0], [0.0]])], pass_at=(1, 4)).pass_at) == {1}


def test_the_spread_of_seeds_is_that_of_their_means() -> None:
    found = pool([measured([[1.0], [1.0]], seed=1), measured([[1.0], [0.0]], seed=2)], pass_at=(1,))
    assert found.seed_means == {1: 1.0, 2: 0.5}
    assert found.seed_deviation == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert pool([measured([[1.0]])], pass_at=()).seed_deviation is None


def test_parts_are_means_over_prompts_of_the_samples_that_have_them() -> None:
    parts = {0: {"intent": 1.0}, 1: {"intent": 0.0, "format": 1.0}, 3: {"intent": 1.0}}
    found = pool([measured([[1.0, 0.0], [0.0, 1.0]], parts=parts)], pass_at=())
    assert found.parts["intent"].mean == 0.75  # (1 + 0) / 2 of the first prompt, 1 of the second
    assert (found.parts["format"].mean, found.parts["format"].n) == (1.0, 1)


def test_kinds_of_prompt_are_told_apart_where_there_are_several() -> None:
    kinds = ["single", "multi", "single"]
    found = pool([measured([[1.0], [0.0], [0.5]], domains=kinds)], pass_at=())
    assert {kind: interval.mean for kind, interval in found.domains.items()} == {"multi": 0.0, "single": 0.75}
    assert pool([measured([[1.0], [0.0]])], pass_at=()).domains == {}


@pytest.mark.parametrize(
    ("measurements", "message"),
    [
        ([measured([[1.0]]), measured([[1.0]], seed=1, benchmark="x")], "of one benchmark"),
        ([measured([[1.0]]), measured([[1.0]], seed=1, budget=3)], "of one benchmark, mode and budget"),
        ([measured([[1.0]]), measured([[1.0]])], "a seed comes twice"),
        ([measured([[1.0]]), measured([[1.0], [1.0]], seed=1)], "seed 1 has other prompts than seed 0"),
        ([measured([[None]])], "none of the 1 prompts has a scored sample"),
    ],
)
def test_measurements_that_do_not_belong_together_are_refused(measurements: list[Measurement], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(measurements, pass_at=(1,))


REWARDS = st.lists(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=2, max_size=2), min_size=1, max_size=5
).filter(lambda rows: any(reward is not None for row in rows for reward in row))


@given(REWARDS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_pooling_does_not_hang_on_the_order_of_seeds_and_survives_json(rewards: Any, rng: Any) -> None:
    seeds = [measured(rewards, seed=0), measured([rng.sample(row, len(row)) for row in rewards], seed=1)]
    found = pool(seeds, pass_at=(1, 2, 3))
    other = pool(seeds[::-1], pass_at=(1, 2, 3))
    assert found.accuracy == other.accuracy
    assert found.pass_at == other.pass_at
    means = [found.pass_at[k].mean for k in found.pass_at]
    assert all(0 <= mean <= 1 for mean in means)
    if all(reward is not None for row in rewards for reward in row):
        assert all(low <= high + 1e-12 for low, high in itertools.pairwise(means))  # more samples find no less
    read = [measurement_of_record(json.loads(json.dumps(measurement_record(m)))) for m in seeds]
    assert read == seeds
    assert pool(read, pass_at=(1, 2, 3)) == found
    json.dumps(result_dict(found), allow_nan=False)


@given(REWARDS)
@settings(max_examples=25, deadline=None)
def test_one_measurement_pools_to_the_result_that_a_pipeline_reports(rewards: Any) -> None:
    measurement = measured(rewards)
    found, reported = pool([measurement], pass_at=(1,)), benchmark_result("base", [measurement])
    assert found.accuracy == Interval(reported.mean, reported.low, reported.high, reported.n)
    assert found.per_prompt == reported.per_prompt
    assert (found.num_errors, found.num_samples) == (reported.error_count, reported.num_samples)


# ---------------------------------------------------------------------------------------------- categories


def result(benchmark: str, rewards: list[list[float | None]]) -> PooledResult:
    return pool([measured(rewards, benchmark=benchmark)], pass_at=(1,))


def test_in_a_category_every_benchmark_weighs_the_same() -> None:
    results = [result("small", [[1.0], [1.0]]), result("large", [[0.0]] * 8), result("other", [[0.5]])]
    rows = by_category(results, {"small": "reasoning", "large": "reasoning"})
    assert [(row["category"], row["mode"], row["mean"], row["n"]) for row in rows] == [
        ("reasoning", "thinking", 0.5, 10)
    ]
    assert rows[0]["benchmarks"] == ["small", "large"]
    assert rows[0]["interval"] == [0.5, 0.5]  # no prompt differs from the others of its benchmark


def test_the_macro_interval_of_one_group_is_that_of_its_mean() -> None:
    values = [0.0, 1.0, 1.0, 0.5, 0.25]
    assert macro_interval([values], seed=3) == bootstrap_interval(values, seed=3)


def test_the_macro_interval_narrows_as_independent_groups_are_added() -> None:
    values = [0.0, 1.0] * 20
    one, four = macro_interval([values], seed=0), macro_interval([values] * 4, seed=0)
    assert one.mean == four.mean == 0.5
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.1)  # 1 / sqrt(4)


@pytest.mark.parametrize("groups", [[], [[]], [[0.0], [float("nan")]]])
def test_groups_without_finite_values_are_refused(groups: Any) -> None:
    with pytest.raises(ValueError, match="groups_GP"):
        macro_interval(groups, seed=0)
