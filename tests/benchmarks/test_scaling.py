"""The page of the scaling benchmark, on made-up measurements."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling import BASE, FIELDS, POINTS, axis_table, main, per_work, workload_of
from data.records import UserError


def point(value: int, *, generate: float, learn: float, tokens: int, flops: float) -> dict[str, Any]:
    rest = {"axis": "prompts", "sync_s": 0.1, "check_s": 0.2, "seconds": generate + learn + 0.3}
    return {
        "value": value,
        "generate_s": generate,
        "learn_s": learn,
        "completion_tokens": tokens,
        "model_flops": flops,
    } | rest


@pytest.mark.parametrize("axis", FIELDS)
def test_a_point_differs_from_the_base_in_one_number(axis: str) -> None:
    for value in POINTS[axis]:
        changed = dataclasses.asdict(workload_of(axis, value)) | {"name": BASE.name}
        assert changed == dataclasses.asdict(BASE) | {FIELDS[axis]: value}


def test_the_first_point_of_every_axis_but_workers_is_the_base() -> None:
    for axis, field in FIELDS.items():
        assert POINTS[axis][0] == getattr(BASE, field)


def test_cost_is_divided_by_the_work() -> None:
    # 2 s for 4,000 tokens are 500 ms a thousand; 3 s for 600 GFLOP are 5 ms a GFLOP.
    generate, learn = per_work(point(8, generate=2.0, learn=3.0, tokens=4000, flops=600e9))
    assert (generate, learn) == pytest.approx((500.0, 5.0))


def test_growth_is_over_the_row_before() -> None:
    rows = [
        point(8, generate=2.0, learn=3.0, tokens=4000, flops=600e9),
        point(16, generate=3.0, learn=6.0, tokens=8000, flops=1200e9),
    ]
    cells = axis_table("prompts", rows).splitlines()[-1].strip("| ").split(" | ")
    assert cells == [
        "16", "8,000", "1,200", "9.30 (×1.75)", "3.00 (×1.50)", "6.00 (×2.00)", "0.10 (×1.00)", "0.20 (×1.00)",
        "375", "5.0",
    ]  # fmt: skip


def test_an_axis_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="axis 'depth' does not exist: choose from prompts"):
        main(["depth", "--results", str(tmp_path)])
