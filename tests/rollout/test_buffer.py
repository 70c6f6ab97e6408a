"""Bounded staleness: what may begin, what a step trains on, and that no group is lost, repeated or too old."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.buffer import RolloutBuffer


def begin_all(buffer: RolloutBuffer[str], version: int) -> list[int]:
    begun = []
    while (ticket := buffer.next_ticket(version)) is not None:
        begun.append(ticket)
    return begun


@given(
    groups_per_step=st.integers(1, 4),
    max_staleness=st.integers(0, 3),
    num_steps=st.integers(1, 7),
    cut_at=st.integers(0, 7),
    chance=st.randoms(use_true_random=False),
    often=st.sampled_from([0.1, 0.5, 0.9]),
)
@settings(max_examples=500)
def test_no_group_is_trained_on_too_late_lost_or_trained_on_twice(
    groups_per_step: int, max_staleness: int, num_steps: int, cut_at: int, chance: random.Random, often: float
) -> None:
    """Groups finish in any order and after any time, engines get weights late, and the run is cut off and resumed."""
    size = {
        "groups_per_step": groups_per_step, "max_staleness": max_staleness, "num_groups": num_steps * groups_per_step
    }  # fmt: skip
    buffer: RolloutBuffer[int] = RolloutBuffer(**size)
    in_flight: dict[int, int] = {}
    trained: list[int] = []
    engine_version = 0
    for step in range(num_steps):
        if step == cut_at:
            buffer = RolloutBuffer(**size, num_taken=step * groups_per_step, begun=buffer.begun)
            in_flight, engine_version = {}, step
        while (taken := buffer.take(step)) is None:
            if chance.random() < 0.5:
                engine_version = step
            ticket = buffer.next_ticket(engine_version) if chance.random() < often else None
            if ticket is not None:
                in_flight[ticket] = engine_version
            elif in_flight and chance.random() < 0.5:
                ticket = chance.choice(sorted(in_flight))
                began = in_flight.pop(ticket)
                buffer.finish(ticket, chance.randint(began, engine_version), began)
            elif not in_flight and engine_version == step:  # then something may begin, or the run would hang
                ticket = buffer.next_ticket(step)
                assert ticket is not None
                in_flight[ticket] = step
        assert len(taken) == groups_per_step
        assert all(began + max_staleness >= step for _, began in taken)
        trained += [ticket for ticket, _ in taken]
    assert sorted(trained) == list(range(num_steps * groups_per_step))
    assert (buffer.begun, buffer.next_ticket(num_steps)) == ([], None)
    assert buffer.num_dropped == 0  # waiting instead of dropping is enough


def test_groups_begin_as_far_ahead_as_the_steps_that_may_still_have_them() -> None:
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=2, max_staleness=1, num_groups=100)
    assert begin_all(buffer, 0) == [0, 1, 2, 3]  # for the steps 0 and 1
    for ticket in (1, 2):
        buffer.finish(ticket, 0, f"g{ticket}")
    assert buffer.take(0) == [(1, "g1"), (2, "g2")]
    assert begin_all(buffer, 0) == []  # what begins now could be had by step 1 alone, which is full
    assert begin_all(buffer, 1) == [4, 5]


def test_a_long_group_is_passed_over_until_the_last_step_that_may_have_it() -> None:
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=1, max_staleness=2, num_groups=100)
    assert begin_all(buffer, 0) == [0, 1, 2]
    buffer.finish(1, 0, "g1")
    assert buffer.take(0) == [(1, "g1")]
    buffer.finish(2, 0, "g2")
    assert begin_all(buffer, 1) == [3]
    assert buffer.take(1) == [(2, "g2")]
    buffer.finish(3, 1, "g3")
    assert begin_all(buffer, 2) == [4]
    assert buffer.take(2) is None  # group 0 is trained on now or never
    buffer.finish(0, 0, "g0")
    assert buffer.take(2) == [(0, "g0")]


def test_a_step_waits_early_when_later_steps_could_not_take_all_that_is_left() -> None:
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=1, max_staleness=2, num_groups=100)
    assert begin_all(buffer, 0) == [0, 1, 2]
    buffer.finish(0, 0, "g0")
    assert buffer.take(0) == [(0, "g0")]
    assert begin_all(buffer, 1) == [3]
    buffer.finish(3, 1, "g3")
    assert buffer.take(1) is None  # 1 and 2 both have to be trained on by step 2, which takes one
    buffer.finish(2, 0, "g2")
    assert buffer.take(1) == [(2, "g2")]


def test_without_staleness_a_step_takes_its_own_batch_in_order() -> None:
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=3, max_staleness=0, num_groups=6)
    assert begin_all(buffer, 0) == [0, 1, 2]
    for ticket in (2, 0):
        buffer.finish(ticket, 0, f"g{ticket}")
    assert buffer.take(0) is None
    buffer.finish(1, 0, "g1")
    assert buffer.take(0) == [(0, "g0"), (1, "g1"), (2, "g2")]
    assert begin_all(buffer, 0) == []
    assert begin_all(buffer, 1) == [3, 4, 5]


def test_what_is_too_old_all_the_same_is_counted_and_begins_again_before_any_other() -> None:
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=1, max_staleness=1, num_groups=4, num_taken=1)
    assert begin_all(buffer, 1) == [1, 2]
    buffer.finish(1, -3, "of an engine that kept old weights")
    assert buffer.take(1) is None
    assert buffer.num_dropped == 1
    assert buffer.begun == [1, 2]
    assert begin_all(buffer, 1) == [1]
    buffer.finish(1, 1, "g1")
    assert buffer.take(1) == [(1, "g1")]


@pytest.mark.parametrize("oldest_version", [0, 1])
def test_a_group_counts_as_old_as_the_weights_under_which_it_began(oldest_version: int) -> None:
    """The keys and values of its prompt may be of these, whatever its tokens say."""
    buffer: RolloutBuffer[str] = RolloutBuffer(groups_per_step=1, max_staleness=1, num_groups=4)
    assert begin_all(buffer, 0) == [0, 1]
    buffer.finish(1, 0, "g1")
    assert buffer.take(0) == [(1, "g1")]
    assert begin_all(buffer, 1) == [2]
    buffer.finish(2, 1, "g2")
    assert buffer.take(1) is None  # 0 has to be trained on by step 1
    buffer.finish(0, oldest_version, "g0")
    assert buffer.take(1) == [(0, "g0")]
