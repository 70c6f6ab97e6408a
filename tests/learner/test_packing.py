from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import TrainingSample, UserError
from learner.packing import PackedBatch, pack


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


@st.composite
def training_samples(draw: st.DrawFn) -> list[TrainingSample]:
    samples = []
    for length in draw(st.lists(st.integers(1, 9), min_size=1, max_size=8)):
        row = st.lists(st.floats(-5, 5, width=32), min_size=length, max_size=length)
        samples.append(
            TrainingSample(
                tuple(draw(st.lists(st.integers(0, 2**17), min_size=length, max_size=length))),
                (0, *draw(st.lists(st.integers(0, 1), min_size=length - 1, max_size=length - 1))),
                tuple(draw(row)),
                tuple(draw(row)),
                draw(st.floats(0.25, 2.0, width=32)),
            )
        )
    return samples


@given(training_samples())
@settings(max_examples=100, deadline=None)
def test_unpacking_a_packed_batch_gives_the_samples_back(samples: list[TrainingSample]) -> None:
    batch = PackedBatch.from_samples(samples)
    for name in ("token_ids_T", "loss_mask_T", "behavior_logprobs_T", "advantages_T"):
        rows = [tuple(row.tolist()) for row in batch.unpack(getattr(batch, name))]
        assert rows == [getattr(sample, name) for sample in samples]
    assert [row.unique().tolist() for row in batch.unpack(batch.temperature_T)] == [[s.temperature] for s in samples]
    # The hidden state before a loss token lies in the same sequence.
    positions = batch.loss_positions_N
    assert torch.equal(batch.sequence_ids_T[positions - 1], batch.sequence_ids_T[positions])


def test_positions_restart_and_borders_are_marked() -> None:
    batch = PackedBatch.from_samples(
        [TrainingSample.supervised((4, 5, 6), (0, 0, 1)), TrainingSample.supervised((7, 8), (0, 1))]
    )
    assert batch.position_ids_T.tolist() == [0, 1, 2, 0, 1]
    assert batch.sequence_ids_T.tolist() == [0, 0, 0, 1, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.cu_seqlens.dtype == torch.int32
    assert (batch.max_seqlen, batch.num_tokens) == (3, 5)
    assert batch.loss_positions_N.tolist() == [2, 4]
