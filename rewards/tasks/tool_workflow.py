"""Bring a bank, a calendar or a store into the state that is asked for, by tools.

Area: agent. Reward type: rule.
Verified: the final state, kept by the environment, equals the expected one exactly, it took no more changes than
needed, and the episode ended with an answer.
Known hacks: claiming that it is done, changes beside the ones asked for, changes made and taken back, tampering with
the state in the conversation.
Guard: the verifier reads the environment's state and its count of changes, never the answer; every item asks for a
change, so that doing nothing earns nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment
from data.records import Message, Score
from rewards.strict_json import strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tool_environment import ANSWERED, Demonstration, Tool, ToolEnvironment, ToolError, require_outcome

_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jane", "Kim", "Leo")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TITLES = (
    "gym", "dentist", "review", "lunch", "call", "class", "swim", "piano", "dinner", "haircut", "exam", "walk",
    "chess", "interview", "film", "visit", "tennis", "choir", "meeting", "lesson", "concert", "shopping", "run", "tea",
)  # fmt: skip
_PARTS = ("bolt", "nut", "gear", "belt", "lamp", "wheel")
_HOURS = range(9, 17)


def _move(state: Mapping[str, Any], source: str, target: str, amount: int) -> str:
    accounts = state["accounts"]
    if source not in accounts or target not in accounts or source == target:
        raise ToolError("no such account")
    if not 0 < amount <= accounts[source]:
        raise ToolError("not enough money" if amount > 0 else "amount must be above 0")
    accounts[source] -= amount
    accounts[target] += amount
    return "ok"


def _balance(state: Mapping[str, Any], name: str) -> str:
    if name not in state["accounts"]:
        raise ToolError("no such account")
    return str(state["accounts"][name])


def _events(state: Mapping[str, Any], day: str) -> str:
    if day not in state["days"]:
        raise ToolError("no such day")
    return (
        ", ".join(f"{hour} {title}" for hour, title in sorted(state["days"][day], key=lambda event: event[0])) or "none"
    )


def _add(state: Mapping[str, Any], day: str, hour: int, title: str) -> str:
    if day not in state["days"] or hour not in _HOURS:
        raise ToolError("no such day or hour")
    if any(taken == hour for taken, _ in state["days"][day]):
        raise ToolError("that hour is taken")
    state["days"][day].append([hour, title])
    return "ok"


def _cancel(state: Mapping[str, Any], day: str, hour: int) -> str:
    found = [event for event in state["days"].get(day, []) if event[0] == hour]
    if not found:
        raise ToolError("no such event")
    state["days"][day].remove(found[0])
    return "ok"


def _stock(state: Mapping[str, Any], part: str) -> str:
    if part not in state["stock"]:
        raise ToolError("no such part")
    return str(state["stock"][part])


def _ship(state: Mapping[str, Any], part: str, amount: int) -> str:
    if not 0 < amount <= state["stock"].get(part, 0):
        raise ToolError("not in stock")
    state["stock"][part] -= amount
    return f"ok, {state['stock'][part]} left"


def _reorder(state: Mapping[str, Any], part: str, amount: int) -> str:
    if part not in state["stock"] or amount <= 0:
        raise ToolError("no such part or amount")
    state["ordered"][part] = state["ordered"].get(part, 0) + amount
    return "ok"


_MOVE = Tool("move", "Move money.", {"source": "string", "target": "string", "amount": "integer"}, _move, writes=True)
_BALANCE = Tool("balance", "Money of a person.", {"name": "string"}, _balance)
_CALENDAR = (
    Tool("events", "Events of a day, each with its hour.", {"day": "string"}, _events),
    Tool("add", "Add an event.", {"day": "string", "hour": "integer", "title": "string"}, _add, writes=True),
    Tool("cancel", "Cancel an event.", {"day": "string", "hour": "integer"}, _cancel, writes=True),
)
_STORE = (
    Tool("stock", "How many of a part are in stock.", {"part": "string"}, _stock),
    Tool("ship", "Ship some of a part.", {"part": "string", "amount": "integer"}, _ship, writes=True),
    Tool("reorder", "Order some of a part.", {"part": "string", "amount": "integer"}, _reorder, writes=True),
)
_TOOLS: Mapping[str, tuple[Tool, ...]] = {
    "transfer": (_MOVE,), "bank": (_BALANCE, _MOVE), "calendar": _CALENDAR, "store": _STORE
}  # fmt: skip


def environment(reference: Any) -> Environment:
    """The world of the reference in its first state."""
    return ToolEnvironment(_TOOLS[reference["world"]], reference["state"])


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one transfer. Level 1: one that hangs on balances. Level 2: a calendar. Level 3: a store."""
    draw = (_draw_transfer, _draw_bank, _draw_calendar, _draw_store)[difficulty]
    world, question, state, changes = draw(rng)
    acted = ToolEnvironment(_TOOLS[world], state)
    for name, arguments in changes:
        acted.tools[name].run(acted.state, **arguments)
    reference = {
        "world": world,
        "state": state,
        "expected": acted.state,
        "changes": [[name, arguments] for name, arguments in changes],
    }
    tools = tuple(tool.definition for tool in _TOOLS[world])
    return TaskItem(({"role": "user", "content": question},), reference, tools, domain="tools")


_Drawn = tuple[str, str, dict[str, Any], list[tuple[str, dict[str, Any]]]]


def _transfer(source: str, target: str, amount: int) -> tuple[str, dict[str, Any]]:
    return "move", {"source": source, "target": target, "amount": amount}


def _draw_transfer(rng: random.Random) -> _Drawn:
    source, target = rng.sample(_NAMES, 2)
    amount = rng.randint(2, 30)
    state = {"accounts": {source: rng.randint(30, 90), target: rng.randint(0, 90)}}
    return "transfer", f"Move {amount} from {source} to {target}.", state, [_transfer(source, target, amount)]


def _draw_bank(rng: random.Random) -> _Drawn:
    first, second = rng.sample(_NAMES, 2)
    accounts = dict(zip((first, second), rng.sample(range(31, 100), 2), strict=True))
    kind = rng.choice(("all", "half", "richer"))
    if kind == "all":
        change = _transfer(first, second, accounts[first])
        question = f"Move all of {first}'s money to {second}."
    elif kind == "half":
        accounts[first] += accounts[first] % 2
        change = _transfer(first, second, accounts[first] // 2)
        question = f"Move half of {first}'s money to {second}."
    else:
        amount = rng.randint(2, 30)
        richer, poorer = (first, second) if accounts[first] > accounts[second] else (second, first)
        change = _transfer(richer, poorer, amount)
        question = f"Compare {first} and {second}. Move {amount} from the one who has more to the one who has less."
    return "bank", question, {"accounts": accounts}, [change]


def _draw_calendar(rng: random.Random) -> _Drawn:
    source, target = rng.sample(_DAYS, 2)
    days: dict[str, list[list[Any]]] = {day: [] for day in _DAYS}
    titles = rng.sample(_TITLES, 4)
    for title, hour in zip(titles[:2], rng.sample(_HOURS, 2), strict=True):
        days[source].append([hour, title])
    for title, hour in zip(titles[2:], rng.sample(range(9, 12), 2), strict=True):
        days[target].append([hour, title])
    hour, title = days[source][0]
    taken = {event[0] for event in days[target]}
    free = next(candidate for candidate in _HOURS if candidate not in taken)
    question = f"Move the {title} of {source} to the first free hour of {target}. Hours run from 9 to 16."
    changes = [("cancel", {"day": source, "hour": hour}), ("add", {"day": target, "hour": free, "title": title})]
    return "calendar", question, {"days": days}, changes


def _draw_store(rng: random.Random) -> _Drawn:
    parts = rng.sample(_PARTS, 3)
    stock = {part: rng.randint(12, 40) for part in parts}
    shipped = {part: rng.randint(2, stock[part] - 1) for part in parts[:2]}
    changes: list[tuple[str, dict[str, Any]]] = [
        ("ship", {"part": part, "amount": amount}) for part, amount in shipped.items()
    ]
    changes += [
        ("reorder", {"part": part, "amount": 20 - stock[part] + amount})
        for part, amount in shipped.items()
        if stock[part] - amount < 10
    ]
    listed = " and ".join(f"{amount} of part {part}" for part, amount in shipped.items())
    question = (
        f"Ship {listed}. If fewer than 10 of a shipped part are left, reorder as many as are missing to 20. "
        "Change nothing else."
    )
    return "store", question, {"stock": stock, "ordered": {}}, changes


def demonstrate(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[Message, ...]:
    """Look where it is needed, change, report; a wrong step changes something by one too many or in reverse."""
    reference = item.reference
    acted = Demonstration(environment(reference))
    changes = [(name, _erring(rng, arguments, error_rate)) for name, arguments in reference["changes"]]
    world, first = reference["world"], changes[0][1]
    if world == "transfer":
        acted.say(f"move {first['amount']} from {first['source']} to {first['target']}", calls=changes)
    elif world == "bank":
        names = list(reference["state"]["accounts"])
        found = acted.say("I need the balances.", calls=[("balance", {"name": name}) for name in names])
        acted.say(f"{names[0]} has {found[0]}, {names[1]} has {found[1]}.", calls=changes)
    elif world == "calendar":
        days = [changes[0][1]["day"], changes[1][1]["day"]]
        found = acted.say("I need both days.", calls=[("events", {"day": day}) for day in days])
        acted.say(f"{days[0]}: {found[0]}. {days[1]}: {found[1]}.", calls=changes)
    else:
        shipments = [change for change in changes if change[0] == "ship"]
        left = acted.say("First ship.", calls=shipments)
        orders = [change for change in changes if change[0] == "reorder"]
        if orders:
            acted.say(f"{'; '.join(left)}. Some are below 10.", calls=orders)
    acted.say("done", "done")
    return tuple(acted.messages)


def _erring(rng: random.Random, arguments: Mapping[str, Any], error_rate: float) -> dict[str, Any]:
    changed = dict(arguments)
    if rng.random() >= error_rate:
        return changed
    if "source" in changed and rng.random() < 0.5:
        changed["source"], changed["target"] = changed["target"], changed["source"]
    else:
        number = "amount" if "amount" in changed else "hour"
        changed[number] += 1
    return changed


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """State against state, and the number of changes. ValueError without an outcome."""
    outcome, reference = require_outcome(request), request.reference
    if request.ended != ANSWERED:
        return Score.incorrect(f"no answer: {request.ended}")
    if differing := state_diff(_ordered(outcome["state"]), _ordered(reference["expected"])):
        return Score.incorrect(f"final state differs in {', '.join(differing[:5])}")
    if outcome["writes"] != len(reference["changes"]):
        return Score.incorrect(f"{outcome['writes']} changes where {len(reference['changes'])} were needed")
    return Score.correct()


def state_diff(found: Any, expected: Any, path: str = "state") -> list[str]:
    """The places at which two states differ, additions and omissions included; types count."""
    if isinstance(found, dict) and isinstance(expected, dict):
        places: list[str] = []
        for key in sorted(found.keys() | expected.keys()):
            if key not in found or key not in expected:
                places.append(f"{path}.{key}")
            else:
                places += state_diff(found[key], expected[key], f"{path}.{key}")
        return places
    return [] if strictly_equal(found, expected) else [path]


def _ordered(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with the events of each day in the order of their hours: the order of changes does not count."""
    if "days" not in state:
        return dict(state)
    return {**state, "days": {day: sorted(events, key=repr) for day, events in state["days"].items()}}


_REFERENCE = {
    "world": "transfer",
    "state": {"accounts": {"Ada": 40, "Ben": 5}},
    "expected": {"accounts": {"Ada": 28, "Ben": 17}},
    "changes": [["move", {"source": "Ada", "target": "Ben", "amount": 12}]],
}
_WEEK = {
    "world": "calendar",
    "state": {"days": {"Monday": [[9, "gym"]], "Friday": []}},
    "expected": {"days": {"Monday": [], "Friday": [[9, "gym"], [10, "call"]]}},
    "changes": [["cancel", {"day": "Monday", "hour": 9}], ["add", {"day": "Friday", "hour": 9, "title": "gym"}]],
}


def _example(
    state: Any, writes: int, note: str, *, answer: str = "done", ended: str = ANSWERED, reference: Any = _REFERENCE
) -> Example:
    outcome = {"state": state, "calls": [], "bad_calls": 0, "writes": writes}
    return Example(answer, reference, note=note, turns=(answer,), ended=ended, outcome=outcome)


def _accounts(**accounts: Any) -> dict[str, Any]:
    return {"accounts": accounts}


TASK = Task(
    name="tool_workflow",
    area="agent",
    reward_type="rule",
    summary="the final state of a bank, a calendar or a store, exactly",
    hack="claiming success, extra changes, changes taken back, tampering in the conversation",
    guard="the environment's own state and its count of changes; every item needs a change",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("world", "state", "expected", "changes"),
    environment=environment,
    demonstrate=demonstrate,
    known_good=(
        _example(_accounts(Ada=28, Ben=17), 1, "one transfer"),
        _example(_accounts(Ben=17, Ada=28), 1, "after thinking", answer="<think>\ndone\n</think>\n\nMoved."),
        _example({"days": {"Monday": [], "Friday": [[10, "call"], [9, "gym"]]}}, 2, "other order", reference=_WEEK),
    ),
    known_bad=(
        _example(_accounts(Ada=40, Ben=5), 0, "claims that it is done"),
        _example(_accounts(Ada=40, Ben=5), 0, "writes the state itself", answer='{"accounts": {"Ada": 28, "Ben": 17}}'),
        _example(_accounts(Ada=27, Ben=18), 1, "one too many"),
        _example(_accounts(Ada=52, Ben=-7), 1, "the other way round"),
        _example(_accounts(Ada=28, Ben=17, Cleo=0), 1, "an account that should not be there"),
        _example(_accounts(Ada=28), 1, "an account gone"),
        _example(_accounts(Ada=28.0, Ben=17.0), 1, "numbers of another type"),
        _example(_accounts(Ada=28, Ben=17), 3, "a change made and taken back"),
        _example(_accounts(Ada=28, Ben=17), 1, "never answers", ended="turn cap"),
        _example(_accounts(Ada=28, Ben=17), 1, "too many calls", ended="call cap"),
        _example(_accounts(Ada=28, Ben=17), 1, "an empty answer", answer=""),
        _example({"days": {"Monday": [], "Friday": [[9, "gym"]]}}, 2, "an event lost", reference=_WEEK),
    ),
)
