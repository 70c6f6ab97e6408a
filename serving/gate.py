"""Who may enter the engine, and with which version: requests are counted in, and a swap waits until they are out.

The version of a request is the one that served when it entered. The engine's weights change only while nobody is
inside, so no answer can mix two versions; requests that come during a swap wait in front of the gate, none is lost.
Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

RETRY_AFTER_S = 1


class Refusal(Exception):
    """A request that is not let in: HTTP status, why, and the seconds after which it may try again."""

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class Gate:
    """Counts requests in and out. Starts open, for `version`.

    `max_requests` bounds those that arrive, wait and are inside together; `hold_timeout_s` how long one waits for a
    swap.
    """

    def __init__(self, version: str, *, max_requests: int, hold_timeout_s: float) -> None:
        self.version = version
        self.max_requests = max_requests
        self.hold_timeout_s = hold_timeout_s
        self.num_arriving = 0
        self.num_inside = 0
        self.num_waiting = 0
        self.ended: str | None = None
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Have a place for the block, in which a request is read; no swap waits for it. Raises Refusal (429)."""
        self._require_place()
        self.num_arriving += 1
        try:
            yield
        finally:
            self.num_arriving -= 1

    def _require_place(self) -> None:
        if self.num_arriving + self.num_inside + self.num_waiting >= self.max_requests:
            raise Refusal(429, f"{self.max_requests} requests are being served; try again later", RETRY_AFTER_S)

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[str]:
        """Be inside for the block, which gets the version that serves; raises Refusal.

        429 when too many are here already, 503 when the server ends or a swap lasts too long.
        """
        self._require_place()
        await self._wait_until_open()
        if self.ended is not None:
            raise Refusal(503, self.ended, RETRY_AFTER_S)
        self.num_inside += 1  # nothing was awaited since the gate was seen open
        self._is_empty.clear()
        try:
            yield self.version
        finally:
            self.num_inside -= 1
            if self.num_inside == 0:
                self._is_empty.set()

    async def _wait_until_open(self) -> None:
        self.num_waiting += 1
        try:
            async with asyncio.timeout(self.hold_timeout_s):
                while not self._is_open.is_set():  # it may have been closed again before this task's turn came
                    await self._is_open.wait()
        except TimeoutError:
            raise Refusal(503, "the weights are being changed; try again later", RETRY_AFTER_S) from None
        finally:
            self.num_waiting -= 1

    def close(self) -> None:
        """Let nobody in from now on; those who come wait."""
        self._is_open.clear()

    async def emptied(self, timeout_s: float) -> int:
        """Wait until nobody is inside; returns how many still are after `timeout_s` seconds, 0 at best."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_empty.wait()
        except TimeoutError:
            pass
        return self.num_inside

    def open(self, version: str) -> None:
        """Let everybody in who waits, to `version`; only an empty gate may change its version."""
        if version != self.version and self.num_inside:
            raise RuntimeError(f"gate: {self.num_inside} requests are inside; they would mix two versions")
        self.version = version
        self._is_open.set()

    def end(self, reason: str) -> None:
        """Refuse everybody from now on, those who wait as well."""
        self.ended = reason
        self._is_open.set()
