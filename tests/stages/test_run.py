"""Which part of a pipeline a command selects, and the settings of a run that are refused before anything starts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from configs.load import list_recipes, load_config
from data.records import UserError
from evals.summary import BenchmarkResult
from stages.cli import load_recipe
from stages.run import Selection
from stages.run_config import STAGES, RunConfig
from stages.run_report import result_of_record

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, STAGES),
        ({"until": "cold_start"}, ("base", "cold_start")),
        ({"until": "base"}, ("base",)),
        ({"rerun_from": "cold_start"}, STAGES),
        ({"rerun_from": "cold_start", "until": "cold_start"}, ("base", "cold_start")),
        ({"only": "general_rl"}, ("general_rl",)),
        ({"only": "general_rl", "start": Path("x")}, ("general_rl",)),
    ],
)
def test_the_selected_stages_come_in_order(selection: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert Selection(**selection).stages_of(STAGES) == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"until": "cold"}, "--until: 'cold' is no stage of this run; choose from base, cold_start"),
        ({"rerun_from": "distillation"}, "--from: 'distillation' is no stage of this run"),
        ({"only": "x"}, "--only: 'x' is no stage of this run"),
        ({"start": Path("x")}, "--start: a checkpoint to start from goes with --only STAGE"),
        ({"rerun_from": "general_rl", "until": "base"}, "--from: 'general_rl' comes after --until base"),
        ({"rerun_from": "base", "only": "base"}, "--from: 'base' does not go with --only base"),
        ({"until": "base", "only": "base"}, "--until: 'base' does not go with --only base"),
    ],
)
def test_options_that_contradict_each_other_or_name_no_stage_are_refused(
    selection: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        Selection(**selection).stages_of(STAGES)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("recipe", list_recipes())
def test_every_shipped_recipe_is_valid(recipe: str) -> None:
    config = load_recipe(recipe, None)
    assert config.name == recipe
    assert config.run_dir == f"runs/{recipe}"
    assert config.stages == STAGES


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages=[base,cold]", "stages: 'cold' is no stage; choose from base, cold_start"),
        ("stages=[cold_start,base]", "stages: ['cold_start', 'base'] must be in the order base, cold_start"),
        ("stages=[base,base]", "stages: ['base', 'base'] must be in the order"),
        ("stages=[]", "stages: name at least one of base"),
        ("evaluation.stages=[cold]", "evaluation.stages: 'cold' is no stage"),
        (
            "evaluation.benchmarks.arithmetic.stages=[cold]",
            "evaluation.benchmarks.arithmetic.stages: 'cold' is no stage",
        ),
        ("evaluation.budget_benchmarks=[maths]", "evaluation.budget_benchmarks: 'maths' is none of the benchmarks"),
        ("evaluation.budget_shares=[-1.0]", "evaluation.budget_shares: (-1.0,) must be 0 or more"),
        ("evaluation.decontamination_ngram=0", "evaluation.decontamination_ngram: 0 must be 1 or more"),
        ("evaluation.benchmarks.arithmetic.levels=[11]", "evaluation.benchmarks.arithmetic.levels: 11 is no level"),
        ("evaluation.benchmarks.arithmetic.num_prompts=0", "evaluation.benchmarks.arithmetic.num_prompts: 0 must be"),
        ("evaluation.thinking.top_p=0.0", "evaluation.thinking.top_p: 0.0 must lie in"),
        ("verifiers.num_workers=0", "verifiers.num_workers: 0 must be 1 or more"),
        ("verifiers.timeout_s=0", "verifiers.timeout_s: 0.0 must be above 0"),
        ("verifiers.max_error_share=2", "verifiers.max_error_share: 2.0 must lie in [0, 1]"),
        ("ray.object_store_gib=0.01", "ray.object_store_gib: 0.01 must be 0.1 or more"),
        ("rollout.num_workers=0", "rollout.num_workers: 0 must be 1 or more"),
        ("rollout.engine.max_model_len=0", "rollout.engine.max_model_len: 0 must be 1 or more"),
        ("cold_start.max_domain_ratio=0.5", "cold_start.max_domain_ratio: 0.5 must be 1 or more"),
        ("cold_start.num_queries=0", "cold_start.num_queries: 0 must be 1 or more"),
        ("cold_start.filters.max_jaccard=2", "cold_start.filters.max_jaccard: must lie in [0, 1]"),
        ("reasoning_rl.probe_samples=1", "reasoning_rl.probe_samples: 1 cannot show a pass rate"),
        ("reasoning_rl.rl.learner.lr=0", "reasoning_rl.rl.learner"),
        (
            "reasoning_rl.rl.learner.loss_config.kl_coef=0.1",
            "reasoning_rl.rl.learner.loss: 'custom' has kl_coef 0.1, and no stage holds a reference model",
        ),
        ("thinking_fusion.samples_per_query=0", "thinking_fusion.samples_per_query: 0 must be 1 or more"),
        ("thinking_fusion.non_thinking_error_rate=2", "thinking_fusion.non_thinking_error_rate: 2.0 must lie in"),
        ("thinking_fusion.train.max_steps=0", "thinking_fusion.train.max_steps: 0 must be 1 or more"),
        ("general_rl.reasoning_replay=1", "general_rl.reasoning_replay: 1.0 must lie in [0, 1)"),
        ("general_rl.replay=null", "general_rl.replay: reasoning_replay above 0 needs the tasks to replay"),
        ("general_rl.num_prompts=0", "general_rl.num_prompts: 0 must be 1 or more"),
        ("general_rl.prompts.tasks.mode_flags.levels=[7]", "general_rl.prompts.tasks.mode_flags.levels: 7 is no level"),
        ("base.model.num_kv_heads=3", "base.model.num_kv_heads: 3 must divide num_heads=2"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_whole_name(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(RunConfig, [MICRO], [override])
    text = str(caught.value)
    assert text.replace(": ", ".").startswith(message.replace(": ", ".")), text
    assert "\n" not in text


def test_a_result_reads_back_as_it_was_written() -> None:
    result = BenchmarkResult(
        stage="base", mode="thinking", benchmark="math", mean=0.5, low=0.0, high=1.0, n=2, num_samples=2,
        mean_tokens=3.0, truncated_share=0.0, error_count=0, per_prompt=(0.0, 1.0), prompt_uids=("a", "b"),
    )  # fmt: skip
    assert result_of_record(json.loads(json.dumps(dataclasses.asdict(result)))) == result
