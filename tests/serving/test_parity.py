"""The reference log-probabilities against a softmax worked out by brute force."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from data.records import UserError
from serving.parity import transformers_logprobs
from tests.serving.served_models import save_checkpoint


def test_each_token_has_the_log_of_its_softmax_share_given_those_before_it(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", seed=3)
    rows = [(5, 9, 200, 7), (11, 3)]
    found = transformers_logprobs(folder, rows, dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    for row, logprobs in zip(rows, found, strict=True):
        assert logprobs[0] == 0.0
        for position in range(1, len(row)):
            with torch.no_grad():
                logits = model(torch.tensor([row[:position]])).logits[0, -1].tolist()
            expected = logits[row[position]] - math.log(sum(math.exp(value) for value in logits))
            assert logprobs[position] == pytest.approx(expected, abs=1e-5)


def test_weights_that_lack_a_tensor_are_refused_by_its_name(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"missing keys in the weights, first model\.norm\.weight"):
        transformers_logprobs(folder, [(1, 2)], dtype="float32")
