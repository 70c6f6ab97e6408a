"""`fourstage serve` with the real engine, asked by the real `openai` client: reasoning, tools, budgets, and swaps.

The policies are scripted, so that every word of an answer is known, or random, so that no two versions answer alike.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest

from data.chat import STOP_THINKING, render
from tests.integration.serving_process import ServerProcess
from tests.integration.serving_scene import KEY, MESSAGES, PROMPTS, SPOILT, TOOLS, Models, ask, completions
from tests.serving.served_models import serving_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.integration]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def server(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    logs = tmp_path_factory.mktemp("logs")
    server = ServerProcess(models.registry, "production", "max_body_bytes=20000", logs=logs, key=KEY)
    try:
        yield server.wait()
        server.stop()
    finally:
        server.command.kill_if_running()


@pytest.fixture
def serve(server: ServerProcess, models: Models) -> Any:
    """Have the server serve a version of that kind; returns a client."""

    def serve(kind: str) -> openai.OpenAI:
        result = server.move_alias(models.names[kind])
        assert (result.version, result.failed) == (models.names[kind], None)
        return server.client()

    return serve


# ---- reasoning and modes


def test_reasoning_and_answer_come_apart_and_name_their_version(serve: Any, models: Models) -> None:
    client = serve("speaks")
    raw = client.chat.completions.with_raw_response.create(model="production", messages=MESSAGES, temperature=0)
    answer = raw.parse()
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content, answer.choices[0].finish_reason) == ("a", "\n\nb", "stop")
    assert answer.system_fingerprint == models.names["speaks"] == raw.headers["x-fourstage-version"]
    assert answer.model == "production"
    assert answer.usage.completion_tokens == 6


def test_every_chunk_of_a_stream_names_its_version_and_reasoning_comes_first(serve: Any, models: Models) -> None:
    chunks = list(ask(serve("speaks"), stream=True, stream_options={"include_usage": True}))
    assert {chunk.system_fingerprint for chunk in chunks} == {models.names["speaks"]}
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    reasoning = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    content = [delta.content or "" for delta in deltas]
    assert ("".join(reasoning), "".join(content).strip()) == ("a", "b")
    assert chunks[-1].usage.completion_tokens == 6


def test_thinking_can_be_switched_off_in_the_template(serve: Any) -> None:
    client = serve("speaks")
    answer = ask(client, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content, answer.usage.completion_tokens) == (None, "b", 2)
    streamed = list(ask(client, stream=True, extra_body={"chat_template_kwargs": {"enable_thinking": False}}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "b"


@pytest.mark.parametrize(
    ("messages", "options", "enable_thinking"),
    [
        (MESSAGES, {}, None),
        ([{"role": "user", "content": "five /no_think"}], {}, None),
        ([{"role": "system", "content": "a"}, {"role": "user", "content": "five /think"}], {}, None),
        (MESSAGES, {"enable_thinking": True}, True),
        (MESSAGES, {"enable_thinking": False}, False),
    ],
)
def test_the_model_reads_what_training_rendered(
    serve: Any, messages: list[Any], options: dict[str, Any], enable_thinking: bool | None
) -> None:
    extra = {"return_token_ids": True, "chat_template_kwargs": options}
    answer = ask(serve("speaks"), messages, extra_body=extra)
    text = render(messages, add_generation_prompt=True, enable_thinking=enable_thinking)
    assert answer.prompt_token_ids == serving_tokenizer().encode(text, add_special_tokens=False)


# ---- tools


def test_a_tool_call_is_parsed(serve: Any) -> None:
    answer = ask(serve("calls"), tools=TOOLS)
    message, (call,) = answer.choices[0].message, answer.choices[0].message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "add", {"a": 2, "b": 3})
    assert (answer.choices[0].finish_reason, message.reasoning_content) == ("tool_calls", "a")
    assert (message.content or "").strip() == ""


def test_a_streamed_tool_call_is_put_together_by_the_client(serve: Any, models: Models) -> None:
    name, arguments, chunks = "", "", list(ask(serve("calls"), tools=TOOLS, stream=True))
    for call in (call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()):
        name += call.function.name or ""
        arguments += call.function.arguments or ""
    assert (name, json.loads(arguments)) == ("add", {"a": 2, "b": 3})
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert {chunk.system_fingerprint for chunk in chunks} == {models.names["calls"]}


def test_the_result_of_a_tool_goes_back_as_training_rendered_it(serve: Any) -> None:
    client = serve("calls")
    call = ask(client, tools=TOOLS).choices[0].message.tool_calls[0]
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "", "reasoning_content": "a", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "5"},
    ]
    answer = ask(client, messages, tools=TOOLS, extra_body={"return_token_ids": True})
    function = {"name": "add", "arguments": {"a": 2, "b": 3}}
    rendered = [*MESSAGES, {**messages[1], "tool_calls": [{"function": function}]}, messages[2]]
    text = render(rendered, tools=TOOLS, add_generation_prompt=True)
    assert serving_tokenizer().decode(answer.prompt_token_ids) == text


# ---- thinking budgets


@pytest.mark.parametrize("name", ["thinking_budget", "thinking_token_budget"])
@pytest.mark.parametrize("budget", [0, 5])
def test_thinking_ends_at_the_budget_with_the_sentence_of_the_report(serve: Any, name: str, budget: int) -> None:
    answer = ask(serve("ponders"), extra_body={name: budget, "return_token_ids": True})
    message = answer.choices[0].message
    text = serving_tokenizer().decode(answer.choices[0].token_ids)
    assert text == "<think>" + "c" * budget + STOP_THINKING + "d<|im_end|>"
    assert message.reasoning_content == "c" * budget + STOP_THINKING.split("</think>")[0]
    assert message.content.strip() == "d"


def test_each_request_has_a_budget_of_its_own(server: ServerProcess, serve: Any) -> None:
    serve("ponders")

    async def all_at_once() -> list[str]:
        async with server.async_client() as client:
            answers = await asyncio.gather(
                *(ask(client, extra_body={"thinking_budget": budget}) for budget in range(8))
            )
        return [answer.choices[0].message.reasoning_content.split("\n")[0] for answer in answers]

    assert asyncio.run(all_at_once()) == ["c" * budget for budget in range(8)]


def test_without_a_budget_thinking_goes_on(serve: Any) -> None:
    choice = ask(serve("ponders"), max_tokens=30).choices[0]
    assert (choice.finish_reason, choice.message.reasoning_content) == ("length", "c" * 29)


def test_an_answer_after_the_thinking_is_not_cut_by_the_budget(serve: Any) -> None:
    message = ask(serve("speaks"), extra_body={"thinking_budget": 3}).choices[0].message
    assert (message.reasoning_content, message.content.strip()) == ("a", "b")


# ---- what is refused


def test_a_wrong_key_is_refused(server: ServerProcess) -> None:
    with pytest.raises(openai.AuthenticationError):
        ask(server.client(api_key="not-the-key-of-it"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"chat_template_kwargs": {"chat_template": "{{ messages }}"}}, "chat_template_kwargs.chat_template"),
        ({"thinking_budget": "5"}, "thinking_budget"),
        ({"kv_transfer_params": {}}, "kv_transfer_params"),
        ({"n": 1000}, "n"),
    ],
)
def test_a_field_that_is_refused_is_named_to_the_client(
    server: ServerProcess, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(server.client(), extra_body=body)
    assert refused.value.param == field


def test_a_file_in_a_message_is_not_opened(server: ServerProcess) -> None:
    part = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    with pytest.raises(openai.BadRequestError, match="reads text alone"):
        ask(server.client(), [{"role": "user", "content": [part]}])


def test_a_model_that_is_not_served_is_not_found(server: ServerProcess) -> None:
    with pytest.raises(openai.NotFoundError):
        ask(server.client(), model="another")


def test_a_body_beyond_the_bound_is_refused_and_the_server_goes_on(server: ServerProcess, serve: Any) -> None:
    client = serve("speaks")
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, [{"role": "user", "content": "a" * 30_000}])
    assert refused.value.status_code == 413
    assert ask(client).choices[0].message.content.strip() == "b"


def test_a_prompt_beyond_the_context_is_refused_and_the_server_goes_on(server: ServerProcess, serve: Any) -> None:
    client = serve("speaks")
    with pytest.raises(openai.BadRequestError, match="2048"):
        ask(client, [{"role": "user", "content": "xyz" * 1000}])
    assert ask(client).choices[0].message.content.strip() == "b"


def test_no_endpoint_of_the_engine_is_reachable(server: ServerProcess) -> None:
    root = server.url.removesuffix("/v1")
    paths = (
        "/pause", "/resume", "/is_paused", "/reset_prefix_cache", "/collective_rpc", "/sleep", "/wake_up",
        "/server_info", "/update_weights", "/init_weight_transfer_engine", "/v1/load_lora_adapter", "/start_profile",
        "/tokenize", "/detokenize", "/metrics", "/version", "/load", "/openapi.json", "/docs", "/invocations", "/ping",
        "/v1/responses", "/v1/messages", "/v1/chat/completions/batch", "/inference/v1/generate",
    )  # fmt: skip
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as client:
        found = {path: (client.get(root + path).status_code, client.post(root + path).status_code) for path in paths}
    assert set(found.values()) == {(404, 404)}, found


def test_nothing_of_the_server_listens_beyond_this_machine(server: ServerProcess) -> None:
    found = {
        connection.laddr.ip
        for process in {*server.command.processes(), *server.command.children()}
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert found
    assert found <= {"127.0.0.1", "::1"}


def test_the_list_of_models_shows_the_alias_and_no_path(server: ServerProcess, models: Models) -> None:
    (model,) = server.client().models.list().data
    assert model.id == "production"
    assert str(models.registry.place) not in model.model_dump_json()
    assert httpx.get(server.url.removesuffix("/v1") + "/health").status_code == 200


# ---- swaps


def test_weights_that_do_not_load_leave_the_old_ones_as_they_were(
    server: ServerProcess, serve: Any, models: Models
) -> None:
    client = serve("random_1")
    before = completions(client)
    result = server.move_alias(models.names["not_a_number"])
    assert result.version == models.names["random_1"]
    assert f"did not load (the engine computes with other weights than {SPOILT})" in str(result.failed)
    assert result.pause_s > 0
    assert completions(client) == before
    assert ask(client).system_fingerprint == models.names["random_1"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("other_shape", "config.json: rms_norm_eps is 0.1"),
        ("narrow", f"weights: {SPOILT} has shape [10, 128]"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_and_nobody_waits(
    server: ServerProcess, serve: Any, models: Models, kind: str, reason: str
) -> None:
    client = serve("random_1")
    result = server.move_alias(models.names[kind])
    assert (result.version, result.pause_s) == (models.names["random_1"], 0.0)
    assert reason in str(result.failed)
    assert ask(client).system_fingerprint == models.names["random_1"]


def test_a_damaged_file_is_refused_and_nobody_waits(server: ServerProcess, serve: Any, models: Models) -> None:
    client = serve("random_1")
    version = models.registry.version(models.names["random_2"])
    now = models.registry.alias("production")
    assert now is not None
    models.registry.point("production", version.name, expected_generation=now.generation, reason="test")  # it is whole
    result = server.move_alias(models.names["random_1"])
    assert result.failed is None
    weights = version.folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        with pytest.raises(Exception, match="safetensors"):
            server.move_alias(version.name)  # the registry itself refuses to point at it
        assert ask(client).system_fingerprint == models.names["random_1"]
    finally:
        weights.write_bytes(data)


def test_under_load_no_request_fails_and_none_mixes_two_versions(
    server: ServerProcess, serve: Any, models: Models
) -> None:
    """Every answer, whole or streamed, is word for word what the version that it names answers when it is alone.

    The prompts repeat, so that keys and values of the old weights would be found if a swap left them in the cache.
    """
    expected = {}
    for kind in ("random_1", "random_2"):
        expected[models.names[kind]] = dict(zip(PROMPTS, completions(serve(kind)), strict=True))
    assert expected[models.names["random_1"]] != expected[models.names["random_2"]]
    seen: list[tuple[str, str, str]] = []

    async def client_of(index: int, stop: asyncio.Event, client: openai.AsyncOpenAI) -> None:
        number = index
        while not stop.is_set():
            prompt = PROMPTS[number % len(PROMPTS)]
            options: Any = {"model": "production", "prompt": prompt, "temperature": 0, "max_tokens": 24}
            if number % 2:
                stream = await client.completions.create(**options, stream=True)
                chunks = [chunk async for chunk in stream]
                versions = {str(chunk.system_fingerprint) for chunk in chunks}
                assert len(versions) == 1
                seen.append((versions.pop(), prompt, "".join(chunk.choices[0].text for chunk in chunks)))
            else:
                answer = await client.completions.create(**options)
                seen.append((str(answer.system_fingerprint), prompt, answer.choices[0].text))
            number += 1

    async def load() -> list[float]:
        stop, pauses = asyncio.Event(), []
        async with server.async_client() as client:
            tasks = [asyncio.create_task(client_of(index, stop, client)) for index in range(8)]
            for kind in ("random_1", "random_2", "random_1", "random_2"):
                await asyncio.sleep(1.5)
                result = await asyncio.to_thread(server.move_alias, models.names[kind])
                assert (result.version, result.failed) == (models.names[kind], None)
                pauses.append(result.pause_s)
            await asyncio.sleep(1.0)
            stop.set()
            await asyncio.gather(*tasks)
        return pauses

    pauses = asyncio.run(load())
    assert {version for version, _, _ in seen} == set(expected)
    assert [one for one in seen if expected[one[0]][one[1]] != one[2]] == []
    assert all(0 < pause < 20 for pause in pauses), pauses
