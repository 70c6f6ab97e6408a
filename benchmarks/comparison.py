"""Runs the sides of a comparison in turn (A B A B ...), each in a process of its own, and keeps every line they write.

    cases of a claim -> each: one run with memory sampled, then `repeats` timed runs of every side -> results/*.jsonl

A case that is run again replaces its lines, so that a table is always made from whole cases.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe_machine, preload_libraries
from benchmarks.process_memory import PeakMemory
from data.records import UserError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
SCRATCH = ROOT / "runs" / "benchmarks"
PEERS = ROOT / ".venv-peers"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side: the module that it runs, its settings, and whether it runs in the peers' environment.

    `preload` puts the OpenMP and allocator libraries of `benchmarks.machine` before all others.
    """

    name: str
    module: str
    settings: Mapping[str, Any]
    peer: bool = False
    preload: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often each side runs: `warmup` steps of every run are not counted."""

    repeats: int = 3
    steps: int = 5
    warmup: int = 2
    memory: bool = True
    timeout_s: float = 1800.0

    @property
    def num_steps(self) -> int:
        return self.warmup + self.steps


def peers_python(folder: Path = PEERS) -> Path:
    """The interpreter of the peers' environment; UserError says how to make it."""
    python = folder / "bin" / "python"
    if not python.exists():
        raise UserError(f"peers: {folder.name} does not exist; run `make peers`, or name another with --peers")
    return python


def run_side(side: Side, plan: Plan, *, scratch: Path, python: Path, sample_memory: bool) -> list[Row]:
    """One run of one side: its lines, with the peak memory when that was sampled. A failure is a line too."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    given, output, log = scratch / "settings.json", scratch / "lines.jsonl", scratch / "log.txt"
    # In the memory run the first steps are enough: every buffer has been allocated once.
    num_steps = min(plan.num_steps, 3) if sample_memory else plan.num_steps
    given.write_text(json.dumps({**side.settings, "scratch": str(scratch / "work"), "num_steps": num_steps}))
    command = [str(python), "-m", f"benchmarks.sides.{side.module}", str(given), str(output)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(side, python), stdout=file, stderr=file, start_new_session=True
        )
        rows: list[Row] = []
        code: int | str
        try:
            if sample_memory:
                with PeakMemory(process.pid) as memory:
                    code = process.wait(plan.timeout_s)
                rows.append({"event": "memory", "peak_bytes": memory.peak_bytes, "samples": memory.num_samples})
            else:
                code = process.wait(plan.timeout_s)
        except subprocess.TimeoutExpired:
            code = f"still running after {plan.timeout_s:g} s"
        finally:
            if process.poll() is None:
                _end(process.pid)
                process.wait()
    if output.exists():
        rows += [json.loads(line) for line in output.read_text().splitlines()]
    if code != 0:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        return [{"event": "failed", "code": code, "said": " ".join(last)[-300:]}]
    return rows


def _end(pid: int) -> None:
    """Kill a side that hangs and everything that it started, Ray's daemons too."""
    root = psutil.Process(pid)
    started = [*root.children(recursive=True), root]
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile, which is what is wanted
            process.kill()
    psutil.wait_procs(started, timeout=10)


def _environment(side: Side, python: Path) -> dict[str, str]:
    """What a side sees: this process's environment, the project on the path, no hub, and the libraries to preload."""
    quiet = {
        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    environment = {**os.environ, **quiet, **side.environment}
    if side.preload:
        environment["LD_PRELOAD"] = ":".join(map(str, preload_libraries(python)))
    return environment


def run_case(
    claim: str,
    case: str,
    sides: Sequence[Side],
    plan: Plan,
    *,
    peers: Path = PEERS,
    results: Path = RESULTS,
    scratch: Path = SCRATCH,
) -> list[Row]:
    """All runs of one case, in turn; writes its lines over those of an earlier run of it and returns them.

    What is there is written after every run, so that a comparison which is cut off leaves what it has measured.
    """
    for side in sides:  # what is missing is said before an hour of runs, not after it
        python = peers_python(peers) if side.peer else Path(sys.executable)
        if side.preload:
            preload_libraries(python)
    # SIGTERM as Ctrl-C: the side that is running must not outlive its runner.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    about = {
        "event": "case",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "command": f"python -m benchmarks.{claim} {' '.join(sys.argv[1:])}".strip(),
        "load_before": os.getloadavg()[0],
        "plan": {"repeats": plan.repeats, "steps": plan.steps, "warmup": plan.warmup},
        **describe_machine(),
    }
    rows: list[Row] = [{"case": case, **about}]
    path = results / f"{claim}.jsonl"
    others = [row for row in read_results(path) if row["case"] != case]
    order = [("memory", 0)] if plan.memory else []
    order += [("timed", repeat) for repeat in range(plan.repeats)]
    failed: set[str] = set()
    for kind, repeat in order:
        for index, side in enumerate(sides):
            if side.name in failed:
                continue
            python = peers_python(peers) if side.peer else Path(sys.executable)
            print(f"{claim}, {case}: {side.name}, {kind} run {repeat + 1}", file=sys.stderr, flush=True)
            lines = run_side(
                side, plan, scratch=scratch / claim / f"side-{index}", python=python,
                sample_memory=kind == "memory",
            )  # fmt: skip
            failed |= {side.name for line in lines if line["event"] == "failed"}
            kept = {**side.settings, "preload": side.preload, "environment": dict(side.environment) or None}
            named = {"case": case, "side": side.name, "kind": kind}
            rows += [{**named, "repeat": repeat, **line} for line in lines]
            if repeat == 0:
                rows.append({**named, "event": "settings", "settings": kept})
            write_results(path, [*others, *rows])
            said = [line for line in lines if line["event"] == "failed"]
            if said:
                print(f"  failed ({said[0]['code']}): {said[0]['said']}", file=sys.stderr, flush=True)
    return rows


def read_results(path: Path) -> list[Row]:
    """All lines of a results file; none when it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Replace a results file as a whole, free of this machine's paths."""
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    part = path.with_suffix(".part")
    part.write_text(text.replace(f"{ROOT}/", ""))
    part.replace(path)
