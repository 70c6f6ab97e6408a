"""A world that is changed through tools alone: what the agent tasks build their environments from.

A call is checked against the tool's arguments and carried out on a state in memory; whatever is wrong with it comes
back as an error text. Nothing that the policy writes is evaluated, and no error text repeats it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.chat import ParsedCompletion, parse_completion
from data.episodes import Environment, Reply, turn_text
from data.records import Message
from rewards.task import ScoreRequest

ANSWERED = "answered"
_TYPES: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool}


class ToolError(Exception):
    """What a tool answers instead of a result, after "error: "; the episode goes on."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One function that the policy may call; `arguments` maps names to "string", "integer" or "boolean".

    `run(state, **arguments)` changes the state where it lies and returns the text of the result. `writes` marks tools
    that change it.
    """

    name: str
    description: str
    arguments: Mapping[str, str]
    run: Callable[..., str]
    writes: bool = False

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as prompts offer it."""
        properties = {argument: {"type": kind} for argument, kind in self.arguments.items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": parameters},
        }

    def accepts(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the arguments are exactly those asked for; true is no integer."""
        return arguments.keys() == self.arguments.keys() and all(
            type(arguments[name]) is _TYPES[kind] for name, kind in self.arguments.items()
        )


class ToolEnvironment:
    """Carries out the calls of each turn in order; a turn without calls is an answer and ends the episode.

    `outcome` is {"state", "calls": [{"name", "arguments", "turn", "ok"}], "bad_calls", "writes"}: what lies there at
    the end, the calls that were carried out with the number of their turn, how many were malformed, unknown or had
    wrong arguments, and how many changes were made. Subclasses answer texts in `hear`.
    """

    def __init__(self, tools: Sequence[Tool], state: Any) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.state = copy.deepcopy(state)
        self.calls: list[dict[str, Any]] = []
        self.num_bad_calls = self.num_writes = self.num_turns = 0

    def step(self, turn: ParsedCompletion) -> Reply:
        self.num_turns += 1
        if turn.block in ("unclosed", "malformed"):
            return Reply(ended=f"think block is {turn.block}")
        if not turn.tool_calls and not turn.malformed_calls:
            return self.hear(turn.answer)
        results = [self._carry_out(call) for call in turn.tool_calls]
        results += ["error: not a call"] * turn.malformed_calls
        self.num_bad_calls += turn.malformed_calls
        ended = self.is_over()
        if ended:
            return Reply(ended=ended)
        return Reply(tuple({"role": "tool", "content": result} for result in results))

    def hear(self, answer: str) -> Reply:
        """What comes back for a turn without calls."""
        return Reply(ended=ANSWERED)

    def is_over(self) -> str:
        """Why the calls just made end the episode; empty when it goes on."""
        return ""

    def outcome(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "calls": self.calls,
            "bad_calls": self.num_bad_calls,
            "writes": self.num_writes,
        }

    def _carry_out(self, call: Mapping[str, Any]) -> str:
        tool = self.tools.get(call["name"])
        if tool is None or not tool.accepts(call["arguments"]):
            self.num_bad_calls += 1
            return "error: no such tool" if tool is None else "error: wrong arguments"
        try:
            result, ok = tool.run(self.state, **call["arguments"]), True
        except ToolError as error:
            result, ok = f"error: {error}", False
        self.num_writes += ok and tool.writes
        self.calls.append({"name": tool.name, "arguments": call["arguments"], "turn": self.num_turns, "ok": ok})
        return result


class Demonstration:
    """Messages of an episode that is acted out in an environment: each turn is carried out as it is said."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.messages: list[Message] = []
        self.ended = ""

    def say(self, reasoning: str, answer: str = "", calls: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> list[str]:
        """One assistant turn; returns the contents of what comes back, nothing when the episode is over."""
        message: dict[str, Any] = {"role": "assistant", "reasoning_content": reasoning, "content": answer}
        if calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
                for name, arguments in calls
            ]
        self.messages.append(message)
        reply = self._environment.step(parse_completion(turn_text(message)))
        self.messages += reply.messages
        self.ended = reply.ended
        return [message["content"] for message in reply.messages]


def calls_made(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of an outcome as {"name", "arguments"}."""
    return [{"name": call["name"], "arguments": call["arguments"]} for call in outcome["calls"]]


def require_outcome(request: ScoreRequest) -> dict[str, Any]:
    """What the environment saw. Raises ValueError without one: the completion never was in its environment."""
    if not request.ended or not isinstance(request.outcome, dict):
        raise ValueError(f"task {request.task!r}: no outcome; run the completion as an episode (rollout.agent_loop)")
    return request.outcome
