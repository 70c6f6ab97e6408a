"""The served page follows the run, sends what is new, and answers nobody but this machine's own names."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from stages.watch import WatchConfig, WatchServer
from tests.stages.cli_calls import ROOT
from tests.stages.run_folders import KEYS, append, metrics, rollout, run_under_way


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WatchServer]:
    run_under_way(tmp_path)
    with WatchServer(tmp_path, WatchConfig(port=0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


def ask(
    server: WatchServer, method: str, path: str, body: str | None = None, host: str | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def news(server: WatchServer, version: str, held: list[str]) -> dict[str, Any]:
    status, text = ask(server, "POST", f"/live.json?version={version}", json.dumps(held))
    assert status == 200
    return json.loads(text)


def test_the_page_is_that_of_the_run_and_may_ask_its_own_server(server: WatchServer) -> None:
    status, page = ask(server, "GET", "/")
    assert status == 200
    assert "Stage reasoning_rl is not finished: interrupted after step 3." in page
    assert "connect-src &#39;self&#39;" in page
    assert 'data-refresh-s="5.0"' in page


def test_the_page_gets_the_new_steps_and_the_new_block_alone(server: WatchServer) -> None:
    _, page = ask(server, "GET", "/")
    version = re.findall(r'data-version="(\w+)"', page)[0]
    held = re.findall(r'data-block="(\w+)"', page)
    assert len(held) == 2
    assert set(news(server, version, held)) == {"version", "written"}
    folder = server.reader.run.stage_dir("reasoning_rl", KEYS["reasoning_rl"])
    append(folder / "metrics.jsonl", [metrics("reasoning_rl", 4)])
    append(folder / "samples.jsonl", [rollout("reasoning_rl", 4)])
    found = news(server, version, held)
    assert "interrupted after step 4" in found["sections"]["missing"]
    assert len(found["blocks"]) == 1
    assert set(news(server, found["version"], [])) == {"version", "written"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/plan.json", None, 404),
        ("GET", "/../plan.json", None, 404),
        ("POST", "/", "[]", 404),
        ("POST", "/live.json", "{}", 400),
        ("POST", "/live.json", "[1]", 400),
        ("POST", "/live.json", "no", 400),
    ],
)
def test_nothing_but_the_page_and_its_question_is_answered(
    server: WatchServer, method: str, path: str, body: str | None, status: int
) -> None:
    assert ask(server, method, path, body)[0] == status


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:1", 200), ("127.0.0.1", 200), ("evil.example", 403), ("", 403)]
)
def test_another_sites_name_for_this_machine_is_refused(server: WatchServer, host: str, status: int) -> None:
    assert ask(server, "GET", "/", host=host)[0] == status


def test_a_broken_file_is_said_and_the_server_goes_on(server: WatchServer) -> None:
    folder = server.reader.run.stage_dir("reasoning_rl", KEYS["reasoning_rl"])
    with open(folder / "samples.jsonl", "a") as file:
        file.write("{broken}\n")
    status, text = ask(server, "GET", "/")
    assert (status, "samples.jsonl: a line is not JSON" in text) == (503, True)


def test_what_cannot_be_served_is_refused_by_name(tmp_path: Path, server: WatchServer) -> None:
    with pytest.raises(UserError, match=r"is this a run directory\?"):
        WatchServer(tmp_path / "nowhere", WatchConfig(port=0))
    taken = server.server_address[1]
    with pytest.raises(UserError, match=rf"--port: cannot listen on 127.0.0.1:{taken} "):
        WatchServer(tmp_path, WatchConfig(port=taken))
    with pytest.raises(UserError, match="--port: 70000 is no port"):
        WatchConfig(port=70000).validate()
    with pytest.raises(UserError, match="--refresh: 0"):
        WatchConfig(refresh_s=0).validate()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_on_a_signal_and_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    run_under_way(tmp_path)
    command = [sys.executable, "-m", "stages.cli", "watch", str(tmp_path), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.search(r"at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends\)", line), line
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out.strip(), err) == (0, "stopped watching; the run goes on", "")
