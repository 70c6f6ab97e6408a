"""A server that is killed: nothing of it is left, whenever it happens."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from serving.live import servers_of
from tests.integration.serving_process import ServerProcess
from tests.integration.serving_scene import Models, ask

pytestmark = [pytest.mark.engine, pytest.mark.integration]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("serving"))


@pytest.mark.parametrize("when", ["it starts", "it serves"])
def test_a_killed_server_takes_its_engine_with_it(models: Models, tmp_path: Path, when: str) -> None:
    server = ServerProcess(models.registry, "production", logs=tmp_path)
    try:
        if when == "it serves":
            client = server.wait().client()
            assert ask(client).choices[0].message.content.strip() == "b"
            assert len(servers_of(models.registry, "production")) == 1
        else:
            deadline = time.monotonic() + 100
            while not any("spawn_main" in " ".join(child.cmdline()) for child in server.command.children()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        children = server.command.children()
        assert children
        server.command.kill_root()
        _, living = psutil.wait_procs(children, timeout=60)
        assert living == []
        assert servers_of(models.registry, "production") == []
    finally:
        server.command.kill_if_running()


def test_a_server_whose_engine_does_not_start_says_so_and_leaves_nothing(models: Models, tmp_path: Path) -> None:
    before, name = models.registry.alias("production"), models.names["narrow"]
    server = ServerProcess(models.registry, name, logs=tmp_path)
    try:
        server.command.finish(code=2, timeout_s=200)
        assert "error: engine: it did not start on" in server.command.stderr
        assert "no gate measured it in an engine; it is served in float32" in server.command.stdout
        assert "serving " not in server.command.stdout
        assert server.command.processes() == []
        assert servers_of(models.registry, name) == []
        assert models.registry.alias("production") == before
    finally:
        server.command.kill_if_running()
