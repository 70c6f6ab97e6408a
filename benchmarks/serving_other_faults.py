"""What `promote` is given that is broken: input, disk, servers that follow the alias, an engine; and a rival.

Each function breaks one thing, runs the real command, and returns its exit code with what is wrong with production
afterwards: the number of its last move, its version and the hash of its content have to be what they were.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.serving_fault_bench import FORCED, FaultBench
from data.records import UserError
from learner.checkpoint import MANIFEST, read_manifest, write_checkpoint
from serving.live import Announcement, SwapResult, servers_of
from serving.registry import Registry
from tests.serving.checkpoints import WEIGHTS
from tests.serving.served_models import save_checkpoint

Found = tuple[int, list[str]]
"""The exit code of `promote`, and what is wrong."""


# ---------------------------------------------------------------------------------------------- input and disk


def input_faults(bench: FaultBench) -> dict[str, Found]:
    """A checkpoint that is damaged, or is not what its manifest says."""
    found: dict[str, Found] = {}
    for name, spoil in (
        ("a truncated weight file", lambda data: data[:-1]),
        ("a flipped byte", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    ):
        checkpoint = bench.checkpoint()
        path, before = checkpoint / WEIGHTS, bench.standing()
        path.write_bytes(spoil(path.read_bytes()))
        found[name] = bench.finish(bench.promote(checkpoint)), bench.untouched_since(before)
    checkpoint, before = _with_another_template(bench.folder), bench.standing()
    found["a template that is not that of training"] = (
        bench.finish(_unforced(bench, checkpoint)), bench.untouched_since(before),
    )  # fmt: skip
    return found


def _unforced(bench: FaultBench, checkpoint: Path) -> list[str]:
    return [argument for argument in bench.promote(checkpoint) if argument not in FORCED]


def _with_another_template(folder: Path) -> Path:
    """A checkpoint that is whole, and whose manifest says that it was trained with another template than it has."""
    whole, other = save_checkpoint(folder / "whole", stage="base"), folder / "other-template"
    manifest = read_manifest(whole)
    contract = {**manifest.contract, "chat_template_sha256": "0" * 64}

    def copy(partial: Path) -> None:
        shutil.copytree(whole, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    write_checkpoint(other, replace(manifest, contract=contract), copy)
    return other


@contextlib.contextmanager
def small_disk(folder: Path, *, size_bytes: int = 5 << 20) -> Iterator[Path]:
    """A small file system of its own at `folder`; raises UserError where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise UserError("full disk: this user may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_disk_fault(folder: Path, disk: Path) -> Found:
    """A promotion into a registry whose disk has no room for the copy."""
    bench = FaultBench(folder / "on-disk", weight_bytes=1 << 20, place=disk / "models")
    before, state = bench.standing(), os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - 300_000))
    return bench.finish(bench.promote(bench.checkpoint())), bench.untouched_since(before)


# ---------------------------------------------------------------------------------------------- servers and engine


def server_faults(bench: FaultBench) -> dict[str, Found]:
    """A server of the alias that does not come up with the new version: the alias goes there and back."""
    found: dict[str, Found] = {}
    for behaviour in ("cannot load it", "dies of it", "does not answer"):
        before = bench.standing()
        with _server(bench, behaviour):  # type: ignore[arg-type]
            arguments = [*bench.promote(bench.checkpoint()), "swap_timeout_s=0.5"]
            code = bench.finish(arguments)
        found[f"a server that {behaviour}"] = code, bench.untouched_since(before, num_moves=2)
    return found


@contextlib.contextmanager
def _server(bench: FaultBench, behaviour: Literal["cannot load it", "dies of it", "does not answer"]) -> Iterator[None]:
    """A process that says, as a server does, that it serves production, and fails at the next change in some way."""
    registry = Registry(bench.place)
    process = os.fork()
    if process == 0:
        try:
            _serve_badly(registry, behaviour)
        finally:
            os._exit(70)
    try:
        deadline = time.monotonic() + 20
        while not servers_of(registry, "production"):
            assert time.monotonic() < deadline, "the server does not say that it serves"
            time.sleep(0.01)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _serve_badly(registry: Registry, behaviour: str) -> None:
    change = registry.alias("production")
    assert change is not None
    address, served = "http://127.0.0.1:1", change.version
    announcement = Announcement(
        registry, alias="production", address=address, version=served, generation=change.generation
    )
    while True:
        time.sleep(0.01)
        change = registry.alias("production")
        assert change is not None
        if change.generation == announcement.state.generation or behaviour == "does not answer":
            continue
        if behaviour == "dies of it":
            os._exit(1)
        failed = None if change.version == served else f"{change.version} did not load"
        announcement.say(change.generation, SwapResult(served, 0.0, failed))


ENGINE_SUITE = """
name: tiny
rollout:
  num_threads: 1
  engine: {dtype: float32, max_model_len: 384, max_num_seqs: 32, kv_cache_gib: 1}
ray: {object_store_gib: 0.2}
evaluation:
  benchmarks:
    sums: {task: arithmetic, levels: [0], num_prompts: 4}
"""
ENGINE_GATES = """
name: engine
suite: SUITE
licence: {spdx: Apache-2.0}
parity: {num_rows: 2, max_tokens: 8}
benchmarks: null
think_follow: null
"""


def engine_fault(folder: Path, bench: FaultBench) -> Found:
    """A promotion of weights whose hashes are right and that no engine can load, through gates that start one."""
    from tests.integration.serving_scene import narrow

    suite, gates = folder / "suite.yaml", folder / "engine-gates.yaml"
    suite.write_text(ENGINE_SUITE, encoding="utf-8")
    gates.write_text(ENGINE_GATES.replace("SUITE", str(suite)), encoding="utf-8")
    checkpoint, before = save_checkpoint(folder / "unloadable", stage="base", spoil=narrow), bench.standing()
    options = ["--registry", str(bench.place), "--gates", str(gates), "--out", str(folder / "eval"), "--plain"]
    command = [sys.executable, "-m", "stages.cli", "promote", str(checkpoint), *options]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode, bench.untouched_since(before)


# ---------------------------------------------------------------------------------------------- a rival


def two_at_once(bench: FaultBench, *, rounds: int) -> dict[str, Any]:
    """Two promotions of two checkpoints, started together, so often: one wins and the other is told."""
    refused, violations = 0, []
    for number in range(rounds):
        checkpoints, generation = [bench.checkpoint(), bench.checkpoint()], len(bench.history())
        processes = [bench.start(bench.promote(checkpoint)) for checkpoint in checkpoints]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        won = codes.count(0)
        refused += codes.count(2)
        if sorted(codes) not in ([0, 0], [0, 2]):  # the second may come after the first has ended
            violations.append(f"two at once, round {number}: exit codes {codes}")
        if len(bench.history()) != generation + won:
            violations.append(f"two at once, round {number}: {won} won, {len(bench.history()) - generation} moves")
        violations += bench.faults(*(version.name for version in Registry(bench.place).versions()))
    fault = f"two promotions at once, {rounds} times ({refused} told that they lost)"
    return {"fault": fault, "exit_code": "0 and 2", "left": "whole, at a winner's version", "violations": violations}
