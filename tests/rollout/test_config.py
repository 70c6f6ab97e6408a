"""Settings of the rollout side that cannot work are named before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from data.records import UserError
from rollout.config import EngineConfig, PoolingConfig, RolloutConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_model_len", 0), ("max_num_seqs", 0), ("max_num_batched_tokens", 0), ("kv_cache_gib", 0),
     ("tensor_parallel_size", 0), ("gpu_memory_utilization", 0.0), ("gpu_memory_utilization", 1.0),
     ("block_size", 0), ("block_size", 20)],
)  # fmt: skip
def test_engine_settings(field: str, value: Any) -> None:
    EngineConfig().validate()
    with pytest.raises(UserError, match=f"{field}: {value}"):
        EngineConfig(**{field: value}).validate()


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_workers", 0), ("num_threads", -1), ("max_logprob_gap", 0.0), ("start_timeout_s", 0.0),
     ("answer_timeout_s", -1.0)],
)  # fmt: skip
def test_rollout_settings(field: str, value: Any) -> None:
    RolloutConfig().validate()
    with pytest.raises(UserError, match=f"{field}: {value}"):
        RolloutConfig(**{field: value}).validate()


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_num_seqs", 0), ("kv_cache_gib", 0), ("num_threads", -1), ("num_gpus", -0.5), ("start_timeout_s", 0.0),
     ("gpu_memory_utilization", 1.0)],
)  # fmt: skip
def test_pooling_settings(field: str, value: Any) -> None:
    PoolingConfig().validate()
    with pytest.raises(UserError, match=f"{field}: {value}"):
        PoolingConfig(**{field: value}).validate()
