"""The supervised loop: which rows make a step, and that a run that was cut short goes on as if it had not been."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import TrainingSample, UserError
from learner.learner import LearnerConfig
from stages.sft_loop import SFTConfig, batches, run_sft
from tests.stages.stage_fakes import FakeServices, rows_of, stage_context

START = Path("start")


def rows(count: int, length: int = 10) -> list[TrainingSample]:
    mask = (0,) + (1,) * (length - 1)
    return [TrainingSample.supervised((5,) * length, mask, uid=f"row/{index}") for index in range(count)]


# ---------------------------------------------------------------------------------------------- the plan of steps


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    num_epochs=st.integers(1, 3),
    batch_tokens=st.integers(1, 120),
    seed=st.integers(0, 5),
)
def test_every_row_comes_once_an_epoch_and_no_batch_is_larger_than_it_must_be(
    lengths: list[int], num_epochs: int, batch_tokens: int, seed: int
) -> None:
    plan = batches(lengths, num_epochs=num_epochs, batch_tokens=batch_tokens, seed=seed)
    assert Counter(index for step in plan for index in step) == dict.fromkeys(range(len(lengths)), num_epochs)
    position = 0
    flat = [index for step in plan for index in step]
    for epoch in range(num_epochs):
        assert sorted(flat[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))
    for step, following in zip(plan, [*plan[1:], None], strict=True):
        tokens = sum(lengths[index] for index in step)
        assert step
        assert tokens <= batch_tokens or len(step) == 1  # a row that is too long goes alone
        position += len(step)
        if following is not None and position % len(lengths):  # within an epoch a batch takes all that fits
            assert tokens + lengths[following[0]] > batch_tokens


def test_the_plan_of_four_rows_by_hand() -> None:
    plan = batches([4, 4, 4, 4], num_epochs=1, batch_tokens=8, seed=0)
    assert [len(step) for step in plan] == [2, 2]
    assert batches([4, 4, 4, 4], num_epochs=1, batch_tokens=7, seed=0) == [[index] for step in plan for index in step]


def test_the_plan_hangs_on_its_arguments_alone_and_epochs_differ() -> None:
    lengths = [3] * 30
    plan = batches(lengths, num_epochs=2, batch_tokens=30, seed=1)
    assert plan == batches(lengths, num_epochs=2, batch_tokens=30, seed=1)
    assert plan[:3] == batches(lengths, num_epochs=1, batch_tokens=30, seed=1)
    assert plan[:3] != plan[3:]
    assert plan != batches(lengths, num_epochs=2, batch_tokens=30, seed=2)


# ---------------------------------------------------------------------------------------------- the loop


def config(**changes: Any) -> SFTConfig:
    return SFTConfig(**{"num_epochs": 2, "batch_tokens": 20, "save_every": 3, **changes})


def test_each_step_is_recorded_and_the_schedule_knows_their_number(tmp_path: Path) -> None:
    services = FakeServices()
    context, _ = stage_context(tmp_path, "cold_start", seed=4)
    metrics = run_sft(rows(9), config(), START, services, context)  # type: ignore[arg-type]
    (folder, learner_config, seed) = services.learner.loaded[0]
    assert (folder, seed) == ("start", 4)
    assert learner_config.total_steps == 10  # 9 rows of 10 tokens, two a batch, two epochs
    recorded = rows_of(tmp_path / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in recorded] == [("cold_start", step) for step in range(1, 11)]
    assert metrics["loss"] == recorded[-1]["loss"]
    assert context.num_tokens == 2 * 9 * 10
    assert context.states.steps() == [6, 9]  # the newest two of 3, 6, 9


def test_max_steps_cuts_the_plan(tmp_path: Path) -> None:
    services = FakeServices()
    context, _ = stage_context(tmp_path)
    run_sft(rows(9), config(max_steps=4), START, services, context)  # type: ignore[arg-type]
    assert len(services.learner.batches) == 4
    assert services.learner.loaded[0][1].total_steps == 4


@pytest.mark.parametrize("killed_at", [2, 3, 4, 8, 9])
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tmp_path: Path, killed_at: int) -> None:
    whole = FakeServices()
    context, _ = stage_context(tmp_path / "whole")
    run_sft(rows(9), config(), START, whole, context)  # type: ignore[arg-type]

    class Killed(Exception):
        """Stands for kill -9."""

    cut = FakeServices()
    step = cut.learner.sft_step

    def dies(samples: Any) -> Any:
        if len(cut.learner.batches) == killed_at:
            raise Killed
        return step(samples)

    cut.learner.sft_step = dies  # type: ignore[method-assign]
    context, _ = stage_context(tmp_path / "cut")
    with pytest.raises(Killed):
        run_sft(rows(9), config(), START, cut, context)  # type: ignore[arg-type]
    resumed = FakeServices()
    context, said = stage_context(tmp_path / "cut")
    run_sft(rows(9), config(), START, resumed, context)  # type: ignore[arg-type]
    last_state = killed_at // 3 * 3
    assert len(resumed.learner.batches) == 10 - last_state
    assert (f"resumed at step {last_state} " in said.getvalue()) == (last_state > 0)
    assert resumed.learner.weight == whole.learner.weight
    assert context.num_tokens == 180
    assert rows_of(tmp_path / "cut" / "metrics.jsonl") == rows_of(tmp_path / "whole" / "metrics.jsonl")


def test_nothing_to_train_on_is_said_with_the_stage(tmp_path: Path) -> None:
    context, _ = stage_context(tmp_path, "thinking_fusion")
    with pytest.raises(UserError, match=r"^thinking_fusion: no training rows are left after filtering; loosen"):
        run_sft([], config(), START, FakeServices(), context)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["num_epochs", "batch_tokens", "save_every", "max_steps"])
def test_counts_below_one_are_refused_by_name(field: str) -> None:
    with pytest.raises(UserError, match=f"^{field}: 0 must be 1 or more"):
        config(**{field: 0}, learner=LearnerConfig()).validate()
