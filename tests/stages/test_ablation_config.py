"""What an ablation's variants come to: their stages and keys, what they share, and the settings that are refused."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import ABLATIONS, list_recipes
from data.records import UserError
from learner.losses import LOSS_SETTINGS
from stages.ablation_config import (
    AblationConfig,
    PlannedRun,
    load_ablation,
    plan_ablation,
    plan_summary,
    planned_outputs,
)
from stages.run_config import STAGES
from stages.run_dir import RunDir

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"


def ablation(folder: Path, variants: dict[str, Any], *overrides: str, **settings: Any) -> AblationConfig:
    """An ablation of the micro recipe, read from a file as a user would write it."""
    path = folder / "mine.yaml"
    values = {"name": "mine", "recipe": str(MICRO), "run_dir": str(folder / "run"), "variants": variants, **settings}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_ablation(path, list(overrides))


def keys(config: AblationConfig) -> dict[str, dict[str, str]]:
    """Keys by run and stage."""
    return {run.title: {stage.name: stage.key for stage in run.stages} for run in plan_ablation(config)}


# ---------------------------------------------------------------------------------------------- stages and keys


def test_variants_share_the_stages_before_their_first_difference(tmp_path: Path) -> None:
    found = keys(
        ablation(
            tmp_path,
            {
                "full": {},
                "no_reasoning_rl": {"leave_out": ["reasoning_rl"]},
                "replay": {"set": {"general_rl.reasoning_replay": 0.5}},
                "short": {"until": "reasoning_rl"},
            },
        )
    )
    full = found["full, seed 0"]
    assert list(full) == list(STAGES)
    assert list(found["no_reasoning_rl, seed 0"]) == ["base", "cold_start", "thinking_fusion", "general_rl"]
    assert {name for name, key in found["no_reasoning_rl, seed 0"].items() if key == full[name]} == {
        "base",
        "cold_start",
    }
    assert {name for name, key in found["replay, seed 0"].items() if key != full[name]} == {"general_rl"}
    assert found["short, seed 0"] == {name: full[name] for name in STAGES[:3]}


def test_a_seed_shares_nothing_with_another_and_seeds_come_one_after_the_other(tmp_path: Path) -> None:
    found = keys(ablation(tmp_path, {"a": {}, "b": {"until": "cold_start"}}, "seeds=[3,1]"))
    assert list(found) == ["a, seed 3", "b, seed 3", "a, seed 1", "b, seed 1"]
    assert not set(found["a, seed 3"].values()) & set(found["a, seed 1"].values())


def test_settings_for_all_come_first_and_a_variants_own_are_merged_into_them(tmp_path: Path) -> None:
    config = ablation(
        tmp_path,
        {"a": {}, "b": {"set": {"reasoning_rl": {"rl": {"learner": {"lr": 0.5}}}}}},
        "set.reasoning_rl.rl.num_steps=2",
        set={"reasoning_rl.rl.group_size": 8, "cold_start.num_queries": 40},
    )
    first, second = (run.config for run in plan_ablation(config))
    for run in (first, second):
        assert (run.reasoning_rl.rl.num_steps, run.reasoning_rl.rl.group_size, run.cold_start.num_queries) == (2, 8, 40)
    assert (first.reasoning_rl.rl.learner.lr, second.reasoning_rl.rl.learner.lr) == (3e-4, 0.5)
    assert second.reasoning_rl.rl.learner.microbatch_tokens == first.reasoning_rl.rl.learner.microbatch_tokens


def test_replaced_data_are_not_merged_with_the_recipes(tmp_path: Path) -> None:
    mix = {"tasks": {"mode_flags": {"levels": [0]}}}
    config = ablation(
        tmp_path,
        {"merged": {"set": {"reasoning_rl.queries": mix}}, "other": {"replace": {"reasoning_rl.queries": mix}}},
    )
    merged, other = (run.config.reasoning_rl.queries.tasks for run in plan_ablation(config))
    assert sorted(merged) == ["arithmetic", "mode_flags"]
    assert list(other) == ["mode_flags"]


def test_variants_that_are_only_measured_otherwise_share_every_stage(tmp_path: Path) -> None:
    variants = {
        "full": {},
        "budget": {"set": {"evaluation.benchmarks.arithmetic.thinking_budget": 8}},
        "longer": {"set": {"evaluation.thinking.max_tokens": 128}},
    }
    config = ablation(tmp_path, variants)
    assert len({tuple(stages.items()) for stages in keys(config).values()}) == 1
    full, budget, longer = (run.config.evaluation for run in plan_ablation(config))
    assert [item.benchmarks["arithmetic"].thinking_budget for item in (full, budget, longer)] == [None, 8, None]
    assert [item.thinking.max_tokens for item in (full, budget, longer)] == [64, 64, 128]


def test_the_stages_of_another_folder_are_used_wherever_they_lie(tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    config = ablation(tmp_path, {"a": {}}, f"stages_of={run}", f"run_dir={home}")
    assert {stage.folder.parent for stage in plan_ablation(config)[0].stages} == {run / "stages"}
    assert Path(plan_ablation(config)[0].config.run_dir) == home / "variants/a-seed0"
    RunDir(run).share_stages(tmp_path / "elsewhere")  # and that folder has them from a third one
    assert {stage.folder.parent for stage in plan_ablation(config)[0].stages} == {tmp_path / "elsewhere/stages"}


def test_every_run_has_a_folder_of_its_own_and_all_share_that_of_the_stages(tmp_path: Path) -> None:
    runs = plan_ablation(ablation(tmp_path, {"a": {}, "b": {"until": "cold_start"}}, "seeds=[0,1]"))
    assert [Path(run.config.run_dir) for run in runs] == [
        tmp_path / "run/variants" / f"{name}-seed{seed}" for seed in (0, 1) for name in ("a", "b")
    ]
    assert {stage.folder.parent for run in runs for stage in run.stages} == {tmp_path / "run/stages"}
    assert [run.config.seed for run in runs] == [0, 0, 1, 1]
    assert [run.config.name for run in runs[:2]] == ["mine-a", "mine-b"]


def test_the_plan_says_what_is_done_begun_shared_and_to_do(tmp_path: Path) -> None:
    config = ablation(tmp_path, {"full": {"until": "reasoning_rl"}, "short": {"until": "cold_start"}})
    base, cold_start, _ = plan_ablation(config)[0].stages
    base.checkpoint_folder.mkdir(parents=True)
    outputs = planned_outputs(plan_ablation(config))
    assert [(output.stage.name, output.state, output.row()["made_by"]) for output in outputs] == [
        ("base", "done", ""), ("cold_start", "to do", ""), ("reasoning_rl", "to do", ""),
        ("base", "done", "full, seed 0"), ("cold_start", "shared", "full, seed 0"),
    ]  # fmt: skip
    assert plan_summary(outputs) == "2 runs with 5 stages, of which 3 are different: 1 done, 2 to do, 2 shared"
    cold_start.folder.mkdir()
    assert planned_outputs(plan_ablation(config))[1].state == "begun"


def test_a_variant_is_compared_with_the_one_before_or_the_one_it_names(tmp_path: Path) -> None:
    config = ablation(tmp_path, {"a": {}, "b": {}, "c": {"against": "a"}})
    assert [config.baseline(name) for name in "abc"] == [None, "a", "a"]


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("variants", "settings", "message"),
    [
        ({"a": {"leave_out": ["base"]}}, {}, "variants.a: leave_out: base is what all other stages start from"),
        ({"a": {"leave_out": ["cold"]}}, {}, "variants.a: leave_out, until: 'cold' is no stage; choose from base"),
        ({"a": {"until": "cold"}}, {}, "variants.a: leave_out, until: 'cold' is no stage"),
        (
            {"a": {"until": "reasoning_rl", "leave_out": ["reasoning_rl"]}}, {},
            "variants.a: until: 'reasoning_rl' is left out",
        ),
        ({"a": {"set": {"seed": 1}}}, {}, "variants.a: set.seed: a variant cannot change it; list `seeds`"),
        ({"a": {"replace": {"stages": []}}}, {}, "variants.a: replace.stages: a variant cannot change it; use"),
        ({"a b": {}}, {}, "variants.a b: it names a folder"),
        ({}, {}, "variants: name at least one"),
        ({"a": {"against": "b"}, "b": {}}, {}, "variants.a.against: 'b' is no variant before it; before it stand none"),
        ({"a": {}}, {"seeds": []}, "seeds: [] must be one or more different numbers"),
        ({"a": {}}, {"seeds": [1, 1]}, "seeds: [1, 1] must be"),
        ({"a": {}}, {"alpha": 1.0}, "alpha: 1.0 must lie between 0 and 1"),
        ({"a": {}}, {"num_resamples": 0}, "num_resamples: 0 must be 1 or more"),
        ({"a": {}}, {"set": {"run_dir": "x"}}, "set.run_dir: not for all variants at once; set `run_dir`"),
    ],
)  # fmt: skip
def test_an_ablation_that_makes_no_sense_is_refused_when_it_is_read(
    tmp_path: Path, variants: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        ablation(tmp_path, variants, **settings)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("variants", "settings", "message"),
    [
        ({"a": {"set": {"cold_start.num_query": 1}}}, {}, "variants.a: cold_start.num_query: unknown key (from"),
        ({"a": {"set": {"cold_start.num_queries": 0}}}, {}, "variants.a: cold_start: num_queries: 0 must be 1 or more"),
        ({"a": {"replace": {"cold_start.nowhere.x": 1}}}, {}, "variants.a: cold_start.nowhere: unknown key"),
        (
            {"a": {"leave_out": ["general_rl"]}}, {"set": {"stages": ["base"]}},
            "set.stages: not for all variants at once",
        ),
        ({"a": {"until": "base"}}, {"set": {"evaluation.stages": ["general_rl"]}}, "variants.a: it ends with base"),
        ({"a": {"set": {"evaluation.seed": 1}}}, {}, "variants.a: evaluation: it has other held-out prompts"),
        (
            {"a": {}, "b": {"set": {"evaluation.benchmarks.arithmetic.num_prompts": 17}}}, {},
            "variants.b: evaluation: it has other held-out prompts",
        ),
        (
            {"a": {"set": {"evaluation.benchmarks.more": {"task": "length"}}}}, {},
            "variants.a: evaluation: it has other held-out prompts",
        ),
        (
            {"a": {"set": {"reasoning_rl.rl.learner": {"loss": "grpo", "loss_config": None}}}}, {},
            "variants.a: reasoning_rl.rl: learner.loss: 'grpo' has kl_coef 0.04, and no stage holds a reference model",
        ),
    ],
)  # fmt: skip
def test_a_variant_that_cannot_work_is_named_before_anything_runs(
    tmp_path: Path, variants: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        plan_ablation(ablation(tmp_path, variants, **settings))
    assert str(caught.value).startswith(message)


def test_a_stage_that_the_recipe_does_not_have_cannot_be_left_out(tmp_path: Path) -> None:
    recipe = tmp_path / "short.yaml"
    recipe.write_text(f"defaults: [{MICRO}]\nstages: [base, cold_start]\n")
    config = ablation(tmp_path, {"a": {"leave_out": ["general_rl"]}}, f"recipe={recipe}")
    with pytest.raises(
        UserError, match=r"variants\.a: leave_out: 'general_rl' is no stage of the recipe, which has base"
    ):
        plan_ablation(config)


# ---------------------------------------------------------------------------------------------- what is shipped


def test_the_shipped_ablations_are_these() -> None:
    assert list_recipes(folder=ABLATIONS) == [
        "fusion_ratio", "mode_noise", "output_length", "reasoning_retention", "retrieval_thinking", "rl_objective",
        "stages", "thinking_budget",
    ]  # fmt: skip


@cache
def shipped(name: str) -> tuple[AblationConfig, list[PlannedRun]]:
    """A shipped ablation and its plan; reading a whole recipe for each variant takes a while."""
    config = load_ablation(name, [])
    return config, plan_ablation(config)


@pytest.mark.parametrize("name", list_recipes(folder=ABLATIONS))
def test_every_shipped_ablation_has_a_plan_in_which_variants_share_stages(name: str) -> None:
    config, plan = shipped(name)
    assert (config.name, config.run_dir) == (name, f"runs/ablate-{name}")
    assert len({stage.key for run in plan for stage in run.stages}) < sum(len(run.stages) for run in plan)
    assert len({run.stages[0].key for run in plan}) == 1
    num_deltas = sum(
        len(benchmark.modes) for run in plan[1:] for benchmark in run.config.evaluation.benchmarks.values()
    )
    assert config.num_resamples > 2 * num_deltas / config.alpha  # else no difference could ever be significant


def test_the_shipped_stages_ablation_is_a_ladder_and_each_stage_left_out() -> None:
    plan = {run.variant: run for run in shipped("stages")[1]}
    full = [stage.key for stage in plan["full"].stages]
    for name, length in (("cold_start", 2), ("+reasoning_rl", 3), ("+thinking_fusion", 4), ("no_general_rl", 4)):
        assert [stage.key for stage in plan[name].stages] == full[:length]
    for stage in STAGES[1:]:
        assert [made.name for made in plan[f"no_{stage}"].stages] == [name for name in STAGES if name != stage]


@pytest.mark.parametrize(
    ("name", "num_own"), [("mode_noise", 0), ("output_length", 0), ("thinking_budget", 0), ("retrieval_thinking", 1)]
)
def test_the_shipped_experiments_measure_the_checkpoints_of_the_stages_ablation(name: str, num_own: int) -> None:
    stages, (config, plan) = shipped("stages"), shipped(name)
    assert config.stages_of == stages[0].run_dir
    made = {stage.folder for run in stages[1] for stage in run.stages}
    assert len({stage.folder for run in plan for stage in run.stages} - made) == num_own
    settings = {repr(run.config.evaluation) for run in plan}
    assert len(settings) > 1 or len({run.stages[-1].key for run in plan}) == len(plan)  # no variant is another's double


def test_the_stages_ablation_takes_the_whole_recipe_by_a_key() -> None:
    small, whole = load_ablation("stages", []), load_ablation("stages", ["recipe=quickstart"])
    assert (small.recipe, whole.recipe) == ("ablation-base", "quickstart")
    assert small.variants == whole.variants


def test_the_shipped_objectives_are_those_of_the_papers_without_kl() -> None:
    for run in shipped("rl_objective")[1]:
        found = run.config.reasoning_rl.rl.learner.objective
        expected = LOSS_SETTINGS[run.variant]
        if run.variant == "grpo":
            expected = dataclasses.replace(expected, kl_coef=0.0, kl_estimator="k2")
        if run.variant == "dr_grpo":
            expected = dataclasses.replace(expected, max_tokens=run.config.reasoning_rl.rl.sampling.max_tokens)
        assert found == expected
