"""The end of what Ray started; that it starts, and leaves nothing, is seen in every integration test that uses it."""

from __future__ import annotations

import sys

import psutil
import pytest

from stages.ray_daemons import await_end, with_descendants


def test_processes_that_do_not_end_by_themselves_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.ray_daemons._END_TIMEOUT_S", 0.2)
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    await_end(with_descendants(psutil.Process(process.pid)))
    assert not psutil.pid_exists(process.pid)
