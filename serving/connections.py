"""HTTP connections that are bounded before a request is there; uvicorn bounds requests alone.

uvicorn waits for the head of a request for as long as the other side likes, and goes on reading the body of one that it
has refused. Whoever reaches the port, without a key, could so hold connections until none is left for others. Here what
is not a request in time is closed, and when there are too many connections the one that has been idle longest goes.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedConnection(H11Protocol):
    """A connection that has `head_timeout_s` for the head of each request, one of `max_connections` at most."""

    head_timeout_s = 10.0
    max_connections = 1024

    _deadline: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._expect_head()
        if len(self.connections) > self.max_connections:
            connections = [other for other in self.connections if isinstance(other, BoundedConnection)]
            idle = [other for other in connections if other.is_idle and other is not self]
            longest = min(idle, key=lambda other: other._idle_since, default=self)
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_idle:  # a part of a head, or the rest of a body that nobody wants
            self._expect_head()
        else:
            self._forget_head()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        """Begin to wait for the head of a request; what arrives of it does not prolong the wait."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _forget_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_connections(*, head_timeout_s: float, max_connections: int) -> type[BoundedConnection]:
    """The class of connections with these bounds, as `uvicorn.Config(http=...)` takes it."""
    bounds = {"head_timeout_s": head_timeout_s, "max_connections": max_connections}
    return type("BoundedConnection", (BoundedConnection,), bounds)
