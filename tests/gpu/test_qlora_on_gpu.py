"""A 4-bit base with an adapter, on CUDA alone: it learns, and its merged export computes what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")]


def test_a_four_bit_base_learns_and_its_merged_export_has_its_logprobs(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from learner.learner import Learner, LearnerConfig
    from learner.lora_settings import LoraSettings
    from tests.learner.tiny_models import random_samples, save_tiny_model, tiny_tokenizer

    folder = save_tiny_model(tmp_path / "model", hidden_size=64, intermediate_size=128)
    adapter = LoraSettings(rank=8, quantize="nf4", base_dtype="bfloat16")
    learner = Learner(folder, LearnerConfig(lr=1e-2, dtype="bfloat16", adapter=adapter), device="cuda")
    samples = random_samples([9, 17, 5, 12])
    losses = [learner.sft_step(samples).metrics["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(".lora_" in name for name in learner.parameters)
    merged = Learner(learner.export(tmp_path / "out", tiny_tokenizer()), LearnerConfig(dtype="bfloat16"), device="cuda")
    rows = [sample.token_ids_T for sample in samples]
    for mine, theirs in zip(learner.logprobs(rows), merged.logprobs(rows), strict=True):
        torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), rtol=0, atol=0.1)
