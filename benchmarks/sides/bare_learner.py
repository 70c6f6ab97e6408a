"""A bare PyTorch loop on a workload's tokens, packed perfectly: transformers' forward, backward, clip, AdamW.

The yardstick of what a step has to cost: rows of one length, no mask, no padding, no entropy, no records. Settings:
`attention`, `per_device` (rows of one forward pass), `dtype` (bfloat16 is autocast on float32 weights).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.sides.learner_rows import packed_rows, training_rows
from benchmarks.sides.protocol import Recorder, settings, versions


def main() -> None:
    given, recorder = settings(), Recorder()
    folder = Path(given["workload"])
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation=given["attention"]
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.95), fused=True)
    ids = torch.tensor(packed_rows(training_rows(folder)[0]))
    total = ids.shape[0] * (ids.shape[1] - 1)
    recorder.facts(versions=versions("torch", "transformers"), threads=torch.get_num_threads())
    for _ in range(given["num_steps"]):
        recorder.begin()
        optimizer.zero_grad(set_to_none=True)
        for part in ids.split(given["per_device"]):
            autocast = torch.autocast("cpu", dtype=torch.bfloat16)
            with autocast if given["dtype"] == "bfloat16" else contextlib.nullcontext():
                logits = model(input_ids=part, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum"
            )
            (loss / total).backward()
            del logits, loss  # the next part's logits must not stand beside these
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recorder.step(trained_tokens=ids.numel())


if __name__ == "__main__":
    main()
