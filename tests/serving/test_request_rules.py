"""Bodies that pass, are translated, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from serving.request_rules import MAX_ITEMS, BadRequest, checked_body

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "the sum"}]


def check(body: Any, path: str = CHAT, **limits: Any) -> dict[str, Any]:
    return checked_body(path, body, **{"end_token_ids": (7, 9), "max_choices": 4, **limits})


def test_what_the_openai_client_sends_passes_and_the_models_end_tokens_are_added() -> None:
    body = {"model": "production", "messages": MESSAGES, "temperature": 0, "max_completion_tokens": 5, "stream": True}
    assert check(body) == {**body, "stop_token_ids": [7, 9]}
    assert check({"messages": MESSAGES, "stop_token_ids": [9, 3]})["stop_token_ids"] == [9, 3, 7]


def test_who_ignores_the_end_of_the_text_gets_no_stop_tokens() -> None:
    assert "stop_token_ids" not in check({"messages": MESSAGES, "ignore_eos": True})


def test_the_body_that_came_in_is_left_as_it_was() -> None:
    body = {"messages": MESSAGES, "thinking_budget": 5, "user": "someone"}
    check(body)
    assert body == {"messages": MESSAGES, "thinking_budget": 5, "user": "someone"}


def test_fields_of_openais_own_service_are_dropped() -> None:
    body = {"messages": MESSAGES, "user": "someone", "store": False, "metadata": {"a": "b"}, "service_tier": "auto"}
    assert check(body).keys() == {"messages", "stop_token_ids"}


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ({"thinking_budget": 0}, 0),
        ({"thinking_budget": 12}, 12),
        ({"thinking_token_budget": 12}, 12),
        ({"thinking_budget": 12, "thinking_token_budget": 12}, 12),
        ({"thinking_budget": 12, "thinking_token_budget": None}, 12),
        ({"thinking_budget": -1}, None),
        ({"thinking_budget": None}, None),
        ({}, None),
    ],
)
def test_the_thinking_budget_takes_the_engines_name(given: dict[str, Any], budget: int | None) -> None:
    checked = check({"messages": MESSAGES, **given})
    assert checked.get("thinking_token_budget") == budget
    assert "thinking_budget" not in checked


@pytest.mark.parametrize("value", [-2, 1.5, "10", True, [1]])
@pytest.mark.parametrize("name", ["thinking_budget", "thinking_token_budget"])
def test_a_budget_that_is_no_number_of_tokens_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"^{name}: .*number of tokens"):
        check({"messages": MESSAGES, name: value})


def test_two_budgets_that_differ_are_refused() -> None:
    with pytest.raises(BadRequest, match="thinking_budget: 3 and thinking_token_budget differ"):
        check({"messages": MESSAGES, "thinking_budget": 3, "thinking_token_budget": 4})


@pytest.mark.parametrize(
    "name",
    [
        "chat_template", "mm_processor_kwargs", "media_io_kwargs", "kv_transfer_params", "ec_transfer_params",
        "vllm_xargs", "priority", "cache_salt", "request_id", "use_beam_search", "documents", "guided_json",
        "lora_request", "prompt_logprobs", "never_heard_of",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_field_that_is_not_on_the_list_is_refused_by_name(path: str, name: str) -> None:
    with pytest.raises(BadRequest, match=f"^{name}: ") as refused:
        check({"messages": MESSAGES, name: {}} if path == CHAT else {"prompt": "a", name: {}}, path)
    assert refused.value.field == name


def test_a_template_is_no_part_of_a_request() -> None:
    with pytest.raises(BadRequest, match="chat_template: the template is part of the model"):
        check({"messages": MESSAGES, "chat_template": "{{ messages }}"})
    with pytest.raises(BadRequest, match=r"kwargs\.chat_template: is no switch; there is enable_thinking"):
        check({"messages": MESSAGES, "chat_template_kwargs": {"chat_template": "{{ messages }}"}})


@pytest.mark.parametrize("switch", [True, False])
def test_thinking_can_be_switched(switch: bool) -> None:
    kwargs = {"enable_thinking": switch}
    assert check({"messages": MESSAGES, "chat_template_kwargs": kwargs})["chat_template_kwargs"] == kwargs


@pytest.mark.parametrize("value", ["false", 0, None])
def test_a_switch_that_is_not_true_or_false_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"chat_template_kwargs\.enable_thinking: .* must be true or false"):
        check({"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": value}})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "http://example.org/a.mp4"}},
        {"image_url": "file:///etc/passwd"},
        {"type": "text", "text": "a", "image_url": {"url": "file:///etc/passwd"}},
        {"type": ["text"], "text": "a"},
        {"type": {}, "text": "a"},
        {"type": None, "text": "a"},
        {},
        7,
    ],
)
def test_a_part_that_is_no_text_is_refused_with_its_message(part: Any) -> None:
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, part]}]
    with pytest.raises(BadRequest, match=r"messages\[1\]\.content: the model reads text alone"):
        check({"messages": messages})


def test_parts_of_text_pass() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert check({"messages": messages})["messages"] == messages


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CHAT, {"messages": MESSAGES, "n": 5}, "n"),
        (COMPLETIONS, {"prompt": ["a"] * 5}, "prompt"),
        (COMPLETIONS, {"prompt": ["a"] * 3, "n": 2}, "prompt"),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "n": 3}, "prompt"),
    ],
)
def test_too_many_completions_in_one_request_are_refused(path: str, body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest, match=f"^{field}: .* completions in one request; at most 4"):
        check(body, path)


@pytest.mark.parametrize(("name", "item"), [("stop", "a"), ("stop_token_ids", 1), ("bad_words", "a")])
def test_a_list_that_costs_every_step_of_the_engine_has_a_bound(name: str, item: Any) -> None:
    most = MAX_ITEMS[name]
    assert check({"messages": MESSAGES, name: [item] * most})[name][:1] == [item]
    with pytest.raises(BadRequest, match=f"^{name}: has {most + 1} items; at most {most}"):
        check({"messages": MESSAGES, name: [item] * (most + 1)})


def test_so_has_a_table_of_biases() -> None:
    with pytest.raises(BadRequest, match=r"^logit_bias: has 1,025 items; at most 1,024"):
        check({"messages": MESSAGES, "logit_bias": {str(token): 1 for token in range(1025)}})


def test_log_probabilities_of_a_prompt_are_refused_by_either_way_and_its_echo_alone_is_not() -> None:
    with pytest.raises(BadRequest, match=r"^prompt_logprobs: .*take all memory of the engine"):
        check({"prompt": "a", "prompt_logprobs": 1}, COMPLETIONS)
    with pytest.raises(BadRequest, match=r"^echo: .*take all memory of the engine"):
        check({"prompt": "a", "echo": True, "logprobs": 0}, COMPLETIONS)
    assert check({"prompt": "a", "echo": True}, COMPLETIONS)["echo"] is True
    assert check({"prompt": "a", "logprobs": 2}, COMPLETIONS)["logprobs"] == 2


def test_a_prompt_of_token_ids_is_one_prompt() -> None:
    assert check({"prompt": [1, 2, 3, 4, 5, 6], "n": 4}, COMPLETIONS)["prompt"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_count_that_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"^n: .* must be a whole number"):
        check({"messages": MESSAGES, "n": value})


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest, match=r"^body: must be a JSON object"):
        check(body)


@pytest.mark.parametrize("value", ["a", [1.5], [True], {"a": 1}])
def test_stop_tokens_that_are_no_ids_are_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="stop_token_ids: must be a list of token ids"):
        check({"messages": MESSAGES, "stop_token_ids": value})
