from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.records import TrainingSample, UserError
from learner.attention import PACKED_SDPA, PackedLayout, attention_kwargs
from learner.model_folder import load_model, split_model
from learner.packing import PackedBatch, prompt_length
from tests.learner.tiny_models import plain_model, random_samples, save_tiny_model

LENGTHS = [13, 5, 12, 1, 13, 7]


def packed_hidden(model: torch.nn.Module, batch: PackedBatch) -> torch.Tensor:
    return model(
        input_ids=batch.token_ids_T[None], position_ids=batch.position_ids_T[None], use_cache=False,
        **attention_kwargs(batch, PACKED_SDPA),
    ).last_hidden_state[0]  # fmt: skip


def rows_of(batch: PackedBatch, values_T: torch.Tensor) -> list[torch.Tensor]:
    """Values of the distinct tokens as one tensor for each sample."""
    return [values_T[tokens] for tokens in batch.token_of_row_R.split(list(batch.lengths))]


def with_shared_prompts() -> list[TrainingSample]:
    """Two prompts of three and two samples, and one sample by itself."""
    samples = random_samples([13, 15, 11, 12, 18, 7], prompt=10)
    prompts = [samples[0].token_ids_T[:10], samples[3].token_ids_T[:10]]
    owners = [0, 0, 0, 1, 1]
    return [
        replace(sample, token_ids_T=(*prompts[owner], *sample.token_ids_T[10:]))
        for sample, owner in zip(samples, owners, strict=False)
    ] + [replace(samples[5], loss_mask_T=(0, 0, *[1] * 5))]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_packed_row_equals_rows_one_by_one(tmp_path: Path, family: str, tied: bool, kv_heads: int, share: bool) -> None:
    folder = save_tiny_model(tmp_path / "model", family, tied=tied, num_key_value_heads=kv_heads)
    packed, plain = load_model(folder, torch.float32), plain_model(folder)
    backbone, head_weight, head_bias = split_model(packed)
    batch = PackedBatch.from_samples(with_shared_prompts() if share else random_samples(LENGTHS))
    assert (batch.num_tokens < batch.num_row_tokens) == share
    logits_T = packed_hidden(backbone, batch) @ head_weight.t()
    assert head_bias is None
    # The last token of a prompt predicts the first of each sample: every sample has logits of its own there.
    logits = torch.cat(rows_of(batch, logits_T))
    expected = torch.cat([plain(input_ids=ids[None]).logits[0] for ids in rows_of(batch, batch.token_ids_T)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-6)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    grads = {name: p.grad for name, p in packed.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=2e-4, msg=name)


@pytest.mark.parametrize("share", [True, False])
def test_changing_one_sequence_leaves_the_others_bitwise_unchanged(tmp_path: Path, share: bool) -> None:
    backbone, _, _ = split_model(load_model(save_tiny_model(tmp_path / "model"), torch.float32))
    samples = with_shared_prompts() if share else random_samples(LENGTHS)
    batch = PackedBatch.from_samples(samples)
    before = rows_of(batch, packed_hidden(backbone, batch))
    cuts = [prompt_length(sample) if share else 0 for sample in samples]
    own = [tokens[cut:] for tokens, cut in zip(batch.token_of_row_R.split(list(batch.lengths)), cuts, strict=True)]
    for changed in range(len(samples)):
        altered = batch.token_ids_T.clone()
        altered[own[changed]] += 1
        altered %= 300
        kwargs = {"position_ids": batch.position_ids_T[None], "use_cache": False} | attention_kwargs(batch, PACKED_SDPA)
        after = rows_of(batch, backbone(input_ids=altered[None], **kwargs).last_hidden_state[0])
        for index in range(len(samples)):
            cut = cuts[index]  # a shared prompt sees none of the samples that share it
            assert torch.equal(before[index][:cut], after[index][:cut])
            assert torch.equal(before[index], after[index]) == (index != changed)


def layout_of(lengths: list[int]) -> PackedLayout:
    return PackedLayout.from_rows(lengths, np.arange(sum(lengths)))


def test_layout_groups_like_lengths_and_round_trips() -> None:
    layout = layout_of([4, 10, 9, 3])
    assert layout.blocks == ((2, 10), (1, 4), (1, 3))  # 9 >= 0.8 * 10; 3 < 0.8 * 4
    assert layout.num_slots == 27
    tokens = torch.arange(26)
    assert torch.equal(tokens[layout.token_of_slot_K][layout.slot_of_token_T], tokens)
    assert layout.slot_of_token_T[:4].tolist() == [20, 21, 22, 23]  # sequence 0 comes after the block of long ones
    assert not layout.identity
    assert not layout.shared


def test_a_shared_token_sits_in_the_slots_of_every_sample() -> None:
    layout = PackedLayout.from_rows([3, 4], np.array([0, 1, 2, 0, 1, 3, 4]))
    assert layout.blocks == ((1, 4), (1, 3))  # 3 < 0.8 * 4
    assert layout.token_of_slot_K.tolist() == [0, 1, 3, 4, 0, 1, 2]
    assert layout.slot_of_token_T.tolist() == [0, 1, 6, 2, 3]
    assert layout.shared
    assert not layout.identity


def test_equal_lengths_need_no_gathering() -> None:
    layout = layout_of([5, 5, 5])
    assert layout.identity
    assert layout.blocks == ((3, 5),)


def test_flash_attention_gets_the_same_borders_as_keywords_and_no_shared_prompts() -> None:
    batch = PackedBatch.from_samples(random_samples([3, 2]))
    kwargs = attention_kwargs(batch, "flash_attention_2")
    assert kwargs["cu_seq_lens_q"].tolist() == kwargs["cu_seq_lens_k"].tolist() == [0, 3, 5]
    assert kwargs["max_length_q"] == kwargs["max_length_k"] == 3
    with pytest.raises(ValueError, match="share_prompts=False"):
        attention_kwargs(PackedBatch.from_samples(with_shared_prompts()), "flash_attention_2")


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_attention_that_leaks_between_packed_samples_is_refused(tmp_path: Path, attention: str) -> None:
    with pytest.raises(UserError, match=f"attention='{attention}': packed samples would attend to each other"):
        load_model(save_tiny_model(tmp_path / "model"), torch.float32, attention)


def test_a_row_without_its_layout_is_refused(tmp_path: Path) -> None:
    model = load_model(save_tiny_model(tmp_path / "model"), torch.float32)
    with pytest.raises(ValueError, match="pass attention_kwargs"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_sliding_window_models_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    with pytest.raises(UserError, match="sliding-window layers are not supported"):
        load_model(folder, torch.float32)
