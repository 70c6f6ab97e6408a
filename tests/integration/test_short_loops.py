"""The real loops on models that are no plain dense network: supervised steps, then a step of GRPO, through Ray.

Two prompts are taught a right and a wrong answer each, so that every group of the reinforcement step has something to
tell apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from configs.load import load_config
from data.chat import training_row
from data.records import Prompt, TrainingSample
from learner.learner_config import LearnerConfig
from learner.lora_settings import LoraSettings
from learner.losses import LossConfig
from rollout.policy import SamplingConfig
from stages.rl_loop import RLConfig, run_rl
from stages.run_config import RunConfig
from stages.services import Services
from stages.sft_loop import SFTConfig, run_sft
from stages.stage_context import StageContext
from tests.integration.tiny_policies import save_policy
from tests.stages.stage_fakes import prompts_of, quiet_progress

pytestmark = [pytest.mark.engine, pytest.mark.integration]

RECIPE = Path(__file__).with_name("micro.yaml")
SETTINGS = ("rollout.engine.max_num_seqs=32",)
MAX_GAP = 1e-3


@dataclass(frozen=True)
class Loop:
    """What the two loops left behind: rows of metrics and the checkpoint folders, in order."""

    sft: list[dict[str, Any]]
    rl: list[dict[str, Any]]
    folders: tuple[Path, Path, Path]

    def weights(self, index: int) -> dict[str, Tensor]:
        return load_file(self.folders[index] / "model.safetensors")


def rows_of(prompts: list[Prompt], tokenizer: Any) -> list[TrainingSample]:
    """Each prompt once with its right answer and once with a wrong one."""
    rows = []
    for prompt in prompts:
        for shift in (0, 1):
            text = f"\\boxed{{{prompt.reference['answer'] + shift}}}"
            answer = {"role": "assistant", "content": text, "reasoning_content": "x"}
            row = training_row(tokenizer, [*prompt.messages, answer])
            rows.append(TrainingSample.supervised(row.token_ids, row.loss_mask, uid=prompt.uid, task=prompt.task))
    return rows


@contextmanager
def services_of(folder: Path, *settings: str) -> Iterator[Services]:
    services = Services(load_config(RunConfig, [RECIPE], [*SETTINGS, *settings]), folder, quiet_progress()[0])
    try:
        yield services
    finally:
        services.close()


def run_loops(family: str, folder: Path, learner: LearnerConfig, *settings: str, rl_steps: int = 1) -> Loop:
    """Forty supervised steps on the rows, then `rl_steps` of GRPO on their prompts, with one engine and one learner."""
    # A frozen random head leaves some probability on every token; the temperature takes it away.
    start = save_policy(folder / "start", family)
    prompts = prompts_of("arithmetic", 2)
    sft = SFTConfig(learner=learner, num_epochs=40, batch_tokens=2048)
    rl = RLConfig(
        num_steps=rl_steps, prompts_per_step=2, group_size=8, minibatches=1,
        sampling=SamplingConfig(temperature=0.5, max_tokens=24),
        learner=replace(learner, lr=0.02 * learner.lr, loss="custom", loss_config=LossConfig(importance_cap=None)),
    )  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {}
    folders = [start]
    with services_of(folder, *settings) as services:
        tokenizer = services.tokenizer(start)
        for stage in ("sft", "rl"):
            context = StageContext(stage, folder / stage, seed=0, progress=services.progress)
            if stage == "sft":
                run_sft(rows_of(prompts, tokenizer), sft, folders[-1], services, context)
            else:
                run_rl(prompts, rl, folders[-1], services, context)
            folders.append(folder / f"{stage}-checkpoint")
            services.learner.export(folders[-1], tokenizer)
            context.close()
            text = (folder / stage / "metrics.jsonl").read_text(encoding="utf-8")
            rows[stage] = [json.loads(line) for line in text.splitlines()]
    return Loop(rows["sft"], rows["rl"], (folders[0], folders[1], folders[2]))


def check_that_both_loops_learned(loop: Loop) -> None:
    losses = [row["loss"] for row in loop.sft]
    assert losses[-1] < 0.25 * losses[0]
    for row in loop.rl:
        assert row["sync_gap_max"] < MAX_GAP
        assert row["engine_gap_max"] < MAX_GAP
        assert 0 < row["reward"] < 1
        assert row["grad_norm"] > 0
        assert row["empty_steps"] == 0


# ---------------------------------------------------------------------------------------------- mixture of experts


def test_a_mixture_of_experts_learns_in_both_loops_with_its_router_frozen(tmp_path: Path) -> None:
    loop = run_loops("qwen3_moe", tmp_path, LearnerConfig(lr=3e-3, betas=(0.9, 0.98)))
    check_that_both_loops_learned(loop)
    assert all(1 <= row["expert_load_mean"] <= row["expert_load_max"] <= 4 for row in loop.sft + loop.rl)
    before, between, after = (loop.weights(index) for index in range(3))
    assert before.keys() == after.keys()
    routers = [name for name in before if name.endswith("mlp.gate.weight")]
    experts = [name for name in before if ".experts." in name]
    assert (len(routers), len(experts)) == (2, 24)
    for name in routers:
        assert before[name].equal(after[name])
    assert all(not before[name].equal(between[name]) for name in experts)
    assert sum(not between[name].equal(after[name]) for name in experts) >= 12


# ---------------------------------------------------------------------------------------------- adapters


def test_an_adapter_learns_in_both_loops_and_the_engine_serves_it_without_a_merge(tmp_path: Path) -> None:
    adapter = LoraSettings(rank=8, serve="adapter", export_adapter=True)
    loop = run_loops(
        "qwen3",
        tmp_path,
        LearnerConfig(lr=2e-2, betas=(0.9, 0.98), adapter=adapter),
        "rollout.engine.max_lora_rank=8",
        rl_steps=2,
    )
    check_that_both_loops_learned(loop)
    before, between, after = (loop.weights(index) for index in range(3))
    assert before.keys() == after.keys()  # the exports are merged: ordinary folders
    moved = {name for name in before if not before[name].equal(between[name])}
    assert moved == {name for name in before if name.endswith("_proj.weight")}
    assert sum(not between[name].equal(after[name]) for name in moved) == len(moved)
    # The adapter beside the last export belongs on the checkpoint that its stage started from.
    base = AutoModelForCausalLM.from_pretrained(loop.folders[1])
    apart = PeftModel.from_pretrained(base, loop.folders[2] / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(loop.folders[2]).eval()
    ids = torch.arange(5, 60).unsqueeze(0)
    with torch.no_grad():  # a random model's logits reach ten and its layers amplify rounding: not 1e-5 as on tiny ones
        torch.testing.assert_close(apart(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=0, atol=5e-5)
