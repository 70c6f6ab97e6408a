"""How vLLM is told to run, and what is taken out of its application; nothing is started."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.chat import STOP_THINKING
from serving.engine_app import ROUTES, _keep_routes, engine_arguments, prepare_environment
from serving.server_config import ServingEngineConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 40960}')
    return tmp_path


def value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_only_safetensors_are_loaded_and_no_code_of_the_model_is_run(folder: Path) -> None:
    arguments = engine_arguments(ServingEngineConfig(), folder, "production")
    assert value(arguments, "--load-format") == "safetensors"
    assert value(arguments, "--served-model-name") == "production"
    assert not {"--trust-remote-code", "--trust-request-chat-template", "--enable-lora", "--api-key"} & set(arguments)


def test_the_thinking_budget_ends_with_the_sentence_that_training_uses(folder: Path) -> None:
    arguments = engine_arguments(ServingEngineConfig(), folder, "production")
    assert json.loads(value(arguments, "--reasoning-config"))["reasoning_end_str"] == STOP_THINKING
    assert value(arguments, "--reasoning-parser") == "qwen3"
    assert value(arguments, "--tool-call-parser") == "hermes"


@pytest.mark.parametrize(
    ("settings", "has_gpu", "expected"),
    [({}, False, "40960"), ({"max_model_len": 512}, False, "8192"), ({}, True, "8192")],
)
def test_where_prompts_are_not_cut_the_longest_fits_into_one_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], has_gpu: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    arguments = engine_arguments(ServingEngineConfig(**settings), folder, "production")  # type: ignore[arg-type]
    assert value(arguments, "--max-num-batched-tokens") == expected
    assert ("--no-enable-chunked-prefill" in arguments) is not has_gpu
    assert ("--max-model-len" in arguments) is bool(settings)


def test_nothing_in_the_environment_opens_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_ALLOW_RUNTIME_LORA_UPDATING")
    monkeypatch.setattr(os, "environ", {**dict.fromkeys(forbidden, "1"), "VLLM_PLUGINS": "somebodys"})
    prepare_environment(ServingEngineConfig(kv_cache_gib=3))
    assert not set(forbidden) & set(os.environ)
    assert os.environ["VLLM_PLUGINS"] == ""
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert os.environ["FOURSTAGE_SERVER_PROCESS"].startswith(f"{os.getpid()}:")


def test_routes_that_are_not_on_the_list_are_taken_out_and_one_that_is_missing_is_an_error() -> None:
    routes = [SimpleNamespace(path=path) for path in (*ROUTES, "/pause", "/metrics")]
    app = SimpleNamespace(router=SimpleNamespace(routes=[*routes, SimpleNamespace()]))
    _keep_routes(app, ROUTES)
    assert [route.path for route in app.router.routes] == list(ROUTES)
    app.router.routes.pop(0)
    with pytest.raises(RuntimeError, match="vLLM's application has no /health"):
        _keep_routes(app, ROUTES)
