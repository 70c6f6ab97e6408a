"""`fourstage serve`: one server for one version or alias of the registry, which follows the alias while it runs.

The flow: resolve and check the version, take the port, start the engine (`serving.engine_app`), put the guard in front
(`serving.guard`), say where it listens (`serving.live`), and from then on look at the alias: when it points elsewhere,
change the weights (`serving.swap`) and say what came of it. All of it ends together, whoever ends first.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import uvicorn

from data.records import UserError
from learner.accelerators import computes_bfloat16
from serving.connections import bounded_connections
from serving.engine_app import ROUTES, EngineApp, engine_app
from serving.folder_rules import require_safe_folder, require_trained_contract
from serving.gate import Gate
from serving.gates_record import engine_of_gates
from serving.guard import Guard
from serving.live import BEAT_S, Announcement, SwapResult
from serving.measured_engine import disagreements, settled
from serving.registry import Registry, Version
from serving.server_config import ServeConfig, ServingEngineConfig, is_loopback
from serving.swap import EngineLost, Swapper

_MAX_HEADER_BYTES = 32 << 10
_IDLE_CONNECTIONS = 64
_HEALTH_POLL_S = 1.0
_KEEP_ALIVE_S = 75  # longer than clients keep an idle connection: who closes first must not be the server


@dataclass(frozen=True, slots=True)
class Served:
    """What a server was asked for: a version, and the alias to follow with the change that it was at, if it has one."""

    name: str
    version: Version
    generation: int | None


def find(registry: Registry, name: str) -> Served:
    """The version of an alias or of that name, whole and fit to be served; UserError otherwise."""
    change = registry.alias(name) if name in registry.aliases() else None
    version = registry.resolve(name) if change is None else registry.version(change.version)
    registry.verify(version)
    require_safe_folder(version.folder, field=f"version {version.name}")
    require_trained_contract(version.folder, version.manifest, field=f"version {version.name}")
    return Served(name, version, None if change is None else change.generation)


def settled_engine(registry: Registry, served: Served, engine: ServingEngineConfig) -> ServingEngineConfig:
    """The engine's settings, those that are left open as the gates of the version measured it."""
    measured = engine_of_gates(registry, served.version, served.name)
    return settled(engine, measured, has_bfloat16=computes_bfloat16())


def require_as_measured(
    registry: Registry, version: Version, name: str, engine: ServingEngineConfig, say: Callable[[str], None]
) -> None:
    """Say how the engine differs from the one that the gates measured the version in; UserError for another precision.

    `name` is the alias or version that is served.
    """
    measured = engine_of_gates(registry, version, name)
    on_gpu = torch.cuda.is_available()
    for line in disagreements(version.name, engine, measured, on_gpu=on_gpu, has_bfloat16=computes_bfloat16()):
        say(f"warning: {line}")


def serve(registry: Registry, name: str, config: ServeConfig, *, say: Callable[[str], None]) -> None:
    """Serve a version or alias until SIGTERM or SIGINT; `say` gets the line with the address, and one for each swap.

    Raises UserError when it cannot start, or when the engine is lost later.
    """
    config.validate()
    served = find(registry, name)
    config = replace(config, engine=settled_engine(registry, served, config.engine))
    require_as_measured(registry, served.version, name, config.engine, say)
    with _listening_socket(config) as listener:
        try:
            asyncio.run(_run(registry, served, config, listener, say))
        except EngineLost as error:
            raise UserError(f"server: {error}; it ended, start it again") from error


async def _run(
    registry: Registry, served: Served, config: ServeConfig, listener: socket.socket, say: Callable[[str], None]
) -> None:
    async with engine_app(config.engine, served.version.folder, served.name) as engine:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # until here they interrupt the start
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        gate = Gate(served.version.name, max_requests=config.max_requests, hold_timeout_s=config.hold_timeout_s)
        guard = Guard(engine.asgi, gate, config, alias=served.name, routes=ROUTES, end_token_ids=engine.end_token_ids)
        swapper = Swapper(
            gate, engine, served.version, verify=registry.verify,
            admit=lambda version: require_as_measured(registry, version, served.name, config.engine, say),
            drain_timeout_s=config.drain_timeout_s, load_timeout_s=config.hold_timeout_s,
        )  # fmt: skip
        address = url_of(listener)
        async with _http_server(guard, config, listener) as http:
            tasks = [http, asyncio.create_task(stop.wait()), asyncio.create_task(_watch_engine(engine))]
            with contextlib.ExitStack() as stack:
                if served.generation is not None:
                    announcement = Announcement(
                        registry, alias=served.name, address=address,
                        version=served.version.name, generation=served.generation,
                    )  # fmt: skip
                    stack.callback(announcement.withdraw)
                    tasks.append(asyncio.create_task(_follow(registry, announcement, swapper, config.poll_s, say)))
                    tasks.append(asyncio.create_task(_keep_announced(announcement)))
                say(f"serving {served.name} ({served.version.name}) on {address}/v1")
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            gate.end("the server is ending")
            for task in tasks[1:]:
                task.cancel()
            for task in done:
                task.result()  # an EngineLost of the watchers, or whatever ended the HTTP server
            if http in done:
                raise EngineLost("the HTTP server ended by itself")


async def _follow(
    registry: Registry, announcement: Announcement, swapper: Swapper, poll_s: float, say: Callable[[str], None]
) -> None:
    """Serve what the alias points to, change by change, for ever."""
    alias = announcement.state.alias
    trouble = ""
    while True:
        await asyncio.sleep(poll_s)
        try:
            change = await asyncio.to_thread(registry.alias, alias)
            if change is None or change.generation == announcement.state.generation:
                continue
            try:
                version = await asyncio.to_thread(registry.version, change.version)
                result = await swapper.to(version)
            except UserError as error:  # the version is gone from the registry, or damaged there
                result = SwapResult(swapper.version.name, 0.0, str(error))
            await asyncio.to_thread(announcement.say, change.generation, result)
            trouble = ""
            say(swap_line(alias, change.generation, result))
        except (UserError, OSError) as error:  # a registry that cannot be read now is no reason to stop serving
            if str(error) != trouble:
                trouble = str(error)
                say(f"{alias}: the registry cannot be read or written ({trouble}); serving {swapper.version.name}")


def swap_line(alias: str, generation: int, result: SwapResult) -> str:
    """What came of a change, in a line."""
    if result.failed is not None:
        return f"{alias}, change {generation}: failed, serving {result.version}: {result.failed}"
    return f"{alias}, change {generation}: serving {result.version}, new requests waited {result.pause_s:.3f} s"


async def _keep_announced(announcement: Announcement, every_s: float = BEAT_S) -> None:
    """Say for ever that this server is there, while it changes its weights too; a full disk is no reason to end."""
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(UserError, OSError):
            await asyncio.to_thread(announcement.beat)


async def _watch_engine(engine: EngineApp) -> None:
    """Return never; raises EngineLost when the engine's process ends."""
    while engine.is_alive:
        await asyncio.sleep(_HEALTH_POLL_S)
    raise EngineLost("the engine's process ended")


# ---- HTTP


class _HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the whole server ends in one order, and its owner sees to it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _http_server(app: Any, config: ServeConfig, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Answer requests within the block; at its end those that run have `shutdown_timeout_s` left."""
    server = _HttpServer(
        uvicorn.Config(
            app,
            http=bounded_connections(
                head_timeout_s=config.head_timeout_s, max_connections=config.max_requests * 2 + _IDLE_CONNECTIONS
            ),
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            ws="none",
            lifespan="on",
            log_level="error",  # warnings are of what strangers send, who could fill a disk with them
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody in front is trusted to say who the caller is
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(config.shutdown_timeout_s)),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if task.done():
            task.result()
            raise EngineLost("the HTTP server did not start")
        yield task
    finally:
        server.should_exit = True
        await asyncio.wait([task])


@contextlib.contextmanager
def _listening_socket(config: ServeConfig) -> Iterator[socket.socket]:
    """A bound socket, taken before the engine starts, which takes longer than it takes to see that a port is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, config.port))
        except OSError as error:
            raise UserError(
                f"--port: cannot listen on {config.host}:{config.port} ({error.strerror}); use another, or 0 for any"
            ) from error
        if config.api_key is None and not is_loopback(listener.getsockname()[0]):
            raise UserError(f"--host: {config.host} is {listener.getsockname()[0]}, which needs an API key")
        yield listener


def url_of(listener: socket.socket) -> str:
    """The address of a bound socket, as a client writes it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def registry_at(place: str | Path) -> Registry:
    """The registry of that place; UserError when a folder that does not exist is named."""
    if "://" not in str(place) and not Path(place).is_dir():
        raise UserError(f"--registry: {place} is no folder; `fourstage promote` makes one")
    return Registry(place)
