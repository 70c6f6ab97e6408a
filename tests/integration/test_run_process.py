"""Which ports the tests' look at a command calls left over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_only_a_port_of_somebody_who_shows_to_be_another_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    command = Command("--help", logs=tmp_path).finish()
    left = {
        "its own": {**os.environ, "FOURSTAGE_TEST_MARK": command.mark},
        "of this worker, without a mark": dict(os.environ),
        "with no environment at all": {},
    }
    anothers = {
        "of another worker": {**os.environ, "PYTEST_XDIST_WORKER": "gw1"},
        "of another command": {**os.environ, "FOURSTAGE_TEST_MARK": "another"},
    }
    listeners = {
        name: subprocess.Popen(
            [sys.executable, "-c", _LISTEN], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, env in (left | anothers).items()
    }
    try:
        ports = {name: int(listener.stdout.readline()) for name, listener in listeners.items() if listener.stdout}
        command.ports = set(ports.values())
        assert command.ports_left() == {ports[name] for name in left}
    finally:
        for listener in listeners.values():
            listener.communicate()
    assert command.ports_left() == set()
