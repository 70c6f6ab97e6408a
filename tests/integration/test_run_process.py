"""Which processes and ports the tests' look at a command takes for the command's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.run_process import Command

pytestmark = pytest.mark.integration

_LISTEN = """
import socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""
_LISTEN_IN_A_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {_LISTEN!r}], env={{}})
"""


@contextmanager
def listening(code: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs `code` until its standard input is closed, and the port that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.communicate()


def test_what_has_the_mark_and_its_children_are_the_commands_and_nobody_else(tmp_path: Path) -> None:
    command = Command("--help", logs=tmp_path).finish()
    marked = {**os.environ, "FOURSTAGE_TEST_MARK": command.mark}
    other = {**os.environ, "FOURSTAGE_TEST_MARK": "another"}
    with (
        listening(_LISTEN, marked) as (_, own),
        listening(_LISTEN_IN_A_CHILD, marked) as (parent, of_child),
        listening(_LISTEN, other) as (_, anothers),
        listening(_LISTEN, dict(os.environ)) as (_, nobodys),
    ):
        command.look()
        assert {own, of_child} <= command.ports
        assert not {anothers, nobodys} & command.ports
        assert command.ports_left() == {own, of_child}
        # The child of one that is gone has no mark and no parent, and was seen.
        (child,) = psutil.Process(parent.pid).children()
        psutil.Process(parent.pid).kill()
        parent.wait()
        assert command.ports_left() == {own, of_child}
        assert child in command.processes()
    child.wait(timeout=10)
    assert command.ports_left() == set()
    assert command.processes() == []
