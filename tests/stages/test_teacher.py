"""The teachers of the cold start: worked solutions, a real HTTP endpoint, and a model that rolls out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from rewards.registry import get_task
from rollout.policy import GenerationRequest
from stages.teacher import API_KEY_VARIABLE, TeacherConfig, teacher_responses
from tests.stages.stage_fakes import FakePolicy, FakeServices, prompts_of

PROMPTS = prompts_of("arithmetic", 3)
SERVICES: Any = FakeServices()


def ask(config: TeacherConfig, *, num_candidates: int = 2, seed: int = 0, services: Any = SERVICES) -> list[Any]:
    config.validate()
    return teacher_responses(PROMPTS, config, num_candidates=num_candidates, seed=seed, services=services)


# ---------------------------------------------------------------------------------------------- worked solutions


def test_worked_solutions_are_right_without_errors_and_wrong_at_the_set_rate() -> None:
    right = ask(TeacherConfig(error_rate=0.0))
    assert [response.prompt.uid for response in right] == [prompt.uid for prompt in PROMPTS for _ in range(2)]
    assert [r.answer for r in right] == [f"\\boxed{{{r.prompt.reference['answer']}}}" for r in right]
    often = ask(TeacherConfig(error_rate=0.5), num_candidates=40)
    num_wrong = sum(r.answer != f"\\boxed{{{r.prompt.reference['answer']}}}" for r in often)
    assert 80 < num_wrong < 120  # of 120; at least three steps each, so most of them
    assert often == ask(TeacherConfig(error_rate=0.5), num_candidates=40)
    assert often != ask(TeacherConfig(error_rate=0.5), num_candidates=40, seed=1)


def test_a_task_without_worked_solutions_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(get_task("arithmetic")), "work", None)
    with pytest.raises(UserError, match=r"cold_start\.teacher\.kind: task 'arithmetic' has no worked-solution"):
        ask(TeacherConfig())


# ---------------------------------------------------------------------------------------------- an endpoint


class Endpoint:
    """A server on this machine that answers with `reply`: (status, body)."""

    def __init__(self) -> None:
        self.reply: tuple[int, bytes] = (200, b"")
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, dict(self.headers), body))
                status, answer = endpoint.reply
                if status == 0:  # hang up without a word
                    self.close_connection = True
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Keeps standard error free."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def says(self, **message: Any) -> None:
        self.reply = (200, json.dumps({"choices": [{"message": {"role": "assistant", **message}}]}).encode())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def config_of(endpoint: Endpoint, **changes: Any) -> TeacherConfig:
    return TeacherConfig(kind="endpoint", **{"url": endpoint.url, "model": "teacher", "timeout_s": 5.0, **changes})


def test_think_tags_in_the_content_are_split_off(endpoint: Endpoint) -> None:
    endpoint.says(content="<think>\n1+2=3\n</think>\n\n\\boxed{3}")
    responses = ask(config_of(endpoint))
    assert {(r.reasoning.strip(), r.answer) for r in responses} == {("1+2=3", "\\boxed{3}")}
    assert [response.prompt.uid for response in responses] == [prompt.uid for prompt in PROMPTS for _ in range(2)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_a_field_of_its_own_is_read(endpoint: Endpoint, field: str) -> None:
    endpoint.says(content="\\boxed{3}", **{field: "\n1+2=3\n"})
    (response, *_) = ask(config_of(endpoint))
    assert (response.reasoning, response.answer) == ("1+2=3", "\\boxed{3}")


def test_the_request_carries_model_messages_sampling_seed_and_key(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "k-123")
    endpoint.says(content="x")
    ask(config_of(endpoint, url=f"{endpoint.url}/", temperature=0.7, max_tokens=99), seed=3)
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k-123"
    assert body == {
        "model": "teacher", "messages": [dict(PROMPTS[0].messages[0])], "temperature": 0.7, "max_tokens": 99,
        "seed": 3000,
    }  # fmt: skip
    assert [request[2]["seed"] for request in endpoint.requests] == [3000, 3001] * 3


def test_without_a_key_no_authorization_is_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    endpoint.says(content="x")
    ask(config_of(endpoint))
    assert "Authorization" not in endpoint.requests[0][1]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((500, b"overloaded"), "HTTP Error 500"),
        ((401, b""), "HTTP Error 401"),
        ((200, b"<html>"), "JSONDecodeError"),
        ((200, b"\xff\xfe"), "Decode"),
        ((200, b'{"choices": []}'), "IndexError"),
        ((200, b'{"error": "no such model"}'), "KeyError"),
        ((200, b'{"choices": [{"message": null}]}'), "TypeError"),
        ((200, b"[]"), "TypeError"),
        ((0, b""), "RemoteDisconnected"),
    ],
)
def test_an_answer_that_cannot_be_used_is_one_line_with_address_and_cause(
    endpoint: Endpoint, reply: tuple[int, bytes], said: str
) -> None:
    endpoint.reply = reply
    with pytest.raises(UserError) as caught:
        ask(config_of(endpoint))
    message = str(caught.value)
    assert message.startswith(f"cold_start.teacher.url: {endpoint.url}/chat/completions gave no usable answer (")
    assert said in message
    assert message.endswith("check url, model and key")


def test_nobody_at_the_address_is_the_same_one_line(endpoint: Endpoint) -> None:
    config = config_of(endpoint)
    endpoint.close()  # the serving thread too: while it polls, the kernel still accepts connections
    with pytest.raises(UserError, match="Connection refused"):
        ask(config)


# ---------------------------------------------------------------------------------------------- a model


def test_a_model_answers_with_an_engine_of_its_own(tmp_path: Path) -> None:
    policy = FakePolicy(lambda request: f"<think>\nby {request.sample_index}\n</think>\n\n4")

    class Services(FakeServices):
        def sample_with_other_model(self, folder: str, requests: list[GenerationRequest]) -> Any:
            assert folder == str(tmp_path)
            return policy.generate(requests)

    config = TeacherConfig(kind="model", folder=str(tmp_path), temperature=0.3, max_tokens=77)
    responses = ask(config, services=Services())
    assert [(r.reasoning.strip(), r.answer) for r in responses] == [("by 0", "4"), ("by 1", "4")] * 3
    assert {(r.sampling.temperature, r.sampling.max_tokens) for r in policy.calls[0]} == {(0.3, 77)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"error_rate": 1.0}, "error_rate: 1.0 must lie in [0, 1)"),
        ({"kind": "endpoint"}, "url: teacher kind 'endpoint' needs url"),
        ({"kind": "endpoint", "url": "localhost:8000/v1", "model": "m"}, "url: 'localhost:8000/v1' must start with"),
        ({"kind": "model"}, "folder: teacher kind 'model' needs"),
        ({"max_tokens": 0}, "max_tokens: 0 must be 1 or more"),
        ({"temperature": -1.0}, "temperature: -1.0 must be 0"),
        ({"timeout_s": 0.0}, "timeout_s: 0.0 must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        TeacherConfig(**changes).validate()
    assert str(caught.value).startswith(message)
