from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from data.records import TrainingSample, UserError
from learner.checkpoint import CheckpointError
from learner.experts import expert_load, load_balancing_loss, per_expert_tensors
from learner.learner import Learner, LearnerConfig
from learner.model_folder import load_model
from tests.learner.tiny_models import plain_logprobs, plain_model, random_samples, save_tiny_model, tiny_tokenizer

LENGTHS = [9, 9, 9, 9]
BALANCED: dict[str, Any] = {"train_router": True, "router_balance_coef": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "moe", "qwen3_moe")


def learner(folder: Path, **config: Any) -> Learner:
    return Learner(folder, LearnerConfig(**{"lr": 1e-2, "microbatch_tokens": 64, **config}))


def gradients(folder: Path, samples: list[TrainingSample], **config: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    subject = learner(folder, **config)
    metrics = subject.sft_step(samples).metrics
    norm = float(metrics["grad_norm"])
    scale = max(1.0, norm / subject.config.max_grad_norm)
    return {name: p.grad * scale for name, p in subject.parameters.items() if p.grad is not None}, dict(metrics)


# ---------------------------------------------------------------------------------------------- the loss


def test_balance_loss_is_the_number_worked_out_by_hand() -> None:
    choices = torch.tensor([[6.0, 2.0, 0.0, 0.0]])  # f = 3/4, 1/4, 0, 0 of 4 tokens with two experts each
    probabilities = torch.tensor([[2.0, 1.0, 0.6, 0.4]])  # P = 0.5, 0.25, 0.15, 0.1
    assert load_balancing_loss(choices, probabilities, 4).item() == pytest.approx(4 * (0.75 * 0.5 + 0.25 * 0.25))


def test_balance_loss_is_one_when_even_and_the_number_of_experts_when_one_takes_all() -> None:
    assert load_balancing_loss(torch.ones(2, 8), torch.full((2, 8), 3 / 8), 3).item() == pytest.approx(1.0)
    one = torch.zeros(1, 8)
    one[0, 5] = 3.0
    assert load_balancing_loss(one, one, 3).item() == pytest.approx(8.0)


def test_balance_loss_is_the_mean_over_layers() -> None:
    choices, probabilities = torch.rand(3, 4) + 0.1, torch.rand(3, 4)
    alone = [load_balancing_loss(choices[i : i + 1], probabilities[i : i + 1], 7.0).item() for i in range(3)]
    assert load_balancing_loss(choices, probabilities, 7.0).item() == pytest.approx(sum(alone) / 3)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 4))
def test_parts_of_the_probabilities_add_up_to_the_loss_of_the_whole(counts: list[int], num_parts: int) -> None:
    choices = torch.tensor([counts], dtype=torch.float64)
    generator = torch.Generator().manual_seed(sum(counts))
    parts = torch.rand(num_parts, 1, len(counts), generator=generator, dtype=torch.float64)
    whole = load_balancing_loss(choices, parts.sum(0), 10.0)
    assert sum(load_balancing_loss(choices, part, 10.0) for part in parts) == pytest.approx(whole.item())


def test_gradient_of_the_balance_loss_flows_through_the_probabilities_alone() -> None:
    choices = torch.tensor([[6.0, 2.0]], requires_grad=True)
    probabilities = torch.tensor([[3.0, 1.0]], requires_grad=True)
    load_balancing_loss(choices, probabilities, 4).backward()
    assert choices.grad is None
    assert probabilities.grad is not None
    torch.testing.assert_close(probabilities.grad, torch.tensor([[2 * 0.75 / 4, 2 * 0.25 / 4]]))


def test_balance_loss_refuses_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"choices \(1, 2\) and probabilities \(1, 3\) differ"):
        load_balancing_loss(torch.ones(1, 2), torch.ones(1, 3), 1)


def test_expert_load_is_the_largest_share_over_the_mean() -> None:
    assert expert_load(torch.tensor([[2.0, 2.0], [3.0, 1.0], [4.0, 0.0]])).tolist() == [1.0, 1.5, 2.0]


# ---------------------------------------------------------------------------------------------- the model


def test_the_learners_logprobs_are_those_of_the_plain_model(folder: Path) -> None:
    samples = random_samples([9, 17, 5])
    rows = learner(folder).logprobs([sample.token_ids_T for sample in samples])
    model = plain_model(folder)
    for sample, row in zip(samples, rows, strict=True):
        torch.testing.assert_close(torch.tensor(row[1:]), plain_logprobs(model, sample), rtol=0, atol=2e-6)


def test_stacked_experts_come_apart_into_the_names_and_numbers_of_the_folder(folder: Path) -> None:
    weights, disk = learner(folder).weights(), load_file(folder / "model.safetensors")
    assert weights.keys() == disk.keys() | {"lm_head.weight"}
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in weights
    assert all(torch.equal(weights[name], tensor) for name, tensor in disk.items())
    assert per_expert_tensors({"a.mlp.down_proj": torch.ones(2)}).keys() == {"a.mlp.down_proj"}


def test_an_exported_mixture_loads_again_as_it_was(folder: Path, tmp_path: Path) -> None:
    subject = learner(folder)
    subject.sft_step(random_samples(LENGTHS))
    again = load_model(subject.export(tmp_path / "out", tiny_tokenizer()), torch.float32)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, subject.model.state_dict()[name]), name


# ---------------------------------------------------------------------------------------------- the router


def routers(subject: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in subject.parameters.items() if name.endswith("mlp.gate.weight")}


@pytest.mark.parametrize("kind", ["sft_step", "rl_step"])
def test_a_step_moves_the_experts_and_leaves_the_router_to_the_bit(folder: Path, kind: str) -> None:
    subject = learner(folder, weight_decay=0.1)
    before, experts = routers(subject), subject.weights()
    assert len(before) == 2
    losses = [getattr(subject, kind)(random_samples(LENGTHS)).metrics["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], router) for name, router in routers(subject).items())
    name = "model.layers.0.mlp.experts.1.up_proj.weight"
    assert float((subject.weights()[name] - experts[name]).abs().max()) > 1e-3


def test_a_frozen_router_is_in_neither_optimizer_nor_gradient_norm_and_is_in_state_and_export(
    folder: Path, tmp_path: Path
) -> None:
    subject, samples = learner(folder), random_samples(LENGTHS)
    norm = subject.sft_step(samples).metrics["grad_norm"]
    held = {id(p) for group in subject.optimizer.param_groups for p in group["params"]}
    frozen = {name for name, p in subject.parameters.items() if id(p) not in held}
    assert frozen == {f"model.layers.{layer}.mlp.gate.weight" for layer in range(2)}
    found, metrics = gradients(folder, samples, train_router=True)
    with_router = math.sqrt(sum(float(g.square().sum()) for g in found.values()))
    without = math.sqrt(sum(float(g.square().sum()) for name, g in found.items() if name not in frozen))
    assert metrics["grad_norm"] == pytest.approx(with_router, rel=1e-5)
    assert norm == pytest.approx(without, rel=1e-5)
    assert with_router > without * 1.0001
    subject.save_state(tmp_path / "state")
    assert frozen < load_file(tmp_path / "state" / "weights.safetensors").keys()
    again = learner(folder)
    again.load_state(tmp_path / "state")
    assert again.sft_step(samples) == subject.sft_step(samples)
    assert all(torch.equal(a, b) for a, b in zip(again.weights().values(), subject.weights().values(), strict=True))
    with pytest.raises(CheckpointError, match="train_router=True"):
        learner(folder, train_router=True).load_state(tmp_path / "state")


def test_a_router_that_is_trained_moves_and_resumes(folder: Path, tmp_path: Path) -> None:
    subject, samples = learner(folder, **BALANCED), random_samples(LENGTHS)
    before = routers(subject)
    subject.sft_step(samples)
    assert all(float((router - before[name]).abs().max()) > 1e-3 for name, router in routers(subject).items())
    subject.save_state(tmp_path / "state")
    again = learner(folder, **BALANCED)
    again.load_state(tmp_path / "state")
    assert again.sft_step(samples) == subject.sft_step(samples)


def test_training_the_router_of_a_dense_model_is_refused(tmp_path: Path) -> None:
    dense = save_tiny_model(tmp_path / "dense")
    with pytest.raises(UserError, match=r"learner\.train_router=True: the model has no experts"):
        learner(dense, train_router=True)


def test_balancing_a_frozen_router_is_refused() -> None:
    with pytest.raises(UserError, match=r"learner\.router_balance_coef=0\.1: a frozen router cannot be balanced"):
        LearnerConfig(router_balance_coef=0.1).validate()
    with pytest.raises(UserError, match=r"learner\.router_balance_coef=-1"):
        LearnerConfig(train_router=True, router_balance_coef=-1.0).validate()


# ---------------------------------------------------------------------------------------------- the global batch


def hand_balance_loss(folder: Path, samples: list[TrainingSample]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """N_E sum f P over all tokens of all rows, row by row on the plain model, with its gradients and its counts."""
    model = plain_model(folder)
    logits: list[list[Tensor]] = [[], []]
    for sample in samples:
        output = model(input_ids=torch.tensor([sample.token_ids_T]), output_router_logits=True)
        for layer, one in enumerate(output.router_logits):
            logits[layer].append(one)
    losses, counts = [], []
    for layer_logits in logits:
        probabilities = torch.cat(layer_logits).softmax(-1)
        chosen = torch.zeros_like(probabilities).scatter(1, probabilities.topk(2).indices, 1.0)
        counts.append(chosen.sum(0))
        losses.append(4 * (chosen.sum(0) / chosen.sum() * probabilities.mean(0)).sum())
    loss = torch.stack(losses).mean()
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return loss, torch.stack(counts), {n: g for n, g in zip(names, found, strict=True) if g is not None}


def test_the_balance_loss_in_a_step_has_the_hand_computed_value_and_gradient(folder: Path) -> None:
    samples = random_samples([9, 17, 5, 12])
    loss, counts, expected = hand_balance_loss(folder, samples)
    plain, _ = gradients(folder, samples, train_router=True)
    for size in (64, 17):  # one micro-batch, and three
        balanced, metrics = gradients(folder, samples, microbatch_tokens=size, **BALANCED)
        assert metrics["router_balance_loss"] == pytest.approx(loss.item(), abs=1e-6)
        load = counts.max(1).values / counts.mean(1)
        assert metrics["expert_load_max"] == pytest.approx(load.max().item(), abs=1e-6)
        assert metrics["expert_load_mean"] == pytest.approx(load.mean().item(), abs=1e-6)
        for name, gradient in expected.items():
            torch.testing.assert_close(balanced[name] - plain[name], 0.5 * gradient, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("config", [{}, {"train_router": True}, BALANCED])
def test_one_two_and_four_micro_batches_give_the_same_gradient(folder: Path, config: dict[str, Any]) -> None:
    samples = random_samples(LENGTHS)
    expected, metrics = gradients(folder, samples, microbatch_tokens=36, **config)
    assert metrics["num_microbatches"] == 1
    for size in (1, 2):
        found, parts = gradients(folder, samples, microbatch_tokens=9 * size, **config)
        assert parts["num_microbatches"] == 4 // size
        assert parts["expert_load_max"] == metrics["expert_load_max"]
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_balance_loss_of_each_micro_batch_alone_would_be_another_one(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    alone = [hand_balance_loss(folder, [sample])[0].item() for sample in samples]
    assert abs(sum(alone) / 4 - hand_balance_loss(folder, samples)[0].item()) > 1e-3


def test_gradient_checkpointing_changes_no_gradient_of_experts_and_router(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    expected, _ = gradients(folder, samples, microbatch_tokens=18, **BALANCED)
    found, _ = gradients(folder, samples, microbatch_tokens=18, gradient_checkpointing=True, **BALANCED)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_balancing_evens_out_the_load_of_the_experts(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "moe", "qwen3_moe", seed=3)
    samples = random_samples([32, 32])
    config = LearnerConfig(lr=3e-3, train_router=True, router_balance_coef=10.0)
    subject = Learner(folder, config)
    runs = [subject.sft_step(samples).metrics for _ in range(30)]
    assert runs[-1]["router_balance_loss"] < runs[0]["router_balance_loss"] - 0.02
    assert runs[-1]["expert_load_mean"] < runs[0]["expert_load_mean"] - 0.1


def test_the_same_mixture_run_gives_the_same_bits(folder: Path) -> None:
    samples, runs = random_samples(LENGTHS), []
    for _ in range(2):
        subject = learner(folder, microbatch_tokens=20, **BALANCED)
        runs.append(([subject.rl_step(samples) for _ in range(3)], subject.weights()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])


def test_a_dense_model_reports_no_expert_load(tmp_path: Path) -> None:
    metrics = learner(save_tiny_model(tmp_path / "dense")).sft_step(random_samples(LENGTHS)).metrics
    assert not any("expert" in name or "router" in name for name in metrics)
