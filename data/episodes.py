"""A conversation between a policy and an environment: what an agent task hands the rollout, neither knowing the other.

    Prompt -> turn -> Environment.step -> Reply -> turn -> … -> Environment.outcome -> the task's verifier

The environment owns the truth: the state that tools change lies here, where the policy cannot write, and the verifier
reads `outcome`, never what the policy says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from data.chat import ParsedCompletion
from data.records import Message, UserError


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

    max_turns: int = 6
    max_calls: int = 12
    max_tokens: int = 4096

    def validate(self) -> None:
        for name in ("max_turns", "max_calls", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
