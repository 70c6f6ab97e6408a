"""The servers that run now: each says in a small file what it serves; who moves an alias reads there what came of it.

The alias in the registry is the truth; a server follows it by itself. A file has one writer, its server, which replaces
it whole; readers tell a server that ended from one that runs by its process id and start time, and on another machine,
or in another container, by how long ago it touched its file. No request is sent, so neither a key nor a path for it is
needed.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from data.files import read_json, write_json
from data.process_identity import start_of
from data.records import UserError
from serving.places import LocalPlace, RemotePlace
from serving.registry import Registry

_POLL_S = 0.05
BEAT_S = 10.0
"""How often a server touches its file."""
SILENT_S = 120.0
"""A server of another machine whose file was not touched for so long has ended; clocks may differ by a minute."""


@dataclass(frozen=True, slots=True)
class SwapResult:
    """What became of a change: the version that the server serves now, how long new requests waited, why it failed."""

    version: str
    pause_s: float
    failed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What a server says: who it is, and what the last change of its alias led to.

    `generation` is the newest change of the alias that it has dealt with. With `failed` it serves `version` as before.
    """

    alias: str
    address: str
    pid: int
    started: str | None
    host_name: str
    version: str
    generation: int
    pause_s: float
    failed: str | None


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that serves an alias, as its file says it."""

    path: Path
    state: ServerState

    @property
    def is_running(self) -> bool:
        """Whether its process runs; that of another machine cannot be looked at, and runs while it touches its file."""
        if self.state.host_name == socket.gethostname():
            return start_of(self.state.pid) == self.state.started
        try:
            return time.time() - self.path.stat().st_mtime < SILENT_S
        except FileNotFoundError:  # it withdrew
            return False

    def wait_for(self, generation: int, timeout_s: float) -> SwapResult:
        """Wait until the server has dealt with this change of its alias, or a later one; never raises for a server.

        A server that ends meanwhile, or says nothing for `timeout_s` seconds, has failed.
        """
        deadline = time.monotonic() + timeout_s
        state = self.state
        while True:
            state = _read(self.path) or state
            if state.generation >= generation:
                return SwapResult(state.version, state.pause_s, state.failed)
            if not replace(self, state=state).is_running or not self.path.exists():
                return SwapResult(state.version, 0.0, f"the server {state.address} (process {state.pid}) ended")
            if time.monotonic() >= deadline:
                reason = f"the server {state.address} did not say within {timeout_s:g} s what it serves"
                return SwapResult(state.version, 0.0, reason)
            time.sleep(_POLL_S)


class Announcement:
    """The file of the server that this process is: written when it serves, rewritten after each change, then gone.

    Meanwhile `beat` says every `BEAT_S` seconds that the server is still there.
    """

    def __init__(self, registry: Registry, *, alias: str, address: str, version: str, generation: int) -> None:
        folder = servers_folder(registry)
        folder.mkdir(parents=True, exist_ok=True)
        self.state = ServerState(
            alias=alias,
            address=address,
            pid=os.getpid(),
            started=start_of(os.getpid()),
            host_name=socket.gethostname(),
            version=version,
            generation=generation,
            pause_s=0.0,
            failed=None,
        )
        self._withdrawn = False
        self.path = folder / f"{alias}.{self.state.host_name}.{os.getpid()}.json"
        write_json(self.path, asdict(self.state))

    def say(self, generation: int, result: SwapResult) -> None:
        """Tell what the change of this generation led to."""
        state = replace(
            self.state, generation=generation, version=result.version, pause_s=result.pause_s, failed=result.failed
        )
        write_json(self.path, asdict(state))
        self.state = state  # what could not be written was not told, and is told again

    def beat(self) -> None:
        """Touch the file; one that somebody removed, to whom this server seemed to have ended, is written anew."""
        if self._withdrawn:
            return
        try:
            os.utime(self.path)
        except FileNotFoundError:
            write_json(self.path, asdict(self.state))

    def withdraw(self) -> None:
        """This server serves no more."""
        self._withdrawn = True
        self.path.unlink(missing_ok=True)


def servers_folder(registry: Registry) -> Path:
    """Where servers say what they serve: in the registry's folder, or in this machine's cache of a remote one."""
    place = registry.place
    if isinstance(place, LocalPlace):
        return place.root / "servers"
    if isinstance(place, RemotePlace):
        return place.cache / "servers"
    raise TypeError(f"registry: a place of type {type(place).__name__} has no folder for servers")


def servers_of(registry: Registry, alias: str) -> list[LiveServer]:
    """The servers that serve this alias now, by address; the files of those that ended are removed."""
    found = []
    for path in sorted(servers_folder(registry).glob("*.json")):
        state = _read(path)
        if state is None or state.alias != alias:
            continue
        server = LiveServer(path, state)
        if server.is_running:
            found.append(server)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda server: server.state.address)


def _read(path: Path) -> ServerState | None:
    """What a file says; None when it was removed meanwhile."""
    if not path.exists():
        return None
    try:
        value = read_json(path)
    except UserError:
        if path.exists():
            raise
        return None
    names = {item.name for item in fields(ServerState)}
    if not isinstance(value, dict) or value.keys() != names:
        raise UserError(f"{path}: is not what a server writes; delete it when no server of this registry runs")
    return ServerState(**value)
