"""Kills `promote` and `rollback` with `kill -9`, breaks what they work on, and looks at what production points to then.

    python -m benchmarks.serving_faults --kills 200 --record benchmarks/results/serving_faults.jsonl
    python -m benchmarks.serving_faults --table benchmarks/results/serving_faults.jsonl

Each kill hits a process of its own that runs the real command line, forked from one in which the libraries are imported
already, so that the moments fall into the command and not into two seconds of imports. The moment is drawn uniformly
over the time that the command takes undisturbed. After every kill the registry is opened anew: the alias has to be as
it was (same generation, same content by its hashes) or one move on, at the new version, every version has to be whole,
the history has to be without a gap, and the same command, started again, has to finish. Gates that need an engine are
off here; a process that waits for an engine changes nothing. In `swap` a real server follows the alias, and `promote`
is killed while that changes its weights; the server then has to serve what the alias points to. Exits with 1 when one
of these does not hold.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import describe_machine, file_system
from benchmarks.serving_fault_bench import FaultBench, Tally
from benchmarks.serving_other_faults import (
    engine_fault,
    full_disk_fault,
    input_faults,
    server_faults,
    small_disk,
    two_at_once,
)
from data.files import JsonLines, read_rows
from serving.live import servers_of
from serving.registry import Registry, version_before
from tests.serving.served_models import save_checkpoint


def kill_at_random(bench: FaultBench, name: str, *, kills: int, seed: int, seconds: float = math.inf) -> Tally:
    """Kill `promote` or `rollback` so often, or for so many seconds, at random moments of the time that it takes."""
    rng, tally, end = random.Random(seed), Tally(), time.monotonic() + seconds
    takes = _undisturbed(bench, name)
    arguments: list[str] | None = None
    target: str | None = None
    while tally.kills < kills and time.monotonic() < end:
        if arguments is None:
            arguments, target = _next(bench, name)
        if _kill_once(bench, name, arguments, target, tally, rng.uniform(0, takes)):
            arguments = None  # else the same command is started again, as a user would, and killed again
    if arguments is not None and bench.finish(arguments) != 0:
        tally.violations.append(f"{name}, at the end: the same command does not finish")
    tally.violations += [f"{name}, at the end: {fault}" for fault in bench.everything_is_whole()]
    return tally


def _undisturbed(bench: FaultBench, name: str) -> float:
    """Seconds that an operation takes when nobody disturbs it, the median of three."""
    found = []
    for _ in range(3):
        arguments, _ = _next(bench, name)
        began = time.monotonic()
        assert bench.finish(arguments) == 0
        found.append(time.monotonic() - began)
    return statistics.median(found)


def _next(bench: FaultBench, name: str) -> tuple[list[str], str | None]:
    """The arguments of an operation that has something to do, and where it leads; None: to a version that is new."""
    if name == "promote":
        return bench.promote(bench.checkpoint()), None
    before = version_before(Registry(bench.place).history("production"))
    if before is None:
        assert bench.finish(bench.promote(bench.checkpoint())) == 0
        before = version_before(Registry(bench.place).history("production"))
    return bench.rollback(), before


def _kill_once(
    bench: FaultBench, name: str, arguments: Sequence[str], target: str | None, tally: Tally, seconds: float
) -> bool:
    """Kill a command after so long and look; returns whether production moved. One that ended before has to have."""
    before = bench.standing()
    was_running = bench.kill_after(arguments, seconds)
    moved, faults = bench.moved_since(before, target)
    tally.violations += [f"{name} after {seconds:.3f} s: {fault}" for fault in faults]
    if not was_running:
        tally.too_late += 1
        if not moved:
            tally.violations.append(f"{name}: the same command ended and did nothing")
        return moved
    tally.count(moved)
    return moved


# ---------------------------------------------------------------------------------------------- swaps


def kill_during_swaps(folder: Path, *, kills: int, seed: int, seconds: float = math.inf) -> Tally:
    """Kill `promote` at random moments while a real server changes its weights to what it promotes, to and fro."""
    from tests.integration.serving_process import ServerProcess

    folder.mkdir()
    bench = FaultBench(folder / "bench", weight_bytes=1 << 10)
    registry, rng, tally = Registry(bench.place), random.Random(seed), Tally()
    end = time.monotonic() + seconds
    made = [save_checkpoint(folder / f"model-{index}", seed=index, stage="base") for index in range(2)]
    names = [registry.add(checkpoint).name for checkpoint in made]
    assert bench.finish(bench.promote(names[0])) == 0
    server = ServerProcess(registry, "production", logs=folder / "logs")
    try:
        server.wait()
        takes = statistics.median(_timed_swap(bench, names) for _ in range(3))
        while tally.kills < kills and time.monotonic() < end:
            _kill_swap_once(bench, names, tally, rng.uniform(0, takes))
        server.stop()
    finally:
        server.command.kill_if_running()
    return tally


def _timed_swap(bench: FaultBench, names: Sequence[str]) -> float:
    began = time.monotonic()
    assert bench.finish(bench.promote(_other(bench, names))) == 0
    return time.monotonic() - began


def _other(bench: FaultBench, names: Sequence[str]) -> str:
    """The one of two versions that production is not at."""
    now = bench.now()
    return next(name for name in names if name != now)


def _kill_swap_once(bench: FaultBench, names: Sequence[str], tally: Tally, seconds: float) -> None:
    before, target = bench.standing(), _other(bench, names)
    if not bench.kill_after(bench.promote(target), seconds):
        tally.too_late += 1
        return
    moved, faults = bench.moved_since(before, target)
    tally.violations += [f"swap after {seconds:.3f} s: {fault}" for fault in faults]
    tally.count(moved)
    registry = Registry(bench.place)
    change = registry.alias("production")
    assert change is not None
    for server in servers_of(registry, "production"):
        result = server.wait_for(change.generation, 60)
        if result.failed is not None or result.version != change.version:
            tally.violations.append(f"swap after {seconds:.3f} s: the server is at {result.version}: {result.failed}")


# ---------------------------------------------------------------------------------------------- every point

CALLS = ("link", "rename", "replace", "unlink", "mkdir", "fsync", "ftruncate")
"""Calls into the system that change what lies on the disk; a file's data is written between two of them."""


def die_before(number: int) -> None:
    """Let this process die, by kill -9 of itself, before the call of that number (from 0) that changes the disk."""
    left = number

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*arguments, **options)

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def kill_at_every_point(bench: FaultBench, name: str, *, most: int = 200) -> Tally:
    """Kill an operation before the first call that changes the disk, before the second, and so on to its end."""
    tally = Tally()
    for number in range(most):
        arguments, target = _next(bench, name)
        before = bench.standing()
        process = bench.start(arguments, lambda number=number: die_before(number))  # type: ignore[misc]
        if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            return tally
        moved, faults = bench.moved_since(before, target)
        tally.violations += [f"{name}, call {number}: {fault}" for fault in faults]
        tally.count(moved)
        if not moved and bench.finish(arguments) != 0:
            tally.violations.append(f"{name}, call {number}: the same command does not finish")
    raise AssertionError(f"{name} does not end within {most} calls")


# ---------------------------------------------------------------------------------------------- the table

OPERATIONS = ("promote", "rollback", "swap", "every point", "broken input", "broken server", "broken engine")


def record_of(operation: str, folder: Path, *, kills: int, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Do one kind of damage; a row for each line of the table."""
    if operation == "swap":
        tally = kill_during_swaps(folder / "swap", kills=kills, seed=seed, seconds=seconds)
        return [_row("promote while a server swaps, random moments", tally, seed)]
    bench = FaultBench(folder / "bench")
    if operation == "every point":
        names = ("promote", "rollback")
        return [_row(f"{name}, before every call", kill_at_every_point(bench, name), seed) for name in names]
    if operation == "broken input":
        with small_disk(folder / "disk") as disk:
            full = {**_refusal("a full disk", full_disk_fault(folder, disk)), "file_system": file_system(disk)}
        refused = [_refusal(name, found) for name, found in input_faults(bench).items()]
        return [*refused, full, two_at_once(bench, rounds=20)]
    if operation == "broken server":
        left = "whole, as before (there and back)"
        return [{**_refusal(name, found), "left": left} for name, found in server_faults(bench).items()]
    if operation == "broken engine":
        return [_refusal("an engine that does not start", engine_fault(folder, bench))]
    tally = kill_at_random(bench, operation, kills=kills, seed=seed, seconds=seconds)
    return [_row(f"{operation}, random moments", tally, seed)]


def _refusal(name: str, found: tuple[int, list[str]]) -> dict[str, Any]:
    code, faults = found
    return {"fault": name, "exit_code": code, "violations": [*faults, *(["exit code 0"] if code == 0 else [])]}


def _row(name: str, tally: Tally, seed: int) -> dict[str, Any]:
    return {"killed": name, "seed": seed, **asdict(tally)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of one or several recordings as Markdown; those of one name and kind of file system add up."""
    lines = [
        "| kill -9 of | on | kills | production at the version before | at the next | wrong |",
        "|---|---|---|---|---|---|",
    ]
    for name, place in dict.fromkeys((row["killed"], _place(row)) for row in rows if "killed" in row):
        own = [row for row in rows if (row.get("killed"), _place(row)) == (name, place)]
        sums = [sum(row[key] for row in own) for key in ("kills", "before", "after")]
        wrong = sum(len(row["violations"]) for row in own)
        lines.append(f"| {name} | {place} | {sums[0]} | {sums[1]} | {sums[2]} | {wrong} |")
    lines += ["", "| fault | on | exit code of promote | production |", "|---|---|---|---|"]
    for row in rows:
        if "fault" in row:
            left = "; ".join(row["violations"]) or row.get("left", "whole, as before")
            lines.append(f"| {row['fault']} | {_place(row)} | {row['exit_code']} | {left} |")
    return "\n".join(lines) + "\n"


def _place(row: Mapping[str, Any]) -> str:
    return str(row.get("file_system", "not recorded"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "operations", nargs="*", metavar="OPERATION", help=f"of {', '.join(OPERATIONS)}; all by default"
    )
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments of each operation")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop killing after so long; rows add up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="JSON lines to add the rows to")
    parser.add_argument("--table", type=Path, help="only print the table of these JSON lines")
    options = parser.parse_args()
    if options.table is not None:
        print(table(list(read_rows(options.table))), end="")
        return 0
    unknown = [name for name in options.operations if name not in OPERATIONS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no operation; choose from {', '.join(OPERATIONS)}")
    rows = []
    for operation in options.operations or OPERATIONS:
        with TemporaryDirectory() as folder:
            found = record_of(operation, Path(folder), kills=options.kills, seed=options.seed, seconds=options.seconds)
            rows += [{"file_system": file_system(Path(folder)), **row} for row in found]
    print(table(rows), end="")
    if options.record is not None:
        machine = describe_machine()
        with JsonLines(options.record) as lines:
            for row in rows:
                lines.append({**row, "machine": machine})
    violations = [violation for row in rows for violation in row["violations"]]
    for violation in violations:
        print(violation, file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
