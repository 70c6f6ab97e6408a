"""A stage's split is the sum of its steps' phases; what no row says is not measured."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from evals.time_split import PHASES, stage_time, time_figure, time_section, time_table

GIB = 2**30


def rl_row(step: int, **timing: float) -> dict[str, Any]:
    return {
        "stage": "reasoning_rl", "step": step, "completion_tokens": 600, "num_tokens": 1000.0 * step,
        "model_flops": 4e12, "padding_share": 0.1 * step, "shared_prompt_share": 0.25,
        "timing": {
            "generate_s": 3.0, "score_s": 0.5, "learn_s": 2.0, "pack_s": 0.25, "forward_s": 0.5, "backward_s": 0.75,
            "update_s": 0.25, "wait_s": 0.25, "sync_s": 1.0, "other_s": 0.5, "step_s": 7.0,
            "learner_peak_bytes": step * GIB, "engine_peak_bytes": 3.0 * GIB, "host_memory_share": 0.5, **timing,
        },
    }  # fmt: skip


def test_two_steps_by_hand() -> None:
    time = stage_time("reasoning_rl", [rl_row(1), rl_row(2)])
    assert (time.num_steps, time.total_s) == (2, 14.0)
    assert time.seconds == {
        "generate": 6.0, "score": 1.0, "proximal": 0.0, "pack": 0.5, "forward": 1.0, "backward": 1.5, "update": 0.5,
        "sync": 2.0, "check": 0.0, "save": 0.0, "wait": 0.5, "other": 1.0,
    }  # fmt: skip
    assert tuple(time.seconds) == PHASES
    assert time.generate_tokens_per_s == 200.0
    assert time.learn_tokens_per_s == 750.0
    assert time.flops_per_s == 2e12
    assert time.mfu is None  # no device of which the peak is known
    assert time.padding_share == pytest.approx((0.1 * 1000 + 0.2 * 2000) / 3000)
    assert time.learner_peak_bytes == 2 * GIB
    assert time.shares()["generate"] == pytest.approx(6 / 14)
    assert sum(time.shares().values()) == pytest.approx(1.0)


def test_mfu_is_there_when_every_step_knows_the_peak_and_device_memory_goes_before_the_process() -> None:
    known = {"peak_flops_per_s": 8e12, "learner_device_peak_bytes": 9.0 * GIB}
    time = stage_time("reasoning_rl", [rl_row(1, **known), rl_row(2, **known)])
    assert time.mfu == 0.25
    assert time.learner_peak_bytes == 9 * GIB
    assert stage_time("reasoning_rl", [rl_row(1, **known), rl_row(2)]).mfu is None


def test_a_step_that_learned_nothing_lowers_no_rate_of_learning() -> None:
    empty = rl_row(2)
    for name in ("num_tokens", "model_flops", "padding_share", "shared_prompt_share"):
        del empty[name]
    for name in ("learn_s", "pack_s", "forward_s", "backward_s", "update_s", "wait_s"):
        del empty["timing"][name]
    time = stage_time("reasoning_rl", [rl_row(1), empty])
    assert time.learn_tokens_per_s == 500.0
    assert time.generate_tokens_per_s == 200.0


def test_rows_of_an_older_run_are_not_measured() -> None:
    old = {"stage": "base", "step": 1, "loss": 1.0, "timing": {"step_s": 1.0}}
    time = stage_time("base", [old])
    assert time.num_steps == 0
    assert time_section([time], {}) == "not measured"
    assert time_figure([time]) is None


def test_the_table_fits_a_terminal_and_shows_every_phase_that_took_time() -> None:
    console = Console(file=(text := io.StringIO()), width=80, color_system=None)
    console.print(time_table(stage_time("reasoning_rl", [rl_row(1), rl_row(2)])))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "reasoning_rl: 2 steps in 14.0 s" in lines[0]
    shown = {line.split()[0]: line.split() for line in lines[2:] if line.strip()}
    assert shown["generate"][1:4] == ["6.0", "s", "42.9%"]
    assert "save" not in shown
    said = " ".join(text.getvalue().split())
    for fact in ("generated tokens/s 200", "learned tokens/s 750", "TFLOP/s 2", "learner peak 2.00 GiB"):
        assert fact in said
    assert "MFU" not in said


def test_the_report_shows_stages_below_each_other_and_the_figure_stacks_to_the_whole() -> None:
    sft = {
        "stage": "base",
        "step": 1,
        "num_tokens": 10.0,
        "timing": {"learn_s": 1.0, "forward_s": 0.75, "wait_s": 0.25, "other_s": 1.0, "step_s": 2.0},
    }
    times = [stage_time("base", [sft]), stage_time("reasoning_rl", [rl_row(1)])]
    text = time_section(times, {"base": 4.0})
    lines = [line for line in text.splitlines() if line.startswith("| base")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")][:4] == ["base", "1", "2.0 s", "50.0%"]
    assert "| 37.5% |" in lines[0]
    figure = time_figure(times)
    assert figure is not None
    ends: dict[float, float] = {}
    for bar in figure.axes[0].patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())  # type: ignore[attr-defined]
    assert list(ends.values()) == pytest.approx([100.0, 100.0])
