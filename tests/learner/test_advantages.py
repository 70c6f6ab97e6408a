"""Advantages by hand, what leaves a group and a batch, and the rows that are trained on."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import (
    Completion,
    Prompt,
    Score,
    ScoredCompletion,
    ScoredGroup,
    Segment,
    TrainingSample,
    UserError,
    VersionSpan,
)
from learner.advantages import AdvantageReport, balance_by_task, group_advantages, training_samples

ERROR = Score.error("timeout")


def scored(
    score: Score | float,
    index: int = 0,
    *,
    uid: str = "p",
    finish: str = "stop",
    ids: tuple[int, ...] = (7, 8, 9),
    forced: tuple[bool, ...] | None = None,
) -> ScoredCompletion:
    completion = Completion(
        prompt_uid=uid,
        sample_index=index,
        prompt_token_ids=(1, 2),
        token_ids=ids,
        logprobs=tuple(-0.1 * (index + 1) * (t + 1) for t in range(len(ids))),
        forced=forced or (False,) * len(ids),
        finish_reason=finish,  # type: ignore[arg-type]
        weight_versions=(VersionSpan(0, 0, len(ids)),),
        text="",
    )
    return ScoredCompletion(completion, score if isinstance(score, Score) else Score.of(score))


def group(*rewards: Score | float, uid: str = "p", task: str = "math") -> ScoredGroup:
    prompt = Prompt(uid=uid, task=task, messages=(), reference=None)
    return ScoredGroup(prompt, tuple(scored(reward, index, uid=uid) for index, reward in enumerate(rewards)))


def of(*items: ScoredCompletion, task: str = "math") -> ScoredGroup:
    return ScoredGroup(Prompt(uid="p", task=task, messages=(), reference=None), items)


def make(*groups: ScoredGroup, **options: object) -> tuple[list[TrainingSample], AdvantageReport]:
    return training_samples(groups, **({"temperature": 1.0, "std_normalise": False} | options))  # type: ignore[arg-type]


def by_uid(samples: list[TrainingSample]) -> dict[str, float]:
    return {sample.uid: sample.advantages_T[-1] for sample in samples}


# --- one group ------------------------------------------------------------------------------------------------------


def test_advantage_is_the_reward_minus_the_group_mean() -> None:
    # mean (1 + 0 + 0 + 0.5) / 4 = 0.375
    result = group_advantages([1.0, 0.0, 0.0, 0.5])
    assert result.advantages_G == pytest.approx((0.625, -0.375, -0.375, 0.125))
    assert result.dropped_reason is None


def test_std_is_the_population_one() -> None:
    # [1, 0, 0, 0]: mean 1/4, population variance (9 + 3 · 1) / 16 / 4 = 3/16, std 0.4330; A = 0.75 / 0.4330 = 1.7321.
    # The sample deviation (n − 1) would be 0.5 and give 1.5.
    result = group_advantages([1.0, 0.0, 0.0, 0.0], std_normalise=True)
    assert result.advantages_G == pytest.approx((math.sqrt(3), *(-1 / math.sqrt(3),) * 3), rel=1e-5)


def test_an_error_leaves_numerator_and_denominator() -> None:
    # mean of [1, 0] is 0.5; with the error as 0 it would be 1/3.
    result = group_advantages([1.0, None, 0.0])
    assert result.advantages_G == (0.5, None, -0.5)


@pytest.mark.parametrize("rewards", [[1.0], [1.0, None], [None, None], [], [0.0, None, None]])
def test_a_group_with_fewer_than_two_rewards_has_advantage_zero_and_is_dropped(rewards: list[float | None]) -> None:
    for std_normalise in (False, True):
        result = group_advantages(rewards, std_normalise=std_normalise)
        assert result.dropped_reason == "too_few"
        assert result.advantages_G == tuple(None if reward is None else 0.0 for reward in rewards)


@pytest.mark.parametrize("rewards", [[1.0, 1.0], [0.0] * 8, [1.0, 1.0 + 1e-9], [0.1 + 0.2, 0.3], [None, 0.4, 0.4]])
def test_zero_variance_is_found_by_threshold(rewards: list[float | None]) -> None:
    result = group_advantages(rewards, std_normalise=True)
    assert result.dropped_reason == "zero_variance"
    assert all(advantage in (None, 0.0) for advantage in result.advantages_G)


def test_the_threshold_is_on_the_deviation() -> None:
    # [0, 0.02]: population std 0.01.
    assert group_advantages([0.0, 0.02], zero_variance_threshold=0.0099).dropped_reason is None
    assert group_advantages([0.0, 0.02], zero_variance_threshold=0.0101).dropped_reason == "zero_variance"


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused(reward: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([0.0, reward])


REWARDS = st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=9)


@given(rewards=REWARDS, std_normalise=st.booleans(), data=st.data())
def test_order_and_errors_do_not_change_advantages(
    rewards: list[float | None], std_normalise: bool, data: st.DataObject
) -> None:
    result = group_advantages(rewards, std_normalise=std_normalise)
    order = data.draw(st.permutations(range(len(rewards))))
    shuffled = group_advantages([rewards[i] for i in order], std_normalise=std_normalise)
    assert shuffled.advantages_G == tuple(result.advantages_G[i] for i in order)
    valid = group_advantages([reward for reward in rewards if reward is not None], std_normalise=std_normalise)
    assert valid.advantages_G == tuple(a for a in result.advantages_G if a is not None)


@given(rewards=REWARDS)
def test_advantages_of_a_group_sum_to_zero_and_normalised_ones_have_unit_variance(rewards: list[float | None]) -> None:
    for std_normalise in (False, True):
        result = group_advantages(rewards, std_normalise=std_normalise, zero_variance_threshold=1e-3)
        valid = [a for a in result.advantages_G if a is not None]
        assert math.fsum(valid) == pytest.approx(0.0, abs=1e-9)
        if std_normalise and result.dropped_reason is None:
            assert math.fsum(a * a for a in valid) / len(valid) == pytest.approx(1.0, rel=3e-3)  # eps / threshold


# --- balancing tasks --------------------------------------------------------------------------------------------------


def test_tasks_get_the_pooled_root_mean_square() -> None:
    # a: ±0.6 (RMS 0.6), b: ±0.2 (RMS 0.2). Pooled: √((2 · 0.36 + 2 · 0.04) / 4) = √0.2 = 0.44721.
    balanced = balance_by_task([0.6, -0.6, 0.2, -0.2], ["a", "a", "b", "b"])
    assert balanced == pytest.approx([math.sqrt(0.2), -math.sqrt(0.2)] * 2)


def test_one_task_is_unchanged_and_a_task_of_zeros_stays_zero() -> None:
    assert balance_by_task([0.3, -0.1], ["a", "a"]) == pytest.approx((0.3, -0.1))
    assert balance_by_task([0.5, -0.5, 0.0], ["a", "a", "b"])[2] == 0.0
    assert balance_by_task([], []) == ()


def test_a_task_of_near_ties_is_not_blown_up() -> None:
    balanced = balance_by_task([0.5, -0.5, 1e-5, -1e-5], ["a", "a", "b", "b"], max_scale=10.0)
    assert balanced[2:] == pytest.approx((1e-4, -1e-4))


def test_one_label_a_row_is_required() -> None:
    with pytest.raises(ValueError, match="2 advantages and 1 tasks"):
        balance_by_task([0.1, 0.2], ["a"])


@given(st.lists(st.tuples(st.floats(0.2, 1.0), st.booleans(), st.sampled_from("abc")), min_size=1, max_size=12))
def test_balancing_keeps_signs_and_the_sum_of_squares(rows: list[tuple[float, bool, str]]) -> None:
    advantages = [size if up else -size for size, up, _ in rows]
    tasks = [task for _, _, task in rows]
    balanced = balance_by_task(advantages, tasks)
    assert math.fsum(a * a for a in balanced) == pytest.approx(math.fsum(a * a for a in advantages))
    assert all(a * b > 0 for a, b in zip(advantages, balanced, strict=True))
    for task in set(tasks):
        own = [a * a for a, name in zip(balanced, tasks, strict=True) if name == task]
        assert math.fsum(own) / len(own) == pytest.approx(math.fsum(a * a for a in balanced) / len(balanced))


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_is_prompt_and_completion_with_values_at_their_own_tokens() -> None:
    samples, report = make(group(1.0, 0.0), temperature=0.6)
    assert samples[0] == TrainingSample(
        token_ids_T=(1, 2, 7, 8, 9),
        loss_mask_T=(0, 0, 1, 1, 1),
        behavior_logprobs_T=(0.0, 0.0, -0.1, -0.2, pytest.approx(-0.3)),  # type: ignore[arg-type]
        advantages_T=(0.0, 0.0, 0.5, 0.5, 0.5),
        temperature=0.6,
        uid="p/0",
        task="math",
    )
    assert samples[1].advantages_T == (0.0, 0.0, -0.5, -0.5, -0.5)
    assert (report.num_samples, report.num_loss_tokens) == (2, 6)


def test_forced_tokens_carry_no_loss_no_logprob_and_no_advantage() -> None:
    samples, report = make(of(scored(1.0, 0, forced=(False, True, False)), scored(0.0, 1)))
    assert samples[0].loss_mask_T == (0, 0, 1, 0, 1)
    assert samples[0].behavior_logprobs_T == pytest.approx((0.0, 0.0, -0.1, 0.0, -0.3))
    assert samples[0].advantages_T == (0.0, 0.0, 0.5, 0.0, 0.5)
    assert report.num_loss_tokens == 2 + 3


def episode(score: float, index: int, *earlier: tuple[bool, ...]) -> ScoredCompletion:
    """An episode whose earlier segments have these marks, with ids 20, 21, … and log-probability -2 each."""
    item = scored(score, index)
    parts = tuple(
        Segment((5,), tuple(range(20, 20 + len(marks))), (-2.0,) * len(marks), marks, (VersionSpan(0, 0, len(marks)),))
        for marks in earlier
    )
    return ScoredCompletion(replace(item.completion, earlier=parts), item.score)


def test_each_segment_of_an_episode_is_a_row_with_the_advantage_of_the_whole() -> None:
    samples, report = make(of(episode(1.0, 0, (False, True), (False,)), scored(0.0, 1)))
    assert [sample.uid for sample in samples] == ["p/0.0", "p/0.1", "p/0", "p/1"]
    assert samples[0] == TrainingSample(
        token_ids_T=(5, 20, 21),
        loss_mask_T=(0, 1, 0),
        behavior_logprobs_T=(0.0, -2.0, 0.0),
        advantages_T=(0.0, 0.5, 0.0),
        uid="p/0.0",
        task="math",
    )
    assert [sample.advantages_T[-1] for sample in samples[1:]] == [0.5, 0.5, -0.5]
    assert (report.num_completions, report.num_trained, report.num_samples) == (2, 2, 4)
    assert report.num_loss_tokens == 1 + 1 + 3 + 3
    assert {sample.uid.rsplit("/", 1)[0] for sample in samples} == {"p"}
    assert report.tasks["math"].mean_length == (2 + 1 + 3 + 3) / 2


def test_a_segment_without_sampled_tokens_is_no_row_and_a_dropped_episode_is_one_completion() -> None:
    samples, _ = make(of(episode(1.0, 0, (True, True)), scored(0.0, 1)))
    assert [sample.uid for sample in samples] == ["p/0", "p/1"]
    earlier = episode(1.0, 0, (False,)).completion.earlier
    silent = replace(scored(1.0, 0, forced=(True,) * 3).completion, earlier=earlier)
    samples, _ = make(of(ScoredCompletion(silent, Score.correct()), scored(0.0, 1)))
    assert [sample.uid for sample in samples] == ["p/0.0", "p/1"]
    _, report = make(of(scored(1.0, 0), episode(0.5, 1, (False, True), (False,)), scored(0.0, 2)))
    assert report.dropped_rows == {"zero_advantage": 1}
    assert (report.num_completions, report.num_trained, report.num_zero_advantage_tokens) == (3, 2, 2 + 3)


def test_masked_truncated_completions_leave_baseline_rows_and_denominator() -> None:
    # Without the truncated 0: mean (1 + 1 + 0) / 3 = 2/3, 3 rows, 9 tokens. With it: mean 1/2, 4 rows.
    items = (scored(1.0, 0), scored(1.0, 1), scored(0.0, 2), scored(0.0, 3, finish="length"))
    samples, report = make(of(*items), truncated="mask")
    assert by_uid(samples) == pytest.approx({"p/0": 1 / 3, "p/1": 1 / 3, "p/2": -2 / 3})
    assert report.num_loss_tokens == 9
    assert report.dropped_rows == {"truncated": 1}
    samples, report = make(of(*items), truncated="score")
    assert by_uid(samples) == {"p/0": 0.5, "p/1": 0.5, "p/2": -0.5, "p/3": -0.5}
    assert report.num_loss_tokens == 12
    assert report.dropped_rows == {}


@pytest.mark.parametrize("truncated", ["mask", "score"])
def test_errors_and_aborted_completions_leave_under_both_settings(truncated: str) -> None:
    items = (scored(1.0, 0), scored(ERROR, 1), scored(0.0, 2, finish="abort"), scored(0.0, 3))
    samples, report = make(of(*items), truncated=truncated)
    assert by_uid(samples) == {"p/0": 0.5, "p/3": -0.5}
    assert report.dropped_rows == {"error": 1, "aborted": 1}


def test_a_group_left_with_one_reward_is_dropped_whole() -> None:
    samples, report = make(group(1.0, ERROR, ERROR))
    assert samples == []
    assert report.dropped_groups == {"too_few": 1}
    assert report.dropped_rows == {"error": 2, "too_few": 1}


def test_rows_without_advantage_or_without_loss_tokens_are_dropped_and_counted() -> None:
    rewards = group(1.0, 0.5, 0.0)  # the middle one equals the mean
    samples, report = make(rewards)
    assert by_uid(samples) == {"p/0": 0.5, "p/2": -0.5}
    assert report.dropped_rows == {"zero_advantage": 1}
    assert report.num_zero_advantage_tokens == 3
    samples, report = make(of(scored(1.0, 0), scored(0.0, 1, forced=(True,) * 3), scored(0.0, 2, ids=())))
    assert by_uid(samples) == pytest.approx({"p/0": 2 / 3})  # their rewards stay in the baseline
    assert report.dropped_rows == {"no_loss_tokens": 2}


def test_decimals_that_equal_the_mean_only_up_to_rounding_are_dropped_too() -> None:
    _, report = make(group(0.1, 0.2, 0.3))
    assert report.dropped_rows == {"zero_advantage": 1}


def test_every_completion_is_either_a_sample_or_a_counted_drop() -> None:
    rng = random.Random(0)
    choices = [lambda i: scored(rng.choice([0.0, 0.5, 1.0]), i), lambda i: scored(ERROR, i),
               lambda i: scored(1.0, i, finish="length"), lambda i: scored(0.0, i, finish="abort")]  # fmt: skip
    groups = [of(*(rng.choices(choices, [6, 1, 1, 1])[0](i) for i in range(rng.randint(1, 6)))) for _ in range(60)]
    samples, report = make(*groups)
    assert report.num_completions == sum(len(g.scored) for g in groups)
    assert report.num_samples == len(samples)
    assert report.num_trained == report.num_samples  # no episodes here
    assert report.num_completions == report.num_trained + sum(report.dropped_rows.values())
    assert {"error", "aborted", "truncated", "too_few", "zero_variance", "zero_advantage"} == set(report.dropped_rows)


def test_shuffling_groups_and_completions_does_not_change_advantages_by_uid() -> None:
    rng = random.Random(1)
    groups = [
        group(*(rng.choice([0.0, 0.3, 1.0, ERROR]) for _ in range(5)), uid=f"p{i}", task=rng.choice("ab"))
        for i in range(12)
    ]
    options = {"balance_tasks": True, "std_normalise": True}
    expected = by_uid(make(*groups, **options)[0])
    shuffled = [replace(g, scored=tuple(rng.sample(g.scored, len(g.scored)))) for g in rng.sample(groups, 12)]
    assert by_uid(make(*shuffled, **options)[0]) == expected
    assert len(expected) > 20


def test_balancing_evens_out_the_tasks_of_a_batch_and_leaves_the_mask_alone() -> None:
    # math: ±0.5; style: ±0.05. Pooled RMS √((0.25 + 0.0025) / 2) = 0.35532.
    groups = (group(1.0, 0.0, uid="m"), group(0.5, 0.6, uid="s", task="style"))
    samples, report = make(*groups)
    assert report.tasks["math"].advantage_variance == pytest.approx(0.25)
    assert report.tasks["style"].advantage_variance == pytest.approx(0.0025)
    samples, report = make(*groups, balance_tasks=True)
    size = math.sqrt((0.25 + 0.0025) / 2)
    assert by_uid(samples) == pytest.approx({"m/0": size, "m/1": -size, "s/0": -size, "s/1": size})
    assert [task.advantage_variance for task in report.tasks.values()] == pytest.approx([size**2, size**2])
    assert samples[0].advantages_T[:2] == (0.0, 0.0)


def test_the_report_describes_each_task() -> None:
    groups = (
        of(scored(1.0, 0), scored(0.5, 1, ids=(7,)), scored(ERROR, 2, ids=(7, 8))),
        group(1.0, 1.0, task="code"),
        group(ERROR, task="judge"),
    )
    _, report = make(*groups)
    math_task = report.tasks["math"]
    assert (math_task.num_completions, math_task.num_scored) == (3, 2)
    assert (math_task.num_errors, math_task.num_samples) == (1, 2)
    assert math_task.pass_rate == 0.5
    assert math_task.mean_reward == 0.75
    assert math_task.mean_length == 2.0  # (3 + 1 + 2) / 3
    assert math_task.error_share == pytest.approx(math_task.num_errors / math_task.num_completions)
    assert math_task.advantage_variance == pytest.approx(0.0625)  # ±0.25
    assert (report.tasks["code"].pass_rate, report.tasks["code"].advantage_variance) == (1.0, 0.0)
    assert math.isnan(report.tasks["judge"].pass_rate)
    metrics = report.metrics()
    assert metrics["dropped_groups/zero_variance"] == 1
    assert metrics["dropped_groups/too_few"] == 1
    assert metrics["dropped_rows/truncated"] == 0
    assert metrics["task/math/pass_rate"] == 0.5


@pytest.mark.parametrize(
    ("options", "field"), [({"truncated": "drop"}, "truncated='drop'"), ({"temperature": 0.0}, "temperature=0.0")]
)
def test_a_bad_setting_is_refused(options: dict[str, object], field: str) -> None:
    with pytest.raises(UserError) as error:
        make(group(1.0, 0.0), **options)
    assert str(error.value).startswith(field)


def test_reward_variance_is_that_within_groups_and_an_error_is_no_reward() -> None:
    _, report = make(group(1.0, 0.0, uid="a"), group(1.0, 1.0, uid="b"), group(0.0, ERROR, uid="c"))
    (found,) = report.tasks.values()
    # Squares within groups: 1/4 + 1/4 + 0 + 0 + 0 over five rewards; between groups nothing counts.
    assert found.reward_variance == pytest.approx(0.5 / 5)
    assert found.error_share == pytest.approx(1 / 6)
