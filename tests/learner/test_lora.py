from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from data.adapter import AdapterWeights
from data.records import UserError
from learner.checkpoint import CheckpointError
from learner.learner import Learner, LearnerConfig
from learner.lora import check_device
from learner.lora_settings import LoraSettings
from tests.learner.tiny_models import plain_logprobs, plain_model, random_samples, save_tiny_model, tiny_tokenizer

LENGTHS = [9, 17, 5, 12]
IDS = torch.tensor([[5, 17, 299, 40, 3, 3, 120, 77]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "qwen3")


def learner(folder: Path, adapter: dict[str, Any] | None = None, seed: int = 0, **config: Any) -> Learner:
    settings = LoraSettings(**{"rank": 4, **(adapter or {})})
    config = {"lr": 1e-2, "microbatch_tokens": 64, "adapter": settings, **config}
    return Learner(folder, LearnerConfig(**config), seed=seed)


def trained(folder: Path, adapter: dict[str, Any] | None = None, **config: Any) -> Learner:
    subject = learner(folder, adapter, **config)
    for _ in range(3):
        subject.sft_step(random_samples(LENGTHS))
    return subject


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits[0]


def adapter_logits(subject: Learner) -> Tensor:
    """What the learner's own model, adapter in place, says at each position."""
    hidden = subject.model.model(
        input_ids=IDS, position_ids=torch.arange(8).unsqueeze(0), **_kwargs(subject)
    ).last_hidden_state[0]
    return (hidden @ subject.model.lm_head.weight.t()).detach()


def _kwargs(subject: Learner) -> dict[str, Any]:
    from learner.attention import attention_kwargs
    from learner.packing import PackedBatch
    from tests.learner.tiny_models import TrainingSample

    row = TrainingSample.supervised(tuple(IDS[0].tolist()), (0, *[1] * 7))
    return attention_kwargs(PackedBatch.from_samples([row]), subject.config.attention)


# ---------------------------------------------------------------------------------------------- training


def test_a_fresh_adapter_changes_no_logprob_of_the_base(folder: Path) -> None:
    rows = [sample.token_ids_T for sample in random_samples(LENGTHS)]
    assert learner(folder).logprobs(rows) == Learner(folder, LearnerConfig(microbatch_tokens=64)).logprobs(rows)


@pytest.mark.parametrize("kind", ["sft_step", "rl_step"])
def test_a_step_trains_the_adapter_alone_and_lowers_the_loss(folder: Path, kind: str) -> None:
    subject = learner(folder, {"dropout": 0.0}, weight_decay=0.1)
    frozen = {n: p.detach().clone() for n, p in subject.model.named_parameters() if not p.requires_grad}
    losses = [getattr(subject, kind)(random_samples(LENGTHS)).metrics["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]
    after = dict(subject.model.named_parameters())
    assert all(torch.equal(tensor, after[name]) for name, tensor in frozen.items())
    assert all(float(p.detach().abs().max()) > 0 for p in subject.parameters.values())  # B started at zero


def test_optimizer_gradient_norm_and_state_hold_adapter_tensors_alone(folder: Path, tmp_path: Path) -> None:
    subject = learner(folder)
    norm = subject.sft_step(random_samples(LENGTHS)).metrics["grad_norm"]
    assert len(subject.parameters) == 2 * 7 * 2  # A and B of seven linear layers in each of two layers
    assert all(".lora_" in name and p.shape[name.count("lora_B")] == 4 for name, p in subject.parameters.items())
    held = [p for group in subject.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in subject.parameters.values()}
    assert norm > 0
    subject.save_state(tmp_path / "state")
    assert load_file(tmp_path / "state" / "weights.safetensors").keys() == subject.parameters.keys()


def test_the_gradient_of_b_is_that_of_the_formula(folder: Path) -> None:
    """d loss / dB = (alpha / r) dloss/dW A^T where W takes part as W + (alpha / r) B A."""
    samples = random_samples(LENGTHS)
    subject = learner(folder, {"alpha": 8.0}, max_grad_norm=1e9)
    first = {name: p.detach().clone() for name, p in subject.parameters.items()}
    subject.sft_step(samples)
    model = plain_model(folder)
    total = torch.zeros(())
    for sample in samples:
        total = total - (plain_logprobs(model, sample) * torch.tensor(sample.loss_mask_T[1:])).sum() / 35
    total.backward()
    name = "model.layers.1.self_attn.o_proj"
    grad_w = model.get_submodule(name).weight.grad
    grad_b = subject.parameters[f"{name}.lora_B.default.weight"].grad
    assert grad_b is not None
    torch.testing.assert_close(grad_b, 2.0 * grad_w @ first[f"{name}.lora_A.default.weight"].t(), rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_adapter_and_another_one_another(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.lora_A.default.weight"
    first, again, other = (learner(folder, seed=seed).parameters[name] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_resuming_restores_the_adapter_to_the_bit(folder: Path, tmp_path: Path) -> None:
    subject, samples = trained(folder, {"dropout": 0.2}), random_samples(LENGTHS)
    subject.save_state(tmp_path / "state")
    again = learner(folder, {"dropout": 0.2}, seed=7)
    again.load_state(tmp_path / "state")
    assert all(torch.equal(a, again.parameters[name]) for name, a in subject.parameters.items())
    uninterrupted = subject.sft_step(samples)
    again.load_state(tmp_path / "state")  # the generator too, which dropout draws from
    assert again.sft_step(samples) == uninterrupted
    assert all(torch.equal(a, again.parameters[name]) for name, a in subject.parameters.items())
    with pytest.raises(CheckpointError, match=r"learner\.adapter"):
        learner(folder, {"rank": 8, "dropout": 0.2}).load_state(tmp_path / "state")


def test_only_the_named_layers_get_an_adapter(folder: Path) -> None:
    subject = learner(folder, {"target_modules": ("q_proj", "v_proj")})
    assert {name.split(".")[-4] for name in subject.parameters} == {"q_proj", "v_proj"}
    with pytest.raises(UserError, match=r"target_modules: 'q' is no linear layer of the model; use down_proj, gate_"):
        learner(folder, {"target_modules": ("q",)})


def test_a_base_in_bfloat16_keeps_a_float32_adapter_that_learns(folder: Path) -> None:
    subject = learner(folder, {"base_dtype": "bfloat16"}, dtype="bfloat16")
    assert {p.dtype for p in subject.parameters.values()} == {torch.float32}
    assert {p.dtype for p in subject.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    losses = [subject.sft_step(random_samples(LENGTHS)).metrics["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    weights = subject.weights()
    assert isinstance(weights, dict)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_gradient_checkpointing_changes_no_gradient_of_the_adapter(folder: Path) -> None:
    found = []
    for checkpointing in (False, True):
        subject = learner(folder, gradient_checkpointing=checkpointing)
        subject.sft_step(random_samples(LENGTHS))
        found.append([p.grad for p in subject.parameters.values()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------------------------------------- merged and apart


@pytest.mark.parametrize(("family", "tied"), [("qwen3", True), ("qwen3", False), ("llama", False), ("qwen3_moe", True)])
def test_the_merged_export_has_the_logits_of_the_adapter_model(tmp_path: Path, family: str, tied: bool) -> None:
    base = save_tiny_model(tmp_path / "base", family, tied=tied)
    subject = trained(base, {"alpha": 6.0})
    expected = adapter_logits(subject)
    merged = AutoModelForCausalLM.from_pretrained(subject.export(tmp_path / "out", tiny_tokenizer()))
    assert float((logits(merged) - expected).abs().max()) < 1e-5
    assert float((logits(plain_model(base)) - expected).abs().max()) > 0.1
    assert not (tmp_path / "out" / "adapter").exists()
    torch.testing.assert_close(adapter_logits(subject), expected, rtol=0, atol=0)  # exporting left it as it was


def test_merged_weights_for_the_engine_are_those_of_the_export(folder: Path, tmp_path: Path) -> None:
    subject = trained(folder)
    weights = subject.weights(max_lora_rank=0)
    assert isinstance(weights, dict)
    disk = load_file(subject.export(tmp_path / "out", tiny_tokenizer()) / "model.safetensors")
    assert weights.keys() == disk.keys() | {"lm_head.weight"}
    assert all(torch.equal(weights[name], tensor) for name, tensor in disk.items())


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_the_exported_adapter_loads_in_peft_and_has_the_same_logits(tmp_path: Path, family: str) -> None:
    base = save_tiny_model(tmp_path / "base", family)
    subject = trained(base, {"alpha": 6.0, "export_adapter": True})
    out = subject.export(tmp_path / "out", tiny_tokenizer())
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out / "adapter")
    assert float((logits(model) - adapter_logits(subject)).abs().max()) < 1e-5
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert float((logits(merged) - logits(model)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("serve", "max_rank", "apart"),
    [("auto", 0, False), ("auto", 1, False), ("auto", 8, True), ("merged", 8, False), ("adapter", 8, True)],
)
def test_what_the_engine_gets_is_a_choice(folder: Path, serve: str, max_rank: int, apart: bool) -> None:
    weights = learner(folder, {"serve": serve}).weights(max_lora_rank=max_rank)
    assert isinstance(weights, AdapterWeights) is apart
    if isinstance(weights, AdapterWeights):
        assert len(weights.tensors) == 28
        assert json.loads(json.dumps(dict(weights.config)))["lora_alpha"] == 4


def test_an_engine_without_room_for_the_adapter_is_refused_by_both_names(folder: Path) -> None:
    with pytest.raises(UserError, match=r"serve='adapter': rollout\.engine\.max_lora_rank=1 does not hold rank 4"):
        learner(folder, {"serve": "adapter"}).weights(max_lora_rank=1)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("field", "value"),
    [("rank", 0), ("alpha", 0.0), ("dropout", 1.0), ("target_modules", ()), ("base_dtype", "float16"),
     ("quantize", "int8"), ("serve", "both")],
)  # fmt: skip
def test_settings_that_cannot_work_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"learner\.adapter\.{field}="):
        LearnerConfig(adapter=LoraSettings(**{field: value})).validate()


def test_a_rounded_base_in_a_float32_learner_is_refused() -> None:
    for settings in (LoraSettings(base_dtype="bfloat16"), LoraSettings(quantize="nf4")):
        with pytest.raises(UserError, match=r"set learner\.dtype to bfloat16"):
            LearnerConfig(adapter=settings).validate()


def test_an_adapter_with_a_trained_router_is_refused() -> None:
    with pytest.raises(UserError, match=r"learner\.train_router=True: with an adapter"):
        LearnerConfig(adapter=LoraSettings(), train_router=True).validate()


def test_dropout_is_refused_in_rl_with_the_reason() -> None:
    LoraSettings(dropout=0.0).check_for_rl()
    with pytest.raises(UserError, match=r"dropout=0\.1: in RL the importance ratio would compare two"):
        LoraSettings(dropout=0.1).check_for_rl()


def test_four_bit_on_a_cpu_is_refused_with_the_mend(folder: Path) -> None:
    with pytest.raises(UserError, match=r"quantize='nf4': the 4-bit kernels run on CUDA alone .*'cpu'; set it to null"):
        learner(folder, {"quantize": "nf4"}, dtype="bfloat16")
    check_device(replace(LoraSettings(quantize="nf4"), quantize=None), "cpu")
