"""`fourstage watch`: serves the page of a run while it goes on.

One page and one question: the page asks for what is newer than what it shows and gets the changed sections and the new
blocks of rollouts. Reads the run directory and nothing else, and takes no lock, so it never disturbs the run.
"""

from __future__ import annotations

import http.server
import ipaddress
import json
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from data.records import UserError
from evals.page.document import LivePage
from stages.run_report import RunReader

_MAX_BODY_BYTES = 1 << 20
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchConfig:
    """Where the page is served: `port` 0 takes a free one; a page asks for news every `refresh_s` seconds."""

    host: str = "127.0.0.1"
    port: int = 8642
    refresh_s: float = 5.0

    def validate(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port: {self.port} is no port; use 0 (any free one) to 65535")
        if not self.refresh_s >= 0.2:
            raise UserError(f"--refresh: {self.refresh_s} s is too often; use 0.2 or more")


class WatchServer(http.server.ThreadingHTTPServer):
    """The server of one run's page; reading the run is one request's work at a time."""

    daemon_threads = True

    def __init__(self, run_dir: Path, config: WatchConfig) -> None:
        config.validate()
        self.reader = RunReader(run_dir)
        self.reader.read()  # what is no run directory is said before the port is taken
        self.page = LivePage(config.refresh_s)
        self.guard = threading.Lock()
        self.allowed_names = frozenset({*_LOCAL_NAMES, config.host})
        self.any_name = not _is_loopback(config.host)
        try:
            super().__init__((config.host, config.port), _Handler)
        except OSError as error:
            raise UserError(
                f"--port: cannot listen on {config.host}:{config.port} ({error.strerror}); use another, or 0 for any"
            ) from error

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def html(self) -> str:
        """The page as the run stands now."""
        with self.guard:
            return self.page.html(self.reader.read())

    def changes(self, version: str, blocks: list[str]) -> Mapping[str, Any]:
        """What a page of that version that holds these blocks lacks."""
        with self.guard:
            return self.page.changes(self.reader.read(), version=version, blocks=blocks)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WatchServer
    server_version = "fourstage"
    sys_version = ""

    def do_GET(self) -> None:
        if urlsplit(self.path).path not in ("/", "/report.html"):
            self._send(404, "text/plain", "no such page; the run's page is at /")
            return
        self._answer(lambda: ("text/html", self.server.html()))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if url.path != "/live.json" or not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self._send(404, "text/plain", "no such question")
            return
        body = self.rfile.read(int(length))
        try:
            blocks = json.loads(body)
        except ValueError:
            blocks = None
        if not isinstance(blocks, list) or not all(isinstance(block, str) for block in blocks):
            self._send(400, "text/plain", "the body must be a JSON list of names of blocks")
            return
        version = parse_qs(url.query).get("version", [""])[0]
        self._answer(lambda: ("application/json", json.dumps(self.server.changes(version, blocks))))

    def _answer(self, make: Any) -> None:
        if not self._is_own_name():
            self._send(403, "text/plain", "this page is served under the name of this machine alone")
            return
        try:
            kind, text = make()
        except UserError as error:  # a file of the run is broken just now: said in the page's console, and asked again
            self._send(503, "text/plain", str(error))
            return
        self._send(200, kind, text)

    def _is_own_name(self) -> bool:
        """Another site's name that is made to point here must not read the run."""
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:  # such as a bracket that is never closed
            name = None
        return self.server.any_name or name in self.server.allowed_names

    def _send(self, status: int, kind: str, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args  # a line for every question of an open page would bury the address


def watch(run_dir: Path, config: WatchConfig) -> None:
    """Serve the page of a run until Ctrl-C or SIGTERM; prints its address first."""
    with WatchServer(run_dir, config) as server:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            print(f"watching {run_dir} at {server.url} (Ctrl-C ends)", flush=True)  # who reads it may end this at once
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("stopped watching; the run goes on", flush=True)
        finally:
            signal.signal(signal.SIGTERM, before)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
