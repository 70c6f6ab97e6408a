"""The Qwen3 chat format: messages to text, text to messages, and the row that supervised training sees.

Everything that turns a conversation into tokens goes through here, so that training, rollout and evaluation agree byte
for byte: between `Prompt` and token ids on the way in, between `Completion.text` and the verifiers on the way out.

Source: the format released with Qwen3 and section 4.3 of its report (arXiv 2505.09388). Two surprises are kept:
history loses its reasoning, so a dialogue is unrolled and each assistant turn rendered on its own (`unroll`); and
nothing acts on /think and /no_think: obeying a flag is learned, which is why the empty block carries loss.
Departures: unknown roles and empty conversations are refused instead of being rendered as nothing, and `training_row`
refuses every message of which the format would drop a part without a word.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data.records import Message, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
RESPONSE_OPEN, RESPONSE_CLOSE = "<tool_response>", "</tool_response>"

SPECIAL_TOKENS: Mapping[str, bool] = dict.fromkeys((END_OF_TEXT, IM_START, IM_END), True) | dict.fromkeys(
    (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE, RESPONSE_OPEN, RESPONSE_CLOSE), False
)
"""Token -> whether `skip_special_tokens` removes it. The tags are single tokens too, but they stay in decoded text,
because verifiers read them."""

STOP_SENTENCE = (
    "Considering the limited time by the user, I have to give the solution based on the thinking directly now."
)
STOP_THINKING = f"\n\n{STOP_SENTENCE}\n{THINK_CLOSE}\n\n"
"""What ends the reasoning when the thinking budget is spent (arXiv 2505.09388, section 4.3).

The report prints `</think>.` with a dot; Qwen3's documentation of the thinking budget prints this form, the only one of
the two that the chat format itself can produce."""

EMPTY_BLOCK = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"
GENERATION_PROMPT = f"{IM_START}assistant\n"
ROLES = ("system", "user", "assistant", "tool")

_TOOLS_HEADER = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_FOOTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    f"{CALL_OPEN}{CALL_CLOSE} XML tags:\n{CALL_OPEN}\n"
    f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{CALL_CLOSE}'
)
# ASCII word characters bound a flag, so that "问题/no_think" counts and "path/thinker", "/thinking", "</think>" do not.
_FLAG = r"(?<![A-Za-z0-9_/<])/(no_think|think)(?![A-Za-z0-9_/-])"

Block = Literal["none", "empty", "closed", "unclosed", "malformed"]
Flag = Literal["think", "no_think"]


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    enable_thinking: bool | None = None,
) -> str:
    """The conversation as the text the model sees; `enable_thinking` acts on the generation prompt alone.

    Content that is not a string renders empty, as in the released format. Raises UserError for an empty conversation,
    an unknown role, a tool call without a name or arguments, and anything that JSON cannot hold.
    """
    roles = _roles(messages)
    last_query = max((index for index, message in enumerate(messages) if _is_query(message)), default=len(roles) - 1)
    parts: list[str] = []
    if tools:
        head = _text_of(messages[0]) + "\n\n" if roles[0] == "system" else ""
        listing = "".join("\n" + _json(tool, f"tools[{index}]") for index, tool in enumerate(tools))
        parts.append(_turn("system", head + _TOOLS_HEADER + listing + _TOOLS_FOOTER))
    for index, (role, message) in enumerate(zip(roles, messages, strict=True)):
        is_last = index == len(roles) - 1
        if role == "assistant":
            parts.append(_turn(role, _assistant_text(message, after_query=index > last_query, is_last=is_last)))
        elif role == "tool":  # consecutive results share one user turn
            opening = "" if index and roles[index - 1] == "tool" else f"{IM_START}user"
            closing = "" if not is_last and roles[index + 1] == "tool" else f"{IM_END}\n"
            parts.append(f"{opening}\n{RESPONSE_OPEN}\n{_text_of(message)}\n{RESPONSE_CLOSE}{closing}")
        elif not (role == "system" and index == 0 and tools):  # its text stands at the head of the tools turn
            parts.append(_turn(role, _text_of(message)))
    if add_generation_prompt:
        parts.append(GENERATION_PROMPT + (EMPTY_BLOCK if enable_thinking is False else ""))
    return "".join(parts)


def chat_template() -> str:
    """The same format as a Jinja template for `tokenizer.chat_template`; its text goes into a checkpoint's contract."""
    return Path(__file__).with_name("qwen3_chat.jinja").read_text(encoding="utf-8")


def _roles(messages: Sequence[Message]) -> list[str]:
    if not messages:
        raise UserError("messages: empty; give at least one message")
    for index, message in enumerate(messages):
        if (role := message.get("role")) not in ROLES:
            raise UserError(f"messages[{index}].role: {role!r} is not one of {', '.join(ROLES)}; rename it")
    return [message["role"] for message in messages]


def _is_query(message: Message) -> bool:
    """Whether a user wrote this, as opposed to a wrapped tool result in a user turn."""
    content = message.get("content")
    wrapped = isinstance(content, str) and content.startswith(RESPONSE_OPEN) and content.endswith(RESPONSE_CLOSE)
    return message.get("role") == "user" and isinstance(content, str) and not wrapped


def _turn(role: str, body: str) -> str:
    return f"{IM_START}{role}\n{body}{IM_END}\n"


def _text_of(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _json(value: Any, field: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{field}: {value!r} is not JSON ({error}); use dicts, lists, strings and numbers") from error


def _reasoning_and_content(message: Message) -> tuple[str, str]:
    """The field `reasoning_content`, else the text before the first `</think>`; content is what follows the last."""
    content, reasoning = _text_of(message), message.get("reasoning_content")
    if isinstance(reasoning, str) or THINK_CLOSE not in content:
        return reasoning if isinstance(reasoning, str) else "", content
    pieces = content.split(THINK_CLOSE)
    return pieces[0].split(THINK_OPEN)[-1].strip("\n"), pieces[-1].lstrip("\n")


def _block(reasoning: str) -> str:
    return f"{THINK_OPEN}\n" + reasoning.strip("\n") + f"\n{THINK_CLOSE}\n\n"


def _calls_text(message: Message, *, follows_text: bool) -> str:
    lines = []
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or call
        if not isinstance(function, Mapping) or not function.keys() >= {"name", "arguments"}:
            raise UserError(f"tool_calls[{index}]: {function!r} lacks name or arguments; give both")
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else _json(arguments, f"tool_calls[{index}].arguments")
        lines.append(f'{CALL_OPEN}\n{{"name": "{function["name"]}", "arguments": {text}}}\n{CALL_CLOSE}')
    return ("\n" if follows_text and lines else "") + "\n".join(lines)


def _assistant_text(message: Message, *, after_query: bool, is_last: bool) -> str:
    reasoning, content = _reasoning_and_content(message)
    calls = _calls_text(message, follows_text=bool(content))
    if after_query and (is_last or reasoning):
        return _block(reasoning) + content.lstrip("\n") + calls
    return content + calls


@dataclass(frozen=True, slots=True)
class Conversation:
    """What `parse` reads from a rendered text: the arguments of the `render` call that gives it."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    add_generation_prompt: bool = False
    enable_thinking: bool | None = None


def parse(text: str) -> Conversation:
    """The conversation that renders to `text`; the inverse of `render` wherever `render` drops nothing.

    Reasoning comes back in `reasoning_content`, calls in `tool_calls` with arguments as objects, wrapped results as
    `tool` messages. Raises UserError when no conversation in that form renders to `text`.
    """
    try:
        conversation = _read_conversation(text)
        again = render(
            conversation.messages,
            tools=conversation.tools,
            add_generation_prompt=conversation.add_generation_prompt,
            enable_thinking=conversation.enable_thinking,
        )
    except ValueError as error:  # JSON that does not parse, or a message that `render` refuses
        raise UserError(f"text: {text[:60]!r}… is not a rendered conversation ({error})") from error
    if again != text:
        raise UserError(f"text: {text[:60]!r}… is not a rendered conversation; give the whole text of one")
    return conversation


def _read_conversation(text: str) -> Conversation:
    turns = [tuple(piece.partition("\n")[::2]) for piece in text.split(IM_START)[1:]]
    add_generation_prompt, enable_thinking = False, None
    if turns and turns[-1] in (("assistant", ""), ("assistant", EMPTY_BLOCK)):
        add_generation_prompt, enable_thinking = True, False if turns.pop()[1] else None
    messages: list[Message] = []
    tools: tuple[Mapping[str, Any], ...] | None = None
    for index, (role, framed_body) in enumerate(turns):
        body = framed_body.removesuffix(f"{IM_END}\n")
        if role == "system" and index == 0 and body.endswith(_TOOLS_FOOTER) and _TOOLS_HEADER in body:
            head, _, listing = body.removesuffix(_TOOLS_FOOTER).rpartition(_TOOLS_HEADER)
            tools = tuple(json.loads(line) for line in listing.split("\n")[1:])
            messages += [{"role": "system", "content": head.removesuffix("\n\n")}] if head else []
        elif role == "assistant":
            messages.append(_read_assistant(body))
        elif role == "user" and body.startswith(f"{RESPONSE_OPEN}\n") and body.endswith(f"\n{RESPONSE_CLOSE}"):
            results = body[len(RESPONSE_OPEN) + 1 : -len(RESPONSE_CLOSE) - 1]
            separator = f"\n{RESPONSE_CLOSE}\n{RESPONSE_OPEN}\n"
            messages += [{"role": "tool", "content": result} for result in results.split(separator)]
        else:
            messages.append({"role": role, "content": body})
    return Conversation(tuple(messages), tools, add_generation_prompt, enable_thinking)


def _read_assistant(body: str) -> Message:
    message: dict[str, Any] = {"role": "assistant"}
    if body.startswith(f"{THINK_OPEN}\n") and f"\n{THINK_CLOSE}\n\n" in body:
        reasoning, _, body = body.removeprefix(f"{THINK_OPEN}\n").partition(f"\n{THINK_CLOSE}\n\n")
        message["reasoning_content"] = reasoning
    content, opening, calls = body.partition(f"{CALL_OPEN}\n")
    message["content"] = content.removesuffix("\n") if opening else content
    if opening:
        lines = calls.removesuffix(f"\n{CALL_CLOSE}").split(f"\n{CALL_CLOSE}\n{CALL_OPEN}\n")
        message["tool_calls"] = [{"type": "function", "function": json.loads(line)} for line in lines]
    return message


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A completion taken apart for the verifiers.

    `block`: "none" no think tag at all; "empty" one block of white space at the very start; "closed" one block with
    reasoning at the very start; "unclosed" opened there and never closed; "malformed" anything else.
    `answer` holds tool calls as they were written, so {"role": "assistant", "content": answer} renders them unchanged.
    """

    reasoning: str | None
    answer: str
    tool_calls: tuple[dict[str, Any], ...]
    block: Block
    malformed_calls: int = 0


def parse_completion(text: str, *, prefilled: bool = False) -> ParsedCompletion:
    """Take apart what the model wrote after the generation prompt; trailing end tokens are removed first.

    The answer is what follows the last `</think>`, and nothing when reasoning is still open there: a number inside the
    reasoning is not an answer, and a truncated thought that happens to hold the right one must not be scored as if it
    had been given. `prefilled` says that the prompt already held the empty block; a tag in `text` is then malformed.
    A malformed text has as its reasoning everything before the answer, tags included. Never raises.
    """
    while text.endswith((IM_END, END_OF_TEXT)):
        text = text.removesuffix(IM_END).removesuffix(END_OF_TEXT)
    opens, closes = text.count(THINK_OPEN), text.count(THINK_CLOSE)
    starts_open = text.startswith(THINK_OPEN) and not prefilled
    before, _, after = text.rpartition(THINK_CLOSE)
    block: Block
    reasoning: str | None
    if not opens and not closes:
        block, reasoning, answer = "none", None, after
    elif starts_open and not closes:
        block, reasoning, answer = "unclosed", text.removeprefix(THINK_OPEN).strip("\n"), ""
    elif starts_open and opens == closes == 1:
        inner = before.removeprefix(THINK_OPEN)
        block, reasoning = ("closed", inner.strip("\n")) if inner.strip() else ("empty", "")
        answer = after
    elif closes and THINK_OPEN not in after:
        block, reasoning, answer = "malformed", before, after
    else:
        block, reasoning, answer = "malformed", text, ""
    answer = answer.lstrip("\n")
    tool_calls, malformed_calls = _read_calls(answer)
    return ParsedCompletion(reasoning, answer, tool_calls, block, malformed_calls)


def _read_calls(answer: str) -> tuple[tuple[dict[str, Any], ...], int]:
    """Well-formed calls in order, and how many blocks or lone tags are not one. Linear in the length of the answer."""
    calls: list[dict[str, Any]] = []
    num_malformed, position = 0, 0
    while (start := answer.find(CALL_OPEN, position)) >= 0:
        num_malformed += answer.count(CALL_CLOSE, position, start)  # closed without being opened
        end = answer.find(CALL_CLOSE, start)
        if end < 0:
            return tuple(calls), num_malformed + answer.count(CALL_OPEN, start)
        call = _read_call(answer[start + len(CALL_OPEN) : end])
        if call is None:
            num_malformed += 1
        else:
            calls.append(call)
        position = end + len(CALL_CLOSE)
    return tuple(calls), num_malformed + answer.count(CALL_CLOSE, position)


def _read_call(body: str) -> dict[str, Any] | None:
    try:
        call = json.loads(body)
        json.dumps(call, allow_nan=False)  # `loads` lets NaN and Infinity pass, which are not JSON
    except (ValueError, RecursionError):  # untrusted model text: bad JSON, or brackets nested without end
        return None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return None
    return call if isinstance(call["name"], str) and isinstance(call["arguments"], dict) else None


def last_flag(messages: Sequence[Message]) -> Flag | None:
    """The last `/think` or `/no_think` in a user query or system message, None if there is none (section 4.3).

    Tool results do not count, even wrapped as a user message: a document that mentions a flag is not the user.
    """
    texts = (_text_of(message) for message in messages if message.get("role") == "system" or _is_query(message))
    flags = re.findall(_FLAG, "\n".join(texts))
    return flags[-1] if flags else None


def strip_flags(text: str) -> str:
    """The text without its flags, each with the blanks before it (after it, at the start of the text)."""
    return re.sub(rf"\A(?:[ \t]*{_FLAG}[ \t]*)+|(?<![ \t])[ \t]*{_FLAG}", "", text)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """Token ids of one conversation and which of them carry loss; both of length T."""

    token_ids: tuple[int, ...]
    loss_mask: tuple[int, ...]


def unroll(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """One prefix per assistant turn, ending with it: history loses its reasoning, so turns are trained one by one."""
    return [tuple(messages[: index + 1]) for index, role in enumerate(_roles(messages)) if role == "assistant"]


def training_row(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    enable_thinking: bool | None = None,
) -> TrainingRow:
    """The last message as the model would have to generate it: prompt ids without loss, completion ids with loss.

    The completion is the think block, the content, the calls and `<|im_end|>`. With `enable_thinking` None or True the
    block, even an empty one, carries loss, because after /no_think the model has to write it; with False it is part of
    the prompt. No newline follows `<|im_end|>`: the engine stops there and never samples one.
    Prompt, block and rest are tokenised apart, so that the prompt's ids are those of inference and an answer has the
    same ids whether its empty block was prefilled or generated.
    Raises UserError when the last message is not a plain assistant turn, when the tokenizer lacks a chat token, and
    when decoding the ids with loss does not give the completion back (up to Unicode NFC, which Qwen3 applies).
    """
    _require_trainable(messages)
    reasoning, content = _reasoning_and_content(messages[-1])
    if enable_thinking is False and reasoning.strip("\n"):
        raise UserError("enable_thinking: False prefills an empty block but the last message has reasoning; drop one")
    added = tokenizer.get_added_vocab()
    if missing := [token for token in SPECIAL_TOKENS if token not in added]:
        raise UserError(f"tokenizer: {missing} are not single tokens; add them with data.tokenizer.add_chat_tokens")
    prompt = render(messages[:-1], tools=tools, add_generation_prompt=True, enable_thinking=enable_thinking)
    block = "" if enable_thinking is False else _block(reasoning)
    answer = content.lstrip("\n") + _calls_text(messages[-1], follows_text=bool(content)) + IM_END
    prompt_ids, *completion = (tokenizer.encode(part, add_special_tokens=False) for part in (prompt, block, answer))
    completion_ids = [token_id for ids in completion for token_id in ids]
    decoded = tokenizer.decode(completion_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if decoded not in (block + answer, unicodedata.normalize("NFC", block + answer)):
        raise UserError(f"tokenizer: {answer[:60]!r}… decodes to another text, {decoded[:60]!r}…; it loses characters")
    if completion_ids.count(added[IM_END]) != 1:
        raise UserError(f"messages[-1].content: {content[:60]!r}… holds {IM_END} itself; remove it")
    return TrainingRow((*prompt_ids, *completion_ids), (0,) * len(prompt_ids) + (1,) * len(completion_ids))


def _require_trainable(messages: Sequence[Message]) -> None:
    """Refuse a conversation of which rendering would drop or displace a part."""
    roles = _roles(messages)
    if roles[-1] != "assistant" or len(roles) < 2 or roles[-2] == "assistant":
        raise UserError(f"messages: roles {roles} must end with one assistant turn that answers something; see unroll")
    for index, message in enumerate(messages):
        if not isinstance(message.get("content"), str | None):
            raise UserError(f"messages[{index}].content: {type(message['content']).__name__} renders empty; give a str")
    content, reasoning = messages[-1].get("content") or "", messages[-1].get("reasoning_content")
    if not isinstance(reasoning, str) and THINK_CLOSE in content:
        head, _, content = content.partition(THINK_CLOSE)
        reasoning = head.strip().removeprefix(THINK_OPEN)
    if any(tag in part for part in (reasoning or "", content) for tag in (THINK_OPEN, THINK_CLOSE)):
        raise UserError(f"messages[-1]: {content[:60]!r}… has think tags outside one leading block; repair the row")
    if not content.strip() and not messages[-1].get("tool_calls"):
        raise UserError("messages[-1]: neither answer nor tool call after the reasoning; drop the row")
