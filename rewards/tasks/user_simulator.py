"""Book what a user wants who tells only what is asked for: find out what is missing, then book exactly that.

Area: agent. Reward type: rule.
Verified: the bookings, kept by the environment, are exactly the one that the user wants, the last word of a user who
changes their mind counts, and no more was asked than was missing, one question to spare.
Known hacks: asking for everything at once, coaxing ("tell me the answer"), booking guesses until one fits, always
asking.
Guard: the user is a script that answers a question about one fact and nothing else, and leaves when asked in vain;
every booking counts; where nothing is missing a question costs the reward.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment, Reply
from data.records import Message, Score
from rewards.strict_json import strictly_equal
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tool_environment import ANSWERED, Demonstration, Tool, ToolEnvironment, ToolError, require_outcome

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jane", "Kim", "Leo")
_HOURS = range(8, 20)
_SLOT_WORDS: Mapping[str, tuple[str, ...]] = {
    "room": ("room", "rooms"),
    "day": ("day", "days", "date", "weekday"),
    "hour": ("hour", "hours", "time", "o'clock"),
    "people": ("people", "persons", "guests", "many"),
    "name": ("name", "whom"),
}
"""By which words a question is recognised; "how many people" names one fact, since all of its words do."""
_WORD = re.compile(r"[a-z']+")
_MAX_QUESTION_CHARS = 160
_PATIENCE = 3
LEFT = "the user left"


def _book(state: dict[str, Any], **facts: Any) -> str:
    if facts["day"] not in _DAYS or facts["hour"] not in range(24):
        raise ToolError("no such day or hour")
    state["bookings"].append(facts)
    return "booked"


def _free(state: dict[str, Any], room: int, day: str) -> str:
    hours = state["free"].get(f"{room} {day}", [])
    return ", ".join(map(str, hours)) or "none"


def _booking_tool(*slots: str) -> Tool:
    kinds = {slot: "string" if slot in ("day", "name") else "integer" for slot in slots}
    return Tool("book", "Book a room.", kinds, _book, writes=True)


_TOOLS: Mapping[str, tuple[Tool, ...]] = {
    "short": (_booking_tool("room", "day", "hour"),),
    "long": (_booking_tool("room", "day", "hour", "people", "name"),),
    "free": (
        _booking_tool("room", "day", "hour", "people", "name"),
        Tool("free_hours", "Hours at which a room is free on a day.", {"room": "integer", "day": "string"}, _free),
    ),
}


class BookingEnvironment(ToolEnvironment):
    """A booking desk with a scripted user in front of it.

    What the policy says without calling a tool reaches the user. A question that names exactly one fact is answered
    with that fact; anything else is not, and after `_PATIENCE` of those the user leaves. A text after a booking ends
    the episode. `change` of the reference is said with the last fact that was missing.
    """

    def __init__(self, reference: Mapping[str, Any]) -> None:
        super().__init__(_TOOLS[reference["world"]], {"bookings": [], "free": reference.get("free", {})})
        self.answers: Mapping[str, str] = reference["answers"]
        self.change: str = reference.get("change", "")
        self.open_slots = set(reference["missing"])
        self.num_questions = self.num_in_vain = 0

    def hear(self, answer: str) -> Reply:
        if self.state["bookings"]:
            return Reply(ended=ANSWERED)
        self.num_questions += 1
        slot = asked_slot(answer, self.answers)
        if slot is None:
            self.num_in_vain += 1
            if self.num_in_vain >= _PATIENCE:
                return Reply(ended=LEFT)
            return self._says("Ask me one thing at a time, please.")
        says = self.answers[slot]
        if slot in self.open_slots:
            self.open_slots.discard(slot)
            if not self.open_slots and self.change:
                says = f"{says} {self.change}"
        return self._says(says)

    def _says(self, text: str) -> Reply:
        return Reply(({"role": "user", "content": text},))

    def outcome(self) -> dict[str, Any]:
        return {**super().outcome(), "questions": self.num_questions}


def asked_slot(text: str, slots: Mapping[str, Any]) -> str | None:
    """The one fact that a question asks for, None when it is no question, asks for several, or is too long."""
    if "?" not in text or len(text) > _MAX_QUESTION_CHARS:
        return None
    words = set(_WORD.findall(text.casefold()))
    named = [slot for slot in slots if words & set(_SLOT_WORDS[slot])]
    return named[0] if len(named) == 1 else None


def environment(reference: Any) -> Environment:
    """The desk and the user of the reference."""
    return BookingEnvironment(reference)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: day or hour is missing. Level 1: none to three of five facts. Level 2: and the user changes their mind.

    At level 3 the user wants the first free hour after a set one, which has to be looked up.
    """
    facts: dict[str, Any] = {"room": rng.randint(1, 99), "day": rng.choice(_DAYS), "hour": rng.choice(_HOURS)}
    if difficulty == 0:
        missing = [rng.choice(("day", "hour"))]
        return _item("short", facts, missing, "Ask me what you need.")
    facts |= {"people": rng.randint(2, 40), "name": rng.choice(_NAMES)}
    missing = rng.sample(list(facts), rng.randint(1 if difficulty == 2 else 0, 3))
    tail = "Ask me for whatever is missing, one thing at a time."
    if difficulty == 1:
        return _item("long", facts, missing, tail)
    if difficulty == 2:
        slot = rng.choice([name for name in ("day", "hour", "people") if [name] != missing])
        former = facts[slot]
        options = {"day": _DAYS, "hour": _HOURS, "people": range(2, 41)}[slot]
        facts[slot] = rng.choice([option for option in options if option != former])
        change = f"And make the {slot} {facts[slot]} instead of {former}."
        return _item("long", facts | {slot: former}, missing, tail, wanted=facts, change=change)
    return _free_hour_item(rng, facts, missing, tail)


def _free_hour_item(rng: random.Random, facts: dict[str, Any], missing: list[str], tail: str) -> TaskItem:
    """The hour is a wish: the first free one at or after a set hour."""
    free = sorted(rng.sample(_HOURS, 4))
    earliest = rng.randint(free[0] - 1, free[-1])
    facts["hour"] = next(hour for hour in free if hour >= earliest)
    others = {f"{facts['room'] + 1} {facts['day']}": sorted(rng.sample(_HOURS, 4))}
    spoken = {"hour": f"the first free hour from {earliest} on"}
    free_hours = {f"{facts['room']} {facts['day']}": free, **others}
    return _item("free", facts, missing, tail, wanted=facts, spoken=spoken, free=free_hours)


def _item(
    world: str,
    facts: Mapping[str, Any],
    missing: Sequence[str],
    tail: str,
    *,
    wanted: Mapping[str, Any] | None = None,
    spoken: Mapping[str, str] | None = None,
    change: str = "",
    free: Mapping[str, Any] | None = None,
) -> TaskItem:
    spoken = {slot: str(value) for slot, value in facts.items()} | dict(spoken or {})
    phrases = {
        "room": f" room {spoken['room']}" if "room" not in missing else " a room",
        "day": f" on {spoken['day']}",
        "hour": f" at {spoken['hour']}",
        "people": f" for {spoken.get('people')} people",
        "name": f" in the name of {spoken.get('name')}",
    }
    said = "".join(phrases[slot] for slot in facts if slot == "room" or slot not in missing)
    reference: dict[str, Any] = {
        "world": world,
        "wanted": dict(wanted or facts),
        "missing": [slot for slot in facts if slot in missing],
        "answers": {slot: f"{text}." for slot, text in spoken.items()},
        "change": change,
        "free": dict(free or {}),
    }
    tools = tuple(tool.definition for tool in _TOOLS[world])
    return TaskItem(({"role": "user", "content": f"Book{said}. {tail}"},), reference, tools, domain="tools")


_QUESTIONS = {
    "room": "Which room?",
    "day": "Which day?",
    "hour": "Which hour?",
    "people": "How many people?",
    "name": "Which name?",
}


def demonstrate(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[Message, ...]:
    """Ask for each missing fact, look hours up, book, report; a wrong step asks or books something else."""
    reference = item.reference
    acted = Demonstration(environment(reference))
    facts = dict(reference["wanted"])
    for slot in reference["missing"]:
        asked = slot
        if rng.random() < error_rate:
            asked = rng.choice([name for name in facts if name != slot])
        acted.say(f"{slot} is missing", _QUESTIONS[asked])
        if acted.ended:
            return tuple(acted.messages)
    if rng.random() < error_rate:
        facts["hour"] = (facts["hour"] + 1) % 24
    plan = "book it"
    if reference["world"] == "free":
        (hours,) = acted.say("I need the free hours.", calls=[("free_hours", {k: facts[k] for k in ("room", "day")})])
        plan = f"Free are {hours}: {facts['hour']} fits."
    acted.say(plan, calls=[("book", facts)])
    acted.say("booked", "booked")
    return tuple(acted.messages)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The bookings, and how much was asked. ValueError without an outcome."""
    outcome, reference = require_outcome(request), request.reference
    if request.ended != ANSWERED:
        return Score.incorrect(f"no end: {request.ended}")
    if not strictly_equal(outcome["state"]["bookings"], [reference["wanted"]]):
        return Score.incorrect("the bookings are not the one that is wanted")
    allowed = len(reference["missing"]) + bool(reference["missing"])
    if outcome["questions"] > allowed:
        return Score.incorrect(f"{outcome['questions']} questions where {allowed} are enough")
    return Score.correct()


_WANTED = {"room": 12, "day": "Friday", "hour": 9}
_REFERENCE = {
    "world": "short", "wanted": _WANTED, "missing": ["hour"], "change": "", "free": {},
    "answers": {"room": "12.", "day": "Friday.", "hour": "9."},
}  # fmt: skip
_COMPLETE = {**_REFERENCE, "missing": []}


def _example(
    bookings: Sequence[Mapping[str, Any]],
    questions: int,
    note: str,
    *,
    answer: str = "booked",
    ended: str = ANSWERED,
    reference: Any = _REFERENCE,
) -> Example:
    outcome = {
        "state": {"bookings": list(bookings), "free": {}}, "calls": [], "bad_calls": 0, "writes": len(bookings),
        "questions": questions,
    }  # fmt: skip
    return Example(answer, reference, note=note, turns=(answer,), ended=ended, outcome=outcome)


TASK = Task(
    name="user_simulator",
    area="agent",
    reward_type="rule",
    summary="ask a scripted user for what is missing, then book exactly that",
    hack="asking for everything at once, coaxing, booking guesses, always asking",
    guard="one fact for one question, a user who leaves, every booking counts, twins where nothing is missing",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("world", "wanted", "missing", "answers"),
    environment=environment,
    demonstrate=demonstrate,
    known_good=(
        _example([_WANTED], 1, "one question"),
        _example([_WANTED], 2, "one question in vain", answer="<think>\nbooked\n</think>\n\nIt is booked."),
        _example([_WANTED], 0, "nothing was missing", reference=_COMPLETE),
    ),
    known_bad=(
        _example([], 1, "claims that it is booked", ended=LEFT),
        _example([{**_WANTED, "hour": 8}], 0, "guesses the missing fact"),
        _example([_WANTED, {**_WANTED, "hour": 8}], 1, "books another one beside it"),
        _example([_WANTED, _WANTED], 1, "books twice"),
        _example([{**_WANTED, "day": "Sunday"}], 1, "another day"),
        _example([{**_WANTED, "hour": "9"}], 1, "a string for a number"),
        _example([_WANTED], 3, "asks and asks"),
        _example([_WANTED], 1, "asks although nothing is missing", reference=_COMPLETE),
        _example([_WANTED], 1, "never reports", ended="turn cap"),
        _example([_WANTED], 1, "says nothing at the end", answer=""),
    ),
)
