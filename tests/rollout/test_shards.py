"""How requests are dealt to workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rollout.policy import GenerationRequest, SamplingConfig
from rollout.workers import _shards


def requests_for(uids: list[str], group_size: int) -> list[GenerationRequest]:
    return [GenerationRequest(uid, i, (1,), SamplingConfig(), 0) for uid in uids for i in range(group_size)]


def test_prompts_are_dealt_in_turn() -> None:
    shards = _shards(requests_for(["a", "b", "c"], 2), 2)
    assert [[request.prompt_uid for request in shard] for shard in shards] == [["a", "a", "c", "c"], ["b", "b"]]


def test_a_worker_without_work_gets_an_empty_shard() -> None:
    assert [len(shard) for shard in _shards(requests_for(["a"], 4), 3)] == [4, 0, 0]


@given(
    order=st.permutations(requests_for(["a", "b", "c", "d", "e"], 3)),
    num_workers=st.integers(1, 4),
)
def test_a_group_stays_together_and_no_request_is_lost(order: list[GenerationRequest], num_workers: int) -> None:
    shards = _shards(order, num_workers)
    assert len(shards) == num_workers
    assert sorted((r.prompt_uid, r.sample_index) for shard in shards for r in shard) == sorted(
        (r.prompt_uid, r.sample_index) for r in order
    )
    owners = [
        {shard for shard in range(num_workers) if any(r.prompt_uid == uid for r in shards[shard])} for uid in "abcde"
    ]
    assert all(len(owner) == 1 for owner in owners)
