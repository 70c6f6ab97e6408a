"""The RL loop: which prompts make a step, which groups a minibatch, what is recorded, and exact resuming.

Learner, policy and verifiers are small fakes; the real ones are under `tests/integration`.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Prompt, Score, ScoredCompletion, ScoredGroup, TrainingSample, UserError
from data.sample_rows import TokenPieces
from learner.learner import LearnerConfig
from learner.losses import LossConfig
from rollout.policy import GenerationRequest, SamplingConfig
from stages.rl_loop import EntropyControl, RLConfig, minibatch_samples, run_rl, sample_row
from stages.rollout_collection import batch_of_step, prompt_of_step
from tests.data.byte_tokenizer import byte_tokenizer
from tests.stages.stage_fakes import FakeServices, completion, prompts_of, rows_of, stage_context

START = Path("start")
PROMPTS = prompts_of("arithmetic", 12)


# ---------------------------------------------------------------------------------------------- the batch of a step


@given(count=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 3))
def test_a_pass_asks_no_prompt_twice_and_every_batch_is_full(count: int, size: int, seed: int) -> None:
    prompts = [dataclasses.replace(PROMPTS[0], uid=str(index)) for index in range(count)]
    size_used = min(size, count)
    per_pass = count // size_used
    for epoch in range(2):
        steps = range(epoch * per_pass, (epoch + 1) * per_pass)
        uids = [prompt.uid for step in steps for prompt in batch_of_step(prompts, step, size=size, seed=seed)]
        assert len(uids) == len(set(uids)) == per_pass * size_used


def test_the_batch_of_a_step_hangs_on_its_arguments_alone() -> None:
    def uids(step: int, seed: int = 0) -> list[str]:
        return [prompt.uid for prompt in batch_of_step(PROMPTS, step, size=4, seed=seed)]

    late = uids(7)
    assert [uids(step) for step in range(9)][7] == late  # whatever was asked for before
    assert uids(7, seed=1) != late
    assert uids(1) != uids(4)  # the same place of the next pass, shuffled anew
    assert Counter(uids(0) + uids(1) + uids(2)) == Counter(prompt.uid for prompt in PROMPTS)


@given(size=st.integers(1, len(PROMPTS)), step=st.integers(0, 20), seed=st.integers(0, 3))
def test_one_prompt_of_a_step_is_that_of_its_batch(size: int, step: int, seed: int) -> None:
    batch = batch_of_step(PROMPTS, step, size=size, seed=seed)
    assert [prompt_of_step(PROMPTS, step, position, size=size, seed=seed) for position in range(size)] == batch
    order = list(range(len(PROMPTS)))  # the order of a pass, which recorded runs hang on
    random.Random(f"rl/{seed}/{step // (len(PROMPTS) // size)}").shuffle(order)
    first = step % (len(PROMPTS) // size) * size
    assert batch == [PROMPTS[index] for index in order[first : first + size]]


def test_asking_for_the_same_pass_again_shuffles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = []

    class Counting(random.Random):
        def shuffle(self, x: Any) -> None:
            shuffled.append(len(x))
            super().shuffle(x)

    monkeypatch.setattr(random, "Random", Counting)
    for _ in range(50):  # as often as groups begin
        batch_of_step(PROMPTS, 10, size=4, seed=77)
        batch_of_step(PROMPTS, 11, size=4, seed=77)
    assert shuffled == [len(PROMPTS)]


# ---------------------------------------------------------------------------------------------- minibatches


def sample(group: str, index: int, num_loss_tokens: int) -> TrainingSample:
    mask = (0, *[1] * num_loss_tokens)
    zeros = (0.0,) * len(mask)
    return TrainingSample((7,) * len(mask), mask, zeros, zeros, uid=f"{group}/{index}")


@given(
    sizes=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), min_size=1, max_size=10),
    count=st.integers(1, 5),
)
def test_minibatches_never_split_a_group_and_lose_no_sample(sizes: list[list[int]], count: int) -> None:
    samples = [
        sample(f"task/{group}/x", index, tokens) for group, row in enumerate(sizes) for index, tokens in enumerate(row)
    ]
    parts = minibatch_samples(samples, count)
    assert [one for part in parts for one in part] == samples  # all of them, in order
    assert 1 <= len(parts) <= count
    assert all(parts)
    homes = [{one.uid.rsplit("/", 1)[0] for one in part} for part in parts]
    assert sum(map(len, homes)) == len(sizes)  # a group in two parts would be counted twice


def test_minibatches_of_equal_groups_are_equal() -> None:
    samples = [sample(f"p{group}", index, 5) for group in range(6) for index in range(4)]
    assert [len(part) for part in minibatch_samples(samples, 3)] == [8, 8, 8]
    assert [len(part) for part in minibatch_samples(samples, 1)] == [24]
    assert [len(part) for part in minibatch_samples(samples[:4], 3)] == [4]  # one group cannot be cut


def test_a_long_group_takes_the_place_of_several_short_ones() -> None:
    samples = [sample("long", 0, 30), *(sample(f"short{index}", 0, 10) for index in range(3))]
    assert [[one.uid for one in part] for part in minibatch_samples(samples, 2)] == [
        ["long/0"],
        ["short0/0", "short1/0", "short2/0"],
    ]


def test_samples_of_one_group_are_put_together_wherever_they_stand() -> None:
    samples = [sample("a", 0, 5), sample("b", 0, 5), sample("a", 1, 5)]
    assert [[one.uid for one in part] for part in minibatch_samples(samples, 2)] == [["a/0", "a/1"], ["b/0"]]


# ---------------------------------------------------------------------------------------------- the loop


def half_right(request: GenerationRequest) -> str:
    """Right for even samples: every group has two rewards of each kind."""
    prompt = next(prompt for prompt in PROMPTS if prompt.uid == request.prompt_uid)
    answer = prompt.reference["answer"] + request.sample_index % 2
    return f"<think>\n{request.seed}\n</think>\n\n\\boxed{{{answer}}}"


def always_right(request: GenerationRequest) -> str:
    prompt = next(prompt for prompt in PROMPTS if prompt.uid == request.prompt_uid)
    return f"<think>\nx\n</think>\n\n\\boxed{{{prompt.reference['answer']}}}"


def config(**changes: Any) -> RLConfig:
    loss = LossConfig(importance_cap=None)
    settings = {
        "num_steps": 7, "prompts_per_step": 4, "group_size": 4, "minibatches": 2, "save_every": 2,
        "samples_per_step": 2, "learner": LearnerConfig(loss="custom", loss_config=loss),
    }  # fmt: skip
    return RLConfig(**(settings | changes))


def run(
    folder: Path, services: FakeServices, settings: RLConfig | None = None, prompts: list[Prompt] = PROMPTS
) -> list[dict[str, Any]]:
    context, said = stage_context(folder)
    services.said = said  # type: ignore[attr-defined]
    run_rl(prompts, settings or config(), START, services, context)  # type: ignore[arg-type]
    return rows_of(folder / "metrics.jsonl")


def test_a_step_samples_whole_groups_and_learns_them_in_minibatches(tmp_path: Path) -> None:
    services = FakeServices(half_right)
    rows = run(tmp_path, services)
    assert [len(call) for call in services.pool.calls] == [16] * 7
    assert len({request.seed for call in services.pool.calls for request in call}) == 16 * 7
    assert len(services.learner.batches) == 14
    for first, second in zip(services.learner.batches[::2], services.learner.batches[1::2], strict=True):
        groups = Counter(uid.rsplit("/", 1)[0] for uid in first) | Counter(uid.rsplit("/", 1)[0] for uid in second)
        assert sorted(groups.values()) == [4] * 4  # no group is in both
    assert [row["reward"] for row in rows] == [0.5] * 7
    assert services.learner.loaded[0][1].total_steps == 14
    # The weights after each step go to the engine under the step's number; before the first step those of the start.
    assert [version for version, _, _ in services.published] == list(range(8))
    assert services.published[0][1] == 0
    assert services.published[-1][1] == services.learner.weight


def test_counts_add_up_maxima_stay_and_the_gap_is_that_of_the_first_minibatch(tmp_path: Path) -> None:
    row = run(tmp_path, FakeServices(half_right))[2]  # the fifth and sixth optimizer steps
    assert row["engine_gap_max"] == 5.0
    assert row["ratio_max"] == pytest.approx(1.06)
    assert row["lr"] == pytest.approx(0.6)
    assert row["num_loss_tokens"] == row["batch/loss_tokens"]
    assert row["sync_gap_max"] == 1e-6


def test_samples_are_recorded_with_prompt_completion_and_score(tmp_path: Path) -> None:
    run(tmp_path, FakeServices(half_right))
    rows = rows_of(tmp_path / "samples.jsonl")
    assert [row["step"] for row in rows] == [step for step in range(1, 8) for _ in range(2)]
    assert {row["reward"] for row in rows} == {1.0}  # sample 0 of each group


def test_steps_without_a_difference_to_learn_from_are_counted_and_said(tmp_path: Path) -> None:
    services = FakeServices(always_right)
    rows = run(tmp_path, services)
    assert services.learner.batches == []
    assert [(row["empty_steps"], row["reward"], row["batch/dropped_groups/zero_variance"]) for row in rows] == [
        (1.0, 1.0, 4)
    ] * 7
    assert services.said.getvalue().count("every group was uniform") == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5, 6])
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tmp_path: Path, killed_at: int) -> None:
    whole = FakeServices(half_right)
    expected = run(tmp_path / "whole", whole)

    class Killed(Exception):
        """Stands for kill -9."""

    def dies(request: GenerationRequest) -> str:
        if len(cut.pool.calls) == killed_at + 1:
            raise Killed
        return half_right(request)

    cut = FakeServices(dies)
    with pytest.raises(Killed):
        run(tmp_path / "cut", cut)
    resumed = FakeServices(half_right)
    assert run(tmp_path / "cut", resumed) == expected
    assert len(resumed.pool.calls) == 7 - killed_at // 2 * 2
    assert resumed.learner.weight == whole.learner.weight
    assert resumed.published[0][:2] == whole.published[killed_at // 2 * 2][:2]  # the restored weights go to the engine
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert rows_of(tmp_path / "cut" / name) == rows_of(tmp_path / "whole" / name)


def test_entropy_below_its_target_is_answered_with_a_bonus_that_survives_resuming(tmp_path: Path) -> None:
    services = FakeServices(half_right)
    rows = run(tmp_path, services, config(entropy=EntropyControl(target_share=2.0, gain=0.01, max_coef=0.015)))
    coefs = [row["entropy_coef"] for row in rows]
    assert coefs[0] == 0.0  # the first step measures
    first = rows_of(tmp_path / "metrics.jsonl")[0]
    assert coefs[1] > 0
    assert max(coefs) <= 0.015
    assert math.isfinite(first["entropy"])
    off = FakeServices(half_right)
    run(tmp_path / "off", off, config(entropy=EntropyControl(enabled=False)))
    assert set(off.learner.entropy_coefs) == {None}


def test_recomputed_proximal_logprobs_come_from_before_the_first_minibatch(tmp_path: Path) -> None:
    learner = LearnerConfig(proximal_logprobs="recompute")
    services = FakeServices(half_right)
    run(tmp_path, services, config(num_steps=1, learner=learner))
    first, second = services.learner.proximal
    assert {value for row in first + second for value in row} == {0.0}  # the weight was 0 for both


def test_a_skipped_optimizer_step_is_said(tmp_path: Path) -> None:
    services = FakeServices(half_right)
    services.learner.skip = True
    rows = run(tmp_path, services, config(num_steps=1))
    assert rows[0]["step_skipped"] == 2.0
    assert services.said.getvalue().count("non-finite gradient; optimizer step skipped") == 2  # type: ignore[attr-defined]


def test_a_reward_that_stays_under_half_of_the_best_stops_the_run(tmp_path: Path) -> None:
    def collapses(request: GenerationRequest) -> str:
        return half_right(request) if len(services.pool.calls) <= 2 else "no idea"

    services = FakeServices(collapses)
    with pytest.raises(UserError, match=r"reward 0.000 stayed under half of the best \(0.500\) for 3 steps"):
        run(tmp_path, services, config(collapse_after=3))
    assert len(rows_of(tmp_path / "metrics.jsonl")) == 5


def test_no_prompts_is_said_with_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^reasoning_rl: no prompts are left after filtering; widen"):
        run(tmp_path, FakeServices(), prompts=[])


# ---------------------------------------------------------------------------------------------- records and settings


def test_a_sample_row_is_one_rollout_to_read() -> None:
    prompt = PROMPTS[0]
    scored = ScoredCompletion(completion(prompt, "24", index=1, finish="length"), Score.error("timed out"))
    row = sample_row("general_rl", 3, ScoredGroup(prompt, (scored,)), 0, TokenPieces(byte_tokenizer()))
    assert row == {
        "stage": "general_rl", "step": 3, "task": "arithmetic", "uid": prompt.uid, "mode": "thinking",
        "prompt": [dict(prompt.messages[0])], "completion": "24", "reference": prompt.reference, "reward": None,
        "outcome": "error", "reason": "timed out", "turns": [], "ended": "", "tokens": 2, "finish_reason": "length",
        "rendered": [{"pieces": ['"', "#", "S", "U"], "loss_mask": "0011"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps: 0 must be 1 or more"),
        ({"collapse_after": 0}, "collapse_after: 0 must be 1 or more"),
        ({"group_size": 1}, "group_size: 1 gives no group to compare with"),
        ({"truncated": "drop"}, "truncated: 'drop'; use mask or score"),
        ({"sampling": SamplingConfig(top_p=0.9)}, "sampling: top_p=0.9"),
        ({"sampling": SamplingConfig(temperature=0.0)}, "sampling.temperature: 0"),
        ({"learner": LearnerConfig()}, "minibatches: 2 steps on one batch need the policy from before the first"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        config(**changes).validate()
    assert str(caught.value).startswith(message)


def test_one_minibatch_or_recomputed_logprobs_or_a_loss_without_a_cap_are_accepted() -> None:
    config().validate()
    config(minibatches=1, learner=LearnerConfig()).validate()
    config(learner=LearnerConfig(proximal_logprobs="recompute")).validate()
