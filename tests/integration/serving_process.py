"""`fourstage serve` as a process of its own on a registry of tiny models, and clients for it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import openai
import psutil

from serving.live import SwapResult, servers_of
from serving.registry import Registry
from tests.integration.run_process import Command

SETTINGS = ("engine.dtype=float32", "engine.max_num_seqs=32", "poll_s=0.1")
_LINE = re.compile(r"^serving (?P<name>\S+) \((?P<version>\S+)\) on (?P<url>\S+)$", re.MULTILINE)


class ServerProcess:
    """A running server; leave it with `stop`, which sees to it that nothing of it is left."""

    def __init__(self, registry: Registry, name: str, *settings: str, logs: Path, key: str | None = None) -> None:
        self.registry = registry
        self.name = name
        self.key = key
        arguments = ["serve", name, "--registry", str(registry.place), "--port", "0", *SETTINGS, *settings]
        if key is not None:
            path = logs / "key"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(key + "\n")
            arguments += ["--api-key-file", str(path)]
        self.command = Command(*arguments, logs=logs)

    def wait(self, timeout_s: float = 150) -> ServerProcess:
        """Return when it serves."""
        deadline = time.monotonic() + timeout_s
        while not _LINE.search(self.command.stdout):
            assert self.command.is_running, self.command.stderr[-4000:]
            assert time.monotonic() < deadline, self.command.stderr[-4000:]
            time.sleep(0.1)
        return self

    @property
    def url(self) -> str:
        """The base URL of clients."""
        found = _LINE.search(self.command.stdout)
        assert found is not None
        return found["url"]

    def client(self, **options: Any) -> openai.OpenAI:
        """A client that gives up at the first failure."""
        settings = {"base_url": self.url, "api_key": self.key or "none", "max_retries": 0, "timeout": 120.0}
        return openai.OpenAI(**{**settings, **options})

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url, api_key=self.key or "none", max_retries=0, timeout=120.0)

    def move_alias(self, version: str) -> SwapResult:
        """Point the alias elsewhere, as promote does, and wait for what the server makes of it."""
        now = self.registry.alias(self.name)
        assert now is not None
        change = self.registry.point(self.name, version, expected_generation=now.generation, reason="test")
        (server,) = servers_of(self.registry, self.name)
        return server.wait_for(change.generation, 60)

    def stop(self) -> None:
        """SIGTERM, and nothing of it is left."""
        children = self.command.children()
        self.command.terminate()
        self.command.finish(code=0, timeout_s=600)
        assert psutil.wait_procs(children, timeout=10)[1] == []
        assert self.command.processes() == []
        assert servers_of(self.registry, self.name) == []
