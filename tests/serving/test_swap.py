"""A swap with a small engine: what is refused before anybody waits, what is restored, and when the server gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from learner.checkpoint import read_manifest
from serving.gate import Gate, Refusal
from serving.registry import Version
from serving.swap import EngineLost, Swapper
from tests.serving.served_models import save_checkpoint


class FakeEngine:
    """Holds the folder of its weights; loads what is not broken, and says what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.gate: Gate | None = None
        self.dies: str | None = None

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        assert self.gate is not None
        assert self.gate.num_inside == 0
        await asyncio.sleep(0)
        if self.dies == name:
            raise ConnectionError("the engine's process ended")

    async def pause(self) -> None:
        await self._call("pause")

    async def load(self, folder: Path) -> str | None:
        await self._call("load")
        self.folder = folder
        return "RuntimeError: shapes differ" if folder.name in self.broken else None

    async def resume(self) -> None:
        await self._call("resume")


class Scene:
    """Two versions, an engine with the first, and a swapper between them."""

    def __init__(self, folders: dict[str, Path], drain_timeout_s: float = 5.0, load_timeout_s: float = 5.0) -> None:
        self.versions = {name: Version(name, folder, read_manifest(folder), "0") for name, folder in folders.items()}
        self.engine = FakeEngine(folders["v1"])
        self.gate = self.engine.gate = Gate("v1", max_requests=10, hold_timeout_s=10)
        self.damaged: set[str] = set()
        self.unfit: set[str] = set()
        self.swapper = Swapper(
            self.gate, self.engine, self.versions["v1"], verify=self._verify, admit=self._admit,
            drain_timeout_s=drain_timeout_s, load_timeout_s=load_timeout_s,
        )  # fmt: skip

    def _verify(self, version: Version) -> None:
        if version.name in self.damaged:
            raise UserError(f"version {version.name}: model.safetensors was altered")

    def _admit(self, version: Version) -> None:
        if version.name in self.unfit:
            raise UserError(f"version {version.name}: its gates measured bfloat16")

    async def version_inside(self) -> str:
        async with self.gate.enter() as version:
            return version


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("versions")
    return {
        "v1": save_checkpoint(root / "v1", seed=1),
        "v2": save_checkpoint(root / "v2", seed=2),
        "other_shape": save_checkpoint(root / "other_shape", changes={"rope_theta": 7.0}),
    }


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_swap_pauses_loads_and_resumes_and_the_gate_opens_for_the_new_version(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        result = await scene.swapper.to(scene.versions["v2"])
        assert (result.version, result.failed) == ("v2", None)
        assert scene.engine.calls == ["pause", "load", "resume"]
        assert scene.engine.folder == folders["v2"]
        assert await scene.version_inside() == "v2"
        assert scene.swapper.last_times is not None
        assert 0 < result.pause_s == scene.swapper.last_times.pause_s < 5

    run(scenario())


def test_the_version_that_serves_is_left_alone(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        result = await scene.swapper.to(scene.versions["v1"])
        assert (result.version, result.pause_s, result.failed) == ("v1", 0.0, None)
        assert scene.engine.calls == []

    run(scenario())


def test_what_runs_ends_on_the_old_weights_before_the_new_ones_are_loaded(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        leave, seen = asyncio.Event(), []

        async def visit() -> None:
            async with scene.gate.enter() as version:
                seen.append(version)
                await leave.wait()
                seen.append(scene.engine.folder.name)

        visitor = asyncio.create_task(visit())
        await asyncio.sleep(0)
        swap = asyncio.create_task(scene.swapper.to(scene.versions["v2"]))
        await asyncio.sleep(0.05)
        assert (scene.engine.calls, swap.done()) == ([], False)
        leave.set()
        await visitor
        assert seen == ["v1", "v1"]
        assert (await swap).failed is None

    run(scenario())


def test_what_does_not_end_in_time_is_waited_for_no_longer_and_the_old_version_stays(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders, drain_timeout_s=0.02)
        async with scene.gate.enter():
            result = await scene.swapper.to(scene.versions["v2"])
            assert result.version == "v1"
            assert "1 requests still ran after 0.02 s" in str(result.failed)
            assert scene.engine.calls == []
            assert await scene.version_inside() == "v1"

    run(scenario())


@pytest.mark.parametrize(
    ("name", "damaged", "unfit", "reason"),
    [
        ("v2", {"v2"}, set(), "version v2: model.safetensors was altered"),
        ("other_shape", set(), set(), "version other_shape: config.json: rope_theta is 7.0"),
        ("v2", set(), {"v2"}, "version v2: its gates measured bfloat16"),
    ],
)
def test_a_version_that_cannot_serve_is_refused_and_nobody_waits(
    folders: dict[str, Path], name: str, damaged: set[str], unfit: set[str], reason: str
) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        scene.damaged, scene.unfit = damaged, unfit
        async with scene.gate.enter():
            result = await scene.swapper.to(scene.versions[name])
        assert (result.version, result.pause_s, scene.engine.calls) == ("v1", 0.0, [])
        assert reason in str(result.failed)

    run(scenario())


def test_weights_that_do_not_load_are_followed_by_the_old_ones(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        scene.engine.broken = {"v2"}
        result = await scene.swapper.to(scene.versions["v2"])
        assert result.version == "v1"
        assert result.failed == "version v2 did not load (RuntimeError: shapes differ); v1 stays"
        assert scene.engine.calls == ["pause", "load", "load", "resume"]
        assert scene.engine.folder == folders["v1"]
        assert await scene.version_inside() == "v1"
        scene.engine.broken = set()
        assert (await scene.swapper.to(scene.versions["v2"])).version == "v2"

    run(scenario())


@pytest.mark.parametrize(
    ("broken", "damaged", "reason"),
    [
        ({"v1", "v2"}, set(), "the old version did not load either"),
        ({"v2"}, {"v1"}, "the old version cannot be restored"),
    ],
)
def test_when_the_old_weights_are_lost_too_nobody_is_answered_any_more(
    folders: dict[str, Path], broken: set[str], damaged: set[str], reason: str
) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        scene.engine.broken, scene.damaged = broken, damaged
        with pytest.raises(EngineLost, match=reason):
            await scene.swapper.to(scene.versions["v2"])
        with pytest.raises(Refusal) as refusal:
            await scene.version_inside()
        assert refusal.value.status == 503

    run(scenario())


@pytest.mark.parametrize("call", ["pause", "load", "resume"])
def test_an_engine_that_dies_in_a_swap_ends_the_server(folders: dict[str, Path], call: str) -> None:
    async def scenario() -> None:
        scene = Scene(folders)
        scene.engine.dies = call
        with pytest.raises(EngineLost, match="did not survive the change to v2"):
            await scene.swapper.to(scene.versions["v2"])
        assert scene.gate.ended is not None

    run(scenario())


def test_an_engine_that_hangs_in_a_swap_ends_the_server(folders: dict[str, Path]) -> None:
    async def scenario() -> None:
        scene = Scene(folders, load_timeout_s=0.02)

        async def hangs(folder: Path) -> str | None:
            await asyncio.Event().wait()
            return None

        scene.engine.load = hangs  # type: ignore[method-assign]
        with pytest.raises(EngineLost, match="TimeoutError"):
            await scene.swapper.to(scene.versions["v2"])

    run(scenario())
