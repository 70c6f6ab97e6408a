"""Packed rollouts are all the rows that were given, can be filtered by column, and are packed once."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evals.page import samples
from evals.page.samples import BLOCK_ROWS, BlockCache, pack_samples, pairs, spread, unpacked_rows


def row(stage: str, step: int, **more: Any) -> dict[str, Any]:
    return {"stage": stage, "step": step, "task": "math", "mode": "thinking", "outcome": "correct", "reward": 1.0,
            "uid": f"u{step}", "prompt": "1+1?", "completion": "2", **more}  # fmt: skip


def evaluated(stage: str, uid: str, **more: Any) -> dict[str, Any]:
    return row(f"evaluation of {stage}", 0, uid=uid, benchmark="math", **more)


def test_every_row_comes_back_stage_by_stage() -> None:
    rows = [row("a", 1), row("b", 1), row("a", 2, completion="</script>é\ud800")]
    packed = pack_samples(rows)
    assert list(unpacked_rows(packed)) == [rows[0], rows[2], rows[1]]
    assert packed.num_rows == 3
    assert [block.num_rows for block in packed.blocks] == [2, 1]


def test_tokens_come_back_one_by_one_whatever_is_in_them() -> None:
    parts = [
        {"pieces": ["<|im_start|>", "é", "", "🙂", "\ud83d", "a\n"], "loss_mask": "000111", "left_out": [3, 9]},
        {"pieces": [], "loss_mask": ""},
    ]
    (found,) = unpacked_rows(pack_samples([row("a", 1, rendered=parts)]))
    assert found["rendered"] == parts


def test_columns_name_what_each_row_is() -> None:
    index = pack_samples([row("a", 3), row("a", 4, outcome="error", reward=None), row("b", 1, mode=None)]).index
    named = {c: [index["names"][c][n] for n in index["columns"][c]] for c in ("stage", "outcome", "mode")}
    assert named == {
        "stage": ["a", "a", "b"],
        "outcome": ["correct", "error", "correct"],
        "mode": ["thinking", "thinking", "not measured"],
    }
    assert index["columns"]["step"] == [3, 4, 1]
    assert index["columns"]["reward"] == [1000, None, 1000]


def test_blocks_hold_a_set_number_of_rows_of_one_stage() -> None:
    packed = pack_samples([row("a", step) for step in range(BLOCK_ROWS + 1)] + [row("b", 1)])
    assert [block.num_rows for block in packed.blocks] == [BLOCK_ROWS, 1, 1]
    assert [rows for _, rows in packed.index["blocks"]] == [BLOCK_ROWS, 1, 1]


def test_rows_that_are_added_leave_full_blocks_as_they_were_and_pack_the_rest_alone(monkeypatch) -> None:
    rows = [row("a", step) for step in range(2 * BLOCK_ROWS + 5)]
    cache = BlockCache()
    before = pack_samples(rows, cache)
    calls: list[int] = []
    pack = samples.pack_block
    monkeypatch.setattr(samples, "pack_block", lambda found: calls.append(len(found)) or pack(found))
    after = pack_samples([*rows, row("a", 999), row("b", 1)], cache)
    assert calls == [6, 1]
    assert [block.name for block in after.blocks[:2]] == [block.name for block in before.blocks[:2]]
    assert after.blocks[2].name != before.blocks[2].name


def test_rows_that_were_read_again_after_a_rewind_are_packed_again() -> None:
    cache = BlockCache()
    first = pack_samples([row("a", 1), row("a", 2)], cache)
    second = pack_samples([row("a", 1), row("a", 2, completion="3")], cache)
    assert first.blocks[0].name != second.blocks[0].name
    assert list(unpacked_rows(second))[1]["completion"] == "3"


def test_too_many_rows_are_spread_evenly_and_the_rest_is_counted() -> None:
    rows = [row("a", step) for step in range(90)] + [row("b", step) for step in range(10)]
    packed = pack_samples(rows, most=20)
    kept = list(unpacked_rows(packed))
    assert [r["step"] for r in kept if r["stage"] == "a"] == [5 * n for n in range(18)]
    assert [r["step"] for r in kept if r["stage"] == "b"] == [0, 5]
    assert packed.num_left_out == 80


@given(st.integers(0, 60), st.integers(1, 60))
def test_spreading_keeps_order_and_never_more_than_asked(count: int, most: int) -> None:
    rows = [row("a", step) for step in range(count)]
    steps = [r["step"] for r in spread(rows, most)]
    assert len(steps) == min(count, most)
    assert steps == sorted(set(steps))


def test_a_prompt_of_two_evaluations_is_a_pair_with_one_rollout_of_each() -> None:
    rows = [
        evaluated("cold_start", "x", prompt=[{"role": "user", "content": "first\n words"}]),
        evaluated("cold_start", "x"), evaluated("cold_start", "alone"),
        evaluated("general_rl", "x"), evaluated("general_rl", "x", mode="non_thinking"), row("a", 1, uid="x"),
    ]  # fmt: skip
    assert pairs(rows) == [{"benchmark": "math", "mode": "thinking", "prompt": "first words", "rows": [0, 3]}]


def test_a_very_long_text_loses_its_middle_and_says_so() -> None:
    (found,) = unpacked_rows(pack_samples([row("a", 1, completion="a" * 15_000 + "b" * 15_000)]))
    assert "aaa\n[… 10,000 characters left out …]\nbbb" in found["completion"]


def test_what_json_does_not_know_cannot_break_the_page() -> None:
    packed = pack_samples([row("a", 1, reward=float("nan"), reference={"x": float("inf")})])
    text = gzip.decompress(base64.b64decode(packed.blocks[0].data)).decode()
    assert json.loads(text, parse_constant=lambda name: pytest_fail(name))[0]["reference"] == {"x": "inf"}
    assert packed.index["columns"]["reward"] == [None]


def pytest_fail(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
