"""What tasks need is asked for before a run starts: judge, preference model, sandbox, and stages that know episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from data.records import UserError
from stages.run_config import STAGES, RunConfig
from stages.task_needs import check_task_needs, task_uses

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"


def config(*overrides: str) -> RunConfig:
    return load_config(RunConfig, [MICRO], list(overrides))


def refusal(*overrides: str, stages: tuple[str, ...] = STAGES) -> str:
    with pytest.raises(UserError) as caught:
        check_task_needs(config(*overrides), stages, probe_sandbox=_no_probe)
    return str(caught.value)


def _no_probe() -> None:
    raise AssertionError("no sandboxed task is used")


def test_a_recipe_of_rule_tasks_needs_nothing_and_probes_nothing() -> None:
    check_task_needs(config(), STAGES, probe_sandbox=_no_probe)


def test_every_task_of_stages_and_evaluation_is_named_with_its_place() -> None:
    uses = task_uses(config("general_rl.prompts.tasks.countdown.levels=[1,2]"), ("general_rl",))
    places = {use.where: (use.task.name, use.levels) for use in uses}
    assert places["general_rl.prompts.tasks.countdown"] == ("countdown", (1, 2))
    assert any(where.startswith("evaluation.benchmarks.") for where in places)
    assert not any(where.startswith("cold_start.") for where in places)


def test_a_level_that_needs_a_judge_is_refused_without_one_and_level_0_is_not() -> None:
    message = refusal("general_rl.prompts.tasks.open_qa.levels=[0,2]")
    assert message.startswith("general_rl.prompts.tasks.open_qa: task 'open_qa' needs a judge; give judge.base_url")
    assert "use levels below 1" in message
    check_task_needs(config("general_rl.prompts.tasks.open_qa.levels=[0]"), STAGES, probe_sandbox=_no_probe)
    judged = ["judge.base_url=http://127.0.0.1:9/v1", "judge.model=m", "general_rl.prompts.tasks.open_qa.levels=[2]"]
    check_task_needs(config(*judged), STAGES, probe_sandbox=_no_probe)


def test_stages_that_are_not_run_need_nothing() -> None:
    with_judged = config("general_rl.prompts.tasks.open_qa.levels=[2]")
    check_task_needs(with_judged, ("base", "cold_start"), probe_sandbox=_no_probe)


def test_a_file_of_a_judged_task_needs_the_judge_whatever_its_levels_say(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("{}\n")
    assert "needs a judge" in refusal(
        "general_rl.prompts.tasks.open_qa.levels=[0]", f"general_rl.prompts.tasks.open_qa.file.path={file}"
    )


def test_episodes_are_refused_where_single_answers_are_trained_on() -> None:
    for field in ("cold_start.queries", "thinking_fusion.non_thinking"):
        message = refusal(f"{field}.tasks.tool_use.levels=[0]")
        assert message.startswith(f"{field}.tasks.tool_use: task 'tool_use' is an episode of several turns")
    check_task_needs(config("general_rl.prompts.tasks.tool_use.levels=[0]"), STAGES, probe_sandbox=_no_probe)


def test_code_tasks_probe_the_sandbox_before_the_run() -> None:
    probes: list[Any] = []
    recipe = config("general_rl.prompts.tasks.code_from_spec.levels=[0]")
    check_task_needs(recipe, STAGES, probe_sandbox=lambda: probes.append(1))
    assert probes == [1]


def test_levels_whose_episodes_take_more_turns_than_the_cap_are_refused() -> None:
    message = refusal("general_rl.prompts.tasks.text_game.levels=[0,2]")
    assert "takes up to 40 turns at these levels, and rollout.episodes.max_turns is 8" in message
    check_task_needs(config("general_rl.prompts.tasks.text_game.levels=[0]"), STAGES, probe_sandbox=_no_probe)
    roomy = config("general_rl.prompts.tasks.text_game.levels=[2]", "rollout.episodes.max_turns=40")
    check_task_needs(roomy, STAGES, probe_sandbox=_no_probe)
