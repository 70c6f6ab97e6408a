from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import TrainingSample, UserError
from learner.packing import (
    ATTENTION_COPIES,
    MIN_SHARED_PROMPT,
    Cost,
    PackedBatch,
    pack,
    plan_microbatches,
    prompt_groups,
    prompt_length,
)


@given(lengths=st.lists(st.integers(1, 50), max_size=60), slack=st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_every_sample_lands_once_and_no_micro_batch_exceeds_the_cap(lengths: list[int], slack: int) -> None:
    cap = max(lengths, default=1) + slack
    bins = pack(lengths, cap)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in members) <= cap for members in bins)
    assert len(bins) <= 2 * sum(lengths) / cap + 1  # first fit: no two micro-batches would fit into one
    assert bins == pack(lengths, cap)


def test_first_fit_decreasing_by_hand_with_ties_in_input_order() -> None:
    # Sorted: 7 (1), 5 (0), 5 (3), 3 (2), 2 (4). Cap 10: [7, 3], [5, 5], [2].
    assert pack([5, 7, 3, 5, 2], 10) == [[1, 2], [0, 3], [4]]
    assert pack([4, 4, 4], 8) == [[0, 1], [2]]
    assert pack([], 8) == []


def test_a_sample_longer_than_the_cap_is_refused_by_field_name() -> None:
    with pytest.raises(UserError, match=r"microbatch_tokens: 8 is less than the 9 tokens of sample 1"):
        pack([3, 9], 8)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(UserError, match="training sample 1: it has no tokens"):
        pack([3, 0], 8)


# -- samples that share a prompt --------------------------------------------------------------------------------------


def rows_of_prompts(prompts: list[int], tails: list[list[int]]) -> list[TrainingSample]:
    """Samples of given lengths of their own, after prompts of given lengths; prompts differ in their first token."""
    samples = []
    for number, (prompt, own) in enumerate(zip(prompts, tails, strict=True)):
        for length in own:
            ids = (number, *range(1, prompt), *range(100, 100 + length))
            samples.append(TrainingSample.supervised(ids, (0,) * prompt + (1,) * length))
    return samples


def test_a_group_counts_its_prompt_once() -> None:
    groups = prompt_groups(rows_of_prompts([10, 9], [[3, 4, 5], [2, 2]]), 1000)
    assert [group.indices for group in groups] == [(0, 1, 2), (3, 4)]
    assert [group.num_tokens for group in groups] == [10 + 12, 9 + 4]
    assert [group.lengths for group in groups] == [(13, 14, 15), (11, 11)]
    # In attention the first group holds 42 tokens, half of which fit the cap beside its 22 distinct ones.
    assert [group.size for group in groups] == [22, 13]
    assert prompt_groups(rows_of_prompts([30], [[1, 1, 1, 1]]), 1000)[0].size == 62  # 124 / 2 > 34


def test_a_group_is_cut_where_it_no_longer_fits() -> None:
    groups = prompt_groups(rows_of_prompts([10], [[5, 5, 5, 5]]), 20)
    assert [group.indices for group in groups] == [(0, 1), (2, 3)]
    assert all(group.size <= 20 for group in groups)


def test_short_prompts_and_rows_that_must_stand_alone_are_not_shared() -> None:
    short = rows_of_prompts([MIN_SHARED_PROMPT - 1], [[4, 4]])
    assert [group.indices for group in prompt_groups(short, 100)] == [(0,), (1,)]
    long = rows_of_prompts([MIN_SHARED_PROMPT], [[4, 4]])
    assert [group.indices for group in prompt_groups(long, 100)] == [(0, 1)]
    assert [group.indices for group in prompt_groups(long, 100, share_prompts=False)] == [(0,), (1,)]
    assert PackedBatch.from_samples(short).num_tokens == PackedBatch.from_samples(short).num_row_tokens


def test_prompts_that_differ_in_one_token_are_not_shared() -> None:
    first, second = rows_of_prompts([12, 12], [[3], [3]])
    assert len(prompt_groups([first, second], 100)) == 2
    assert PackedBatch.from_samples([first, second]).num_tokens == 30


# -- micro-batches and ranks ------------------------------------------------------------------------------------------


@given(
    prompts=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    data=st.data(),
    num_ranks=st.integers(1, 4),
    slack=st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_every_sample_lands_on_one_rank_and_all_ranks_have_as_many_micro_batches(
    prompts: list[int], data: st.DataObject, num_ranks: int, slack: int
) -> None:
    tails = [data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5)) for _ in prompts]
    samples = rows_of_prompts(prompts, tails)
    cap = max(len(sample.token_ids_T) for sample in samples) + slack
    plan = plan_microbatches(samples, cap, num_ranks=num_ranks)
    assert len(plan) == num_ranks
    assert len({len(bins) for bins in plan}) == 1
    assert sorted(index for bins in plan for members in bins for index in members) == list(range(len(samples)))
    for members in (members for bins in plan for members in bins):
        batch = PackedBatch.from_samples([samples[index] for index in members])
        assert batch.num_tokens <= cap
        assert batch.num_row_tokens <= ATTENTION_COPIES * cap
    assert plan == plan_microbatches(samples, cap, num_ranks=num_ranks)


def test_ranks_get_equal_work_where_groups_are_too_few_to_share() -> None:
    samples = rows_of_prompts([8, 8, 8], [[40] * 8] * 3)  # three equal groups for two ranks
    cost: Cost = lambda num_tokens, lengths: float(num_tokens + sum(lengths))  # noqa: E731
    plan = plan_microbatches(samples, 10_000, num_ranks=2, cost=cost)
    assert [len(bins) for bins in plan] == [1, 1]
    assert [len(bins[0]) for bins in plan] == [12, 12]  # one group of eight was cut in two


def test_ranks_are_balanced_by_cost_and_not_by_tokens() -> None:
    samples = rows_of_prompts([1] * 5, [[31], [7], [7], [7], [7]])  # 32 tokens against 4 x 8: squares 1024 and 256
    squares: Cost = lambda num_tokens, lengths: float(sum(n * n for n in lengths))  # noqa: E731
    by_tokens = plan_microbatches(samples, 100, num_ranks=2)
    assert sorted(len(bins[0]) for bins in by_tokens) == [1, 4]
    samples += samples[1:] * 3
    by_squares = plan_microbatches(samples, 200, num_ranks=2, cost=squares)
    lengths = [[len(samples[index].token_ids_T) for members in bins for index in members] for bins in by_squares]
    assert sorted(map(len, lengths)) == [1, 16]
    assert [sum(length**2 for length in of_rank) for of_rank in lengths] == [1024, 1024]


def test_a_rank_without_work_gets_an_empty_micro_batch() -> None:
    assert plan_microbatches(rows_of_prompts([3], [[4]]), 100, num_ranks=3) == [[[0]], [[]], [[]]]


# -- one micro-batch as tensors ---------------------------------------------------------------------------------------


@st.composite
def training_samples(draw: st.DrawFn) -> list[TrainingSample]:
    """Random rows, some of which begin as an earlier one does."""
    samples: list[TrainingSample] = []
    for length in draw(st.lists(st.integers(1, 25), min_size=1, max_size=8)):
        row = st.lists(st.floats(-5, 5, width=32), min_size=length, max_size=length)
        ids = draw(st.lists(st.integers(0, 2**17), min_size=length, max_size=length))
        mask = [0, *draw(st.lists(st.integers(0, 1), min_size=length - 1, max_size=length - 1))]
        if samples and draw(st.booleans()):
            cut = min(length, prompt_length(samples[0]))
            ids[:cut] = samples[0].token_ids_T[:cut]
            mask[:cut] = [0] * cut
        samples.append(
            TrainingSample(
                tuple(ids), tuple(mask), tuple(draw(row)), tuple(draw(row)), draw(st.floats(0.25, 2.0, width=32))
            )
        )
    return samples


@given(samples=training_samples(), share=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_packed_batch_holds_the_samples(samples: list[TrainingSample], share: bool) -> None:
    batch = PackedBatch.from_samples(samples, share_prompts=share)
    rows = batch.token_of_row_R.split(list(batch.lengths))
    loss = [[bool(value) for value in sample.loss_mask_T] for sample in samples]
    at = torch.tensor([value for mask in loss for value in mask])

    def picked(name: str) -> list[float]:
        return torch.tensor([value for sample in samples for value in getattr(sample, name)])[at].tolist()

    assert [tuple(batch.token_ids_T[row].tolist()) for row in rows] == [sample.token_ids_T for sample in samples]
    assert [batch.position_ids_T[row].tolist() for row in rows] == [list(range(len(s.token_ids_T))) for s in samples]
    assert batch.target_ids_N.tolist() == picked("token_ids_T")
    torch.testing.assert_close(batch.behavior_logprobs_N.tolist(), picked("behavior_logprobs_T"))
    torch.testing.assert_close(batch.advantages_N.tolist(), picked("advantages_T"))
    # A token is predicted at the one before it, in its own sample.
    flat = batch.token_of_row_R
    assert torch.equal(batch.predictor_N, flat[batch.row_position_N - 1])
    assert torch.equal(batch.row_position_N, at.nonzero().squeeze(1))
    owners = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(batch.lengths))
    assert torch.equal(batch.sequence_ids_N, owners[batch.row_position_N])
    assert batch.temperature_N.tolist() == [samples[owner].temperature for owner in batch.sequence_ids_N.tolist()]
    # Nothing is laid down that no sample has.
    assert sorted(flat.unique().tolist()) == list(range(batch.num_tokens))
    if not share:
        assert batch.num_tokens == batch.num_row_tokens


def test_values_of_loss_tokens_go_to_rows_and_back() -> None:
    batch = PackedBatch.from_samples(
        [TrainingSample.supervised((4, 5, 6), (0, 0, 1)), TrainingSample.supervised((7, 8), (0, 1))]
    )
    rows = [row.tolist() for row in batch.rows_of(torch.tensor([-1.5, -2.5]))]
    assert rows == [[0.0, 0.0, -1.5], [0.0, -2.5]]
    assert batch.at_loss(rows).tolist() == [-1.5, -2.5]
    with pytest.raises(ValueError, match=r"hold \[2, 2\] values for \[3, 2\] tokens"):
        batch.at_loss([[0.0, 0.0], [0.0, 0.0]])


def test_positions_restart_and_a_shared_prompt_is_laid_down_once() -> None:
    prompt = tuple(range(8))
    samples = [
        TrainingSample.supervised((*prompt, 11, 12), (0,) * 8 + (1, 1)),
        TrainingSample.supervised((9, 9, 9), (0, 0, 1)),
        TrainingSample.supervised((*prompt, 13), (0,) * 8 + (1,)),
    ]
    batch = PackedBatch.from_samples(samples)
    assert batch.token_ids_T.tolist() == [*prompt, 11, 12, 9, 9, 9, 13]
    assert batch.position_ids_T.tolist() == [*range(8), 8, 9, 0, 1, 2, 8]
    assert batch.lengths == (10, 3, 9)
    assert batch.token_of_row_R.tolist() == [*range(10), 10, 11, 12, *range(8), 13]
    assert batch.predictor_N.tolist() == [7, 8, 11, 7]
    assert batch.target_ids_N.tolist() == [11, 12, 9, 13]
    alone = PackedBatch.from_samples(samples, share_prompts=False)
    assert alone.cu_seqlens.tolist() == [0, 10, 13, 22]
    assert alone.cu_seqlens.dtype == torch.int32


# ---------------------------------------------------------------------------------------------- longer than a bin


def test_a_long_sample_has_a_bin_of_its_own_when_that_is_asked_for() -> None:
    assert pack([3, 20, 5, 9], 8, long_alone=True) == [[1], [3], [2, 0]]
    with pytest.raises(UserError, match="it has no tokens"):
        pack([3, 0], 8, long_alone=True)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    max_tokens=st.integers(1, 40),
    num_ranks=st.integers(1, 3),
)
def test_a_plan_with_long_samples_covers_all_and_only_they_pass_the_cap(
    lengths: list[int], max_tokens: int, num_ranks: int
) -> None:
    samples = [TrainingSample.supervised((index,) * length, (0,) * length) for index, length in enumerate(lengths)]
    plan = plan_microbatches(samples, max_tokens, long_alone=True, num_ranks=num_ranks)
    assert sorted(index for rank in plan for members in rank for index in members) == list(range(len(lengths)))
    assert len({len(rank) for rank in plan}) == 1
    for members in (members for rank in plan for members in rank):
        assert sum(lengths[index] for index in members) <= max_tokens or len(members) == 1
