"""The parts of the server that need no engine: what is served, where it listens, and how it follows its alias."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any, Literal

import pytest

from data.files import write_json
from data.records import UserError
from serving.gates import judge
from serving.gates_record import write_gates_record
from serving.live import Announcement, SwapResult, servers_of
from serving.measured_engine import MeasuredEngine
from serving.registry import Registry, Version
from serving.server import (
    _follow,
    _keep_announced,
    _listening_socket,
    find,
    registry_at,
    require_as_measured,
    serve,
    settled_engine,
    swap_line,
    url_of,
)
from serving.server_config import ServeConfig, ServingEngineConfig
from tests.serving.gate_figures import gates, good_figures
from tests.serving.served_models import save_checkpoint


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return [save_checkpoint(root / f"c{seed}", seed=seed) for seed in range(2)]


@pytest.fixture
def registry(tmp_path: Path, checkpoints: list[Path]) -> Registry:
    registry = Registry(tmp_path / "models")
    first = registry.add(checkpoints[0])
    registry.point("production", first.name, expected_generation=0, reason="test")
    return registry


def test_an_alias_is_served_at_the_version_it_points_to_and_a_version_as_itself(
    registry: Registry, checkpoints: list[Path]
) -> None:
    (version,) = registry.versions()
    served = find(registry, "production")
    assert (served.name, served.version, served.generation) == ("production", version, 1)
    served = find(registry, version.name)
    assert (served.name, served.version, served.generation) == (version.name, version, None)


def test_a_name_that_is_not_there_is_refused(registry: Registry) -> None:
    with pytest.raises(UserError, match="did you mean 'production'"):
        find(registry, "produktion")


def test_a_version_with_a_flipped_byte_is_refused(registry: Registry) -> None:
    (version,) = registry.versions()
    weights = version.folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        find(registry, "production")


def test_a_version_that_holds_more_than_safetensors_is_refused(registry: Registry) -> None:
    (version,) = registry.versions()
    (version.folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model\.bin may run code"):
        find(registry, "production")


def test_a_registry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--registry: .* is no folder"):
        registry_at(tmp_path / "nowhere")


def test_a_port_that_is_taken_is_refused_before_the_engine_starts(registry: Registry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: cannot listen on 127.0.0.1:{port}"):
            serve(registry, "production", ServeConfig(port=port), say=print)


def test_port_0_is_a_free_port_and_the_address_names_it() -> None:
    with _listening_socket(ServeConfig(port=0)) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert url_of(listener) == f"http://127.0.0.1:{port}"


def test_a_loopback_name_that_leads_elsewhere_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.server.is_loopback", lambda host: host == "127.0.0.1")
    config = ServeConfig(host="127.0.0.2", port=0)
    with pytest.raises(UserError, match="which needs an API key"), _listening_socket(config):
        raise AssertionError("listens")


def record_gates(registry: Registry, version: Version, dtype: Literal["float32", "bfloat16"]) -> None:
    figures = good_figures(engine=MeasuredEngine(dtype, 512, 1, on_gpu=False))
    write_gates_record(registry, version, figures, judge(gates(), figures), alias="production", forced="test")


def test_a_server_whose_engine_is_not_the_measured_one_does_not_start(registry: Registry) -> None:
    record_gates(registry, registry.versions()[0], "bfloat16")
    config = ServeConfig(port=0, engine=ServingEngineConfig(dtype="float32"))
    with pytest.raises(UserError, match="the engine computes in float32 and its gates measured bfloat16"):
        serve(registry, "production", config, say=print)


def test_what_is_left_open_is_as_the_gates_of_the_alias_measured_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.server.computes_bfloat16", lambda: True)
    served = find(registry, "production")
    assert settled_engine(registry, served, ServingEngineConfig()).dtype == "bfloat16"
    record_gates(registry, served.version, "float32")
    found = settled_engine(registry, served, ServingEngineConfig(max_num_seqs=3))
    assert found == ServingEngineConfig(dtype="float32", max_model_len=512, max_num_seqs=3)


def test_a_running_engine_warns_of_what_differs_and_takes_no_version_of_another_precision(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (version,), said = registry.versions(), []  # type: ignore[var-annotated]
    engine = ServingEngineConfig(dtype="float32", max_model_len=1024)
    record_gates(registry, version, "float32")
    require_as_measured(registry, version, "production", engine, said.append)
    (line,) = said
    assert line.startswith(f"warning: version {version.name}: its gates measured up to 512 tokens")
    record_gates(registry, version, "bfloat16")
    with pytest.raises(UserError, match="its gates measured bfloat16"):
        require_as_measured(registry, version, "production", engine, said.append)


class FakeSwapper:
    """Serves what it is told to, or says why not."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.fails: str | None = None

    async def to(self, version: Version) -> SwapResult:
        if self.fails is None:
            self.version = version
        return SwapResult(self.version.name, 0.5, self.fails)


def follow(registry: Registry, scenario: Any) -> list[str]:
    """Run a scenario beside a server that follows production; returns what the server said."""
    served = find(registry, "production")
    swapper, said = FakeSwapper(served.version), []  # type: ignore[var-annotated]

    async def run() -> None:
        announcement = Announcement(
            registry, alias="production", address="http://127.0.0.1:1", version=served.version.name, generation=1
        )
        task = asyncio.create_task(_follow(registry, announcement, swapper, 0.01, said.append))  # type: ignore[arg-type]
        (server,) = servers_of(registry, "production")

        async def wait_for(generation: int) -> SwapResult:
            return await asyncio.to_thread(server.wait_for, generation, 20)

        await scenario(swapper, wait_for)
        assert not task.done()
        task.cancel()
        announcement.withdraw()

    asyncio.run(asyncio.wait_for(run(), 60))
    return said


def test_the_server_follows_its_alias_and_says_what_came_of_each_change(
    registry: Registry, checkpoints: list[Path]
) -> None:
    first = registry.versions()[0]
    second = registry.add(checkpoints[1])

    async def scenario(swapper: FakeSwapper, wait_for: Any) -> None:
        registry.point("production", second.name, expected_generation=1, reason="test")
        assert await wait_for(2) == SwapResult(second.name, 0.5, None)
        swapper.fails = "it did not load"
        registry.point("production", first.name, expected_generation=2, reason="test")
        assert await wait_for(3) == SwapResult(second.name, 0.5, "it did not load")
        swapper.fails = None
        registry.point("production", second.name, expected_generation=3, reason="back")
        assert (await wait_for(4)).failed is None

    said = follow(registry, scenario)
    assert said[0] == f"production, change 2: serving {second.name}, new requests waited 0.500 s"
    assert said[1] == f"production, change 3: failed, serving {second.name}: it did not load"
    assert len(said) == 3


def test_a_registry_that_cannot_be_read_for_a_while_is_told_once_and_followed_again(
    registry: Registry, checkpoints: list[Path]
) -> None:
    second = registry.add(checkpoints[1])
    record = next((Path(str(registry.place)) / "aliases" / "production").glob("*.json"))
    text = record.read_text()

    async def scenario(swapper: FakeSwapper, wait_for: Any) -> None:
        record.write_text("{")
        await asyncio.sleep(0.2)
        record.write_text(text)
        registry.point("production", second.name, expected_generation=1, reason="test")
        assert (await wait_for(2)).version == second.name

    said = follow(registry, scenario)
    assert len(said) == 2
    assert "the registry cannot be read or written" in said[0]
    assert said[1].startswith("production, change 2: serving")


def test_what_could_not_be_told_for_want_of_room_is_told_later(
    registry: Registry, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = registry.add(checkpoints[1])
    full = [True]

    def write(path: Path, value: Any) -> None:
        if full[0]:
            raise UserError("the disk is full")
        write_json(path, value)

    async def scenario(swapper: FakeSwapper, wait_for: Any) -> None:
        monkeypatch.setattr("serving.live.write_json", write)
        registry.point("production", second.name, expected_generation=1, reason="test")
        await asyncio.sleep(0.2)
        assert swapper.version == second
        full[0] = False
        assert (await wait_for(2)).version == second.name

    said = follow(registry, scenario)
    assert len([line for line in said if "the disk is full" in line]) == 1
    assert said[-1].startswith("production, change 2: serving")


def test_a_server_says_that_it_is_there_whatever_happens_to_its_file(registry: Registry) -> None:
    announcement = Announcement(registry, alias="production", address="http://127.0.0.1:1", version="v1", generation=1)

    async def scenario() -> None:
        task = asyncio.create_task(_keep_announced(announcement, every_s=0.01))
        for _ in range(2):
            announcement.path.unlink()
            async with asyncio.timeout(20):
                while not announcement.path.exists():
                    await asyncio.sleep(0.01)
        folder = announcement.path.parent
        folder.rename(folder.with_name("gone"))  # a share that is not mounted for a while
        folder.touch()
        await asyncio.sleep(0.05)
        assert not task.done()
        folder.unlink()
        folder.with_name("gone").rename(folder)
        os.utime(announcement.path, (0, 0))
        async with asyncio.timeout(20):
            while announcement.path.stat().st_mtime == 0:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(scenario())


def test_a_result_is_one_line() -> None:
    assert swap_line("staging", 7, SwapResult("v2-x-1", 0.0123, None)) == (
        "staging, change 7: serving v2-x-1, new requests waited 0.012 s"
    )
