"""A registry whose production is moved by real commands in processes of their own, which can be killed at will."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from typer.main import get_command

from data.records import UserError
from learner.checkpoint import read_manifest
from serving.registry import AliasChange, Registry, content_hash
from stages import cli
from tests.serving.checkpoints import small_checkpoint

WEIGHT_BYTES = 2 << 20
GATES = """
name: folder alone
licence: {spdx: Apache-2.0}
parity: null
benchmarks: null
think_follow: null
swap_timeout_s: 2
"""
FORCED = ("--force", "two megabytes of one byte")
"""These checkpoints have no tokenizer, so that two gates fail; what is tested here comes after the gates."""


@dataclass(slots=True)
class Tally:
    """What the kills of one operation came to."""

    kills: int = 0
    before: int = 0
    after: int = 0
    too_late: int = 0
    violations: list[str] = field(default_factory=list)

    def count(self, moved: bool) -> None:
        """Add a kill, after which production had moved or not."""
        self.kills += 1
        self.after += moved
        self.before += not moved


@dataclass(frozen=True, slots=True)
class Standing:
    """Where production is: the number of its last move, the version, and the hash of the content that lies there."""

    generation: int
    version: str
    content: str


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
        self._whole: set[str] = set()
        made = [self.checkpoint(), self.checkpoint()]
        self._command = get_command(cli.app)
        self._go_through(made[0])
        for checkpoint in made:
            assert self.finish(self.promote(checkpoint)) == 0

    def _go_through(self, checkpoint: Path) -> None:
        """Do here once what a promotion does before it changes anything, for the modules that this imports.

        Forked processes have them then, and begin with what is to be disturbed.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            self._command.main([*self.promote(checkpoint), "--dry-run"], standalone_mode=False)

    def checkpoint(self) -> Path:
        """A checkpoint of content that the registry does not hold yet."""
        self._count += 1
        folder = self.folder / f"checkpoint-{self._count}"
        return small_checkpoint(folder, fill=self._count % 256, size=self.weight_bytes, key=f"k{self._count}")

    def promote(self, checkpoint: str | Path) -> list[str]:
        options = ["--registry", str(self.place), "--gates", str(self.gates), "--plain", "--json"]
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
            cli.app = self._command  # type: ignore[assignment]  # the same, put together before the fork
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

    def history(self) -> list[AliasChange]:
        return Registry(self.place).history("production")

    def now(self) -> str:
        return self.history()[-1].version

    def standing(self) -> Standing:
        """Where production is, with the hash of what lies on the disk; UserError when a file is not as it should be."""
        registry = Registry(self.place)
        change = registry.alias("production")
        assert change is not None
        version = registry.version(change.version)
        registry.verify(version)
        return Standing(change.generation, change.version, content_hash(read_manifest(version.folder)))

    def untouched_since(self, before: Standing, *, num_moves: int = 0) -> list[str]:
        """What is wrong unless production is where it was, after so many moves (away and back), with all else whole."""
        faults = self.faults(before.version)
        if not faults and (now := self.standing()) != replace(before, generation=before.generation + num_moves):
            faults.append(f"production was at {before} and is at {now}")
        return faults

    def moved_since(self, before: Standing, target: str | None) -> tuple[bool, list[str]]:
        """Whether production moved, and what is wrong: it has to be as it was, or one move on at `target`.

        None as target is the newest version, which may not have had a name yet when a promotion was killed.
        """
        target = target or Registry(self.place).versions()[-1].name
        moved = len(self.history()) != before.generation
        if not moved:
            return False, self.untouched_since(before)
        faults = self.faults(target)
        if len(self.history()) != before.generation + 1:
            faults.append(f"production moved {len(self.history()) - before.generation} times")
        return True, faults

    def everything_is_whole(self) -> list[str]:
        """What is wrong with any version or record, all read anew."""
        self._whole.clear()
        return self.faults(self.now())

    def faults(self, *allowed: str) -> list[str]:
        """What is wrong with the registry; `allowed` are the versions at which production may be.

        A version that was whole before is read again when production is at it, and by `everything_is_whole`.
        """
        registry, found = Registry(self.place), []
        try:
            versions = {version.name: version for version in registry.versions()}
            history = registry.history("production")
            for version in versions.values():
                if version.name not in self._whole or version.name == history[-1].version:
                    registry.verify(version)
                    self._whole.add(version.name)
        except UserError as error:
            return [str(error)]
        if [change.generation for change in history] != list(range(1, len(history) + 1)):
            found.append(f"history has gaps: {[change.generation for change in history]}")
        if history[-1].version not in versions:
            found.append(f"production is at {history[-1].version}, which is no version")
        if history[-1].version not in allowed:
            found.append(f"production is at {history[-1].version}, not at one of {', '.join(allowed)}")
        return found
