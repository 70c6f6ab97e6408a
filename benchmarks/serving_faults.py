"""Kills `promote` and `rollback` with `kill -9`, breaks what they work on, and looks at what production points to then.

    python -m benchmarks.serving_faults --kills 200 --record benchmarks/results/serving_faults.jsonl
    python -m benchmarks.serving_faults --table benchmarks/results/serving_faults.jsonl

Each kill hits a process of its own that runs the real command line, forked from one in which the libraries are imported
already, so that the moments fall into the command and not into two seconds of imports. The moment is drawn uniformly
over the time that the command takes undisturbed. After every kill the registry is opened anew: the alias has to be at
the version before or at the new one, every version has to be whole by its hashes, the history has to be without a gap,
and the same command, started again, has to finish. Gates that need an engine are off here; a process that waits for an
engine changes nothing. In `swap` a real server follows the alias, and `promote` is killed while that changes its
weights; the server then has to serve what the alias points to. Exits with 1 when one of these does not hold.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.serving_fault_bench import FORCED, FaultBench, Tally, full_disk
from data.files import JsonLines, read_rows
from learner.checkpoint import MANIFEST, read_manifest, write_checkpoint
from serving.live import servers_of
from serving.registry import Registry, version_before
from tests.serving.checkpoints import WEIGHTS
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
    before = bench.now()
    was_running = bench.kill_after(arguments, seconds)
    known = [version.name for version in Registry(bench.place).versions()]
    # A promotion leads to the newest version, which may not have a name yet when it is killed.
    faults = bench.faults(before, target or known[-1])
    tally.violations += [f"{name} after {seconds:.3f} s: {fault}" for fault in faults]
    moved = bench.now() != before
    if not was_running:
        tally.too_late += 1
        if not moved:
            tally.violations.append(f"{name}: the same command ended and did nothing")
        return moved
    tally.kills += 1
    tally.after += moved
    tally.before += not moved
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
    before, target = bench.now(), _other(bench, names)
    if not bench.kill_after(bench.promote(target), seconds):
        tally.too_late += 1
        return
    tally.kills += 1
    tally.violations += [f"swap after {seconds:.3f} s: {fault}" for fault in bench.faults(before, target)]
    moved = bench.now() != before
    tally.after += moved
    tally.before += not moved
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
        before = bench.now()
        process = bench.start(arguments, lambda number=number: die_before(number))  # type: ignore[misc]
        if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
            return tally
        tally.kills += 1
        known = [version.name for version in Registry(bench.place).versions()]
        tally.violations += [f"{name}, call {number}: {f}" for f in bench.faults(before, target or known[-1])]
        moved = bench.now() != before
        tally.after += moved
        tally.before += not moved
        if not moved and bench.finish(arguments) != 0:
            tally.violations.append(f"{name}, call {number}: the same command does not finish")
    raise AssertionError(f"{name} does not end within {most} calls")


# ---------------------------------------------------------------------------------------------- other faults


def other_faults(bench: FaultBench) -> dict[str, tuple[int, list[str]]]:
    """Each fault with the exit code of `promote` and what is wrong with production afterwards."""
    found: dict[str, tuple[int, list[str]]] = {}
    for name, spoil in (
        ("a truncated weight file", lambda data: data[:-1]),
        ("a flipped byte", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    ):
        checkpoint = bench.checkpoint()
        path, before = checkpoint / WEIGHTS, bench.now()
        path.write_bytes(spoil(path.read_bytes()))
        found[name] = bench.finish(bench.promote(checkpoint)), bench.faults(before)
    checkpoint, before = _with_another_template(bench.folder), bench.now()
    unforced = [argument for argument in bench.promote(checkpoint) if argument not in FORCED]
    found["a template that is not that of training"] = bench.finish(unforced), bench.faults(before)
    return found


def full_disk_fault(folder: Path) -> tuple[int, list[str]]:
    """A promotion into a registry whose disk has no room for the copy; UserError where no small disk can be mounted."""
    with full_disk(folder / "disk", size_bytes=5 << 20) as disk:
        bench = FaultBench(folder / "on-disk", weight_bytes=1 << 20, place=disk / "models")
        before, state = bench.now(), os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - 300_000))
        return bench.finish(bench.promote(bench.checkpoint())), bench.faults(before)


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


def _with_another_template(folder: Path) -> Path:
    """A checkpoint that is whole, and whose manifest says that it was trained with another template than it has."""
    whole, other = save_checkpoint(folder / "whole", stage="base"), folder / "other-template"
    manifest = read_manifest(whole)
    contract = {**manifest.contract, "chat_template_sha256": "0" * 64}

    def copy(partial: Path) -> None:
        shutil.copytree(whole, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    write_checkpoint(other, replace(manifest, contract=contract), copy)
    return other


OPERATIONS = ("promote", "rollback", "swap", "every point", "broken input")


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
        found = other_faults(bench) | {"a full disk": full_disk_fault(folder)}
        refusals = [
            {"fault": name, "exit_code": code, "violations": [*faults, *(["exit code 0"] if code == 0 else [])]}
            for name, (code, faults) in found.items()
        ]
        return [*refusals, two_at_once(bench, rounds=20)]
    tally = kill_at_random(bench, operation, kills=kills, seed=seed, seconds=seconds)
    return [_row(f"{operation}, random moments", tally, seed)]


def _row(name: str, tally: Tally, seed: int) -> dict[str, Any]:
    return {"killed": name, "seed": seed, **asdict(tally)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of one or several recordings as Markdown; those of one name add up."""
    lines = ["| kill -9 of | kills | production at the version before | at the next | wrong |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["killed"] for row in rows if "killed" in row):
        own = [row for row in rows if row.get("killed") == name]
        sums = [sum(row[key] for row in own) for key in ("kills", "before", "after")]
        wrong = sum(len(row["violations"]) for row in own)
        lines.append(f"| {name} | {sums[0]} | {sums[1]} | {sums[2]} | {wrong} |")
    lines += ["", "| fault | exit code of promote | production |", "|---|---|---|"]
    for row in rows:
        if "fault" in row:
            left = "; ".join(row["violations"]) or row.get("left", "whole, as before")
            lines.append(f"| {row['fault']} | {row['exit_code']} | {left} |")
    return "\n".join(lines) + "\n"


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
            rows += record_of(operation, Path(folder), kills=options.kills, seed=options.seed, seconds=options.seconds)
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
