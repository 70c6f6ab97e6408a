"""Kills `promote` and `rollback` with `kill -9`, breaks what they work on, and looks at what production points to then.

    python -m benchmarks.serving_faults --kills 200 --swaps 200 --out benchmarks/results/serving_faults.md

Each kill hits a process of its own that runs the real command line, forked from one in which the libraries are imported
already, so that the moments fall into the command and not into two seconds of imports. The moment is drawn uniformly
over the time that the command takes undisturbed. After every kill the registry is opened anew: the alias has to be at
the version before or at the new one, every version has to be whole by its hashes, the history has to be without a gap,
and the same command, started again, has to finish. Gates that need an engine are off here; a process that waits for an
engine changes nothing. With `--swaps` a real server follows the alias, and `promote` is killed while that changes its
weights; the server then has to serve what the alias points to. Exits with 1 when one of these does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import describe_machine
from data.records import UserError
from learner.checkpoint import MANIFEST, read_manifest, write_checkpoint
from serving.live import servers_of
from serving.registry import Registry, version_before
from stages import cli
from tests.serving.checkpoints import WEIGHTS, small_checkpoint
from tests.serving.served_models import save_checkpoint

WEIGHT_BYTES = 8 << 20
GATES = """
name: folder alone
licence: {spdx: Apache-2.0}
parity: null
benchmarks: null
think_follow: null
swap_timeout_s: 2
"""
FORCED = ("--force", "a model of eight megabytes of one byte")
"""These checkpoints have no tokenizer, so that two gates fail; what is tested here comes after the gates."""


@dataclass(slots=True)
class Tally:
    """What the kills of one operation came to."""

    kills: int = 0
    before: int = 0
    after: int = 0
    too_late: int = 0
    violations: list[str] = field(default_factory=list)


class FaultBench:
    """A registry in which production has moved twice, and the means to disturb what moves it next."""

    def __init__(self, folder: Path, *, weight_bytes: int = WEIGHT_BYTES, place: Path | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.place = place if place is not None else folder / "models"
        self.gates = folder / "gates.yaml"
        self.gates.write_text(GATES, encoding="utf-8")
        self.weight_bytes = weight_bytes
        self._count = 0
        for _ in range(2):
            assert self.finish(self.promote(self.checkpoint())) == 0
        _import_what_commands_import()

    def checkpoint(self) -> Path:
        """A checkpoint of content that the registry does not hold yet."""
        self._count += 1
        folder = self.folder / f"checkpoint-{self._count}"
        return small_checkpoint(folder, fill=self._count % 256, size=self.weight_bytes, key=f"k{self._count}")

    def promote(self, checkpoint: str | Path) -> list[str]:
        options = ["--registry", str(self.place), "--gates", str(self.gates), "--plain"]
        return ["promote", str(checkpoint), *options, *FORCED]

    def rollback(self) -> list[str]:
        return ["rollback", "production", "--registry", str(self.place)]

    def start(self, arguments: Sequence[str], prepare: Callable[[], None] | None = None) -> int:
        """Run a command in a process of its own; returns its number."""
        process = os.fork()
        if process:
            return process
        code = 70
        try:  # the child: nothing of the parent may run on in it
            sink = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(sink, descriptor)
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            sys.argv = ["fourstage", *arguments]
            if prepare is not None:
                prepare()
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        finally:
            os._exit(code)

    def finish(self, arguments: Sequence[str]) -> int:
        """Run a command to its end; returns the exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(arguments), 0)[1])

    def kill_after(self, arguments: Sequence[str], seconds: float) -> bool:
        """Kill a command after so long; whether it was still running."""
        process = self.start(arguments)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(process, 0)[1])

    def now(self) -> str:
        change = Registry(self.place).alias("production")
        assert change is not None
        return change.version

    def faults(self, *allowed: str) -> list[str]:
        """What is wrong with the registry; `allowed` are the versions at which production may be."""
        registry, found = Registry(self.place), []
        try:
            versions = {version.name: version for version in registry.versions()}
            for version in versions.values():
                registry.verify(version)
            history = registry.history("production")
        except UserError as error:
            return [str(error)]
        if [change.generation for change in history] != list(range(1, len(history) + 1)):
            found.append(f"history has gaps: {[change.generation for change in history]}")
        if history[-1].version not in versions:
            found.append(f"production is at {history[-1].version}, which is no version")
        if history[-1].version not in allowed:
            found.append(f"production is at {history[-1].version}, not at one of {', '.join(allowed)}")
        return found


def _import_what_commands_import() -> None:
    import rich.table
    import transformers
    import yaml

    import serving.live
    import stages.promotion

    del rich, transformers, yaml, serving, stages


def kill_promotions_and_rollbacks(bench: FaultBench, *, kills: int, seed: int) -> dict[str, Tally]:
    """Kill each of the two so often at random moments; the other half of every pair brings the registry along."""
    rng = random.Random(seed)
    tallies = {"promote": Tally(), "rollback": Tally()}
    takes = {name: _undisturbed(bench, name) for name in tallies}
    while min(tally.kills for tally in tallies.values()) < kills:
        for name, tally in tallies.items():
            if tally.kills < kills:
                _kill_once(bench, name, tally, rng.uniform(0, takes[name]))
    return tallies


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


def _kill_once(bench: FaultBench, name: str, tally: Tally, seconds: float) -> None:
    arguments, target = _next(bench, name)
    before = bench.now()
    was_running = bench.kill_after(arguments, seconds)
    if not was_running:
        tally.too_late += 1
        return
    tally.kills += 1
    after = bench.now()
    known = [version.name for version in Registry(bench.place).versions()]
    # A promotion leads to the newest version, which may not have a name yet when it is killed.
    faults = bench.faults(before, target or known[-1])
    tally.violations += [f"{name} after {seconds:.3f} s: {fault}" for fault in faults]
    moved = after != before
    tally.after += moved
    tally.before += not moved
    if not moved:  # the same command again does what the killed one could not
        if bench.finish(arguments) != 0:
            tally.violations.append(f"{name} after {seconds:.3f} s: the same command does not finish")
        elif bench.now() == before:
            tally.violations.append(f"{name} after {seconds:.3f} s: the same command did nothing")


# ---------------------------------------------------------------------------------------------- swaps


def kill_during_swaps(folder: Path, *, kills: int, seed: int) -> Tally:
    """Kill `promote` at random moments while a real server changes its weights to what it promotes, to and fro."""
    from tests.integration.serving_process import ServerProcess

    folder.mkdir()
    bench = FaultBench(folder / "bench", weight_bytes=1 << 10)
    registry, rng, tally = Registry(bench.place), random.Random(seed), Tally()
    made = [save_checkpoint(folder / f"model-{index}", seed=index, stage="base") for index in range(2)]
    names = [registry.add(checkpoint).name for checkpoint in made]
    assert bench.finish(bench.promote(names[0])) == 0
    server = ServerProcess(registry, "production", logs=folder / "logs")
    try:
        server.wait()
        takes = statistics.median(_timed_swap(bench, names) for _ in range(3))
        while tally.kills < kills:
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


@contextlib.contextmanager
def full_disk(folder: Path, *, free_bytes: int) -> Iterator[Path]:
    """A small file system of its own at `folder`; raises UserError where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={free_bytes}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        raise UserError("full disk: this user may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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


def _with_another_template(folder: Path) -> Path:
    """A checkpoint that is whole, and whose manifest says that it was trained with another template than it has."""
    whole, other = save_checkpoint(folder / "whole", stage="base"), folder / "other-template"
    manifest = read_manifest(whole)
    contract = {**manifest.contract, "chat_template_sha256": "0" * 64}

    def copy(partial: Path) -> None:
        shutil.copytree(whole, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    write_checkpoint(other, replace(manifest, contract=contract), copy)
    return other


def table(tallies: dict[str, Tally], points: dict[str, Tally], others: dict[str, tuple[int, list[str]]]) -> str:
    """The results as Markdown."""
    lines = ["| kill -9 | kills | alias at the version before | at the next | wrong |", "|---|---|---|---|---|"]
    for name, tally in tallies.items():
        wrong = len(tally.violations)
        lines.append(f"| {name}, random moments | {tally.kills} | {tally.before} | {tally.after} | {wrong} |")
    for name, tally in points.items():
        wrong = len(tally.violations)
        lines.append(f"| {name}, before every call | {tally.kills} | {tally.before} | {tally.after} | {wrong} |")
    lines += ["", "| fault | exit code of promote | production |", "|---|---|---|"]
    for name, (code, faults) in others.items():
        lines.append(f"| {name} | {code} | {'; '.join(faults) or 'untouched'} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kills of each operation")
    parser.add_argument("--swaps", type=int, default=0, help="kills while a real server changes its weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file to write the table to")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        bench = FaultBench(Path(folder))
        tallies = kill_promotions_and_rollbacks(bench, kills=options.kills, seed=options.seed)
        if options.swaps:
            tallies["promote, while a server swaps"] = kill_during_swaps(
                Path(folder) / "swaps", kills=options.swaps, seed=options.seed
            )
        points = {name: kill_at_every_point(bench, name) for name in ("promote", "rollback")}
        others = other_faults(bench)
    text = table(tallies, points, others)
    machine = describe_machine()
    where = f"Seed {options.seed}, commit {machine['commit']}, {machine['cores']} cores of {machine['processor']}."
    text = f"{where}\n\n{text}"
    print(text, end="")
    violations = [v for tally in (*tallies.values(), *points.values()) for v in tally.violations]
    for violation in violations:
        print(violation, file=sys.stderr)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return 1 if violations or any(faults or code == 0 for code, faults in others.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
