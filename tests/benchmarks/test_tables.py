"""Tables from recorded lines: warm-up left out, medians, ratios, failures, and what is said of a side."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.grpo_step import candidates, fastest, table_of
from benchmarks.rates import rate_table
from benchmarks.tables import Spread, gib, markdown_table, ratio, settings_text, sides_of

CASE: dict[str, Any] = {
    "case": "A float32", "event": "case", "date": "2026-01-02T03:04+00:00", "command": "python -m benchmarks.x A",
    "load_before": 0.25, "plan": {"repeats": 2, "steps": 2, "warmup": 1}, "processor": "P", "cores": 2,
    "instructions": ["avx2"], "memory_gib": 8.0, "python": "3.11.7", "commit": "abc1234",
}  # fmt: skip


def lines(side: str, seconds: list[list[float]], **more: Any) -> list[dict[str, Any]]:
    """The recorded lines of one side: the seconds of every step of every repeat."""
    base = {"case": "A float32", "side": side}
    rows: list[dict[str, Any]] = [
        {**base, "kind": "memory", "repeat": 0, "event": "memory", "peak_bytes": more.pop("peak", 2**30), "samples": 9},
        {**base, "kind": "memory", "repeat": 0, "event": "step", "step": 2, "seconds": 99.0},
        {**base, "kind": "memory", "event": "settings", "settings": more.pop("settings", {"workload": "w"})},
        {**base, "kind": "timed", "repeat": 0, "event": "facts", "versions": {"torch": "2"}},
    ]
    for repeat, run in enumerate(seconds):
        for step, value in enumerate(run, start=1):
            row = {**base, "kind": "timed", "repeat": repeat, "event": "step", "step": step, "seconds": value}
            rows.append({**row, "trained_tokens": 100, **more})
    return rows


def test_the_median_leaves_out_warm_up_steps_and_the_memory_run() -> None:
    rows = [CASE, *lines("fourstage", [[50.0, 1.0, 2.0], [60.0, 3.0, 8.0]])]
    (side,) = sides_of(rows)
    assert side.seconds() == Spread(2.5, 1.0, 8.0, 4)
    assert side.rate("trained_tokens") == Spread(pytest.approx((50 + 100 / 3) / 2), 12.5, 100.0, 4)
    assert side.peak_bytes == 2**30


def test_a_grpo_table_has_the_ratio_of_medians_the_target_and_the_memory_ratio() -> None:
    ours = lines("fourstage", [[9.0, 3.0, 3.0]], generate_s=1.0, learn_s=1.5, sync_s=0.25, score_s=0.0)
    theirs = lines("trl", [[9.0, 4.0, 4.0]], generate_s=1.5, score_s=0.5, peak=2**31, settings={"per_device": 32})
    text = table_of([CASE, *ours, *theirs])
    row = next(line for line in text.splitlines() if line.startswith("| trl |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:10] == [
        "trl", "4.00 (4.00 to 4.00)", "1.50", "0.50", "2.00", "", "0.75", "at most 0.75", "2.00", "0.50",
    ]  # fmt: skip
    assert cells[10] == "per_device=32"
    assert "P, 2 cores (avx2), 8 GiB; commit abc1234" in text
    assert "load before 0.2" in text
    assert "`python -m benchmarks.x A`" in text


def test_a_side_that_failed_says_why_and_has_no_ratio() -> None:
    failed = {"case": "A float32", "side": "trl", "kind": "timed", "event": "failed", "code": 1, "said": "no memory"}
    text = table_of([CASE, *lines("fourstage", [[1.0, 1.0]]), failed])
    assert "| trl | failed (1: no memory) |" in text


def test_a_rate_table_compares_with_the_fastest_peer() -> None:
    rows = [
        CASE,
        *lines("fourstage", [[1.0, 2.0]], padding_share=0.031),
        *lines("bare-slow", [[1.0, 4.0]]),
        *lines("bare-fast", [[1.0, 1.0]], peak=2**29),
    ]
    text = rate_table(rows, tokens="trained_tokens", targets="Target.")
    assert "| fourstage | 50 (50 to 50) | 0.50 | 3.1 % | 1.00 | 2.00 |" in text
    assert "| bare-fast (the fastest peer) | 100 (100 to 100) |" in text
    assert "Target." in text


def test_the_fastest_settings_of_a_sweep_are_those_with_the_least_median(tmp_path) -> None:
    from benchmarks.comparison import write_results

    sweep = [
        CASE,
        *lines("x", [[1.0, 5.0]], settings={"attention": "eager", "per_device": 32, "preload": False}),
        *lines("y", [[1.0, 4.0]], settings={"attention": "sdpa", "per_device": 64, "preload": True}),
    ]
    write_results(tmp_path / "grpo_step.jsonl", [{**row, "case": "A float32 sweep"} for row in sweep])
    assert fastest("A", "float32", tmp_path) == {"attention": "sdpa", "per_device": 64, "preload": True}
    assert fastest("B", "float32", tmp_path) == fastest("A", "float32", tmp_path)  # the nearest one that was recorded
    assert fastest("A", "bfloat16", tmp_path) == {"attention": "eager", "per_device": 32, "preload": True}


def test_a_sweep_tries_no_device_batch_larger_than_the_step() -> None:
    assert {one["per_device"] for one in candidates(32)} == {16, 32}
    assert {one["per_device"] for one in candidates(128)} == {16, 32, 64, 128}


def test_small_parts() -> None:
    assert Spread.of([]) is None
    assert ratio(Spread(3, 3, 3, 1), Spread(4, 4, 4, 1)) == 0.75
    assert ratio(None, Spread(4, 4, 4, 1)) is None
    assert gib(3 * 2**29) == "1.50"
    assert gib(None) == ""
    assert Spread(1234.5, 1.0, 2000.0, 3).text(-1) == "1,234 (1 to 2,000)"
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n|---|---:|\n| x | 1 |"
    assert settings_text({"workload": "w", "bf16": False, "preload": True}) == "preload=True"
    assert settings_text({"workload": "w"}) == "as installed"
