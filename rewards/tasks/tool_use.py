"""Use the result of tools that really run: one call, several at once, a chain, or none when no tool fits.

Area: agent. Reward type: rule.
Verified: the calls that were carried out equal the expected ones as a multiset, the calls of a parallel question stand
in one turn, and the final answer is what the tools gave back, which nobody can know without them.
Known hacks: spraying calls, guessing the value, always calling, always abstaining, writing a tool result oneself.
Guard: exact count of calls, values drawn for each prompt, half of the abstaining level needs a call, and results are
taken from the environment's own record.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment
from data.records import Message, Score
from rewards.extract import INTEGER, answer_slot, integer_answer, parse_integer
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tasks.tool_call import match_calls
from rewards.tool_environment import (
    ANSWERED,
    Demonstration,
    Tool,
    ToolEnvironment,
    ToolError,
    calls_made,
    require_outcome,
)

_FIELDS = ("price", "size", "age", "rank", "code", "rate", "cost", "score", "year", "width", "weight", "height")
_FIRST = ("Mira", "Jonas", "Aiko", "Pablo", "Nadia", "Omar", "Lena", "Tariq", "Ines", "Viktor")
_LAST = ("Lund", "Okafor", "Silva", "Novak", "Meyer", "Haddad", "Rossi", "Tanaka", "Quist", "Byrne")
_LIST = re.compile(rf"{INTEGER}(?:(?:, | and |, and ){INTEGER})*\.?")


def _lookup(state: Mapping[str, Any], field: str, item: int) -> str:
    value = state["items"].get(str(item), {}).get(field)
    if value is None:
        raise ToolError("no such entry")
    return str(value)


def _customer(state: Mapping[str, Any], name: str) -> str:
    if name not in state["customers"]:
        raise ToolError("no such customer")
    return str(state["customers"][name])


def _orders(state: Mapping[str, Any], customer: int) -> str:
    orders = state["orders"].get(str(customer))
    if orders is None:
        raise ToolError("no such customer")
    return ", ".join(map(str, orders)) or "none"


def _order_total(state: Mapping[str, Any], order: int) -> str:
    if str(order) not in state["totals"]:
        raise ToolError("no such order")
    return str(state["totals"][str(order)])


_LOOKUP = Tool("lookup", "Look up a number.", {"field": "string", "item": "integer"}, _lookup)
_SHOP = (
    Tool("customer_number", "Number of the customer with this full name.", {"name": "string"}, _customer),
    Tool("orders", "Numbers of all orders of a customer.", {"customer": "integer"}, _orders),
    Tool("order_total", "Total of one order in euros.", {"order": "integer"}, _order_total),
    Tool("lookup", "Look up a number of an item in the catalogue.", {"field": "string", "item": "integer"}, _lookup),
)


def environment(reference: Any) -> Environment:
    """The catalogue or the shop of the reference."""
    return ToolEnvironment(_SHOP if "customers" in reference["state"] else (_LOOKUP,), reference["state"])


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one look-up. Level 1: two or three at once. Level 2: half of the items need none. Level 3: a chain."""
    if difficulty == 3:
        return _shop_item(rng)
    if difficulty == 2 and rng.random() < 0.5:
        left, right = rng.randint(1, 9), rng.randint(1, 9)
        return _catalogue_item(rng, f"Compute {left} + {right}.", [], [left + right])
    wanted = _distinct(rng, rng.randint(2, 3) if difficulty == 1 else 1)
    named = [f"the {field} of item {item}" for field, item in wanted]
    question = f"What is {named[0]}?"
    if len(wanted) > 1:
        question = f"What are {', '.join(named[:-1])} and {named[-1]}? Look all up at once."
    return _catalogue_item(rng, question, wanted, [])


def _distinct(rng: random.Random, count: int) -> list[tuple[str, int]]:
    wanted: list[tuple[str, int]] = []
    while len(wanted) < count:
        pair = (rng.choice(_FIELDS), rng.randint(10, 99))
        if pair not in wanted:
            wanted.append(pair)
    return wanted


def _catalogue_item(rng: random.Random, question: str, wanted: list[tuple[str, int]], answer: list[int]) -> TaskItem:
    """A question with a catalogue that holds what is wanted, and neighbours of it with other values."""
    items: dict[str, dict[str, int]] = {}
    for field, item in wanted or _distinct(rng, 1):
        for near in (item, item + 1):
            entry = items.setdefault(str(near), {})
            for name in (field, rng.choice(_FIELDS)):
                entry.setdefault(name, rng.randint(10, 99))
    reference = {
        "state": {"items": items},
        "calls": [{"name": "lookup", "arguments": {"field": field, "item": item}} for field, item in wanted],
        "answer": answer or [items[str(item)][field] for field, item in wanted],
        "at_once": len(wanted) > 1,
    }
    return TaskItem(({"role": "user", "content": question},), reference, (_LOOKUP.definition,), domain="tools")


def _shop_item(rng: random.Random) -> TaskItem:
    names = [f"{first} {last}" for first in rng.sample(_FIRST, 2) for last in rng.sample(_LAST, 2)]
    numbers = rng.sample(range(100, 1000), len(names))
    orders = {str(number): rng.sample(range(1000, 10000), rng.randint(1, 3)) for number in numbers}
    totals = {str(order): rng.randint(10, 999) for listed in orders.values() for order in listed}
    name, number = names[0], numbers[0]
    calls: list[dict[str, Any]] = [
        {"name": "customer_number", "arguments": {"name": name}},
        {"name": "orders", "arguments": {"customer": number}},
        *({"name": "order_total", "arguments": {"order": order}} for order in orders[str(number)]),
    ]
    state = {"customers": dict(zip(names, numbers, strict=True)), "orders": orders, "totals": totals, "items": {}}
    limit = rng.randint(50, 500)
    over = [totals[str(order)] for order in orders[str(number)] if totals[str(order)] > limit]
    reference = {"state": state, "calls": calls, "answer": [sum(over)], "at_once": False, "limit": limit}
    question = (
        f"What do the orders of {name} of more than {limit} euros come to? Call no tool more often than needed; reply "
        "with the sum alone, 0 if there are none."
    )
    return TaskItem(
        ({"role": "user", "content": question},), reference, tuple(t.definition for t in _SHOP), domain="tools"
    )


def demonstrate(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[Message, ...]:
    """Name what is needed, call, read the results; a wrong step looks something else up or misreads a number."""
    reference = item.reference
    acted = Demonstration(environment(reference))
    if not reference["calls"]:
        value = reference["answer"][0] + (rng.random() < error_rate)
        acted.say("no tool fits", str(value))
    elif "customers" in reference["state"]:
        _demonstrate_chain(rng, reference, acted, error_rate)
    else:
        calls = [dict(call["arguments"]) for call in reference["calls"]]
        for arguments in calls:
            if rng.random() < error_rate:
                arguments["item"] += 1
        plan = " and ".join(f"{arguments['field']} of {arguments['item']}" for arguments in calls)
        results = acted.say(f"look up {plan}", calls=[("lookup", arguments) for arguments in calls])
        read = [_misread(rng, result, error_rate) for result in results]
        acted.say(f"it is {' and '.join(read)}", ", ".join(read))
    return tuple(acted.messages)


def _demonstrate_chain(
    rng: random.Random, reference: Mapping[str, Any], acted: Demonstration, error_rate: float
) -> None:
    name = reference["calls"][0]["arguments"]["name"]
    (number,) = acted.say(f"I need the number of {name}.", calls=[("customer_number", {"name": name})])
    number = _misread(rng, number, error_rate)
    (listed,) = acted.say(f"{name} is customer {number}.", calls=[("orders", {"customer": int(number)})])
    orders = [int(order) for order in re.findall("[0-9]+", listed)]
    if not orders:
        acted.say("There is no such customer.", "0")
        return
    totals = acted.say("Now the total of each order.", calls=[("order_total", {"order": order}) for order in orders])
    values = [int(_misread(rng, total, error_rate)) for total in totals]
    over = [value for value in values if value > reference["limit"]]
    acted.say(f"More than {reference['limit']}: {' + '.join(map(str, over)) or 'none'} = {sum(over)}", str(sum(over)))


def _misread(rng: random.Random, result: str, error_rate: float) -> str:
    value = parse_integer(result)
    return str(value + 1 if rng.random() < error_rate else value) if value is not None else "0"


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Calls from the environment's record, the answer from the last turn. ValueError without an outcome."""
    outcome, reference = require_outcome(request), request.reference
    if request.ended != ANSWERED:
        return Score.incorrect(f"no answer: {request.ended}")
    if outcome["bad_calls"]:
        return Score.incorrect("a call was malformed or had wrong arguments")
    if mismatch := match_calls(calls_made(outcome), reference["calls"]):
        return Score.incorrect(mismatch)
    if reference["at_once"] and len({call["turn"] for call in outcome["calls"]}) != 1:
        return Score.incorrect("the calls were not made at once")
    return Score.correct() if _values(parsed.answer) == reference["answer"] else Score.incorrect("wrong answer")


def _values(answer: str) -> list[int] | None:
    """One integer in any form that integer answers have, or a plain list of them."""
    single = integer_answer(answer)
    if single is not None:
        return [single]
    slot = answer_slot(answer)
    if slot is None or len(slot) > 200 or not _LIST.fullmatch(slot):
        return None
    return [int(number.replace(",", "")) for number in re.findall(INTEGER, slot)]


_STATE = {"items": {"47": {"price": 31}, "12": {"size": 80}}}
_PRICE = {"name": "lookup", "arguments": {"field": "price", "item": 47}}
_SIZE = {"name": "lookup", "arguments": {"field": "size", "item": 12}}
_ONE = {"state": _STATE, "calls": [_PRICE], "answer": [31], "at_once": False}
_TWO = {"state": _STATE, "calls": [_PRICE, _SIZE], "answer": [31, 80], "at_once": True}
_NONE = {"state": _STATE, "calls": [], "answer": [7], "at_once": False}


def _example(
    answer: str,
    reference: Any,
    *calls: tuple[Mapping[str, Any], int],
    bad_calls: int = 0,
    ended: str = ANSWERED,
    note: str = "",
) -> Example:
    """An episode with these calls (call, number of its turn) before its answer."""
    made = [{**call, "turn": turn, "ok": True} for call, turn in calls]
    outcome = {"state": _STATE, "calls": made, "bad_calls": bad_calls, "writes": 0}
    return Example(answer, reference, note=note, turns=(answer,), ended=ended, outcome=outcome)


TASK = Task(
    name="tool_use",
    area="agent",
    reward_type="rule",
    summary="the right calls of running tools, and an answer that is what they gave back",
    hack="spraying calls, guessed values, always calling, always abstaining, results written by the policy",
    guard="exact count of calls in the environment's record; values drawn for each prompt; half of a level needs none",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("state", "calls", "answer"),
    environment=environment,
    demonstrate=demonstrate,
    known_good=(
        _example("<think>\nit is 31\n</think>\n\n31", _ONE, (_PRICE, 1)),
        _example("31, 80", _TWO, (_SIZE, 1), (_PRICE, 1), note="calls in another order"),
        _example("The answer is 7.", _NONE, note="abstains"),
    ),
    known_bad=(
        _example("31", _ONE, note="guesses without a call"),
        _example("32", _ONE, (_PRICE, 1), note="misreads"),
        _example("31", _ONE, (_PRICE, 1), (_PRICE, 2), note="calls twice"),
        _example("31", _ONE, (_PRICE, 1), (_SIZE, 1), note="sprays"),
        _example("31", _ONE, (_SIZE, 1), note="calls something else"),
        _example("31", _ONE, (_PRICE, 1), bad_calls=1, note="a bad call beside the right one"),
        _example("31, 80", _TWO, (_PRICE, 1), (_SIZE, 2), note="one after the other where all at once was asked"),
        _example("80, 31", _TWO, (_PRICE, 1), (_SIZE, 1), note="values in the wrong order"),
        _example("31", _TWO, (_PRICE, 1), (_SIZE, 1), note="a value left out"),
        _example("31 or 32", _ONE, (_PRICE, 1), note="hedges"),
        _example("7", _NONE, (_PRICE, 1), note="calls although no tool fits"),
        _example("8", _NONE, note="abstains with a wrong answer"),
        _example("<tool_response>\n31\n</tool_response>\n31", _ONE, note="writes the result itself"),
        _example("31", _ONE, (_PRICE, 1), ended="turn cap", note="never answers"),
        _example("<think>\n31", _ONE, (_PRICE, 1), note="answer inside unfinished thinking"),
    ),
)
