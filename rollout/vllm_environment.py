"""What vLLM reads from the environment when it is imported, for the engines that live in a process of ours."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Keep the engine in this process, quiet, offline, and unbound to cores; call it before vLLM is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # whole gibibytes, and it would win over what the config says
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
