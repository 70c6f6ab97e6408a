"""What a gate measured is what is served: settings that are left open come from it, another precision is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from data.records import UserError
from rollout.config import EngineConfig, RolloutConfig
from serving.measured_engine import MeasuredEngine, disagreements, measured_engine, settled
from serving.server_config import ServingEngineConfig

MEASURED = MeasuredEngine("float32", 512, 1, on_gpu=False)


def said(measured: MeasuredEngine | None, *, on_gpu: bool = False, has_bfloat16: bool = True, **engine: Any) -> str:
    settings = ServingEngineConfig(**{"dtype": "float32", "max_model_len": 512, **engine})
    return "\n".join(disagreements("v1-x-1", settings, measured, on_gpu=on_gpu, has_bfloat16=has_bfloat16))


def test_what_gates_measure_in_is_the_engine_of_their_suite() -> None:
    engine = EngineConfig(dtype="bfloat16", max_model_len=4096, tensor_parallel_size=2)
    found = measured_engine(RolloutConfig(engine=engine, num_gpus_per_worker=2))
    assert found == MeasuredEngine("bfloat16", 4096, 2, on_gpu=True)
    assert str(found) == "bfloat16, 4,096 tokens, 2 GPU"
    assert str(measured_engine(RolloutConfig())) == "float32, 512 tokens, CPU"


def test_what_is_left_open_is_as_it_was_measured_whatever_this_machine_would_choose() -> None:
    found = settled(ServingEngineConfig(), MEASURED, has_bfloat16=True)
    assert (found.dtype, found.max_model_len) == ("float32", 512)
    found = settled(ServingEngineConfig(), dataclasses.replace(MEASURED, dtype="bfloat16"), has_bfloat16=False)
    assert found.dtype == "bfloat16"


def test_what_is_set_is_kept_and_so_is_all_else() -> None:
    given = ServingEngineConfig(dtype="bfloat16", max_model_len=256, max_num_seqs=3)
    assert settled(given, MEASURED, has_bfloat16=False) == given


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_what_no_gate_measured_is_served_in_the_precision_that_this_machine_computes_fast(
    has_bfloat16: bool, dtype: str
) -> None:
    found = settled(ServingEngineConfig(), None, has_bfloat16=has_bfloat16)
    assert (found.dtype, found.max_model_len) == (dtype, None)
    assert "no gate measured it in an engine; it is served in float32" in said(None)


def test_the_measured_engine_gives_rise_to_no_word() -> None:
    assert said(MEASURED) == ""
    assert said(dataclasses.replace(MEASURED, on_gpu=True), on_gpu=True) == ""


@pytest.mark.parametrize(("served", "measured"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_another_precision_is_refused_with_both_ways_out(served: str, measured: Any) -> None:
    with pytest.raises(UserError) as refused:
        said(dataclasses.replace(MEASURED, dtype=measured), dtype=served)
    assert f"the engine computes in {served} and its gates measured {measured}" in str(refused.value)
    assert f"engine.dtype={measured}" in str(refused.value)
    assert f"suite_settings=[rollout.engine.dtype={served}]" in str(refused.value)


@pytest.mark.parametrize(
    ("engine", "on_gpu", "words"),
    [
        ({"max_model_len": 1024}, False, "measured up to 512 tokens of prompt and answer, served are up to 1,024"),
        ({}, True, "its gates measured it in float32, 512 tokens, CPU, it is served on 1 GPU; roundings differ"),
    ],
)
def test_what_bounds_answers_or_moves_roundings_is_said(engine: dict[str, Any], on_gpu: bool, words: str) -> None:
    assert words in said(MEASURED, on_gpu=on_gpu, **engine)


def test_a_machine_that_emulates_what_was_measured_says_so() -> None:
    measured = dataclasses.replace(MEASURED, dtype="bfloat16")
    assert "which this machine emulates" in said(measured, dtype="bfloat16", has_bfloat16=False)
    assert said(measured, dtype="bfloat16") == ""
