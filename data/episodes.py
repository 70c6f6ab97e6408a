"""A conversation between a policy and an environment: what an agent task hands the rollout, neither knowing the other.

    Prompt -> turn -> Environment.step -> Reply -> turn -> … -> Environment.outcome -> the task's verifier

The environment owns the truth: the state that tools change lies here, where the policy cannot write, and the verifier
reads `outcome`, never what the policy says of it. `Episode` is the conversation under way, on texts alone: the rollout
adds tokens to it (`rollout.agent_loop`), and scripted turns need none (`rewards.episodes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data.chat import EMPTY_BLOCK, GENERATION_PROMPT, IM_END, SPECIAL_TOKENS, ParsedCompletion, parse_completion, render
from data.records import FinishReason, Message, UserError

TURN_CAP, CALL_CAP, TOKEN_CAP = "turn cap", "call cap", "token cap"
CONTEXT_WINDOW, ABORTED, END_OF_DOCUMENT = "context window", "aborted", "end of text"
ENVIRONMENT_ERROR = "environment error"
"""Why an episode ended when it was not the environment that ended it; the last is the start of a longer text and means
that the environment itself failed, which says nothing about the policy."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes back after one assistant turn: messages for the conversation, or the reason why it is over.

    `messages` are `tool` messages (one per call of the turn, in order) or one `user` message. An episode goes on while
    there are messages; `ended` says why there are none, such as "answered".
    """

    messages: tuple[Message, ...] = ()
    ended: str = ""

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.ended):
            raise ValueError("reply: give either messages or the reason why the episode ended")
        roles = {message["role"] for message in self.messages}
        if not (roles <= {"tool"} or (roles == {"user"} and len(self.messages) == 1)):
            raise ValueError(f"reply: messages of roles {sorted(roles)}; give tool messages, or one user message")


class Environment(Protocol):
    """One conversation's world, made anew for each completion; deterministic given the prompt's reference."""

    def step(self, turn: ParsedCompletion) -> Reply:
        """Carry out one assistant turn. Bad calls of the policy are answered with an error text, never raised."""

    def outcome(self) -> Any:
        """What happened so far as JSON: the final state and what else the verifier needs."""


EnvironmentFactory = Callable[[Any], Environment]
"""From a prompt's reference to a new environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeLimits:
    """Where an episode ends by force. Turn and call caps are the policy's fault and are scored; running out of tokens
    is a truncation like any other. `max_tokens` counts what is sampled and what comes back, after the first prompt.
    """

    max_turns: int = 8
    max_calls: int = 16
    max_tokens: int = 4096

    def validate(self) -> None:
        for name in ("max_turns", "max_calls", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")


class Episode:
    """One conversation under way: takes assistant turns until the environment or a limit ends it.

    `ended` is empty while it goes on. `messages` are what was said after the prompt. An exception of the environment is
    kept as the reason of the end, because a world that fails must neither stop a run nor cost the policy a reward.
    """

    def __init__(self, factory: EnvironmentFactory, reference: Any, limits: EpisodeLimits, *, prefilled: bool) -> None:
        self.limits = limits
        self.prefilled = prefilled
        self.ended = ""
        self.turns: list[str] = []
        self.messages: list[Message] = []
        self.num_calls = 0
        self._environment: Environment | None = None
        try:
            self._environment = factory(reference)
        except Exception as error:
            self.ended = _environment_failure(error)

    def take(self, text: str, finish_reason: FinishReason = "stop") -> tuple[Message, ...]:
        """Carry out one assistant turn; returns what comes back, nothing when the episode is over.

        The calls of a turn that passes the call cap are not carried out, nor is a turn that was cut off.
        """
        self.turns.append(text)
        if self._environment is None or self.ended:
            return ()
        if finish_reason != "stop":
            self.ended = TOKEN_CAP if finish_reason == "length" else ABORTED
            return ()
        turn = parse_completion(text, prefilled=self.prefilled)
        self.num_calls += len(turn.tool_calls) + turn.malformed_calls
        if self.num_calls > self.limits.max_calls:
            self.ended = CALL_CAP
            return ()
        try:
            reply = self._environment.step(turn)
        except Exception as error:
            self.ended = _environment_failure(error)
            return ()
        if reply.ended or len(self.turns) >= self.limits.max_turns:
            self.ended = reply.ended or TURN_CAP
            return ()
        messages = tuple(_without_chat_tokens(message) for message in reply.messages)
        said = {"role": "assistant", "reasoning_content": turn.reasoning or "", "content": turn.answer}
        self.messages += [said, *messages]
        return messages

    def end(self, reason: str) -> None:
        """End the episode from outside, for want of room for instance."""
        self.ended = reason

    def outcome(self) -> Any:
        """What the environment saw, None when it failed; asked for once the episode is over."""
        if self._environment is None or self.ended.startswith(ENVIRONMENT_ERROR):
            return None
        try:
            return self._environment.outcome()
        except Exception as error:
            self.ended = _environment_failure(error)
            return None


def _environment_failure(error: Exception) -> str:
    return f"{ENVIRONMENT_ERROR}: {type(error).__name__}: {error}"


def _without_chat_tokens(message: Message) -> Message:
    """The message with every chat token in it broken up.

    A tool may hand back what the policy or a document wrote; one `<|im_end|>` in it would forge a turn, and one
    `<think>` would start the thinking budget.
    """
    content = message["content"]
    for token in SPECIAL_TOKENS:
        content = content.replace(token, f"< {token[1:]}")
    return {**message, "content": content}


def text_between_turns(messages: Sequence[Message], *, enable_thinking: bool | None) -> str:
    """What the chat format puts between the `<|im_end|>` of one assistant turn and the next one, `messages` in it."""
    return "\n" + render(messages, add_generation_prompt=True, enable_thinking=enable_thinking)


def turn_text(message: Message, *, thinking: bool = True, prefilled: bool = False) -> str:
    """An assistant message as the policy would sample it, without the end token.

    Without `thinking` its reasoning is dropped; the empty block that is left is `prefilled` by the prompt or sampled.
    """
    said = message if thinking else {**message, "reasoning_content": ""}
    rendered = render([{"role": "user", "content": ""}, said])
    text = rendered.partition(GENERATION_PROMPT)[2].removesuffix(f"{IM_END}\n")
    return text.removeprefix(EMPTY_BLOCK) if prefilled else text


def episode_texts(
    messages: Sequence[Message],
    demonstration: Sequence[Message],
    *,
    tools: Sequence[Any] | None = None,
    enable_thinking: bool | None = None,
    thinking: bool = True,
) -> list[str]:
    """An episode as the rollout lays it out, one text for each part that is rendered anew, each with its prompt.

    `messages` are the prompt and `demonstration` is what follows, assistant turns and what came back. Each text ends
    with the `<|im_end|>` of an assistant turn.
    """
    prefilled = enable_thinking is False
    texts = [render(messages, tools=tools, add_generation_prompt=True, enable_thinking=enable_thinking)]
    for index, message in enumerate(demonstration):
        if message["role"] == "assistant":
            texts[-1] += turn_text(message, thinking=thinking, prefilled=prefilled) + IM_END
        elif message["role"] == "user":
            history = [*messages, *demonstration[: index + 1]]
            texts.append(render(history, tools=tools, add_generation_prompt=True, enable_thinking=enable_thinking))
        elif demonstration[index - 1]["role"] == "assistant":
            end = next(i for i in range(index, len(demonstration)) if demonstration[i]["role"] != "tool")  # an answer
            texts[-1] += text_between_turns(demonstration[index:end], enable_thinking=enable_thinking)
    return texts
