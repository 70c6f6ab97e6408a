from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.records import TrainingSample, UserError
from learner.checkpoint import CheckpointError
from learner.learner import Learner, LearnerConfig, NonFiniteGradientError, learning_rate
from learner.losses import LossConfig
from learner.model_folder import engine_state_dict, load_model
from tests.learner.tiny_models import (
    EOS,
    VOCAB,
    plain_logprobs,
    plain_model,
    random_samples,
    save_tiny_model,
    tiny_tokenizer,
)

LENGTHS = [9, 17, 5, 12]
RATIO_TO_BEHAVIOR = LossConfig(importance_cap=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "qwen3")


def learner(folder: Path, **config: Any) -> Learner:
    return Learner(folder, LearnerConfig(**{"lr": 1e-2, "microbatch_tokens": 64, **config}))


class Recorder:
    """Stands where the all-reduce stands and keeps the gradients."""

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []

    def __call__(self, gradients: list[Tensor]) -> None:
        self.gradients = [gradient.clone() for gradient in gradients]


def recorded(
    folder: Path, samples: list[TrainingSample], kind: str = "rl", **config: Any
) -> tuple[list[Tensor], dict[str, float]]:
    recorder = Recorder()
    subject = learner(folder, **config)
    subject.reduce_gradients = recorder
    result = subject.sft_step(samples) if kind == "sft" else subject.rl_step(samples)
    return recorder.gradients, dict(result.metrics)


def hand_policy_gradient(folder: Path, samples: list[TrainingSample]) -> tuple[list[Tensor], float]:
    """-sum_t min(r A, clip(r, 0.8, 1.28) A) / N, row by row on the plain model."""
    model = plain_model(folder)
    num_loss_tokens = sum(sum(sample.loss_mask_T) for sample in samples)
    loss = torch.zeros(())
    for sample in samples:
        ratio = (plain_logprobs(model, sample) - torch.tensor(sample.behavior_logprobs_T[1:])).exp()
        advantage = torch.tensor(sample.advantages_T[1:])
        term = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
        loss = loss - (term * torch.tensor(sample.loss_mask_T[1:])).sum() / num_loss_tokens
    return list(torch.autograd.grad(loss, list(model.parameters()))), loss.item()


@pytest.mark.parametrize(("microbatch_tokens", "num_microbatches"), [(17, 3), (29, 2), (64, 1)])
def test_gradient_equals_hand_computed_batch_for_every_micro_batch_size(
    folder: Path, microbatch_tokens: int, num_microbatches: int
) -> None:
    samples = random_samples(LENGTHS)
    expected, expected_loss = hand_policy_gradient(folder, samples)
    config: dict[str, Any] = {
        "loss": "custom",
        "loss_config": RATIO_TO_BEHAVIOR,
        "microbatch_tokens": microbatch_tokens,
    }
    found, metrics = recorded(folder, samples, **config)
    assert metrics["num_microbatches"] == num_microbatches
    assert metrics["loss"] == pytest.approx(expected_loss, abs=1e-6)
    assert metrics["num_loss_tokens"] == 35  # 43 tokens, two of each of four rows are prompt
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_one_sample_a_micro_batch_equals_all_in_one(folder: Path) -> None:
    samples = random_samples([9, 9, 9, 9])
    for kind in ("sft", "rl"):
        reference, _ = recorded(folder, samples, kind, microbatch_tokens=36)
        for size in (1, 2):
            found, metrics = recorded(folder, samples, kind, microbatch_tokens=9 * size)
            assert metrics["num_microbatches"] == 4 // size
            torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-6)


def test_a_shared_prompt_changes_no_gradient(folder: Path) -> None:
    samples = random_samples([20, 17, 25, 19, 12], prompt=10)
    samples = [replace(sample, token_ids_T=(*range(10), *sample.token_ids_T[10:])) for sample in samples]
    for kind in ("sft", "rl"):
        expected, alone = recorded(folder, samples, kind, microbatch_tokens=100, share_prompts=False)
        for size, saved in ((100, 40), (50, 30)):  # all five in one micro-batch, or in two
            found, metrics = recorded(folder, samples, kind, microbatch_tokens=size)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
            assert metrics["loss"] == pytest.approx(alone["loss"], abs=1e-6)
            assert metrics["shared_prompt_share"] == pytest.approx(saved / 93)
        assert alone["shared_prompt_share"] == 0.0


def test_sft_loss_is_mean_negative_log_likelihood_of_masked_tokens(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    model = plain_model(folder)
    picked = [plain_logprobs(model, s)[torch.tensor(s.loss_mask_T[1:], dtype=torch.bool)] for s in samples]
    _, metrics = recorded(folder, samples, "sft")
    assert metrics["loss"] == pytest.approx(-torch.cat(picked).mean().item(), abs=1e-6)
    assert metrics["negative_log_likelihood"] == pytest.approx(metrics["loss"], abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprob_of_position_t_is_the_softmax_at_t_minus_one_with_temperature(folder: Path, temperature: float) -> None:
    samples = random_samples(LENGTHS, temperature=temperature)
    rows = learner(folder).logprobs([sample.token_ids_T for sample in samples], temperature)
    model = plain_model(folder)
    for sample, row in zip(samples, rows, strict=True):
        assert row[0] == 0.0
        torch.testing.assert_close(torch.tensor(row[1:]), plain_logprobs(model, sample), rtol=0, atol=2e-6)


def with_behavior(samples: list[TrainingSample], rows: list[list[float]]) -> list[TrainingSample]:
    return [replace(sample, behavior_logprobs_T=tuple(row)) for sample, row in zip(samples, rows, strict=True)]


def test_on_policy_ratio_is_one_at_temperature(folder: Path) -> None:
    samples = random_samples([9, 17, 5, 12, 30, 21], temperature=0.6)
    ids, masks = [sample.token_ids_T for sample in samples], [sample.loss_mask_T for sample in samples]
    rows = learner(folder, microbatch_tokens=30).logprobs(ids, 0.6, loss_masks=masks)
    for size, tolerance in ((30, 0.0), (64, 2e-6), (1000, 2e-6)):  # the same micro-batches: bit for bit
        config: dict[str, Any] = {"loss": "custom", "loss_config": RATIO_TO_BEHAVIOR, "microbatch_tokens": size}
        _, metrics = recorded(folder, with_behavior(samples, rows), **config)
        assert metrics["ratio_deviation_max"] <= tolerance
        assert metrics["engine_gap_max"] <= tolerance
        assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0.0


def test_engine_gap_is_the_distance_to_the_behavior_logprobs(folder: Path) -> None:
    samples = random_samples([6])
    (row,) = learner(folder).logprobs([samples[0].token_ids_T])
    shifted = [value + shift for value, shift in zip(row, (0, 0, 0.5, -0.25, 0, 0), strict=True)]
    _, metrics = recorded(folder, with_behavior(samples, [shifted]))
    assert metrics["engine_gap_max"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["engine_gap_mean"] == pytest.approx(0.75 / 4, abs=1e-5)


def test_recomputed_proximal_logprobs_split_ratio_from_importance_weight(folder: Path) -> None:
    samples = random_samples([6, 4])
    subject = learner(folder, proximal_logprobs="recompute")
    proximal = subject.logprobs([sample.token_ids_T for sample in samples])
    behavior = [[value - 0.1 for value in row] for row in proximal]
    metrics = subject.rl_step(with_behavior(samples, behavior), proximal=proximal).metrics
    assert metrics["ratio_deviation_max"] <= 2e-6
    assert metrics["importance_weight"] == pytest.approx(math.exp(0.1), abs=1e-5)
    with pytest.raises(ValueError, match="the argument proximal is missing"):
        subject.rl_step(samples)


def test_entropy_bonus_has_the_gradient_of_the_mean_entropy(folder: Path) -> None:
    samples = [replace(sample, advantages_T=(0.0,) * len(sample.token_ids_T)) for sample in random_samples(LENGTHS)]
    subject, recorder = learner(folder), Recorder()
    subject.reduce_gradients = recorder
    metrics = subject.rl_step(samples, entropy_coef=0.5).metrics
    model, total = plain_model(folder), torch.zeros(())
    for sample in samples:
        logp = model(input_ids=torch.tensor([sample.token_ids_T])).logits[0, :-1].log_softmax(-1)
        total = total + (-(logp.exp() * logp).sum(-1) * torch.tensor(sample.loss_mask_T[1:])).sum()
    entropy = total / 35
    assert metrics["entropy"] == pytest.approx(entropy.item(), abs=1e-5)
    expected = list(torch.autograd.grad(-0.5 * entropy, list(model.parameters())))
    torch.testing.assert_close(recorder.gradients, expected, rtol=1e-4, atol=1e-6)


def test_end_of_text_that_doubles_as_padding_keeps_loss_and_gradient(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", tied=False, pad_token_id=EOS)
    sample = TrainingSample.supervised((5, EOS, 7, EOS), (0, 0, 0, 1))
    found, metrics = recorded(folder, [sample], "sft")
    model = plain_model(folder)
    model.model.embed_tokens.padding_idx = None
    logprobs = plain_logprobs(model, sample)
    assert metrics["num_loss_tokens"] == 1
    assert metrics["loss"] == pytest.approx(-logprobs[2].item(), abs=1e-6)
    expected = list(torch.autograd.grad(-logprobs[2], list(model.parameters())))
    assert expected[0][EOS].abs().max() > 1e-4  # the embedding row of the padding id learns as input too
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_dropout_of_the_config_is_off_so_two_forwards_are_bitwise_equal(tmp_path: Path) -> None:
    subject = learner(save_tiny_model(tmp_path / "model", attention_dropout=0.5))
    rows = [sample.token_ids_T for sample in random_samples(LENGTHS)]
    assert subject.logprobs(rows) == subject.logprobs(rows)


def test_the_same_run_gives_the_same_bits(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    runs = []
    for _ in range(2):
        subject = learner(folder, microbatch_tokens=20)
        results = [subject.rl_step(samples) for _ in range(3)]
        runs.append((results, subject.weights()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])


def test_non_finite_gradient_is_skipped_counted_and_then_raised(folder: Path) -> None:
    good = random_samples(LENGTHS)
    bad = [replace(good[0], advantages_T=(math.nan,) * LENGTHS[0]), *good[1:]]
    subject = learner(folder, max_skipped_steps=1)
    subject.rl_step(good)
    before = subject.weights()
    result = subject.rl_step(bad)
    assert (result.metrics["step_skipped"], result.metrics["skipped_steps"]) == (1.0, 1.0)
    assert math.isnan(result.metrics["grad_norm"])
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.weights().items())
    assert subject.rl_step(good).metrics["step_skipped"] == 0.0  # the row of failures is broken
    subject.rl_step(bad)
    with pytest.raises(NonFiniteGradientError, match="2 steps in a row"):
        subject.rl_step(bad)


def test_gradient_norm_is_clipped_before_the_update(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    subject = learner(folder, max_grad_norm=1e-3)
    metrics = subject.sft_step(samples).metrics
    gradients, _ = recorded(folder, samples, "sft")
    assert metrics["grad_norm"] == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in gradients)), rel=1e-5)
    assert metrics["grad_clipped"] == 1.0
    clipped = math.sqrt(sum(float(p.grad.square().sum()) for p in subject.parameters.values() if p.grad is not None))
    assert clipped == pytest.approx(1e-3, rel=1e-2)


def test_a_step_without_loss_tokens_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="none of 1 rows has a token with loss mask 1"):
        learner(folder).sft_step(random_samples([4], prompt=4))


def test_norms_are_not_decayed(folder: Path) -> None:
    subject = learner(folder, weight_decay=0.5)
    decayed, others = subject.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    names = {id(parameter): name for name, parameter in subject.parameters.items()}
    assert all("norm" in names[id(parameter)] for parameter in others["params"])
    assert not any("norm" in names[id(parameter)] for parameter in decayed["params"])


def test_schedules_by_hand() -> None:
    warm: dict[str, Any] = {"lr": 1.0, "warmup_steps": 2, "total_steps": 6, "min_lr_ratio": 0.2}
    linear = LearnerConfig(schedule="linear", **warm)
    assert [learning_rate(linear, step) for step in range(8)] == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2])
    cosine = LearnerConfig(schedule="cosine", **warm)
    assert learning_rate(cosine, 4) == pytest.approx(0.6)
    assert learning_rate(cosine, 3) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.sqrt(0.5)))
    assert learning_rate(LearnerConfig(lr=0.3), 99) == 0.3


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.0), ("betas", (0.9, 1.0)), ("schedule", "step"), ("loss", "ppo"), ("loss_config", LossConfig()),
     ("attention", "sdpa"), ("dtype", "float16"), ("min_lr_ratio", 2.0)],
)  # fmt: skip
def test_config_errors_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=field):
        LearnerConfig(**{field: value}).validate()


def test_a_falling_schedule_needs_its_length_when_it_is_used_and_room_after_the_warm_up() -> None:
    unknown = LearnerConfig(schedule="linear")
    unknown.validate()  # the stage fills the number of steps in once it knows its data
    with pytest.raises(UserError, match="total_steps"):
        learning_rate(unknown, 0)
    with pytest.raises(UserError, match="total_steps=5"):
        LearnerConfig(schedule="cosine", warmup_steps=5, total_steps=5).validate()


def test_checkpointing_offloading_and_chunking_change_no_gradient(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    expected, _ = recorded(folder, samples)
    for config in (
        {"gradient_checkpointing": True},
        {"offload_activations": True},
        {"gradient_checkpointing": True, "offload_activations": True},
        {"chunk_bytes": 3 * 4 * VOCAB},
    ):
        found, _ = recorded(folder, samples, **config)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", ["gspo", "dapo"])
def test_a_loss_of_whole_sequences_is_the_same_in_chunks_of_the_head(folder: Path, loss: str) -> None:
    samples = random_samples(LENGTHS)
    expected, whole = recorded(folder, samples, loss=loss)
    found, metrics = recorded(folder, samples, loss=loss, chunk_bytes=3 * 4 * VOCAB)  # three tokens at a time
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert metrics["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert metrics["ratio_max"] == pytest.approx(whole["ratio_max"], rel=1e-5)


def test_bfloat16_keeps_float32_masters_and_nearly_the_same_loss(folder: Path) -> None:
    samples = random_samples(LENGTHS)
    subject = learner(folder, dtype="bfloat16")
    reference = learner(folder).sft_step(samples).metrics
    metrics = subject.sft_step(samples).metrics
    assert metrics["loss"] == pytest.approx(reference["loss"], rel=0.02)
    assert metrics["loss"] != reference["loss"]
    assert {parameter.dtype for parameter in subject.parameters.values()} == {torch.float32}


def test_training_on_one_batch_lowers_its_loss(folder: Path) -> None:
    samples, subject = random_samples(LENGTHS), learner(folder)
    losses = [subject.sft_step(samples).metrics["loss"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


# -- resumption, weights, export --------------------------------------------------------------------------------------


def falling() -> dict[str, Any]:
    return {"schedule": "cosine", "total_steps": 6, "warmup_steps": 2, "weight_decay": 0.1}


def test_three_steps_and_three_resumed_equal_six_bitwise(folder: Path, tmp_path: Path) -> None:
    samples = random_samples(LENGTHS)
    whole, first = learner(folder, **falling()), learner(folder, **falling())
    expected = [whole.rl_step(samples) for _ in range(6)]
    head = [first.rl_step(samples) for _ in range(3)]
    torch.rand(3)
    first.save_state(tmp_path / "state")
    drawn = torch.rand(4)
    second = learner(save_tiny_model(tmp_path / "other", seed=1), **falling())
    assert second.load_state(tmp_path / "state") == [
        "weights", "optimizer", "schedule", "step", "skipped_steps", "skipped_in_a_row", "torch_rng",
    ]  # fmt: skip
    assert torch.equal(torch.rand(4), drawn)
    assert head + [second.rl_step(samples) for _ in range(3)] == expected
    weights = second.weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.weights().items())


def test_a_state_from_before_the_first_step_resumes(folder: Path, tmp_path: Path) -> None:
    samples, subject = random_samples(LENGTHS), learner(folder)
    subject.save_state(tmp_path / "state")
    expected = subject.sft_step(samples)
    subject.load_state(tmp_path / "state")
    assert subject.sft_step(samples) == expected


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", "seal.json"]
)
def test_a_damaged_state_is_refused_by_file_name_and_changes_nothing(folder: Path, tmp_path: Path, name: str) -> None:
    subject = learner(folder)
    subject.sft_step(random_samples(LENGTHS))
    subject.save_state(tmp_path / "state")
    before, path = subject.weights(), tmp_path / "state" / name
    whole = path.read_bytes()
    damaged = {
        "altered": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        "truncated": whole[: len(whole) // 2],
        "missing": None,
    }
    for word, content in damaged.items():
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}.*{word}"):
            subject.load_state(tmp_path / "state")
        path.write_bytes(whole)
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.weights().items())
    subject.load_state(tmp_path / "state")


def test_a_state_of_another_config_or_model_is_refused(folder: Path, tmp_path: Path) -> None:
    subject = learner(folder)
    subject.save_state(tmp_path / "state")
    with pytest.raises(CheckpointError, match=r"learner\.lr=0\.5: .*saved with 0\.01"):
        learner(folder, lr=0.5).load_state(tmp_path / "state")
    other = learner(save_tiny_model(tmp_path / "other", tied=False))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is of another model"):
        other.load_state(tmp_path / "state")


@pytest.mark.parametrize("tied", [True, False])
def test_engine_weights_name_the_head_and_follow_training(tmp_path: Path, tied: bool) -> None:
    subject = learner(save_tiny_model(tmp_path / "model", tied=tied))
    before = subject.weights()
    subject.sft_step(random_samples(LENGTHS))
    after = subject.weights()
    head, embedding = after["lm_head.weight"], after["model.embed_tokens.weight"]
    assert torch.equal(head, embedding) == tied
    assert not torch.equal(head, before["lm_head.weight"])  # the copy taken before the step kept its values
    assert after.keys() == engine_state_dict(subject.model).keys() == before.keys()


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_export_is_an_ordinary_folder_with_the_same_logits(tmp_path: Path, family: str) -> None:
    subject = learner(save_tiny_model(tmp_path / "model", family))
    samples = random_samples(LENGTHS)
    subject.sft_step(samples)
    folder = subject.export(tmp_path / "out" / "export", tiny_tokenizer())
    assert [path.name for path in folder.parent.iterdir()] == ["export"]  # no partial folder is left
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert loaded.config._attn_implementation == "sdpa"
    rows = subject.logprobs([samples[1].token_ids_T])
    torch.testing.assert_close(torch.tensor(rows[0][1:]), plain_logprobs(loaded, samples[1]), rtol=0, atol=2e-6)
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == EOS


def test_folders_that_cannot_be_trained_are_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_model(folder, torch.float32)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
        return str(caught.value)

    assert "nowhere is no folder" in refusal(tmp_path / "nowhere")
    folder = save_tiny_model(tmp_path / "model")
    config, weights = folder / "config.json", folder / "model.safetensors"
    text, content = config.read_text(), weights.read_bytes()
    config.write_text(text.replace("Qwen3ForCausalLM", "GPT2LMHeadModel"))
    assert "architectures=['GPT2LMHeadModel'] is not supported" in refusal(folder)
    config.write_text(text[:40])
    assert "config.json does not load" in refusal(folder)
    config.write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1').replace('"full_attention",\n', "", 1)
    )
    assert "unexpected keys" in refusal(folder)
    config.write_text(text.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))
    assert "missing keys in the weights, first lm_head.weight" in refusal(folder)
    config.unlink()
    assert "holds no config.json" in refusal(folder)
    config.write_text(text)
    weights.write_bytes(content.replace(b'"F32"', b'"F99"'))
    assert "weights do not load" in refusal(folder)
    weights.write_bytes(content[:-1])
    assert f"model.safetensors has {len(content) - 1:,} bytes, its header counts {len(content):,}" in refusal(folder)
    weights.unlink()
    assert "holds no *.safetensors" in refusal(folder)
