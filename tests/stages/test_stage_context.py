"""A stage's files while it runs: data made once, states saved whole, logs cut back, damaged states refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from stages.stage_context import StageContext
from tests.stages.stage_fakes import FakeLearner, rows_of, stage_context


def saved(folder: Path, steps: int, *, save_every: int = 2) -> None:
    """A stage that got as far as `steps` and was killed there."""
    context, _ = stage_context(folder)
    learner = FakeLearner()
    for step in range(1, steps + 1):
        learner.weight = step
        context.num_tokens += 10
        context.metrics.append({"step": step})
        context.samples.append({"step": step, "text": "é" * step})
        if step % save_every == 0:
            context.save(step, learner.save_state, {"best_reward": step / 10})


def restored(folder: Path) -> tuple[dict[str, Any], FakeLearner, StageContext, str]:
    context, said = stage_context(folder)
    learner = FakeLearner()
    return context.restore(learner.load_state), learner, context, said.getvalue()


def test_the_newest_state_comes_back_and_the_logs_with_it(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    state, learner, context, said = restored(tmp_path)
    assert (state["step"], state["best_reward"], learner.weight, context.num_tokens) == (4, 0.4, 4, 40)
    assert [row["step"] for row in rows_of(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert [row["step"] for row in rows_of(tmp_path / "samples.jsonl")] == [1, 2, 3, 4]
    assert said == "reasoning_rl: resumed at step 4 (restored weight, logs, loop state)\n"


def test_without_a_state_a_stage_begins_afresh(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    state, learner, _, said = restored(tmp_path)
    assert (state, learner.weight, said) == ({}, 0, "")
    assert rows_of(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("name", ["learner/weight.json", "loop.json", "seal.json"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_state_is_refused_by_name_and_the_one_before_it_is_used(
    tmp_path: Path, name: str, damage: str
) -> None:
    saved(tmp_path, 5)
    file = tmp_path / "state" / "step-00000004" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(bytes(content) if damage == "altered" else content[: len(content) // 2])
    state, learner, _, said = restored(tmp_path)
    assert (state["step"], learner.weight) == (2, 2)
    refusal, resumed = said.splitlines()
    assert refusal.startswith("warning: reasoning_rl: refused a trainer state: ")
    assert f"step-00000004: {name}" in refusal
    assert resumed.startswith("reasoning_rl: resumed at step 2 ")
    assert [row["step"] for row in rows_of(tmp_path / "metrics.jsonl")] == [1, 2]


def test_when_every_state_is_damaged_the_stage_begins_afresh_and_says_so(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    for file in (tmp_path / "state").rglob("weight.json"):
        file.write_text("9")
    state, _, _, said = restored(tmp_path)
    assert state == {}
    assert said.count("refused a trainer state") == 2


def test_a_log_that_lost_rows_is_refused_because_the_run_could_not_repeat(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: no line ends at byte"):
        restored(tmp_path)


def test_data_is_made_once_and_read_back_ever_after(tmp_path: Path) -> None:
    context, _ = stage_context(tmp_path)
    made: list[int] = []

    def make() -> list[dict[str, Any]]:
        made.append(1)
        return [{"text": "ä\n", "n": 1}, {"text": "", "n": 2}]

    first = context.cached_rows("queries", make)
    assert first == context.cached_rows("queries", make) == [{"text": "ä\n", "n": 1}, {"text": "", "n": 2}]
    assert made == [1]


def test_data_that_could_not_be_made_leaves_no_file(tmp_path: Path) -> None:
    context, _ = stage_context(tmp_path)

    def make() -> Any:
        yield {"n": 1}
        raise UserError("teacher: gone")

    with pytest.raises(UserError):
        context.cached_rows("queries", make)
    assert not list(tmp_path.rglob("queries*"))


def test_facts_about_the_data_are_json_to_read(tmp_path: Path) -> None:
    context, _ = stage_context(tmp_path)
    context.record_data("filters", {"kept": 3, "dropped": {"held out": 1}})
    assert json.loads((tmp_path / "data" / "filters.json").read_text()) == {"kept": 3, "dropped": {"held out": 1}}
