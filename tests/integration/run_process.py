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
_TEST_WORKER = "PYTEST_XDIST_WORKER"  # set by pytest-xdist, and inherited by everything that its worker starts
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
        """Every living process that this command started, directly or not, and its own."""
        return [process for process in psutil.process_iter() if self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == self.mark
        return False

    def look(self) -> None:
        """Note the processes that run now and the ports on which they listen."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                self.names.add(" ".join(process.cmdline()))
                self.ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}

    def ports_left(self) -> set[int]:
        """Ports of this command on which somebody still listens who is not provably somebody else.

        Ports are drawn at random from one range, so another test's engine may by now listen on a number that this
        command used; its environment names another test worker or another command.
        """
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        return {c.laddr.port for c in listening if c.laddr.port in self.ports and not self._is_anothers(c.pid)}

    def _is_anothers(self, pid: int | None) -> bool:
        if pid is None:  # of another user
            return True
        try:
            environment = psutil.Process(pid).environ()
        except psutil.NoSuchProcess:
            return True  # ended since
        except psutil.Error:
            return False
        if _MARK in environment:
            return environment[_MARK] != self.mark
        return environment.get(_TEST_WORKER) not in (None, os.environ.get(_TEST_WORKER))

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
        """kill -9 of the whole tree, the root first so that nothing goes on meanwhile; returns how many died."""
        killed = int(self.is_running)
        self._process.kill()
        self._process.wait()
        while living := self.processes():  # a daemon may start one more process before its turn comes
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed += 1
            psutil.wait_procs(living, timeout=10)
        return killed


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
