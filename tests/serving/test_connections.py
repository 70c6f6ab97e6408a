"""Connections of a real uvicorn on loopback that hold back a request, or are too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from serving.server import _http_server, _listening_socket
from serving.server_config import ServeConfig

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers "ok", after half a second at /slow, and without reading what comes after the head."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def serve(scenario: Callable[[Connect], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario against a server with these settings."""
    config = ServeConfig(port=0, shutdown_timeout_s=1, **settings)

    async def run() -> None:
        with _listening_socket(config) as listener:
            writers: list[asyncio.StreamWriter] = []

            async def connect() -> Streams:
                streams = await asyncio.open_connection(*listener.getsockname())
                writers.append(streams[1])
                return streams

            async with _http_server(app, config, listener):
                try:
                    await scenario(connect)
                finally:
                    for writer in writers:
                        writer.close()

    asyncio.run(asyncio.wait_for(run(), 20))


async def answer(streams: Streams, path: str = "/") -> str:
    """Ask on a connection that is there; the status line, or nothing when the connection was closed."""
    reader, writer = streams
    writer.write(HEAD.replace(b"/ HTTP", path.encode() + b" HTTP"))
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        return head.split(b"\r\n", 1)[0].decode()
    return ""


async def is_closed(streams: Streams, within_s: float) -> bool:
    """Whether the other side closes a connection in that time, whatever is read until then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            with suppress(ConnectionError):
                while await streams[0].read(4096):
                    pass
            return True
    return False


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def scenario(connect: Connect) -> None:
        silent = await connect()
        assert not await is_closed(silent, 0.05)
        assert await is_closed(silent, 2)

    serve(scenario, head_timeout_s=0.2)


@pytest.mark.parametrize("first", ["a new connection", "one that was answered"])
def test_a_head_that_trickles_in_is_not_waited_for(first: str) -> None:
    async def scenario(connect: Connect) -> None:
        streams = await connect()
        if first == "one that was answered":
            assert await answer(streams) == "HTTP/1.1 200 OK"

        async def trickle() -> None:
            with suppress(ConnectionError):
                for byte in HEAD * 10:
                    streams[1].write(bytes([byte]) if byte != 13 else b"x")  # never the end of a line
                    await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        assert await is_closed(streams, 2)
        task.cancel()

    serve(scenario, head_timeout_s=0.2)


def test_a_body_that_nobody_wants_is_not_read_for_ever() -> None:
    async def scenario(connect: Connect) -> None:
        streams = await connect()
        streams[1].write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")

        async def send() -> None:
            with suppress(ConnectionError):
                while True:
                    streams[1].write(b"1\r\na\r\n")
                    await asyncio.sleep(0.02)

        task = asyncio.create_task(send())
        assert await is_closed(streams, 2)
        task.cancel()

    serve(scenario, head_timeout_s=0.2)


def test_an_answer_takes_as_long_as_it_takes_and_a_connection_is_kept_for_the_next() -> None:
    async def scenario(connect: Connect) -> None:
        streams = await connect()
        assert await answer(streams, "/slow") == "HTTP/1.1 200 OK"
        await asyncio.sleep(0.4)
        assert await answer(streams) == "HTTP/1.1 200 OK"

    serve(scenario, head_timeout_s=0.2)


def test_of_too_many_connections_the_one_that_was_idle_longest_goes_and_all_others_are_answered() -> None:
    async def scenario(connect: Connect) -> None:
        idle = []
        for _ in range(2 * 1 + 64):
            idle.append(await connect())
        assert await answer(idle[0]) == "HTTP/1.1 200 OK"  # the second has been idle longest now
        new = await connect()
        assert await answer(new) == "HTTP/1.1 200 OK"
        assert await is_closed(idle[1], 1)
        assert await answer(idle[0]) == await answer(idle[2]) == "HTTP/1.1 200 OK"

    serve(scenario, max_requests=1)


def test_where_every_connection_is_busy_the_new_one_goes() -> None:
    async def scenario(connect: Connect) -> None:
        busy = [await connect() for _ in range(2 * 1 + 64)]
        answers = [asyncio.create_task(answer(streams, "/slow")) for streams in busy]
        await asyncio.sleep(0.2)
        assert await answer(await connect()) == ""
        assert set(await asyncio.gather(*answers)) == {"HTTP/1.1 200 OK"}

    serve(scenario, max_requests=1)
