"""The engine that the gates of a version measured it in, and what a server of it has to run.

    rollout.engine of the suite -> the gates -> the record beside the version -> settings of `fourstage serve`

What was measured is what is served: settings that a server leaves open are those of the record, so that there is one
source of them. Another precision than the measured one makes other answers, and is refused; what only bounds answers
or moves roundings is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from data.records import UserError
from rollout.config import RolloutConfig
from serving.server_config import ServingEngineConfig

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """What of an engine decides its numbers: precision, tokens of prompt and answer together, GPUs of one model."""

    dtype: Dtype
    max_model_len: int
    tensor_parallel_size: int
    on_gpu: bool

    def __str__(self) -> str:
        device = f"{self.tensor_parallel_size} GPU" if self.on_gpu else "CPU"
        return f"{self.dtype}, {self.max_model_len:,} tokens, {device}"


def measured_engine(rollout: RolloutConfig) -> MeasuredEngine:
    """The engine of a suite, as its gates measure with it."""
    engine = rollout.engine
    return MeasuredEngine(
        engine.dtype, engine.max_model_len, engine.tensor_parallel_size, on_gpu=rollout.num_gpus_per_worker > 0
    )


def settled(config: ServingEngineConfig, measured: MeasuredEngine | None, *, has_bfloat16: bool) -> ServingEngineConfig:
    """The settings with nothing left open: what was set, else what was measured.

    Of a version that no gate measured the precision is the one that this machine computes fast: bfloat16 where it has
    units for it. vLLM by itself takes bfloat16 for a float32 checkpoint everywhere, which AVX2 emulates.
    """
    dtype = config.dtype
    if dtype == "auto":
        dtype = measured.dtype if measured is not None else "bfloat16" if has_bfloat16 else "float32"
    max_model_len = config.max_model_len
    if max_model_len is None and measured is not None:
        max_model_len = measured.max_model_len
    return replace(config, dtype=dtype, max_model_len=max_model_len)


def disagreements(
    name: str, engine: ServingEngineConfig, measured: MeasuredEngine | None, *, on_gpu: bool, has_bfloat16: bool
) -> Iterator[str]:
    """How a settled engine differs from the one in which the gates measured version `name`, in words.

    Raises UserError for another precision.
    """
    if measured is None:
        yield f"version {name}: no gate measured it in an engine; it is served in {engine.dtype}"
        return
    if engine.dtype != measured.dtype:
        raise UserError(
            f"version {name}: the engine computes in {engine.dtype} and its gates measured {measured.dtype}; serve it "
            f"with engine.dtype={measured.dtype}, or promote it again with gates that measure {engine.dtype} "
            f"('suite_settings=[rollout.engine.dtype={engine.dtype}]')"
        )
    if engine.dtype == "bfloat16" and not has_bfloat16:
        yield f"version {name}: its gates measured bfloat16, which this machine emulates, many times slower"
    if engine.max_model_len is not None and engine.max_model_len != measured.max_model_len:
        yield (
            f"version {name}: its gates measured up to {measured.max_model_len:,} tokens of prompt and answer, served "
            f"are up to {engine.max_model_len:,}"
        )
    served_on = (on_gpu, engine.tensor_parallel_size)
    if served_on != (measured.on_gpu, measured.tensor_parallel_size):
        device = f"{engine.tensor_parallel_size} GPU" if on_gpu else "CPU"
        yield f"version {name}: its gates measured it in {measured}, it is served on {device}; roundings differ"
