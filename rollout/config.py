"""Settings of the rollout side, apart from the modules with Ray and the engine: reading a recipe starts neither."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from data.chat import STOP_THINKING, THINK_OPEN
from data.episodes import EpisodeLimits
from data.records import UserError

LORA_RANKS = (0, 1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The room for adapters that the engine's kernels come in; a smaller rank fits into a larger one."""


GIB = 2**30
CPU_BLOCK_SIZE = 32
"""Tokens of a cache block on a CPU: the least that vLLM's attention takes there."""

REASONING = {
    "reasoning_parser": "qwen3", "reasoning_start_str": THINK_OPEN, "reasoning_end_str": STOP_THINKING,
}  # fmt: skip
"""What vLLM is told of thinking and its budget, in rollouts, in gates and when it serves."""


def kv_cache_bytes(kv_cache_gib: float, *, on_cpu: bool) -> int | None:
    """What vLLM is told of the cache's size: on a GPU nothing, it takes its share of the device."""
    return round(kv_cache_gib * GIB) if on_cpu else None


def _require_above_0(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name}: {value} must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How the engine runs. `kv_cache_gib` bounds the cache on a CPU; on a GPU `gpu_memory_utilization` does.

    `max_lora_rank` above 0 lets the engine serve adapters up to that rank without a merge, at a small cost.
    `block_size` is the tokens of one block of the cache, the grain in which prompts share it; None: 32 on a CPU, where
    vLLM's own 128 is 8 % slower to decode and too coarse for short prompts to share anything, else vLLM's own.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 512
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_cache_gib: float = 1.0
    gpu_memory_utilization: float = 0.45
    tensor_parallel_size: int = 1
    enforce_eager: bool = True
    prefix_caching: bool = True
    block_size: int | None = None
    max_lora_rank: int = 0

    def validate(self) -> None:
        for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        _require_above_0("kv_cache_gib", self.kv_cache_gib)
        if not 0 < self.gpu_memory_utilization < 1:
            raise UserError(f"gpu_memory_utilization: {self.gpu_memory_utilization} must lie in (0, 1)")
        if self.block_size is not None and (self.block_size < 1 or self.block_size % 16):
            raise UserError(f"block_size: {self.block_size} must be a multiple of 16 (of 32 on a CPU), or null")
        if self.max_lora_rank not in LORA_RANKS:
            raise UserError(
                f"max_lora_rank: {self.max_lora_rank}; use one of {', '.join(map(str, LORA_RANKS))} (0: none)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How many engines, on what, and how long the controller waits for them."""

    num_workers: int = 1
    num_gpus_per_worker: float = 0.0
    num_threads: int = 0  # of one worker; 0: the machine's cores shared among the workers
    engine: EngineConfig = field(default_factory=EngineConfig)
    episodes: EpisodeLimits = field(default_factory=EpisodeLimits)
    start_timeout_s: float = 600.0
    answer_timeout_s: float = 300.0  # a weight update, a scoring pass or a slice of generation that takes longer hangs
    max_logprob_gap: float = 1e-3  # nats; float32 agrees to 1e-5, bfloat16 needs about 0.1

    def validate(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"num_workers: {self.num_workers} must be 1 or more")
        if self.num_threads < 0:
            raise UserError(f"num_threads: {self.num_threads} must be 0 (the workers share all cores) or more")
        for name in ("start_timeout_s", "answer_timeout_s"):
            _require_above_0(name, getattr(self, name))
        if self.max_logprob_gap <= 0:
            raise UserError(f"max_logprob_gap: {self.max_logprob_gap} must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolingConfig:
    """How the engine of a preference model runs; the length of a conversation is the model's own (its manifest)."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_cache_gib: float = 1.0
    gpu_memory_utilization: float = 0.2
    num_threads: int = 0  # 0: the machine's cores
    num_gpus: float = 0.0
    start_timeout_s: float = 600.0
    answer_timeout_s: float = 300.0

    def validate(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        _require_above_0("kv_cache_gib", self.kv_cache_gib)
        for name in ("num_threads", "num_gpus"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: {getattr(self, name)} must be 0 or more")
        for name in ("start_timeout_s", "answer_timeout_s"):
            _require_above_0(name, getattr(self, name))
        if not 0 < self.gpu_memory_utilization < 1:
            raise UserError(f"gpu_memory_utilization: {self.gpu_memory_utilization} must lie in (0, 1)")
