"""A small application behind the guard, and requests to both without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.gate import Gate
from serving.guard import Guard
from serving.server_config import ServeConfig

ROUTES = {"/health": "GET", "/v1/models": "GET", "/v1/chat/completions": "POST", "/v1/completions": "POST"}
CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "production", "messages": [{"role": "user", "content": "a"}]}


@dataclass
class FakeApp:
    """Answers as the engine's application does: a whole answer, or a stream in pieces; remembers what it was sent."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    scopes: list[Any] = field(default_factory=list)
    went_away: bool = False
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        self.scopes.append(scope)
        if scope["method"] == "GET":
            await _send(send, b"{}", b"application/json")
            return
        message = await receive()
        self.bodies.append(json.loads(message["body"]))
        assert dict(scope["headers"])[b"content-length"] == str(len(message["body"])).encode()
        answered = asyncio.create_task(self.answers.wait())
        gone = asyncio.create_task(receive())
        await asyncio.wait([answered, gone], return_when=asyncio.FIRST_COMPLETED)
        for task in (answered, gone):
            task.cancel()
        if not self.answers.is_set():
            self.went_away = True
            return
        if self.bodies[-1].get("stream"):
            await _send_stream(send)
        else:
            message = {"role": "assistant", "content": "4", "reasoning": "2+2"}
            await _send(send, json.dumps({"choices": [{"message": message}]}).encode(), b"application/json")


async def _send(send: Any, data: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data[:7], "more_body": True})
    await send({"type": "http.response.body", "body": data[7:], "more_body": False})


async def _send_stream(send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for delta in ({"role": "assistant"}, {"reasoning": "2+2"}, {"content": "4"}):
        event = b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.document["error"]


def guarded(app: Any, **settings: Any) -> Guard:
    config = ServeConfig(**settings)
    gate = Gate("v3-x-1", max_requests=config.max_requests, hold_timeout_s=config.hold_timeout_s)
    return Guard(app, gate, config, alias="production", routes=ROUTES, end_token_ids=(7,))


async def ask(
    guard: Any,
    path: str = CHAT,
    body: Any = BODY,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    pieces: Sequence[bytes] | None = None,
    query: bytes = b"",
    went_away: asyncio.Event | None = None,
) -> Answer:
    """One request; `pieces` are sent as the body instead, and after them nothing is heard until `went_away`."""
    if pieces is None:
        pieces = [body if isinstance(body, bytes) else json.dumps(body).encode()]
    given = {"host": "127.0.0.1:8000", "content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    left = list(pieces)
    sent: list[Any] = []

    async def receive() -> Any:
        if left:
            data = left.pop(0)
            return {"type": "http.request", "body": data, "more_body": bool(left)}
        await (went_away or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(guard(scope, receive, send), 20)
    if not sent:
        return Answer(0, {}, b"")
    names = [name.decode() for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names)), names
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    data = b"".join(message["body"] for message in sent[1:])
    assert received.get("content-length", str(len(data))) == str(len(data))
    return Answer(sent[0]["status"], received, data)
