"""The one home of vLLM in serving: its own OpenAI-compatible application and its engine client, in this process.

Why in this process, and not `vllm serve` behind a proxy: what a swap needs (pause, reload, clear the caches, resume)
are then calls on the engine client. Over HTTP they exist only among vLLM's development endpoints
(`VLLM_SERVER_DEV_MODE`), which would have to be opened and then kept away from everybody else; here they are never
registered. It also saves a second process, a second port and a copy of every streamed byte. The engine itself runs in a
process of its own, which vLLM's asynchronous client insists on.

What vLLM 0.32 brings along and is taken out again: every route that is not in `ROUTES` (tokenizer, LoRA, profiler,
metrics, other vendors' dialects), and the folder's path, which its list of models shows.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from data.chat import STOP_THINKING, THINK_CLOSE
from data.files import read_json
from data.quick_imports import quick_imports
from data.records import UserError
from data.tokenizer import end_token_ids
from rollout.config import CPU_BLOCK_SIZE, REASONING
from rollout.end_with_server import SERVER_VARIABLE, server_mark
from serving.server_config import ServingEngineConfig

ROUTES = {
    "/health": "GET",
    "/v1/models": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
}
"""The paths that exist, each with its one method."""

_LOOPBACK_INTERFACES = ("lo", "lo0")
_FORBIDDEN_VARIABLES = (
    "VLLM_SERVER_DEV_MODE",  # registers the development endpoints
    "VLLM_ALLOW_INSECURE_SERIALIZATION",  # lets pickled functions into the engine
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",  # lets requests load folders
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",  # logs what users said
    "VLLM_API_KEY",  # the key is checked before vLLM sees a request
    "VLLM_ENABLE_COHERE_API",
)


def prepare_environment(config: ServingEngineConfig) -> None:
    """Settings that vLLM reads from the environment when it is imported."""
    for name in _FORBIDDEN_VARIABLES:
        os.environ.pop(name, None)
    os.environ[SERVER_VARIABLE] = server_mark()
    os.environ["VLLM_PLUGINS"] = ""  # nothing that happens to be installed adds code or endpoints
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.kv_cache_gib)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if config.tensor_parallel_size == 1 and not torch.cuda.is_available():
        # Lets the worker run inside the engine's process, which starts in half the time. vLLM insists on one apart for
        # the sake of pinned OpenMP threads, which are not pinned here.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # torch's gloo listens on the address of the machine's name, for one process too, and checks nobody who connects.
    for _, interface in socket.if_nameindex():
        if interface in _LOOPBACK_INTERFACES:
            os.environ["GLOO_SOCKET_IFNAME"] = interface


def engine_arguments(config: ServingEngineConfig, folder: Path, model_name: str) -> list[str]:
    """vLLM's command line for this model: safetensors alone, no remote code, Qwen3's parsers and thinking budget."""
    on_cpu = not torch.cuda.is_available()
    block_size = config.block_size or (CPU_BLOCK_SIZE if on_cpu else None)
    arguments = [
        "--model", str(folder), "--served-model-name", model_name, "--load-format", "safetensors",
        "--dtype", config.dtype, "--seed", "0",
        "--max-num-seqs", str(config.max_num_seqs),
        "--max-num-batched-tokens", str(max(config.max_num_batched_tokens, _context(config, folder) if on_cpu else 0)),
        "--gpu-memory-utilization", str(config.gpu_memory_utilization),
        "--tensor-parallel-size", str(config.tensor_parallel_size),
        "--enable-prefix-caching",
        "--worker-extension-cls", "rollout.serving_worker.ServingWorker",
        "--reasoning-parser", REASONING["reasoning_parser"], "--reasoning-config", json.dumps(REASONING),
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        "--generation-config", "auto",
        "--fingerprint-mode", "none",  # the version goes there
        "--disable-log-stats", "--disable-fastapi-docs",
    ]  # fmt: skip
    if config.max_model_len is not None:
        arguments += ["--max-model-len", str(config.max_model_len)]
    if block_size is not None:
        arguments += ["--block-size", str(block_size)]
    if config.enforce_eager or on_cpu:  # compiling takes a minute and a half on a CPU and gains little there
        arguments += ["--enforce-eager"]
    if on_cpu:  # a seeded request whose prompt is cut over two steps fails on a CPU (see rollout.engine)
        arguments += ["--no-enable-chunked-prefill"]
    return arguments


@dataclass(frozen=True, slots=True)
class EngineApp:
    """A running engine: the application that answers requests, and what a swap asks of the engine."""

    asgi: Any
    client: Any
    end_token_ids: tuple[int, ...]
    compare: bool  # whether each reload is followed by a comparison of what the engine computes

    async def pause(self) -> None:
        """Wait for what still runs, hold back what is new, and forget all cached keys and values."""
        await self.client.pause_generation(mode="wait", clear_cache=True)

    async def load(self, folder: Path) -> str | None:
        """Load the weights of a folder into the paused engine; what went wrong, None when they arrived."""
        faults = await self.client.collective_rpc("fourstage_reload", args=(str(folder), self.compare))
        return next((fault for fault in faults if fault is not None), None)

    async def resume(self) -> None:
        await self.client.resume_generation()

    @property
    def is_alive(self) -> bool:
        return not self.client.errored


@asynccontextmanager
async def engine_app(config: ServingEngineConfig, folder: Path, model_name: str) -> AsyncIterator[EngineApp]:
    """Start the engine on a model folder and build vLLM's application in front of it; both end with the block."""
    prepare_environment(config)
    with quick_imports("vllm"):
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.openai.models.protocol import BaseModelPath
        from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = engine_arguments(config, folder, model_name)
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    validate_parsed_serve_args(args)
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(build_async_engine_client(args))
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"engine: it did not start on {folder} ({' '.join(str(error).split())[:300]}); vLLM's own words stand "
                "above; a smaller engine.max_model_len or a larger engine.kv_cache_gib are what often helps"
            ) from error
        tokenizer = client.get_tokenizer()
        forced, natural = (tokenizer.encode(text, add_special_tokens=False) for text in (STOP_THINKING, THINK_CLOSE))
        await client.collective_rpc("fourstage_prepare", args=(forced, natural))
        tasks = await client.get_supported_tasks()
        app = build_app(args, tasks, client.model_config)
        await init_app_state(client, app.state, args, tasks)
        models = app.state.openai_serving_models
        models.registry.base_model_paths = models.base_model_paths = [BaseModelPath(model_name, model_name)]
        _keep_routes(app, ROUTES)
        app.state.server = SimpleNamespace(should_exit=False)  # vLLM's handlers tell it to end; ours sees by itself
        compare = config.tensor_parallel_size == 1  # a shard computes a part of what the folder's tensors say
        yield EngineApp(app, client, end_token_ids(tokenizer), compare)


def _context(config: ServingEngineConfig, folder: Path) -> int:
    """Tokens of the longest prompt, which has to fit into one step where prompts are not cut."""
    if config.max_model_len is not None:
        return config.max_model_len
    return int(read_json(folder / "config.json").get("max_position_embeddings") or 0)


def _keep_routes(app: Any, paths: Sequence[str] | dict[str, str]) -> None:
    """Take out of a FastAPI application every route but these; RuntimeError when one of these is not there."""
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", None) in paths]
    missing = set(paths) - {route.path for route in app.router.routes}
    if missing:
        raise RuntimeError(f"vLLM's application has no {', '.join(sorted(missing))}; was its release changed?")
