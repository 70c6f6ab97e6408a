"""TRL's SFTTrainer on the rows of a workload; TRL's environment.

Settings: `mode` ("packed": rows of 512 tokens filled best-fit, "grouped": batches of like length, padded, "plain"),
`attention`, `per_device`, `batch_tokens`, `compile`, `bf16` (autocast), `stock`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.sides.protocol import Recorder, settings, versions

ROW_TOKENS = 512
"""The longest row of the workloads, and so the width of a packed one."""


class StepClock(TrainerCallback):
    """Writes a line at the end of every optimizer step with the tokens that are no padding."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.tokens = self.slots = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.recorder.begin()

    def count(self, inputs: dict[str, torch.Tensor]) -> None:
        mask = inputs.get("attention_mask")
        self.slots += inputs["input_ids"].numel()
        self.tokens += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.recorder.step(trained_tokens=self.tokens, padding_share=1 - self.tokens / self.slots)
        self.tokens = self.slots = 0


def config_of(given: dict[str, Any], rows: list[list[int]]) -> SFTConfig:
    """TRL's configuration; about `batch_tokens` tokens an optimizer step, as fourstage's loop takes."""
    width = ROW_TOKENS if given["mode"] == "packed" else sum(map(len, rows)) / len(rows)
    per_step = max(1, round(given["batch_tokens"] / width))
    per_device = min(given["per_device"], per_step)
    options: dict[str, Any] = {
        "output_dir": given["scratch"],
        "max_steps": given["num_steps"],
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": [],
        "learning_rate": 1e-5,
        "max_length": ROW_TOKENS,
        "bf16": given["bf16"],
        "packing": given["mode"] == "packed",
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": max(1, round(per_step / per_device)),
    }
    if not given.get("stock"):
        options |= {
            "gradient_checkpointing": False,
            "torch_compile": given.get("compile", False),
            "logging_steps": 1000,
            "disable_tqdm": True,
            "model_init_kwargs": {"attn_implementation": given["attention"], "dtype": "float32"},
        }
    if given["mode"] == "grouped":
        options["train_sampling_strategy"] = "group_by_length"
    return SFTConfig(**options)


def main() -> None:
    given, recorder = settings(), Recorder()
    folder = Path(given["workload"])
    rows = json.loads((folder / "rows.json").read_text())
    clock = StepClock(recorder)
    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=config_of(given, rows),
        train_dataset=Dataset.from_list([{"input_ids": row} for row in rows]),
        callbacks=[clock],
    )
    compute_loss = trainer.compute_loss

    def counted(model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        clock.count(inputs)
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = counted
    recorder.facts(
        versions=versions("trl", "transformers", "torch"),
        attention=trainer.model.config._attn_implementation,
        threads=torch.get_num_threads(),
    )
    trainer.train()


if __name__ == "__main__":
    main()
