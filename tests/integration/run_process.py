"""A `fourstage` command as a process of its own, with a look at everything that it starts and a way to kill all of it.

Ray starts daemons, and these start workers: they are told apart from everybody else's by a mark in the environment,
which each process inherits from the one that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
_MARK = "FOURSTAGE_TEST_MARK"
_POLL_S = 0.002


class Command:
    """A running `fourstage ARGUMENTS`; its output goes to files, so that it never waits for a reader."""

    def __init__(self, *arguments: str | Path, logs: Path) -> None:
        self.mark = uuid.uuid4().hex
        logs.mkdir(parents=True, exist_ok=True)
        self._stdout, self._stderr = (logs / f"{self.mark}.{name}" for name in ("stdout", "stderr"))
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stages.cli", *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, _MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self.began = time.monotonic()
        self.seconds = 0.0
        self.names: set[str] = set()
        self.ports: set[int] = set()
        self._seen: set[psutil.Process] = set()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.stdout)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Every living process that this command started, directly or not, and its own.

        A process that writes its title writes over the start of its environment, where the mark may be: Ray's workers
        and agents are known as children of what has the mark, and later as what was seen.
        """
        everybody = {process: _parent_pid(process) for process in psutil.process_iter() if _is_alive(process)}
        mine = {process for process in everybody if process in self._seen or self._is_marked(process)}
        while True:
            pids = {process.pid for process in mine}
            children = {process for process, parent in everybody.items() if parent in pids} - mine
            if not children:
                break
            mine |= children
        self._seen |= mine
        return sorted(mine, key=lambda process: process.pid)

    def _is_marked(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.environ().get(_MARK) == self.mark
        return False

    def look(self) -> None:
        """Note the processes that run now and the ports on which they listen."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                self.names.add(" ".join(process.cmdline()))
                self.ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}

    def ports_left(self) -> set[int]:
        """Ports on which a process of this command still listens.

        Ports are drawn at random from one range, so another test's engine may by now listen on a number that this
        command used: it counts who listens, not the number.
        """
        pids = {process.pid for process in self.processes()}
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        return {c.laddr.port for c in listening if c.pid in pids}

    def finish(self, *, code: int = 0, timeout_s: float = 500) -> Command:
        """Wait for the end; a command that ends with another exit code shows what it wrote."""
        while self._process.poll() is None:
            assert time.monotonic() - self.began < timeout_s, f"no end within {timeout_s} s:\n{self.stderr[-4000:]}"
            self.look()
            time.sleep(0.5)
        self.seconds = time.monotonic() - self.began
        assert self._process.returncode == code, f"exit code {self._process.returncode}:\n{self.stderr[-4000:]}"
        return self

    def wait_for_rows(self, folder: Path, pattern: str, count: int, timeout_s: float = 300) -> None:
        """Return as soon as the file below `folder` with this glob pattern has `count` lines."""
        while sum(_count_lines(path) for path in folder.glob(pattern)) < count:
            assert self._process.poll() is None, f"ended before row {count} of {pattern}:\n{self.stderr[-4000:]}"
            assert time.monotonic() - self.began < timeout_s, f"no row {count} of {pattern}:\n{self.stderr[-4000:]}"
            time.sleep(_POLL_S)

    def terminate(self) -> None:
        """SIGTERM to the command itself, which a scheduler sends before it kills."""
        self._process.terminate()

    def kill_root(self) -> None:
        """kill -9 of the command itself alone; what it started has to end by itself."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_if_running(self) -> None:
        """End everything that a test which failed has left."""
        if self.is_running or self.processes():
            self.kill()

    def children(self) -> list[psutil.Process]:
        """The processes below this one, those included that write over their environment."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def kill(self) -> int:
        """kill -9 of the whole tree, the root first so that nothing goes on meanwhile; returns how many died.

        Ray's daemons die with the root and its workers with them, so all are counted while it stands still.
        """
        self._process.send_signal(signal.SIGSTOP)
        doomed = set(self.processes())
        self._process.kill()
        self._process.wait()
        while living := self.processes():  # a daemon may start one more process before its turn comes
            doomed |= set(living)
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(living, timeout=10)
        return len(doomed)


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _parent_pid(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None
