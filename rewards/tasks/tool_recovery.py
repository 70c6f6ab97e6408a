"""Get on after a tool has failed: try again, mend the argument, look what happened, or report what cannot be mended.

Area: agent. Reward type: rule.
Verified: the value that came back after the failures, or the report that there is none where the failure is permanent;
where money moves, the final state; and that no more calls were made than the failures required, plus one.
Known hacks: reporting failure at once, inventing a value, retrying without end, paying twice.
Guard: the report counts only after the permanent failure was seen, values are drawn for each prompt, calls are capped
by the environment, and a payment that had gone through before its time-out is in the state.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment
from data.records import Message, Score
from rewards.extract import answer_slot, integer_answer
from rewards.strict_json import strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tool_environment import ANSWERED, Demonstration, Tool, ToolEnvironment, ToolError, require_outcome

_FIELDS = ("price", "size", "age", "rank", "code", "rate", "cost", "score", "year", "width", "weight", "height")
_MEASURES = ("length", "depth", "mass", "volume", "width", "weight", "height", "size")
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jane", "Kim", "Leo")
_TEMPORARY = ("timeout, try again", "busy, try again")
_MISSING = "missing"
_CLOSED = "closed"
_SPARE_CALLS = 1
TOO_MANY = "too many calls"


def _fetch(state: dict[str, Any], field: str, item: int) -> str:
    """Level 0: the failures that lie ahead come first, then the value or the permanent failure."""
    if (field, item) != (state["field"], state["item"]):
        raise ToolError("no such entry")
    return _after_failures(state)


def _measure(state: dict[str, Any], field: str, item: int, unit: str) -> str:
    """Level 1: an item that has moved and a unit that is not the tool's are told and can be mended."""
    if field != state["field"] or item not in (state["item"], state["new_item"]):
        raise ToolError("no such entry")
    if unit != state["unit"]:
        raise ToolError(f"unit must be {state['unit']}")
    if item != state["new_item"]:
        raise ToolError(f"item {item} is now item {state['new_item']}")
    return _after_failures(state)


def _after_failures(state: dict[str, Any]) -> str:
    if state["failures"]:
        raise ToolError(state["failures"].pop(0))
    state["told"] = True  # the value, or that there is none, is out
    if state["value"] is None:
        raise ToolError("removed for good")
    return str(state["value"])


def _pay(state: dict[str, Any], name: str, amount: int) -> str:
    """Level 2: a payment may time out before or after it has gone through; a closed account takes none."""
    if name not in state["accounts"]:
        raise ToolError("no such person")
    if state["accounts"][name] == _CLOSED:
        state["seen_closed"].append(name)
        raise ToolError("account is closed for good")
    failure = state["timeouts"].pop(name, None)
    if failure != "before":
        state["payments"].append([name, amount])
    if failure is not None:
        raise ToolError("timeout, payment may have gone through or not")
    return "ok"


def _payments(state: dict[str, Any], name: str) -> str:
    if name not in state["accounts"]:
        raise ToolError("no such person")
    return ", ".join(str(amount) for paid, amount in state["payments"] if paid == name) or "none"


_TOOLS: Mapping[str, tuple[Tool, ...]] = {
    "fetch": (Tool("fetch", "Fetch a number.", {"field": "string", "item": "integer"}, _fetch),),
    "measure": (
        Tool("measure", "Measure an item.", {"field": "string", "item": "integer", "unit": "string"}, _measure),
    ),
    "pay": (
        Tool("pay", "Pay a person some euros.", {"name": "string", "amount": "integer"}, _pay, writes=True),
        Tool("payments", "Amounts paid to a person today.", {"name": "string"}, _payments),
    ),
}


class _CappedEnvironment(ToolEnvironment):
    """Ends the episode when more calls were made than the failures required and one to spare."""

    def __init__(self, tools: tuple[Tool, ...], state: Any, max_calls: int) -> None:
        super().__init__(tools, state)
        self.max_calls = max_calls

    def is_over(self) -> str:
        return TOO_MANY if len(self.calls) + self.num_bad_calls > self.max_calls else ""


def environment(reference: Any) -> Environment:
    """The tools of the reference with the failures that lie ahead."""
    return _CappedEnvironment(_TOOLS[reference["world"]], reference["state"], reference["num_calls"] + _SPARE_CALLS)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: temporary failures. Level 1: arguments to mend. Level 2: payments that may have gone through.

    At levels 0 and 1 the failure of every third item is permanent, at level 2 that of every third payment.
    """
    if difficulty == 2:
        return _payment_item(rng)
    field, item = rng.choice(_MEASURES if difficulty else _FIELDS), rng.randint(10, 99)
    value = None if rng.randrange(3) == 0 else rng.randint(10, 99)
    state: dict[str, Any] = {"field": field, "item": item, "value": value, "told": False}
    state["failures"] = [rng.choice(_TEMPORARY) for _ in range(rng.randint(0 if value is None else 1, 2 - difficulty))]
    num_calls = len(state["failures"]) + 1
    if difficulty == 0:
        question = f"Fetch the {field} of item {item}. Say {_MISSING} if it is removed."
        world = "fetch"
    else:
        unit = rng.choice(("metres", "grams", "litres"))
        state |= {
            "new_item": rng.choice((item, rng.randint(100, 200))),
            "unit": rng.choice(("metres", "inches", "pounds")),
        }
        num_calls += (state["new_item"] != item) + (state["unit"] != unit)
        question = f"Measure the {field} of item {item}, in {unit} if you can. Say {_MISSING} if it is removed."
        state["asked_unit"] = unit
        world = "measure"
    reference = {"world": world, "state": state, "num_calls": num_calls}
    return _item(question, reference)


def _payment_item(rng: random.Random) -> TaskItem:
    names = rng.sample(_NAMES, 2)
    amounts = {name: rng.randint(2, 60) for name in names}
    accounts = {name: _CLOSED if rng.randrange(3) == 0 else "open" for name in names}
    open_names = [name for name in names if accounts[name] == "open"]
    timeouts = {name: kind for name in open_names if (kind := rng.choice(("before", "after", None))) is not None}
    state = {"accounts": accounts, "timeouts": timeouts, "payments": [], "seen_closed": []}
    # A payment, a look after a time-out, and a second payment where the first had not gone through.
    num_calls = sum(1 + (name in timeouts) + (timeouts.get(name) == "before") for name in names)
    listed = " and ".join(f"{amounts[name]} euros to {name}" for name in names)
    question = (
        f"Pay {listed}, each exactly once. Reply with the name of everyone who cannot be paid because the account is "
        "closed, separated by commas, or with none."
    )
    reference = {"world": "pay", "state": state, "amounts": amounts, "num_calls": num_calls}
    return _item(question, reference)


def _item(question: str, reference: Mapping[str, Any]) -> TaskItem:
    tools = tuple(tool.definition for tool in _TOOLS[reference["world"]])
    return TaskItem(({"role": "user", "content": question},), dict(reference), tools, domain="tools")


def demonstrate(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[Message, ...]:
    """Call, and answer each failure by what it asks for; a wrong step gives up early, or misreads the value."""
    reference = item.reference
    acted = Demonstration(environment(reference))
    if reference["world"] == "pay":
        _demonstrate_payments(rng, reference, acted, error_rate)
        return tuple(acted.messages)
    state = reference["state"]
    arguments = {"field": state["field"], "item": state["item"]}
    if reference["world"] == "measure":
        arguments["unit"] = state["asked_unit"]
    tool, reason = reference["world"], f"get {state['field']} of {state['item']}"
    while True:
        results = acted.say(reason, calls=[(tool, arguments)])
        if acted.ended:
            break
        (result,) = results
        if not result.startswith("error: "):
            value = int(result) + (rng.random() < error_rate)
            acted.say(f"it is {value}", str(value))
            break
        if "removed" in result or rng.random() < error_rate:
            if "removed" in result and rng.random() < error_rate:
                acted.say("it is 10", "10")
            else:
                acted.say("it is removed", _MISSING)
            break
        reason = "try again"
        if moved := re.search("is now item ([0-9]+)", result):
            arguments["item"], reason = int(moved.group(1)), f"it is item {moved.group(1)} now"
        elif unit := re.search("unit must be ([a-z]+)", result):
            arguments["unit"], reason = unit.group(1), f"use {unit.group(1)}"
    return tuple(acted.messages)


def _demonstrate_payments(
    rng: random.Random, reference: Mapping[str, Any], acted: Demonstration, error_rate: float
) -> None:
    closed: list[str] = []
    for name, amount in reference["amounts"].items():
        pay = [("pay", {"name": name, "amount": amount + (rng.random() < error_rate)})]
        results = acted.say(f"Pay {name}.", calls=pay)
        if results and "closed" in results[0]:
            closed.append(name)
        elif results and "timeout" in results[0]:
            found = acted.say(f"Did the payment to {name} go through?", calls=[("payments", {"name": name})])
            if found == ["none"] and rng.random() >= error_rate:
                acted.say(f"It did not. Pay {name} again.", calls=pay)
        if acted.ended:
            return
    acted.say(f"Closed: {', '.join(closed) or 'none'}.", ", ".join(closed) or "none")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The answer, and that the environment had let it out; payments by state. ValueError without an outcome."""
    outcome, reference = require_outcome(request), request.reference
    if request.ended != ANSWERED:
        return Score.incorrect(f"no answer: {request.ended}")
    state = outcome["state"]
    if reference["world"] == "pay":
        return _verify_payments(reference, state, parsed)
    if not state["told"]:
        return Score.incorrect("answers before the tool had its last word")
    value = reference["state"]["value"]
    if value is None:
        return (
            Score.correct() if _word(parsed.answer) == _MISSING else Score.incorrect("does not say that it is missing")
        )
    return Score.correct() if integer_answer(parsed.answer) == value else Score.incorrect("wrong value")


def _verify_payments(reference: Mapping[str, Any], state: Mapping[str, Any], parsed: ParsedCompletion) -> Score:
    accounts = reference["state"]["accounts"]
    expected = sorted([name, amount] for name, amount in reference["amounts"].items() if accounts[name] != _CLOSED)
    if not strictly_equal(sorted(state["payments"], key=repr), sorted(expected, key=repr)):
        return Score.incorrect("payments are not what was asked for, each once")
    closed = sorted(name for name, kind in accounts.items() if kind == _CLOSED)
    if set(closed) != set(state["seen_closed"]):
        return Score.incorrect("reports without having tried")
    told = sorted(part.strip().casefold() for part in _word(parsed.answer).split(","))
    if told != ([name.casefold() for name in closed] or ["none"]):
        return Score.incorrect("does not report exactly who cannot be paid")
    return Score.correct()


def _word(answer: str) -> str:
    """The one slot of an answer, in lower case and without a closing period."""
    return (answer_slot(answer) or "").strip().removesuffix(".").casefold()


def _state(value: int | None, *, told: bool, failures: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"field": "price", "item": 47, "value": value, "told": told, "failures": list(failures)}


_VALUE = {"world": "fetch", "state": _state(31, told=False, failures=(_TEMPORARY[0],)), "num_calls": 2}
_GONE = {"world": "fetch", "state": _state(None, told=False), "num_calls": 1}
_PAY = {
    "world": "pay",
    "amounts": {"Ada": 5, "Ben": 7},
    "num_calls": 3,
    "state": {
        "accounts": {"Ada": "open", "Ben": _CLOSED}, "timeouts": {"Ada": "after"}, "payments": [], "seen_closed": [],
    },
}  # fmt: skip


def _example(answer: str, reference: Any, state: Any, note: str, *, ended: str = ANSWERED) -> Example:
    outcome = {"state": state, "calls": [], "bad_calls": 0, "writes": 0}
    return Example(answer, reference, note=note, turns=(answer,), ended=ended, outcome=outcome)


def _paid(*payments: list[Any], seen: tuple[str, ...] = ("Ben",)) -> dict[str, Any]:
    return {"payments": list(payments), "seen_closed": list(seen)}


TASK = Task(
    name="tool_recovery",
    area="agent",
    reward_type="rule",
    summary="recovery from failed tools: retry, mend, look, or report",
    hack="reporting failure at once, inventing a value, retrying without end, paying twice",
    guard="reports count after the permanent failure was seen; drawn values; capped calls; payments are state",
    generate=generate,
    max_difficulty=2,
    verify=verify,
    reference_keys=("world", "state", "num_calls"),
    environment=environment,
    demonstrate=demonstrate,
    known_good=(
        _example("31", _VALUE, _state(31, told=True), "after a retry"),
        _example("<think>\nit is removed\n</think>\n\nMissing.", _GONE, _state(None, told=True), "permanent failure"),
        _example("Ben", _PAY, _paid(["Ada", 5]), "one paid once, one closed"),
    ),
    known_bad=(
        _example("missing", _VALUE, _state(31, told=False), "gives up at the first failure"),
        _example("missing", _VALUE, _state(31, told=True), "reports failure although the value came"),
        _example("missing", _GONE, _state(None, told=False), "reports without a call"),
        _example("31", _VALUE, _state(31, told=False), "invents the value"),
        _example("32", _VALUE, _state(31, told=True), "misreads"),
        _example("31", _GONE, _state(None, told=True), "invents a value for what is gone"),
        _example("missing or 31", _VALUE, _state(31, told=True), "hedges"),
        _example("31", _VALUE, _state(31, told=True), "retries without end", ended=TOO_MANY),
        _example("Ben", _PAY, _paid(["Ada", 5], ["Ada", 5]), "pays twice after a time-out"),
        _example("Ben", _PAY, _paid(), "does not pay"),
        _example("none", _PAY, _paid(["Ada", 5]), "does not report"),
        _example("Ada, Ben", _PAY, _paid(["Ada", 5]), "reports everyone"),
        _example("Ben", _PAY, _paid(["Ada", 5], seen=()), "guesses who is closed"),
    ),
)
