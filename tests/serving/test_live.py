"""Servers that say what they serve, and those who read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data.process_identity import start_of
from data.records import UserError
from serving.live import SILENT_S, Announcement, SwapResult, servers_folder, servers_of
from serving.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def announce(registry: Registry, alias: str = "production", generation: int = 3) -> Announcement:
    return Announcement(registry, alias=alias, address="http://127.0.0.1:1", version="v1", generation=generation)


def test_a_server_is_found_by_its_alias_until_it_withdraws(registry: Registry) -> None:
    announcement = announce(registry)
    announce(registry, alias="staging")
    (server,) = servers_of(registry, "production")
    assert (server.state.address, server.state.version, server.state.generation) == ("http://127.0.0.1:1", "v1", 3)
    assert server.is_running
    announcement.withdraw()
    announcement.withdraw()
    assert servers_of(registry, "production") == []
    assert len(servers_of(registry, "staging")) == 1


def test_where_no_server_ever_ran_there_is_none(registry: Registry) -> None:
    assert servers_of(registry, "production") == []


def test_a_change_that_was_dealt_with_is_told_at_once(registry: Registry) -> None:
    announcement = announce(registry)
    (server,) = servers_of(registry, "production")
    assert server.wait_for(3, 0.0) == SwapResult("v1", 0.0, None)
    announcement.say(4, SwapResult("v2", 0.25, None))
    assert server.wait_for(4, 5.0) == SwapResult("v2", 0.25, None)


def test_who_waits_hears_of_success_and_of_failure(registry: Registry) -> None:
    announcement = announce(registry)
    (server,) = servers_of(registry, "production")
    for generation, result in ((4, SwapResult("v2", 0.5, None)), (5, SwapResult("v2", 0.1, "it did not load"))):
        timer = threading.Timer(0.1, announcement.say, (generation, result))
        timer.start()
        assert server.wait_for(generation, 10.0) == result
        timer.join()


def test_a_server_that_says_nothing_has_failed(registry: Registry) -> None:
    announce(registry)
    (server,) = servers_of(registry, "production")
    result = server.wait_for(4, 0.1)
    assert result.version == "v1"
    assert result.failed == "the server http://127.0.0.1:1 did not say within 0.1 s what it serves"


def _foreign_file(registry: Registry, pid: int, started: str | None, **changes: object) -> Path:
    """The file of a server that is another process."""
    announcement = announce(registry)
    state = json.loads(announcement.path.read_text())
    announcement.withdraw()
    path = servers_folder(registry) / f"production.other.{pid}.json"
    path.write_text(json.dumps({**state, "pid": pid, "started": started, **changes}))
    return path


def test_the_file_of_a_killed_server_is_removed_and_who_waited_for_it_is_told(registry: Registry) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = _foreign_file(registry, process.pid, start_of(process.pid))
    (server,) = servers_of(registry, "production")
    killer = threading.Timer(0.1, process.kill)
    killer.start()
    result = server.wait_for(4, 30.0)  # it is a zombie until somebody takes note of its end
    assert result.failed == f"the server http://127.0.0.1:1 (process {process.pid}) ended"
    process.wait()
    assert path.exists()
    assert servers_of(registry, "production") == []
    assert not path.exists()


def test_another_process_with_the_same_id_is_not_the_server(registry: Registry) -> None:
    _foreign_file(registry, os.getpid(), "1")
    assert servers_of(registry, "production") == []


def test_a_server_of_another_machine_runs_while_it_touches_its_file(registry: Registry) -> None:
    path = _foreign_file(registry, 999_999_999, "1", host_name="elsewhere")
    (server,) = servers_of(registry, "production")
    assert server.wait_for(4, 0.05).failed == "the server http://127.0.0.1:1 did not say within 0.05 s what it serves"
    before = time.time() - SILENT_S - 1
    os.utime(path, (before, before))
    assert str(server.wait_for(4, 30).failed).endswith("ended")
    assert servers_of(registry, "production") == []
    assert not path.exists()
    assert not server.is_running


def test_a_beat_keeps_the_file_fresh_and_writes_one_that_was_removed(registry: Registry) -> None:
    announcement = announce(registry)
    text = announcement.path.read_text()
    os.utime(announcement.path, (0, 0))
    announcement.beat()
    assert time.time() - announcement.path.stat().st_mtime < SILENT_S
    announcement.path.unlink()
    announcement.beat()
    assert announcement.path.read_text() == text
    announcement.withdraw()
    announcement.beat()
    assert not announcement.path.exists()


def test_a_file_that_no_server_wrote_is_named(registry: Registry) -> None:
    announce(registry)
    (servers_folder(registry) / "other.json").write_text('{"alias": "production"}')
    with pytest.raises(UserError, match=r"other\.json: is not what a server writes"):
        servers_of(registry, "production")


def test_a_server_that_withdraws_meanwhile_has_ended(registry: Registry) -> None:
    announcement = announce(registry)
    (server,) = servers_of(registry, "production")
    announcement.withdraw()
    began = time.monotonic()
    assert "ended" in str(server.wait_for(4, 30.0).failed)
    assert time.monotonic() - began < 5


def test_servers_of_a_remote_registry_are_those_of_this_machine(tmp_path: Path) -> None:
    registry = Registry("memory://bucket-of-servers/models", cache=tmp_path / "cache")
    announce(registry)
    assert len(servers_of(registry, "production")) == 1
    assert list((tmp_path / "cache" / "servers").iterdir())
