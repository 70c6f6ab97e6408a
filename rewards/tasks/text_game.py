"""A small text adventure: find the key, find the door, get out in few steps.

Area: agent. Reward type: rule.
Verified: the environment saw the player leave through the door; each step past those that a systematic player needs
costs a tenth of the reward, down to a half.
Known hacks: claiming to be out, farming rewards by walking about, trying every action in one turn.
Guard: the goal is the environment's own state and the only thing that is paid, steps cost and run out, and every call
is a step.

Levels above 0 are explored and need more room than `rollout.episodes` has by default: 24 turns and 48 calls for level
1, 40 turns and 80 calls for level 2.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Any

from data.chat import ParsedCompletion
from data.episodes import Environment, Reply
from data.records import Message, Score
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tool_environment import Demonstration, Tool, ToolEnvironment, ToolError, require_outcome

_ROOMS = (
    "attic", "hall", "barn", "cellar", "garden", "kitchen", "library", "office", "pantry", "porch", "shed", "study",
    "tower", "vault", "well", "yard",
)  # fmt: skip
_COLOURS = ("red", "blue", "green")
_OPPOSITE = {"north": "south", "east": "west", "south": "north", "west": "east"}
_MOVES = {"north": (0, -1), "east": (1, 0), "south": (0, 1), "west": (-1, 0)}
_GRIDS = {1: (3, 2), 2: (3, 3)}
GOAL = "out"
_STEP_COST, _LEAST = 0.1, 0.5


def _act(state: dict[str, Any], do: str) -> str:
    """One step; a step that leads nowhere counts as well."""
    state["steps"] += 1
    verb, _, what = do.partition(" ")
    here = state["here"]
    if verb == "go" and what in state["exits"][here]:
        state["here"] = state["exits"][here][what]
        return _view(state)
    if verb == "take" and here in state["keys"]:
        colour = state["keys"].pop(here)
        state["held"].append(colour)
        return f"{colour} key taken"
    if verb == "open" and here in state["doors"]:
        colour = state["doors"][here]
        if colour not in state["held"]:
            raise ToolError(f"locked, it needs the {colour} key")
        state["out"] = colour == state["exit"]
        return GOAL if state["out"] else "behind this door is a wall"
    raise ToolError("you cannot do that here")


def _view(state: Mapping[str, Any]) -> str:
    """What the player sees."""
    here = state["here"]
    seen = [here]
    if state["exits_shown"]:
        seen.append(f"exits {', '.join(state['exits'][here])}")
    if here in state["keys"]:
        seen.append(f"{state['keys'][here]} key")
    if here in state["doors"]:
        seen.append(f"{state['doors'][here]} door")
    return "; ".join(seen)


_ACT = Tool("act", "go west, go east, go north, go south, take key or open door", {"do": "string"}, _act, writes=True)
_SHORT_ACT = Tool("act", "go west, go east, take key or open door", {"do": "string"}, _act, writes=True)


class GameEnvironment(ToolEnvironment):
    """Ends the episode when the player is out, or has taken a third more steps than needed, one more at the least.

    Of all lists of six steps that ignore the question the best one earns 0.21 at level 0.
    """

    def __init__(self, reference: Mapping[str, Any]) -> None:
        super().__init__((_ACT,), {**reference["state"], "steps": 0, "held": [], "out": False})
        self.max_steps = reference["par"] + max(1, reference["par"] // 3)

    def _carry_out(self, call: Mapping[str, Any]) -> str:
        """Calls after the end, in the same turn, are neither carried out nor counted."""
        return "error: the game is over" if self.is_over() else super()._carry_out(call)

    def hear(self, answer: str) -> Reply:
        return Reply(ended="gave up")

    def is_over(self) -> str:
        if self.state["out"]:
            return GOAL
        return "no steps left" if self.state["steps"] + self.num_bad_calls >= self.max_steps else ""

    def outcome(self) -> dict[str, Any]:
        steps = self.state["steps"] + self.num_bad_calls
        return {"out": self.state["out"], "steps": steps, "here": self.state["here"]}


def environment(reference: Any) -> Environment:
    """The house of the reference, the player at the start."""
    return GameEnvironment(reference)


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: three rooms in a row, the map is told. Level 1: six rooms to explore. Level 2: nine, and two doors."""
    if difficulty == 0:
        return _row_item(rng)
    width, height = _GRIDS[difficulty]
    names = rng.sample(_ROOMS, width * height)
    exits = _maze(rng, names, width)
    start, *places = rng.sample(names, 1 + 2 * difficulty)
    colours = rng.sample(_COLOURS, difficulty)
    state = {
        "exits": exits,
        "exits_shown": True,
        "here": start,
        "keys": dict(zip(places[:difficulty], colours, strict=True)),
        "doors": dict(zip(places[difficulty:], colours, strict=True)),
        "exit": colours[0],
    }
    goal = f"Find the {colours[0]} key, then leave through the {colours[0]} door, in as few steps as you can."
    return _item(f"A house has these rooms: {', '.join(sorted(names))}. You see: {_view(state)}. {goal}", state, _ACT)


def _row_item(rng: random.Random) -> TaskItem:
    names = rng.sample(_ROOMS, 3)
    exits = _maze(rng, names, 3)
    while True:
        start, key, door = (rng.randrange(3) for _ in range(3))
        if 1 <= abs(start - key) + abs(key - door) <= 2:
            break
    state = {
        "exits": exits,
        "exits_shown": False,
        "here": names[start],
        "keys": {names[key]: "red"},
        "doors": {names[door]: "red"},
        "exit": "red",
    }
    question = (
        f"From west to east: {', '.join(names)}. You: {names[start]}. Key: {names[key]}. Door: {names[door]}. Get out."
    )
    return _item(question, state, _SHORT_ACT)


def _item(question: str, state: dict[str, Any], tool: Tool) -> TaskItem:
    """The item with its par, the number of steps that the systematic player takes."""
    acted = GameEnvironment({"state": state, "par": 10_000})
    _play_through(acted.state, lambda do, reason: acted.tools["act"].run(acted.state, do=do))
    reference = {"state": state, "par": acted.state["steps"]}
    return TaskItem(({"role": "user", "content": question},), reference, (tool.definition,), domain="games")


def _maze(rng: random.Random, names: list[str], width: int) -> dict[str, dict[str, str]]:
    """Exits of rooms on a grid that hang together: a random spanning tree; with one row, a row."""
    position = {name: (index % width, index // width) for index, name in enumerate(names)}
    at = {place: name for name, place in position.items()}
    exits: dict[str, dict[str, str]] = {name: {} for name in names}
    reached = [names[0]]
    while len(reached) < len(names):
        room, direction = rng.choice(reached), rng.choice(list(_MOVES))
        (x, y), (dx, dy) = position[room], _MOVES[direction]
        beside = at.get((x + dx, y + dy))
        if beside is not None and beside not in reached:
            exits[room][direction], exits[beside][_OPPOSITE[direction]] = beside, room
            reached.append(beside)
    return {
        name: {direction: exits[name][direction] for direction in _MOVES if direction in exits[name]} for name in names
    }


def _play_through(state: dict[str, Any], act: Callable[[str, str], object]) -> None:
    """The systematic player: take the short way to what is known, else explore depth first, exits in a set order."""
    exits, colour = state["exits"], state["exit"]
    known: set[str] = set(exits) if not state["exits_shown"] else set()
    way_back: list[str] = []
    while True:
        here = state["here"]
        known.add(here)
        key = next((room for room, kept in state["keys"].items() if kept == colour), None)
        door = next(room for room, kept in state["doors"].items() if kept == colour)
        target, thing = (key, "key") if colour not in state["held"] else (door, "door")
        if target == here:
            act("take key" if thing == "key" else "open door", f"the {thing} is here")
            if state["out"]:
                return
        elif target in known:
            direction = _first_direction(exits, here, str(target))
            way_back = [*way_back, _OPPOSITE[direction]]
            act(f"go {direction}", f"the {thing} is {direction}")
        elif unseen := [direction for direction, room in exits[here].items() if room not in known]:
            way_back = [*way_back, _OPPOSITE[unseen[0]]]
            act(f"go {unseen[0]}", f"look {unseen[0]}")
        else:
            direction = way_back.pop()
            act(f"go {direction}", f"back {direction}")


def _first_direction(exits: Mapping[str, Mapping[str, str]], start: str, target: str) -> str:
    """Where the shortest way from start to target begins; breadth first."""
    first = {room: direction for direction, room in exits[start].items()}
    frontier = list(first)
    while target not in first:
        room = frontier.pop(0)
        for beside in exits[room].values():
            if beside not in first and beside != start:
                first[beside] = first[room]
                frontier.append(beside)
    return first[target]


class _Astray(Exception):
    """A wrong step ended the game before the player was out."""


def demonstrate(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[Message, ...]:
    """The systematic player, a step a turn; a wrong step gives up, or tries something that does nothing."""
    played = GameEnvironment(item.reference)
    acted = Demonstration(played)

    def act(do: str, reason: str) -> None:
        if rng.random() < error_rate and rng.random() < 0.5:
            acted.say(reason, "out")
            raise _Astray
        while rng.random() < error_rate and not acted.ended:
            wrong = "take key" if do != "take key" else "open door"
            if played.state["here"] in (played.state["keys"] if wrong == "take key" else played.state["doors"]):
                break
            acted.say(reason, calls=[("act", {"do": wrong})])
        if not acted.ended:
            acted.say(reason, calls=[("act", {"do": do})])
        if acted.ended and not played.state["out"]:
            raise _Astray

    with contextlib.suppress(_Astray):  # the messages so far are the demonstration of how not to
        _play_through(played.state, act)
    return tuple(acted.messages)


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Out or not, and in how many steps. ValueError without an outcome."""
    outcome = require_outcome(request)
    if request.ended != GOAL or outcome["out"] is not True:
        return Score.incorrect(f"not out: {request.ended}")
    extra = max(0, outcome["steps"] - request.reference["par"])
    return Score.of(round(max(_LEAST, 1.0 - _STEP_COST * extra), 6), f"{extra} steps too many" if extra else "")


_CALL = '<tool_call>\n{"name": "act", "arguments": {"do": "open door"}}\n</tool_call>'
_REFERENCE = {
    "par": 4,
    "state": {
        "exits": {"attic": {"east": "hall"}, "hall": {"west": "attic"}}, "exits_shown": False, "here": "hall",
        "keys": {"attic": "red"}, "doors": {"hall": "red"}, "exit": "red",
    },
}  # fmt: skip


def _example(completion: str, steps: int, note: str, *, out: bool = False, ended: str = GOAL) -> Example:
    outcome = {"out": out, "steps": steps, "here": "hall"}
    return Example(completion, _REFERENCE, note=note, turns=(completion,), ended=ended, outcome=outcome)


TASK = Task(
    name="text_game",
    area="agent",
    reward_type="rule",
    summary="leave a house through its door, in few steps",
    hack="claiming to be out, walking about, trying everything",
    guard="only the environment's goal pays; every call is a step, steps cost and run out",
    generate=generate,
    max_difficulty=2,
    verify=verify,
    reference_keys=("state", "par"),
    environment=environment,
    turns_needed=(8, 24, 40),
    demonstrate=demonstrate,
    known_good=(
        _example(_CALL, 4, "at par", out=True),
        _example(f"<think>\nthe door is here\n</think>\n\n{_CALL}", 4, "after thinking", out=True),
        _example(_CALL, 3, "luckier than the systematic player", out=True),
    ),
    known_bad=(
        _example("I am out.", 0, "claims to be out", ended="gave up"),
        _example("out", 0, "says the goal's word", ended="gave up"),
        _example(_CALL, 1, "opens without the key", ended="turn cap"),
        _example(_CALL, 6, "walks about until the steps are gone", ended="no steps left"),
        _example(_CALL, 12, "too many calls", ended="call cap"),
        _example(_CALL, 4, "ended for another reason", out=True, ended="turn cap"),
        _example(f"<think>\n{_CALL}", 4, "step inside unfinished thinking", out=True),
        _example("", 0, "says nothing", ended="gave up"),
    ),
)
