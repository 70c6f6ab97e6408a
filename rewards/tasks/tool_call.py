"""Call the offered tools as asked: one call, several at once, or none when no tool fits.

Area: agent. Reward type: rule.
Verified: the calls, as a multiset, equal the reference in name and arguments, types included, and nothing stands beside
them; when no tool fits, there is no call and the plain answer is right.
Known hacks: spraying calls over every tool, duplicates, extra arguments, always abstaining, and a neighbouring type
("10", 10.0, true) where 10 was asked for.
Guard: exact count and strict types; half of the items at the abstaining level need a call; an abstaining answer is
checked as well.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from data.chat import CALL_CLOSE, CALL_OPEN, SPECIAL_TOKENS, ParsedCompletion
from data.records import Score
from rewards.extract import integer_answer
from rewards.strict_json import loads_strict, strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

Call = dict[str, Any]
"""{"name": …, "arguments": {…}}"""

_CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Quito", "Tokyo")
_QUALITIES = ("blue", "old", "small", "cold", "bright", "quiet", "green", "heavy", "round", "warm", "dark", "long")
_THINGS = ("sea", "tree", "lamp", "stone", "bird", "cloud", "house", "river", "boat", "window", "garden", "road")
_LANGUAGES = ("French", "Spanish", "German", "Greek")
_CALL = re.compile(re.escape(CALL_OPEN) + r"(.*?)" + re.escape(CALL_CLOSE), re.DOTALL)


def _tool(name: str, description: str, **types: str) -> dict[str, Any]:
    properties = {argument: {"type": kind} for argument, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: dict[str, dict[str, Any]] = {
    tool["function"]["name"]: tool
    for tool in (
        _tool("add", "Add two numbers.", a="integer", b="integer"),
        _tool("multiply", "Multiply two numbers.", a="integer", b="integer"),
        _tool("get_weather", "Weather of a city in some days.", city="string", days="integer"),
        _tool("convert", "Convert km to miles.", km="integer"),
        _tool("translate", "Translate a text.", text="string", language="string"),
    )
}


def _draw_add(rng: random.Random) -> tuple[str, Call]:
    left, right = rng.randint(1, 99), rng.randint(1, 99)
    return f"Add {left} and {right}.", {"name": "add", "arguments": {"a": left, "b": right}}


def _draw_multiply(rng: random.Random) -> tuple[str, Call]:
    left, right = rng.randint(2, 99), rng.randint(2, 99)
    return f"Multiply {left} and {right}.", {"name": "multiply", "arguments": {"a": left, "b": right}}


def _draw_weather(rng: random.Random) -> tuple[str, Call]:
    city, days = rng.choice(_CITIES), rng.randint(2, 99)
    question = f"How is the weather in {city} in {days} days?"
    return question, {"name": "get_weather", "arguments": {"city": city, "days": days}}


def _draw_convert(rng: random.Random) -> tuple[str, Call]:
    distance = rng.randint(2, 999)
    return f"How many miles are {distance} km?", {"name": "convert", "arguments": {"km": distance}}


def _draw_translate(rng: random.Random) -> tuple[str, Call]:
    text, language = f"{rng.choice(_QUALITIES)} {rng.choice(_THINGS)}", rng.choice(_LANGUAGES)
    question = f"What is {text} in {language}?"
    return question, {"name": "translate", "arguments": {"text": text, "language": language}}


_DRAW: dict[str, Callable[[random.Random], tuple[str, Call]]] = {
    "add": _draw_add,
    "multiply": _draw_multiply,
    "get_weather": _draw_weather,
    "convert": _draw_convert,
    "translate": _draw_translate,
}


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one call, 1 to 3 tools offered. Level 1: two or three calls. Level 2: half of the items fit no tool.

    Each tool has at least 576 different questions, so that a held-out set of some hundred leaves most to train on.
    """
    if difficulty == 2 and rng.random() < 0.5:
        return _without_fitting_tool(rng)
    num_calls = rng.randint(2, 3) if difficulty == 1 else 1
    questions: list[str] = []
    calls: list[Call] = []
    while len(calls) < num_calls:
        question, call = _DRAW[rng.choice(list(_DRAW))](rng)
        if call not in calls:
            questions.append(question)
            calls.append(call)
    needed = list(dict.fromkeys(call["name"] for call in calls))
    others = [name for name in TOOLS if name not in needed]
    offered = needed + rng.sample(others, rng.randint(0, max(0, 3 - len(needed))))
    rng.shuffle(offered)
    return TaskItem(
        ({"role": "user", "content": " ".join(questions)},),
        {"calls": calls},
        tools=tuple(TOOLS[name] for name in offered),
        domain="tools",
    )


def _without_fitting_tool(rng: random.Random) -> TaskItem:
    left, right = rng.randint(1, 9), rng.randint(1, 9)
    offered = rng.sample(["get_weather", "convert", "translate"], rng.randint(1, 3))
    return TaskItem(
        ({"role": "user", "content": f"Compute {left} + {right}."},),
        {"calls": [], "answer": left + right},
        tools=tuple(TOOLS[name] for name in offered),
        domain="tools",
    )


def answer(item: TaskItem) -> str:
    """The calls as the chat format writes them, or the plain answer."""
    calls = item.reference["calls"]
    return _calls_text(calls) if calls else str(item.reference["answer"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name the tools, then call them; a wrong step calls another of the tools, or writes a number as a string."""
    calls = [dict(call) for call in item.reference["calls"]]
    if not calls:
        wrong = rng.random() < error_rate
        return Worked("no tool fits", str(item.reference["answer"] + wrong))
    plan = "use " + " and ".join(call["name"] for call in calls)
    for call in calls:
        if rng.random() < error_rate:
            call["name"] = rng.choice([name for name in TOOLS if name != call["name"]])
        if rng.random() < error_rate:
            call["arguments"] = {name: str(value) for name, value in call["arguments"].items()}
    return Worked(plan, _calls_text(calls))


def _calls_text(calls: list[Call]) -> str:
    return "\n".join(
        f'{CALL_OPEN}\n{{"name": "{call["name"]}", "arguments": {json.dumps(call["arguments"], ensure_ascii=False)}}}\n'
        f"{CALL_CLOSE}"
        for call in calls
    )


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Calls against calls; without expected calls, a plain answer (compared when the reference holds an integer)."""
    expected = request.reference["calls"]
    if not expected:
        return _verify_abstention(request, parsed)
    if parsed.malformed_calls:
        return Score.incorrect("a tool call is malformed")
    if _CALL.sub("", parsed.answer).strip():
        return Score.incorrect("text beside the tool calls")
    try:
        calls = [loads_strict(body) for body in _CALL.findall(parsed.answer)]
    except ValueError as error:
        return Score.incorrect(f"a tool call is not JSON: {error}")
    mismatch = match_calls(calls, expected)
    return Score.incorrect(mismatch) if mismatch else Score.correct()


def match_calls(calls: Sequence[Any], expected: Sequence[Call]) -> str:
    """Why the calls are not the expected ones as a multiset, types included; empty when they are."""
    if len(calls) != len(expected):
        return f"{len(calls)} calls, expected {len(expected)}"
    left = list(calls)
    for call in expected:
        wanted = {"name": call["name"], "arguments": call["arguments"]}
        match = next((index for index, found in enumerate(left) if strictly_equal(found, wanted)), None)
        if match is None:
            return f"no call equals the expected one of {call['name']!r}"
        del left[match]
    return ""


def _verify_abstention(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    if parsed.tool_calls or parsed.malformed_calls or any(token in parsed.answer for token in SPECIAL_TOKENS):
        return Score.incorrect("a tool call although no tool fits")
    if "answer" in request.reference and integer_answer(parsed.answer) != int(request.reference["answer"]):
        return Score.incorrect("no call, but the answer is wrong")
    return Score.correct()


def _call(arguments: str, name: str = "add") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


_ADD = {"calls": [{"name": "add", "arguments": {"a": 10, "b": 1}}]}
_PARALLEL = {"calls": [*_ADD["calls"], {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}]}
_NONE = {"calls": [], "answer": 7}
_RIGHT = _call('{"a": 10, "b": 1}')
_WEATHER = _call('{"city": "Oslo", "days": 3}', "get_weather")

TASK = Task(
    name="tool_call",
    area="agent",
    reward_type="rule",
    summary="the right calls of offered tools, or none",
    hack="spraying calls, extra arguments, neighbouring types, always abstaining",
    guard="multiset of calls with strict types and exact count; half of the abstaining level needs a call",
    generate=generate,
    max_difficulty=2,
    verify=verify,
    reference_keys=("calls",),
    answer=answer,
    work=work,
    known_good=(
        Example("<think>\nuse add\n</think>\n\n" + _RIGHT, _ADD),
        Example(_call('{"b": 1, "a": 10}'), _ADD, note="arguments in another order"),
        Example(f"{_WEATHER}\n{_RIGHT}", _PARALLEL, note="calls in another order"),
        Example("<think>\nno tool fits\n</think>\n\n7", _NONE, note="abstains"),
    ),
    known_bad=(
        Example(_call('{"a": "10", "b": 1}'), _ADD, note="string for an integer"),
        Example(_call('{"a": 10.0, "b": 1}'), _ADD, note="float for an integer"),
        Example(_call('{"a": 10, "b": true}'), _ADD, note="true for 1"),
        Example(_call('{"a": 10, "b": 1, "c": 0}'), _ADD, note="extra argument"),
        Example(_call('{"a": 10}'), _ADD, note="missing argument"),
        Example(_call('{"a": 9, "a": 10, "b": 1}'), _ADD, note="repeated key"),
        Example(_call('{"a": 10, "b": 1}', "multiply"), _ADD, note="wrong tool"),
        Example(f"{_RIGHT}\n{_RIGHT}", _ADD, note="duplicate call"),
        Example(f"{_RIGHT}\n{_WEATHER}", _ADD, note="sprayed call"),
        Example(_RIGHT, _PARALLEL, note="a call left out"),
        Example(f"{_RIGHT}\n{_RIGHT}", _PARALLEL, note="one call twice for two"),
        Example(_RIGHT.removesuffix("</tool_call>"), _ADD, note="call never closed"),
        Example("I call add.\n" + _RIGHT, _ADD, note="text beside the call"),
        Example('{"name": "add", "arguments": {"a": 10, "b": 1}}', _ADD, note="no tag"),
        Example("11", _ADD, note="abstains although a tool fits"),
        Example(_RIGHT, _NONE, note="calls although no tool fits"),
        Example("8", _NONE, note="abstains with a wrong answer"),
        Example("<think>\n" + _RIGHT, _ADD, note="call inside unfinished thinking"),
    ),
)
