"""What stands between the network and the engine's application: paths, key, sizes, the gate, and the version's stamp.

Pure ASGI, with no knowledge of the engine, so that every rule is tested on a small fake application. A request passes,
in this order: known path and method, Host, key, size and time of the body, content of the body, the gate. What is
refused is told as OpenAI's clients expect it, `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from serving.gate import Gate, Refusal
from serving.request_rules import BadRequest, checked_body
from serving.server_config import ServeConfig, allowed_hosts
from serving.stamp import VERSION_HEADER, StreamStamper, stamped_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health"})
"""Paths that need no key: a load balancer has none, and the answer says no more than "alive"."""

PASSED_HEADERS = frozenset({b"host", b"content-type", b"content-length", b"accept", b"user-agent"})
"""What the application gets to see of a request's headers. vLLM takes the rank of an engine, a tenant or a trace from
others; the key is nobody's business behind the guard. Of the address it gets no query, which no route here reads."""

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 405: "invalid_request_error",
    408: "timeout_error", 411: "invalid_request_error", 413: "invalid_request_error", 415: "invalid_request_error",
    421: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip


class Guard:
    """ASGI middleware in front of `app`, which has the routes `routes` (path to method) and answers as `alias`."""

    def __init__(
        self,
        app: App,
        gate: Gate,
        config: ServeConfig,
        *,
        alias: str,
        routes: Mapping[str, str],
        end_token_ids: Sequence[int],
    ) -> None:
        self.app = app
        self.gate = gate
        self.config = config
        self.alias = alias
        self.routes = routes
        self.end_token_ids = end_token_ids
        self._hosts = allowed_hosts(config.host)
        self._key = None if config.api_key is None else _digest(config.api_key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_address(scope)
            inner = {**scope, "headers": _passed_on(scope["headers"]), "query_string": b""}
            if self.routes[scope["path"]] == "GET":
                await self.app(inner, receive, self._with_header(send, self.gate.version))
                return
            with self.gate.arriving():
                body = await self._body(scope, receive)
            try:
                checked = checked_body(
                    scope["path"], body, end_token_ids=self.end_token_ids, max_choices=self.config.max_choices
                )
            except BadRequest as fault:
                await _refuse(send, 400, str(fault), param=fault.field)
                return
            async with self.gate.enter() as version:
                if checked.get("model") == version:  # asked for by the version's name; the engine knows the alias
                    checked["model"] = self.alias
                data = json.dumps(checked).encode()
                inner["headers"] = _with_length(inner["headers"], len(data))
                patient = _PatientSend(send, self.config.send_timeout_s)
                try:
                    await self.app(inner, _replay(data, receive), self._with_version(patient, version))
                except Exception:
                    if not patient.gave_up:
                        raise
        except Refusal as refusal:
            await _refuse(send, refusal.status, refusal.reason, retry_after_s=refusal.retry_after_s)

    # ---- what comes in

    def _check_address(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._hosts is not None and _host_name(headers.get(b"host", b"").decode("latin-1")) not in self._hosts:
            raise Refusal(421, "this server answers to its own address alone")
        if scope["path"] not in OPEN_PATHS and not self._has_key(headers.get(b"authorization", b"")):
            raise Refusal(401, "the API key is missing or wrong; send it as Authorization: Bearer KEY")
        if scope["path"] not in self.routes:
            raise Refusal(404, f"there is no such path; there are {', '.join(self.routes)}")
        if scope["method"] != self.routes[scope["path"]]:
            raise Refusal(405, f"use {self.routes[scope['path']]}")

    def _has_key(self, authorization: bytes) -> bool:
        if self._key is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        # Digests have one length and are compared in constant time: the answer's delay tells nothing about the key.
        return hmac.compare_digest(_digest(given), self._key) and scheme.lower() == b"bearer"

    async def _body(self, scope: Scope, receive: Receive) -> Any:
        """The JSON of the request's body, read within the bounds of size and time."""
        headers = dict(scope["headers"])
        limit = self.config.max_body_bytes
        if not headers.get(b"content-type", b"").split(b";")[0].strip().lower() == b"application/json":
            raise Refusal(415, "send JSON, with content-type: application/json")  # what a foreign web page cannot
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            raise Refusal(413, f"the body is larger than {limit:,} bytes")
        data = bytearray()
        try:
            async with asyncio.timeout(self.config.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the client went away")
                    data += message.get("body", b"")
                    if len(data) > limit:
                        raise Refusal(413, f"the body is larger than {limit:,} bytes")
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(408, f"the body did not arrive within {self.config.body_timeout_s:g} s") from None
        try:
            return json.loads(bytes(data), parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the body is not JSON ({error})") from None

    # ---- what goes out

    def _with_header(self, send: Send, version: str) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (VERSION_HEADER.encode(), version.encode())]}
            await send(message)

        return sending

    def _with_version(self, send: Send, version: str) -> Send:
        """Sends an answer on with its version in a header and in its JSON, or in that of each chunk."""
        send = self._with_header(send, version)
        held: list[Message] = []  # the start of a JSON answer, until its new length is known
        body = bytearray()
        stamper: StreamStamper | None = None

        async def sending(message: Message) -> None:
            nonlocal stamper
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                if kind.startswith(b"text/event-stream"):
                    stamper = StreamStamper(version)
                elif kind.startswith(b"application/json"):
                    held.append(message)
                    return
            elif message["type"] == "http.response.body" and stamper is not None:
                is_last = not message.get("more_body", False)
                message = {**message, "body": stamper.feed(message.get("body", b""), is_last=is_last)}
            elif message["type"] == "http.response.body" and held:
                body.extend(message.get("body", b""))
                if message.get("more_body", False):
                    return
                start, data = held.pop(), stamped_json(bytes(body), version)
                await send({**start, "headers": _with_length(start["headers"], len(data))})
                message = {**message, "body": data}
            await send(message)

        return sending


class _PatientSend:
    """Sends, and gives up on a client that takes nothing for `timeout_s` seconds.

    It would stay inside the gate for as long as it likes, and a swap would wait for it.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self.gave_up = False
        self._send = send
        self._timeout_s = timeout_s

    async def __call__(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError:
            self.gave_up = True
            raise ConnectionAbortedError("the client does not read its answer") from None


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _host_name(host: str) -> str:
    """The name in a Host header, without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    """A number of JSON; 1e999 is one, and no sampler can do with what Python makes of it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond what a number can be")
    return number


def _passed_on(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name in PASSED_HEADERS]


def _with_length(headers: Sequence[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(length).encode())]


def _replay(data: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `data` as the whole body and then what comes: the news that the client went away."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": data, "more_body": False}

    return receiving


async def _refuse(
    send: Send, status: int, reason: str, *, param: str | None = None, retry_after_s: int | None = None
) -> None:
    error = {"message": reason, "type": _TYPES.get(status, "server_error"), "param": param, "code": status}
    data = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
