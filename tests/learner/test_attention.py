from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.records import UserError
from learner.attention import PACKED_SDPA, PackedLayout, attention_kwargs
from learner.model_folder import load_model, split_model
from learner.packing import PackedBatch
from tests.learner.tiny_models import plain_model, random_samples, save_tiny_model

LENGTHS = [13, 5, 12, 1, 13, 7]


def packed_hidden(model: torch.nn.Module, batch: PackedBatch) -> torch.Tensor:
    return model(
        input_ids=batch.token_ids_T[None], position_ids=batch.position_ids_T[None], use_cache=False,
        **attention_kwargs(batch, PACKED_SDPA),
    ).last_hidden_state[0]  # fmt: skip


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_packed_row_equals_rows_one_by_one(tmp_path: Path, family: str, tied: bool, kv_heads: int) -> None:
    folder = save_tiny_model(tmp_path / "model", family, tied=tied, num_key_value_heads=kv_heads)
    packed, plain = load_model(folder, torch.float32), plain_model(folder)
    backbone, head_weight, head_bias = split_model(packed)
    batch = PackedBatch.from_samples(random_samples(LENGTHS))
    logits = packed_hidden(backbone, batch) @ head_weight.t()
    assert head_bias is None
    expected = torch.cat([plain(input_ids=ids[None]).logits[0] for ids in batch.unpack(batch.token_ids_T)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-6)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    grads = {name: p.grad for name, p in packed.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-4, atol=2e-4, msg=name)


def test_changing_one_sequence_leaves_the_others_bitwise_unchanged(tmp_path: Path) -> None:
    backbone, _, _ = split_model(load_model(save_tiny_model(tmp_path / "model"), torch.float32))
    batch = PackedBatch.from_samples(random_samples(LENGTHS))
    before = batch.unpack(packed_hidden(backbone, batch))
    for changed in range(len(LENGTHS)):
        altered = batch.token_ids_T.clone()
        altered[batch.sequence_ids_T == changed] += 1
        altered %= 300
        kwargs = {"position_ids": batch.position_ids_T[None], "use_cache": False} | attention_kwargs(batch, PACKED_SDPA)
        after = batch.unpack(backbone(input_ids=altered[None], **kwargs).last_hidden_state[0])
        for index in range(len(LENGTHS)):
            assert torch.equal(before[index], after[index]) == (index != changed)


def test_layout_groups_like_lengths_and_round_trips() -> None:
    layout = PackedLayout.from_lengths([4, 10, 9, 3])
    assert layout.blocks == ((2, 10), (1, 4), (1, 3))  # 9 >= 0.8 * 10; 3 < 0.8 * 4
    assert layout.num_slots == 27
    tokens = torch.arange(26)
    assert torch.equal(tokens[layout.token_of_slot_K][layout.slot_of_token_T], tokens)
    assert layout.slot_of_token_T[:4].tolist() == [20, 21, 22, 23]  # sequence 0 comes after the block of long ones
    assert not layout.identity


def test_equal_lengths_need_no_gathering() -> None:
    layout = PackedLayout.from_lengths([5, 5, 5])
    assert layout.identity
    assert layout.blocks == ((3, 5),)


def test_flash_attention_gets_the_same_borders_as_keywords() -> None:
    batch = PackedBatch.from_samples(random_samples([3, 2]))
    kwargs = attention_kwargs(batch, "flash_attention_2")
    assert kwargs["cu_seq_lens_q"].tolist() == kwargs["cu_seq_lens_k"].tolist() == [0, 3, 5]
    assert kwargs["max_length_q"] == kwargs["max_length_k"] == 3


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
