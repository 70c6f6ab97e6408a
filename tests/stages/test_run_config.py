"""Settings that two parts of a run have to agree on: an adapter, the engine that serves it and the learner's device."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.load import load_config
from data.records import UserError
from learner.lora_settings import LoraSettings
from stages.cli import load_recipe
from stages.run_config import RunConfig

MICRO = Path(__file__).resolve().parents[1] / "integration" / "micro.yaml"


def test_the_lora_recipe_is_the_one_its_users_know() -> None:
    config = load_recipe("lora", None)
    learners = [
        config.cold_start.train.learner, config.reasoning_rl.rl.learner, config.thinking_fusion.train.learner,
        config.general_rl.rl.learner,
    ]  # fmt: skip
    for learner in learners:
        assert learner.lr == 5e-5
        assert learner.adapter == LoraSettings(rank=64, alpha=64.0, base_dtype="bfloat16", export_adapter=True)
        assert learner.adapter.target_modules is None
        assert learner.adapter.serves_adapter(config.rollout.engine.max_lora_rank)
    for train in (config.cold_start.train, config.thinking_fusion.train):
        assert train.num_epochs == 4
    assert config.cold_start.num_examples == 10_000
    assert (config.thinking_fusion.num_thinking, config.thinking_fusion.num_non_thinking) == (10_000, 10_000)
    assert config.base.train.learner.adapter is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["cold_start.train.learner.adapter={serve: adapter}"],
            "cold_start.train.learner.adapter.serve='adapter': ",
        ),
        (
            ["reasoning_rl.rl.learner.adapter={serve: adapter}", "rollout.engine.max_lora_rank=32"],
            "reasoning_rl.rl.learner.adapter.serve='adapter': rollout.engine.max_lora_rank=32 does not hold rank 64",
        ),
        (
            ["general_rl.rl.learner={dtype: bfloat16, adapter: {quantize: nf4}}"],
            "general_rl.rl.learner.adapter.quantize='nf4': the 4-bit kernels run on CUDA alone",
        ),
        (["base.train.learner.adapter={}"], "base.train.learner.adapter: a base is trained from nothing"),
        (["reasoning_rl.rl.learner.adapter={dropout: 0.1}"], "reasoning_rl.rl: learner.adapter.dropout=0.1: in RL"),
        (["rollout.engine.max_lora_rank=7"], "rollout.engine: max_lora_rank: 7; use one of 0, 1, 8, 16"),
        (["cold_start.train.learner.adapter={rank: 0}"], "learner.adapter.rank=0: use 1 or more"),
    ],
)
def test_an_adapter_that_cannot_run_is_refused_before_anything_does(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(RunConfig, [MICRO], overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_adapter_may_be_set_for_one_stage_alone() -> None:
    config = load_config(RunConfig, [MICRO], ["thinking_fusion.train.learner.adapter={rank: 4, dropout: 0.1}"])
    assert config.thinking_fusion.train.learner.adapter == LoraSettings(rank=4, dropout=0.1)
    assert config.cold_start.train.learner.adapter is None
