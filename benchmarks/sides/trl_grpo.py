"""TRL's GRPOTrainer on the prompts of a workload, one optimizer step for each batch of all groups; TRL's environment.

Settings beside the workload: `attention`, `per_device`, `compile`, `bf16` (autocast on float32 masters), `pure_bf16`
(weights in bfloat16 too), `checkpointing`, `stock` (nothing but what the workload asks for), `vllm` (colocated).
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LogitsProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.letter_share import letter_share
from benchmarks.sides.protocol import Recorder, settings, versions

VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "12399",
}  # fmt: skip
"""What TRL's vLLM mode needs in one process on a CPU."""


class ForcedLengths(LogitsProcessor):
    """Each row of the batch ends after exactly its own number of tokens."""

    def __init__(self, lengths: list[int], prompt_width: int, end_ids: list[int]) -> None:
        self.lengths, self.prompt_width, self.end_ids = torch.tensor(lengths), prompt_width, end_ids

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        position = input_ids.shape[1] - self.prompt_width + 1
        scores[:, self.end_ids] = -torch.inf
        last = self.lengths == position
        scores[last] = -torch.inf
        scores[last, self.end_ids[0]] = 0.0
        return scores


class StepClock(TrainerCallback):
    """Writes a line at the end of every optimizer step, with the seconds that generation and scoring took of it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.parts: dict[str, float] = {}
        self.facts: dict[str, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.recorder.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.recorder.step(**self.parts, **self.facts)
        self.parts = {}

    def timed(self, name: str, function: Any) -> Any:
        """`function`, whose seconds are added to the part `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - began

        return call


def reward(completions: list[str], **_: Any) -> list[float]:
    """The reward that fourstage's task computes."""
    return [letter_share(text) for text in completions]


def start_vllm_with(**options: Any) -> None:
    """Have TRL start its vLLM with options that it has no setting for, such as the precision."""
    from trl.generation import vllm_generation

    vllm_generation.LLM = functools.partial(vllm_generation.LLM, **options)


def repair_weight_sync(trainer: GRPOTrainer) -> None:
    """Make TRL's vLLM mode work on a CPU, where its own sync fails because linear layers are repacked after loading.

    The weights go through vLLM's reload, all of them with the tied head, as fourstage sends its own.
    """
    from rollout.weight_transfer import load_into_worker

    generation = trainer.vllm_generation

    def sync_weights() -> None:
        weights = {name: tensor.detach() for name, tensor in trainer.model.state_dict().items()}
        generation.llm.collective_rpc(load_into_worker, args=(weights,))
        generation.llm.reset_prefix_cache()

    generation.sync_weights = sync_weights


def config_of(given: dict[str, Any], facts: dict[str, Any]) -> GRPOConfig:
    """TRL's configuration; `stock` keeps every default that does not define the workload."""
    total = facts["num_prompts"] * facts["group_size"]
    longest = given["max_new_tokens"]
    forced = {} if facts["long_tailed"] else {"min_new_tokens": longest}
    options: dict[str, Any] = {
        "output_dir": given["scratch"],
        "max_steps": given["num_steps"],
        "num_generations": facts["group_size"],
        "max_completion_length": longest,
        "generation_batch_size": total,
        "generation_kwargs": forced,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": [],
        "learning_rate": 1e-6,
    }
    per_device = 8 if given.get("stock") else given["per_device"]
    options |= {"per_device_train_batch_size": per_device, "gradient_accumulation_steps": total // per_device}
    if "bf16" in given:
        options["bf16"] = given["bf16"]
    if not given.get("stock"):
        options |= {
            "gradient_checkpointing": given.get("checkpointing", False),
            "torch_compile": given.get("compile", False),
            "torch_empty_cache_steps": None,
            "logging_steps": 1000,
            "disable_tqdm": True,
            "model_init_kwargs": {
                "attn_implementation": given["attention"],
                "dtype": "bfloat16" if given.get("pure_bf16") else "float32",
            },
        }
        if given.get("cache"):
            options["cache_implementation"] = given["cache"]
        if given.get("continuous"):
            options["use_transformers_continuous_batching"] = True
        if given.get("vllm"):
            options |= {
                "use_vllm": True,
                "vllm_mode": "colocate",
                "vllm_max_model_length": 640,
                "generation_kwargs": {} if facts["long_tailed"] else {"min_tokens": longest},
            }
    return GRPOConfig(**options)


def main() -> None:
    given, recorder = settings(), Recorder()
    folder = Path(given["workload"])
    if given.get("vllm"):
        os.environ |= VLLM_ENVIRONMENT
        # Left to itself vLLM takes bfloat16 for a float32 checkpoint, which a processor without AVX-512 emulates.
        dtype = "bfloat16" if given["bf16"] or given.get("pure_bf16") else "float32"
        start_vllm_with(dtype=dtype, enforce_eager=not given.get("vllm_compiled", False))
    facts = json.loads((folder / "workload.json").read_text())
    prompts = json.loads((folder / "prompts.json").read_text())
    clock = StepClock(recorder)
    trainer = GRPOTrainer(
        model=str(folder / "model"),
        reward_funcs=reward,
        args=config_of(given, facts),
        train_dataset=Dataset.from_list([{"prompt": row["text"]} for row in prompts]),
        callbacks=[clock],
    )
    if given.get("vllm"):
        repair_weight_sync(trainer)
        trainer.vllm_generation.sync_weights = clock.timed("sync_s", trainer.vllm_generation.sync_weights)
    generate, score = trainer._generate_single_turn, trainer._calculate_rewards
    if facts["long_tailed"]:
        lengths = [length for row in prompts for length in row["lengths"]]
        plain = trainer.model.generate

        def forced(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            rule = ForcedLengths(lengths, input_ids.shape[1], trainer.eos_token_ids)
            return plain(input_ids=input_ids, logits_processor=[rule], **kwargs)

        trainer.model.generate = forced

    def counted(*args: Any, **kwargs: Any) -> Any:
        completion_ids, logprobs = generate(*args, **kwargs)
        clock.facts["completion_tokens"] = sum(map(len, completion_ids))
        return completion_ids, logprobs

    trainer._generate_single_turn = clock.timed("generate_s", counted)
    trainer._calculate_rewards = clock.timed("score_s", score)
    recorder.facts(
        versions=versions("trl", "transformers", "torch", "accelerate"),
        weights_dtype=str(trainer.model.dtype),
        threads=torch.get_num_threads(),
    )
    trainer.train()


if __name__ == "__main__":
    main()
