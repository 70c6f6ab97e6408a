"""What the network sees of the engine: paths, key, bounds, and a version on every answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from serving.guard import Guard
from tests.serving.guard_calls import BODY, CHAT, Answer, FakeApp, ask, guarded

KEY = "a-key-of-some-length"


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, 20))


def once(*args: Any, settings: dict[str, Any] | None = None, **request: Any) -> tuple[Answer, FakeApp]:
    """One request to a guard of its own; the answer, and the application behind."""

    async def scenario() -> tuple[Answer, FakeApp]:
        app = FakeApp()
        return await ask(guarded(app, **(settings or {})), *args, **request), app

    return run(scenario())


# ---- the version


def test_a_whole_answer_names_its_version_in_a_header_and_in_the_body() -> None:
    answer, app = once()
    assert (answer.status, answer.headers["x-fourstage-version"]) == (200, "v3-x-1")
    assert answer.document["system_fingerprint"] == "v3-x-1"
    assert answer.document["choices"][0]["message"]["reasoning_content"] == "2+2"
    assert app.bodies == [{**BODY, "stop_token_ids": [7]}]


def test_every_chunk_of_a_stream_names_its_version() -> None:
    answer, _ = once(body={**BODY, "stream": True})
    *events, done, rest = answer.body.split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert answer.headers["x-fourstage-version"] == "v3-x-1"
    assert [chunk["system_fingerprint"] for chunk in chunks] == ["v3-x-1"] * 3
    assert chunks[1]["choices"][0]["delta"] == {"reasoning": "2+2", "reasoning_content": "2+2"}
    assert (done, rest) == (b"data: [DONE]", b"")


def test_the_version_that_serves_may_be_asked_for_by_its_name_and_another_is_left_to_the_engine_to_refuse() -> None:
    assert once(body={**BODY, "model": "v3-x-1"})[1].bodies[0]["model"] == "production"
    assert once(body={**BODY, "model": "v2-x-9"})[1].bodies[0]["model"] == "v2-x-9"


def test_a_request_during_a_swap_waits_and_names_the_new_version() -> None:
    async def scenario() -> None:
        app = FakeApp()
        guard = guarded(app)
        app.answers.clear()
        before = asyncio.create_task(ask(guard))
        await asyncio.sleep(0.02)
        guard.gate.close()
        after = asyncio.create_task(ask(guard))
        await asyncio.sleep(0.02)
        assert len(app.bodies) == 1
        app.answers.set()
        assert await guard.gate.emptied(5) == 0
        guard.gate.open("v4-x-2")
        names = [(await task).document["system_fingerprint"] for task in (before, after)]
        assert names == ["v3-x-1", "v4-x-2"]

    run(scenario())


def test_looking_at_the_models_or_the_health_does_not_wait_for_a_swap() -> None:
    async def scenario() -> None:
        guard = guarded(FakeApp())
        guard.gate.close()
        assert [(await ask(guard, path, method="GET")).status for path in ("/health", "/v1/models")] == [200, 200]

    run(scenario())


# ---- paths


@pytest.mark.parametrize(
    "path",
    [
        "/", "/docs", "/openapi.json", "/metrics", "/tokenize", "/pause", "/resume", "/collective_rpc", "/sleep",
        "/reset_prefix_cache", "/server_info", "/v1/load_lora_adapter", "/start_profile", "/invocations", "/ping",
        "/v1/responses", "/v1/messages", "/v1/chat/completions/batch", "/v1/chat/completions/", "//v1/models",
        "/v1/../pause", "/v1/models/..", "/V1/models",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_other_path_reaches_the_application(path: str, method: str) -> None:
    answer, app = once(path, method=method)
    assert (answer.status, app.paths) == (404, [])
    assert answer.error["type"] == "not_found_error"


@pytest.mark.parametrize(("path", "method"), [(CHAT, "GET"), (CHAT, "OPTIONS"), ("/health", "POST"), (CHAT, "HEAD")])
def test_another_method_does_not_reach_the_application(path: str, method: str) -> None:
    answer, app = once(path, method=method)
    assert (answer.status, app.paths) == (405, [])


def test_a_websocket_is_closed() -> None:
    async def scenario() -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app = FakeApp()
        await guarded(app)({"type": "websocket", "path": CHAT}, None, send)  # type: ignore[arg-type]
        assert (sent, app.paths) == ([{"type": "websocket.close", "code": 1008}], [])

    run(scenario())


# ---- who may ask


@pytest.mark.parametrize(
    "given", ["", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer é"]
)
def test_without_the_key_nothing_reaches_the_application(given: str) -> None:
    for path, method in ((CHAT, "POST"), ("/v1/models", "GET"), ("/nowhere", "GET")):
        answer, app = once(path, method=method, headers={"authorization": given}, settings={"api_key": KEY})
        assert (answer.status, app.paths, answer.headers["www-authenticate"]) == (401, [], "Bearer")
        assert KEY not in answer.body.decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_the_request_is_answered(scheme: str) -> None:
    answer, _ = once(headers={"authorization": f"{scheme} {KEY}"}, settings={"api_key": KEY})
    assert answer.status == 200


def test_the_health_needs_no_key() -> None:
    assert once("/health", method="GET", settings={"api_key": KEY})[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "127.0.0.1.evil.example", "[::2]:8000"])
def test_on_loopback_a_request_for_another_name_is_refused(host: str) -> None:
    answer, app = once(headers={"host": host})
    assert (answer.status, app.paths) == (421, [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "127.0.0.1:9"])
def test_on_loopback_the_machines_own_names_are_answered(host: str) -> None:
    assert once(headers={"host": host})[0].status == 200


def test_elsewhere_any_name_is_answered_because_a_key_is_needed() -> None:
    settings = {"api_key": KEY, "host": "0.0.0.0"}
    headers = {"host": "models.example", "authorization": f"Bearer {KEY}"}
    assert once(headers=headers, settings=settings)[0].status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_what_a_foreign_web_page_can_send_without_asking_is_refused(kind: str) -> None:
    answer, app = once(headers={"content-type": kind})
    assert (answer.status, app.paths) == (415, [])


# ---- bounds


def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    answer, app = once(pieces=[], headers={"content-length": "1001"}, settings={"max_body_bytes": 1000})
    assert (answer.status, app.paths, answer.headers["connection"]) == (413, [], "close")


def test_a_body_that_turns_out_too_large_is_refused_while_it_is_read() -> None:
    async def scenario() -> None:
        app, num_read = FakeApp(), 0

        async def endless() -> Any:
            nonlocal num_read
            num_read += 1
            return {"type": "http.request", "body": b"[" * 100, "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
        await guarded(app, max_body_bytes=1000)(scope, endless, send)
        assert (sent[0]["status"], num_read, app.paths) == (413, 11, [])

    run(scenario())


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "0x10"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    assert once(headers={"content-length": length})[0].status == 413


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def scenario() -> None:
        async def never() -> Any:
            await asyncio.Event().wait()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
        await guarded(FakeApp(), body_timeout_s=0.02)(scope, never, send)
        assert sent[0]["status"] == 408

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b'{"temperature": Infinity}',
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    answer, app = once(body=body)
    assert (answer.status, app.paths) == (400, [])
    assert answer.error["message"].startswith("the body is not JSON")


def test_a_field_that_is_refused_is_named_as_the_clients_read_it() -> None:
    answer, app = once(body={**BODY, "chat_template": "{{ 7 }}"})
    assert (answer.status, app.paths) == (400, [])
    assert answer.error["param"] == "chat_template"
    assert answer.error["type"] == "invalid_request_error"


def test_one_request_too_many_is_told_when_to_come_back_and_all_others_are_answered() -> None:
    async def scenario() -> None:
        app = FakeApp()
        guard = guarded(app, max_requests=2)
        app.answers.clear()
        tasks = [asyncio.create_task(ask(guard)) for _ in range(2)]
        await asyncio.sleep(0.02)
        refused = await ask(guard)
        assert (refused.status, refused.headers["retry-after"], refused.error["type"]) == (429, "1", "rate_limit_error")
        app.answers.set()
        assert [(await task).status for task in tasks] == [200, 200]
        assert (await ask(guard)).status == 200

    run(scenario())


def test_bodies_that_are_still_being_read_count_as_requests() -> None:
    async def scenario() -> None:
        app, gone = FakeApp(), asyncio.Event()
        guard = guarded(app, max_requests=2)
        slow = [asyncio.create_task(ask(guard, pieces=[], went_away=gone)) for _ in range(2)]
        await asyncio.sleep(0.02)
        assert (guard.gate.num_arriving, (await ask(guard)).status) == (2, 429)
        gone.set()
        await asyncio.gather(*slow)
        assert (guard.gate.num_arriving, (await ask(guard)).status) == (0, 200)

    run(scenario())


def test_the_application_sees_neither_the_key_nor_what_moves_a_request_within_the_engine() -> None:
    async def scenario() -> None:
        app = FakeApp()
        given = {
            "authorization": f"Bearer {KEY}",
            "x-data-parallel-rank": "7",
            "traceparent": "00-1-2-3",
            "accept": "*/*",
        }
        for path, method in ((CHAT, "POST"), ("/v1/models", "GET")):
            answer = await ask(guarded(app, api_key=KEY), path, method=method, headers=given, query=b"a=b")
            assert answer.status == 200
        for scope in app.scopes:
            names = {name for name, _ in scope["headers"]}
            assert names <= {b"host", b"content-type", b"content-length", b"accept"}
            assert b"accept" in names
            assert scope["query_string"] == b""

    run(scenario())


def test_at_the_end_a_request_is_told_so() -> None:
    async def scenario() -> Answer:
        guard: Guard = guarded(FakeApp())
        guard.gate.end("the server is ending")
        return await ask(guard)

    answer = run(scenario())
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.error["message"] == "the server is ending"


def test_the_application_hears_that_a_client_went_away_and_the_gate_is_left() -> None:
    async def scenario() -> None:
        app, went_away = FakeApp(), asyncio.Event()
        guard = guarded(app)
        app.answers.clear()
        task = asyncio.create_task(ask(guard, went_away=went_away))
        await asyncio.sleep(0.02)
        assert guard.gate.num_inside == 1
        went_away.set()
        await task
        assert (app.went_away, guard.gate.num_inside) == (True, 0)

    run(scenario())


def test_a_client_that_does_not_read_its_answer_is_given_up_and_the_gate_is_left() -> None:
    async def scenario() -> None:
        guard = guarded(FakeApp(), send_timeout_s=0.02)
        sent: list[Any] = []

        async def receive() -> Any:
            if not sent:
                return {
                    "type": "http.request",
                    "body": json.dumps({**BODY, "stream": True}).encode(),
                    "more_body": False,
                }
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > 2:
                await asyncio.Event().wait()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        await guard({"type": "http", "method": "POST", "path": CHAT, "headers": headers}, receive, send)
        assert (len(sent), guard.gate.num_inside) == (3, 0)

    run(scenario())
