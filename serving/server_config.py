"""Settings of `fourstage serve`, and the rules of an address: apart from the modules that import the engine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from data.records import UserError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
MIN_KEY_LENGTH = 16
_TIMES = (
    "head_timeout_s",
    "body_timeout_s",
    "send_timeout_s",
    "drain_timeout_s",
    "hold_timeout_s",
    "shutdown_timeout_s",
    "poll_s",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingEngineConfig:
    """How the engine behind the server runs.

    `dtype` auto and `max_model_len` null are those in which the gates measured the version (`serving.measured_engine`);
    of one that no gate measured: what this machine computes fast, and what the model folder says.
    `kv_cache_gib` bounds the cache on a CPU; on a GPU `gpu_memory_utilization` does.
    """

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 8192
    kv_cache_gib: int = 1
    gpu_memory_utilization: float = 0.85
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    block_size: int | None = None

    def validate(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "kv_cache_gib", "tensor_parallel_size"):
            if getattr(self, name) < 1:
                raise UserError(f"engine.{name}: {getattr(self, name)} must be 1 or more")
        if self.max_model_len is not None and self.max_model_len < 1:
            raise UserError(f"engine.max_model_len: {self.max_model_len} must be 1 or more, or null")
        if not 0 < self.gpu_memory_utilization < 1:
            raise UserError(f"engine.gpu_memory_utilization: {self.gpu_memory_utilization} must lie in (0, 1)")
        if self.block_size is not None and (self.block_size < 1 or self.block_size % 16):
            raise UserError(f"engine.block_size: {self.block_size} must be a multiple of 16 (of 32 on a CPU), or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """One server: where it listens, who may call it, how much it takes, and how long a swap may last.

    A swap lets what runs end for `drain_timeout_s` and gives up after that; requests that come meanwhile wait, for
    `hold_timeout_s` at most. `max_requests` counts those that run and those that wait.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)  # never in a log
    max_requests: int = 256
    max_body_bytes: int = 4 << 20
    max_choices: int = 16
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 60.0
    drain_timeout_s: float = 300.0
    hold_timeout_s: float = 600.0
    shutdown_timeout_s: float = 30.0
    poll_s: float = 0.5
    engine: ServingEngineConfig = field(default_factory=ServingEngineConfig)

    def validate(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port: {self.port} is no port; use 0 (any free one) to 65535")
        for name in ("max_requests", "max_body_bytes", "max_choices"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        for name in _TIMES:
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0")
        if self.api_key is not None and len(self.api_key) < MIN_KEY_LENGTH:
            raise UserError(
                f"API key: {len(self.api_key)} characters can be guessed; use {MIN_KEY_LENGTH} or more, such as what "
                "`openssl rand -hex 32` prints"
            )
        if self.api_key is None and not is_loopback(self.host):
            raise UserError(
                f"--host: {self.host} can be reached from other machines and there is no API key; set "
                "FOURSTAGE_API_KEY or --api-key-file, or listen on 127.0.0.1"
            )
        self.engine.validate()


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone; a name that is not known to does not count."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str) -> frozenset[str] | None:
    """Names under which a request may address the server; None: any.

    On loopback alone others are refused: a page of the web whose name is made to resolve to 127.0.0.1 would otherwise
    speak to the server through the user's browser (DNS rebinding). Elsewhere the API key is what keeps it out.
    """
    return frozenset({*LOOPBACK_NAMES, host}) if is_loopback(host) else None
