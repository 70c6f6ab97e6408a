"""The phases of a step add up to its wall time, whatever lies between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.time_split import PHASES
from stages.rl_loop import run_rl
from stages.sft_loop import run_sft
from stages.step_clock import Span, StepClock, with_rates
from tests.stages.stage_fakes import FakeServices, stage_context
from tests.stages.test_rl_loop import PROMPTS, START, half_right
from tests.stages.test_rl_loop import config as rl_config
from tests.stages.test_sft_loop import config as sft_config
from tests.stages.test_sft_loop import rows as sft_rows


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def split(timing: dict[str, float]) -> dict[str, float]:
    return {name: timing[f"{name}_s"] for name in PHASES if f"{name}_s" in timing}


def test_a_step_by_hand() -> None:
    hand = Hand()
    clock = StepClock(hand)
    clock.start(1)
    clock.add("generate", 100.0, 4.0)
    clock.add("score", 104.0, 1.0)
    hand.now = 106.0
    with clock.phase("learn"):
        hand.now += 10.0
    for _ in range(2):
        clock.add_learner(
            {"pack_s": 0.5, "forward_s": 1.0, "backward_s": 2.0, "update_s": 0.25, "learner_peak_bytes": 7}
        )
    with clock.phase("sync"):
        hand.now += 3.0
    hand.now += 0.5
    timing = clock.lap()
    assert 0 < timing.pop("host_memory_share") < 1
    assert timing == pytest.approx(
        {
            "generate_s": 4.0, "score_s": 1.0, "learn_s": 10.0, "pack_s": 1.0, "forward_s": 2.0, "backward_s": 4.0,
            "update_s": 0.5, "wait_s": 2.5, "sync_s": 3.0, "other_s": 1.5, "step_s": 19.5, "learner_peak_bytes": 7,
        }
    )  # fmt: skip
    assert sum(split(timing).values()) == pytest.approx(timing["step_s"])


@given(st.lists(st.tuples(st.sampled_from(["generate", "proximal", "sync", "save", "wait"]), st.floats(0, 9))))
def test_the_phases_add_up_to_the_wall_time(pieces: list[tuple[str, float]]) -> None:
    hand = Hand()
    clock = StepClock(hand)
    clock.start(1)
    for name, seconds in pieces:
        hand.now += 0.25
        with clock.phase(name):
            hand.now += seconds
    timing = clock.lap()
    assert sum(split(timing).values()) == pytest.approx(timing["step_s"])
    assert timing["other_s"] == pytest.approx(0.25 * len(pieces))


def test_what_falls_between_two_steps_counts_into_the_second() -> None:
    hand = Hand()
    clock = StepClock(hand, keep_spans=True)
    clock.start(4)
    hand.now += 1
    assert clock.lap()["step_s"] == 1
    with clock.phase("save"):
        hand.now += 2
    hand.now += 3
    timing = clock.lap()
    assert (timing["step_s"], timing["save_s"], timing["other_s"]) == (5, 2, 3)
    assert clock.spans == [
        Span("step", 4, 100.0, 1.0), Span("save", 5, 101.0, 2.0), Span("step", 5, 101.0, 5.0),
    ]  # fmt: skip


def test_rates_are_those_of_learning_alone() -> None:
    timing = with_rates({"learn_s": 2.0, "peak_flops_per_s": 500.0}, {"num_tokens": 30.0, "model_flops": 400.0})
    assert (timing["learn_tokens_per_s"], timing["flops_per_s"], timing["mfu"]) == (15.0, 200.0, 0.4)
    assert "mfu" not in with_rates({"learn_s": 2.0}, {"num_tokens": 30.0, "model_flops": 400.0})
    assert with_rates({"step_s": 1.0}, {"reward": 0.0}) == {"step_s": 1.0}  # a step that learned nothing


@pytest.mark.parametrize("loop", ["rl", "sft"])
def test_every_recorded_step_of_a_loop_adds_up(tmp_path: Path, loop: str) -> None:
    context, _ = stage_context(tmp_path)
    if loop == "rl":
        run_rl(PROMPTS, rl_config(), START, FakeServices(half_right), context)  # type: ignore[arg-type]
    else:
        run_sft(sft_rows(9), sft_config(), START, FakeServices(), context)  # type: ignore[arg-type]
    from data.files import read_rows

    timings = [row["timing"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert len(timings) >= 7
    for timing in timings:
        assert sum(split(timing).values()) == pytest.approx(timing["step_s"], rel=1e-6)
        assert timing["learn_tokens_per_s"] > 0
    assert any(timing.get("save_s", 0) > 0 for timing in timings)
