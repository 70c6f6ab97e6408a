"""What a request body may say: what is passed on, what is translated, and what is refused by name.

A list of what is allowed, not of what is forbidden: vLLM's request type has fields that change the template, load
media, move caches between machines or reach into the engine, and a new release may add more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SAMPLING = frozenset({
    "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs",
    "stream", "stream_options", "min_tokens", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens",
    "include_stop_str_in_output", "allowed_token_ids", "bad_words", "response_format", "structured_outputs",
    "thinking_token_budget", "return_token_ids", "return_tokens_as_token_ids", "echo",
})  # fmt: skip
ALLOWED: Mapping[str, frozenset[str]] = {
    "/v1/chat/completions": _SAMPLING | {
        "messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls",
        "reasoning_effort", "include_reasoning", "chat_template_kwargs", "add_generation_prompt",
        "continue_final_message",
    },
    "/v1/completions": _SAMPLING | {"prompt", "suffix"},
}  # fmt: skip
"""The fields that go on to the engine, by path."""

IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "verbosity", "modalities",
})  # fmt: skip
"""Fields of OpenAI's own service that ask nothing of a model; they are taken and dropped, so that clients need no
change."""

TEMPLATE_SWITCHES = frozenset({"enable_thinking"})
BUDGET_NAMES = ("thinking_budget", "thinking_token_budget")
"""Ours, and vLLM's name for the same; both count tokens of thinking."""

_TEXT_PARTS = frozenset({"text", "refusal", "input_text", "output_text"})
_NO_PROMPT_LOGPROBS = "log-probabilities of a prompt are not given: one request could take all memory of the engine"
_REASONS: Mapping[str, str] = {
    "chat_template": "the template is part of the model and cannot be given in a request",
    "prompt_logprobs": _NO_PROMPT_LOGPROBS,
}
MAX_ITEMS: Mapping[str, int] = {
    "stop": 64, "stop_token_ids": 256, "bad_words": 64, "logit_bias": 1024, "allowed_token_ids": 4096,
}  # fmt: skip
"""How long the lists of a request may be of which the engine looks at each item in every step."""


class BadRequest(Exception):
    """A body that is refused with status 400; names the field."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


def checked_body(path: str, body: Any, *, end_token_ids: Sequence[int], max_choices: int) -> dict[str, Any]:
    """The body as the engine gets it; raises BadRequest.

    The thinking budget takes vLLM's name, and the model's end tokens are added to the request's stop tokens: Qwen3 has
    two, of which the engine by itself knows one (docs of `data.tokenizer.end_token_ids`).
    """
    if not isinstance(body, dict):
        raise BadRequest("body", "must be a JSON object")
    allowed = ALLOWED[path]
    for name in body:
        if name not in allowed and name not in IGNORED and name not in BUDGET_NAMES:
            raise BadRequest(name, _REASONS.get(name, "is not supported by this server"))
    checked = {name: value for name, value in body.items() if name in allowed and name not in BUDGET_NAMES}
    _check_template_switches(checked.get("chat_template_kwargs"))
    _check_text_only(checked.get("messages"))
    _check_choices(checked, max_choices)
    _check_work(checked)
    budget = _thinking_budget(body)
    if budget is not None:
        checked["thinking_token_budget"] = budget
    if not checked.get("ignore_eos"):
        checked["stop_token_ids"] = _with_ends(checked.get("stop_token_ids"), end_token_ids)
    return checked


def _check_template_switches(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise BadRequest("chat_template_kwargs", "must be an object")
    for name, switch in value.items():
        if name not in TEMPLATE_SWITCHES:
            raise BadRequest(
                f"chat_template_kwargs.{name}", f"is no switch; there is {', '.join(sorted(TEMPLATE_SWITCHES))}"
            )
        if not isinstance(switch, bool):
            raise BadRequest(f"chat_template_kwargs.{name}", f"{switch!r} must be true or false")


def _check_text_only(messages: Any) -> None:
    """Refuse parts that name an image, a sound or a file, whose address the server would have to open."""
    if not isinstance(messages, list):
        return  # vLLM says what is wrong with it
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if not _is_text(part):
                raise BadRequest(f"messages[{index}].content", "the model reads text alone; send parts of type text")


def _is_text(part: Any) -> bool:
    """Whether a part of a message is text and names nothing else; vLLM would guess a type that is not given."""
    if not isinstance(part, dict):
        return isinstance(part, str)
    kind = part.get("type")
    return isinstance(kind, str) and kind in _TEXT_PARTS and part.keys() <= {"type", kind, "text"}


def _check_choices(body: Mapping[str, Any], max_choices: int) -> None:
    num_choices = body.get("n")
    if num_choices is None:
        num_choices = 1
    if isinstance(num_choices, bool) or not isinstance(num_choices, int) or num_choices < 1:
        raise BadRequest("n", f"{num_choices!r} must be a whole number, 1 or more")
    prompt = body.get("prompt")
    is_batch = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    num_prompts = len(prompt) if isinstance(prompt, list) and is_batch else 1
    if num_choices * num_prompts > max_choices:
        what = "n" if num_prompts == 1 else "prompt"
        raise BadRequest(what, f"{num_choices * num_prompts} completions in one request; at most {max_choices}")


def _check_work(body: Mapping[str, Any]) -> None:
    """Refuse what would keep the engine from everybody else."""
    for name, most in MAX_ITEMS.items():
        value = body.get(name)
        if isinstance(value, list | dict) and len(value) > most:
            raise BadRequest(name, f"has {len(value):,} items; at most {most:,}")
    if body.get("echo") and body.get("logprobs") is not None:
        raise BadRequest("echo", _NO_PROMPT_LOGPROBS)


def _thinking_budget(body: Mapping[str, Any]) -> int | None:
    """The budget in tokens under either name, None without one; -1 is none, as in vLLM."""
    given = {name: body[name] for name in BUDGET_NAMES if body.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < -1:
            raise BadRequest(name, f"{value!r} must be a number of tokens, 0 or more (-1: no limit)")
    if len(set(given.values())) > 1:
        raise BadRequest(BUDGET_NAMES[0], f"{given[BUDGET_NAMES[0]]} and {BUDGET_NAMES[1]} differ; give one")
    value = next(iter(given.values()), -1)
    return None if value == -1 else value


def _with_ends(value: Any, end_token_ids: Sequence[int]) -> list[int]:
    if value is None:
        value = []
    if not isinstance(value, list) or any(isinstance(item, bool) or not isinstance(item, int) for item in value):
        raise BadRequest("stop_token_ids", "must be a list of token ids")
    return list(dict.fromkeys([*value, *end_token_ids]))
