"""Scores the single-turn categories of BFCL: calls against possible ones, a call at all, or none.

Area: agent. Reward type: rule.
Verified: the calls of an answer by the rules of BFCL's AST checker (`rewards.possible_calls`); for `relevance` that
there is a call, for `irrelevance` that there is none.
Known hacks: always or never calling, which the two last categories pay for; they are weighed against the rest.
Guard: exact count of calls, and every argument is checked.

Departures: a block that is no call with a name and arguments spoils an answer that needs calls (the published handler
for Qwen drops it); text beside calls is free, as there.
"""

from __future__ import annotations

from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import published_refusal
from rewards.possible_calls import calls_fault
from rewards.task import Example, ScoreRequest, Task, evaluation_only


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """By the category's expectation. KeyError for a reference that is not BFCL's."""
    reference = request.reference
    if reference["expects"] == "no call":
        return Score.incorrect("a call although no function fits") if parsed.tool_calls else Score.correct()
    if reference["expects"] == "a call":
        return Score.correct() if parsed.tool_calls else Score.incorrect("no call")
    if parsed.malformed_calls:
        return Score.incorrect("a tool call is malformed")
    fault = calls_fault(parsed.tool_calls, reference["functions"], reference["possible"])
    return Score.incorrect(fault) if fault else Score.correct()


_FUNCTION = {
    "name": "geo.area",
    "description": "Area of a triangle.",
    "parameters": {
        "type": "dict",
        "properties": {"base": {"type": "integer"}, "height": {"type": "float"}, "unit": {"type": "string"}},
        "required": ["base", "height"],
    },
}
_TRIANGLE = {"geo.area": {"base": [10], "height": [5.0], "unit": ["square units", "units", ""]}}
_OTHER = {"geo.area": {"base": [4], "height": [2.0], "unit": [""]}}
_ONE = {"expects": "possible calls", "functions": [_FUNCTION], "possible": [_TRIANGLE]}
_TWO = {"expects": "possible calls", "functions": [_FUNCTION], "possible": [_TRIANGLE, _OTHER]}
_NONE = {"expects": "no call", "functions": [_FUNCTION], "possible": []}
_ANY = {"expects": "a call", "functions": [_FUNCTION], "possible": []}


def _call(arguments: str, name: str = "geo.area") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def _example(completion: str, note: str, reference: dict[str, Any] = _ONE) -> Example:
    return Example(completion, reference, note=note)


_RIGHT = _call('{"base": 10, "height": 5.0}')

TASK = Task(
    name="bfcl",
    area="agent",
    reward_type="rule",
    summary="tool calls by the rules of BFCL's AST checker",
    hack="always or never calling",
    guard="exact count of calls; categories that need none",
    generate=evaluation_only("bfcl"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("expects", "functions", "possible"),
    refuse=published_refusal,
    known_good=(
        _example(f"<think>\narea\n</think>\n\n{_RIGHT}", "an optional argument left out"),
        _example(_call('{"height": 5, "base": 10, "unit": "Square-Units"}'), "integer for a float, text in other case"),
        _example(f"I call the function.\n{_RIGHT}", "text beside the call"),
        _example(f'{_call("""{"base": 4, "height": 2}""")}\n{_RIGHT}', "parallel calls in another order", _TWO),
        _example("No function fits.", "no call", _NONE),
        _example(_call("{}", "anything"), "any call", _ANY),
    ),
    known_bad=(
        _example(_call('{"base": "10", "height": 5.0}'), "text for an integer"),
        _example(_call('{"base": 10.0, "height": 5.0}'), "float for an integer"),
        _example(_call('{"base": true, "height": 5.0}'), "true for an integer"),
        _example(_call('{"base": 10, "height": 5.0, "colour": "red"}'), "an unexpected argument"),
        _example(_call('{"base": 10}'), "a missing argument"),
        _example(_call('{"base": 10, "height": 5.0, "unit": "cm"}'), "another value"),
        _example(_call('{"base": 10, "height": 5.0}', "area"), "another function"),
        _example(f"{_RIGHT}\n{_RIGHT}", "the call twice"),
        _example(_RIGHT, "one of two calls", _TWO),
        _example(f"{_RIGHT}\n<tool_call>\n{{}}\n</tool_call>", "a malformed call beside the right one"),
        _example("25 square units", "no call"),
        _example(_RIGHT, "a call where none fits", _NONE),
        _example("I cannot.", "no call where one fits", _ANY),
        _example(f"<think>\n{_RIGHT}", "inside unfinished thinking"),
    ),
)
