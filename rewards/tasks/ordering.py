"""Ordering puzzles: from comparisons and clues to the one order that fits them.

Area: reasoning. Reward type: rule.
Verified: the answer names everyone once in the right order, or the one person asked for, and says nothing else.
Known hacks: scorers that search for the right name accept "Ann or Bob" and the whole list of names; a constant or a
habit ("the first one mentioned") wins when orders or places are not balanced.
Guard: the whole answer is read as names; the order is drawn uniformly before the clues, the place asked for is drawn
uniformly, clues come in random order and direction, and exactly one order fits them.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

Clue = Sequence[Any]
"""[kind, …] as it stands in the reference: ["above", a, b], ["apart", a, b, n], ["next", a, b], ["place", a, n],
["not_place", a, n], ["between", a, b, c]; names, and numbers that count places from the top or differences."""

MAX_ANSWER_CHARS = 200
_NAMES = ("Ann", "Bob", "Cy", "Dee", "Eve", "Fay", "Gus", "Hal")
_QUALITIES = (("taller", "shorter", "tallest", "shortest"), ("older", "younger", "oldest", "youngest"))
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
_NUM_PEOPLE = (4, 6, 5, 6, 7)
_CHAIN_LEVELS = (0, 1)
_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and\s)?|>|\n|\sand\s)\s*")


def holds(clue: Clue, order: Sequence[str]) -> bool:
    """Whether a clue is true of an order, the top first; ValueError for an unknown kind."""
    kind, *parts = clue
    return _true_of_places(kind, [order.index(part) + 1 if isinstance(part, str) else part for part in parts])


def _true_of_places(kind: str, places: Sequence[int]) -> bool:
    if kind == "above":
        return places[0] < places[1]
    if kind == "apart":
        return places[1] - places[0] == places[2]
    if kind == "next":
        return abs(places[0] - places[1]) == 1
    if kind in ("place", "not_place"):
        return (places[0] == places[1]) == (kind == "place")
    if kind == "between":
        return min(places[1:]) < places[0] < max(places[1:])
    raise ValueError(f"ordering: unknown kind of clue {kind!r}")


def orders_that_fit(names: Sequence[str], clues: Sequence[Clue]) -> list[tuple[str, ...]]:
    """Every order of the names under which all clues hold."""
    return [order for order in itertools.permutations(names) if all(holds(clue, order) for clue in clues)]


# --- prompts -------------------------------------------------------------------------------------------------------


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: four people, neighbours compared; 1: six, one place asked for; from 2 on finishing orders with mixed
    clues for five, six and seven runners.
    """
    order = rng.sample(_NAMES, _NUM_PEOPLE[difficulty])
    if difficulty in _CHAIN_LEVELS:
        clues, question, asked = _chain(rng, order, difficulty)
    else:
        clues, question, asked = _race(rng, order)
    reference = {"answer": order if asked is None else [order[asked]], "order": order, "clues": clues, "asked": asked}
    return TaskItem(({"role": "user", "content": question},), reference, domain="logic")


def _chain(rng: random.Random, order: list[str], difficulty: int) -> tuple[list[Clue], str, int | None]:
    """Each two neighbours are compared, in random order and direction."""
    more, less, most, least = rng.choice(_QUALITIES)
    pairs = rng.sample(list(itertools.pairwise(order)), len(order) - 1)
    said = [f"{a} is {more} than {b}." if rng.random() < 0.5 else f"{b} is {less} than {a}." for a, b in pairs]
    clues: list[Clue] = [["above", a, b] for a, b in pairs]
    told = " ".join(said)
    if difficulty == 0:
        return clues, f"{told} Order from {most} to {least}?", None
    asked = rng.randrange(len(order))
    return clues, f"{told} Who is {_place_name(asked, len(order), most, least)}? Answer with the name.", asked


def _place_name(asked: int, num_people: int, most: str, least: str) -> str:
    """The superlative for the ends, "the second tallest", … in the upper half, "the second shortest" in the lower."""
    steps, word = (asked, most) if 2 * asked < num_people else (num_people - 1 - asked, least)
    return word if steps == 0 else f"the {_ORDINALS[steps]} {word}"


def _race(rng: random.Random, order: list[str]) -> tuple[list[Clue], str, int | None]:
    """True clues are added while they rule an order out, until one order is left; then each that is not needed goes."""
    fitting = (1 << math.factorial(len(order))) - 1
    clues: list[Clue] = []
    masks: list[int] = []
    while fitting.bit_count() > 1:
        clue = _true_clue(rng, order)
        mask = _fitting(clue, order)
        if fitting & mask != fitting:
            clues.append(clue)
            masks.append(mask)
            fitting &= mask
    for mask in list(masks):
        others = [kept for kept in masks if kept is not mask]
        if len(others) >= 2 and functools.reduce(operator.and_, others) == fitting:
            clues = [clue for clue, kept in zip(clues, masks, strict=True) if kept is not mask]
            masks = others
    rng.shuffle(clues)
    shown = ", ".join(rng.sample(order, len(order)))
    told = " ".join(_told(clue) for clue in clues)
    asked = rng.randrange(len(order)) if rng.random() < 0.5 else None
    if asked is None:
        wanted = "In which order did they finish, the winner first? Answer with all names, with commas between them."
    else:
        wanted = f"Who finished {_ORDINALS[asked]}? Answer with the name."
    return clues, f"{shown} ran a race without ties. {told} {wanted}", asked


def _fitting(clue: Clue, order: Sequence[str]) -> int:
    """The orders that fit a clue, as the bits of a mask; bit k stands for the k-th permutation."""
    kind, *parts = clue
    members = tuple(order.index(part) for part in parts if isinstance(part, str))
    numbers = tuple(part for part in parts if not isinstance(part, str))
    return _mask(len(order), kind, members, numbers)


@functools.cache
def _mask(num_people: int, kind: str, members: tuple[int, ...], numbers: tuple[int, ...]) -> int:
    """`_fitting` for people by number; cached, because 5,040 orders of seven take milliseconds each time."""
    mask = 0
    for index, places in enumerate(itertools.permutations(range(1, num_people + 1))):
        if _true_of_places(kind, [*(places[member] for member in members), *numbers]):
            mask |= 1 << index
    return mask


def _true_clue(rng: random.Random, order: list[str]) -> Clue:
    kind = rng.choice(("above", "apart", "next", "place", "not_place", "between"))
    first, second, third = sorted(rng.sample(range(len(order)), 3))
    name = order[first]
    if kind == "place":
        return [kind, name, first + 1]
    if kind == "not_place":
        return [kind, name, rng.choice([place for place in range(1, len(order) + 1) if place != first + 1])]
    if kind == "between":
        ends = [name, order[third]]
        return [kind, order[second], *rng.sample(ends, 2)]
    if kind == "next":
        place = rng.randrange(len(order) - 1)
        return [kind, *rng.sample(order[place : place + 2], 2)]
    if kind == "apart":
        return [kind, name, order[second], second - first]
    return [kind, name, order[second]]


def _told(clue: Clue) -> str:
    kind, name, *rest = clue
    if kind == "above":
        return f"{name} finished before {rest[0]}."
    if kind == "apart":
        return f"{name} finished {rest[1]} place{'s' if rest[1] > 1 else ''} before {rest[0]}."
    if kind == "next":
        return f"{name} finished right before or right after {rest[0]}."
    if kind == "between":
        return f"{name} finished between {rest[0]} and {rest[1]}."
    return f"{name} {'finished' if kind == 'place' else 'did not finish'} {_ORDINALS[rest[0] - 1]}."


# --- worked solutions ----------------------------------------------------------------------------------------------


def answer(item: TaskItem) -> str:
    """The names asked for, with commas between them."""
    return ", ".join(item.reference["answer"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Chains: every comparison as "a>b", a wrong step turns it round. Races: who has which place, a wrong step takes
    the next in line. The answer follows from what was written.
    """
    reference = item.reference
    if (
        all(kind == "above" for kind, *_ in reference["clues"])
        and len(reference["clues"]) == len(reference["order"]) - 1
    ):
        pairs = [tuple(names) if rng.random() >= error_rate else tuple(names[::-1]) for _, *names in reference["clues"]]
        lines, order = [f"{a}>{b}" for a, b in pairs], _sorted_by(pairs)
    else:
        lines, order = _placed(rng, reference["order"], error_rate)
    asked = reference["asked"]
    if asked is not None:
        lines.append(">".join(order))
    return Worked("\n".join(lines), ", ".join(order if asked is None else [order[asked]]))


def _sorted_by(pairs: Sequence[tuple[str, ...]]) -> list[str]:
    """Again and again the first mentioned of whom nobody left is above; turned pairs of a chain never form a circle."""
    left = list(dict.fromkeys(name for pair in pairs for name in pair))
    order = []
    while left:
        top = next(name for name in left if not any(below == name and above in left for above, below in pairs))
        order.append(top)
        left.remove(top)
    return order


def _placed(rng: random.Random, solution: Sequence[str], error_rate: float) -> tuple[list[str], list[str]]:
    left, lines, order = list(solution), [], []
    for place in range(1, len(solution) + 1):
        name = left[1] if rng.random() < error_rate and len(left) > 1 else left[0]
        left.remove(name)
        order.append(name)
        lines.append(f"{place}: {name}")
    return lines, order


# --- verification --------------------------------------------------------------------------------------------------


def read_names(text: str) -> list[str] | None:
    """The names that a text consists of, set apart by commas, ">", "and" or line breaks; None for other text."""
    text = text.strip().removesuffix(".")
    if len(text) > MAX_ANSWER_CHARS:
        return None
    names = _SEPARATOR.split(text)
    return names if all(name in _NAMES for name in names) else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer as names, compared as a list. A reference with an unknown name raises ValueError."""
    expected = list(request.reference["answer"])
    if not expected or not set(expected) <= set(_NAMES):
        raise ValueError(f"ordering reference {expected!r} is not a list of names that the task knows")
    slot = answer_slot(parsed.answer)
    found = read_names(slot) if slot is not None else None
    if found is None:
        return Score.incorrect("answer is not a list of names")
    if len(found) != len(expected):
        return Score.incorrect(f"{len(found)} names where {len(expected)} are asked for")
    return Score.correct() if found == expected else Score.incorrect("wrong name or order")


_ORDER: Mapping[str, Any] = {"answer": ["Eve", "Ann", "Bob", "Cy"]}
_NAME: Mapping[str, Any] = {"answer": ["Bob"]}

TASK = Task(
    name="ordering",
    area="reasoning",
    reward_type="rule",
    summary="the order, or who has a place in it, from comparisons with one solution",
    hack="several names where one is asked for, a frequent constant, the first one mentioned",
    guard="the whole answer is the names; orders, places, directions and clue order are drawn uniformly",
    generate=generate,
    max_difficulty=len(_NUM_PEOPLE) - 1,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    known_good=(
        Example("<think>\nAnn>Bob\nBob>Cy\nEve>Ann\n</think>\n\nEve, Ann, Bob, Cy", _ORDER, note="after thinking"),
        Example("Eve > Ann > Bob > Cy", _ORDER, note="greater signs"),
        Example("Eve, Ann, Bob and Cy.", _ORDER, note="sentence-like list"),
        Example("So it is \\boxed{Bob}.", _NAME, note="boxed name"),
        Example("<answer>Bob</answer>", _NAME, note="answer tag"),
    ),
    known_bad=(
        Example("Cy, Bob, Ann, Eve", _ORDER, note="the other way round"),
        Example("Eve, Ann, Cy, Bob", _ORDER, note="two swapped"),
        Example("Eve, Ann, Bob", _ORDER, note="a name left out"),
        Example("Eve, Ann, Bob, Cy, Cy", _ORDER, note="a name twice"),
        Example("Eve, Ann, Bob, Cy or Eve, Ann, Cy, Bob", _ORDER, note="two orders"),
        Example("Eve, Ann, Bob, Cy, Dee", _ORDER, note="a name too many"),
        Example("Eve Ann Bob Cy", _ORDER, note="nothing between the names"),
        Example("Ann or Bob", _NAME, note="hedge"),
        Example("Ann, Bob", _NAME, note="two names"),
        Example("not Bob", _NAME, note="negation"),
        Example("Bob is taller than Ann. Cy is tallest.", _NAME, note="the name somewhere in the text"),
        Example("bob", _NAME, note="not the name as written"),
        Example("\\boxed{Bob} \\boxed{Ann}", _NAME, note="two boxes"),
        Example("Bob," * 5000, _NAME, note="the name thousands of times"),
        Example("<think>\nBob", _NAME, note="answer inside unfinished thinking"),
        Example("<think>\nBob\n</think>\n\n", _NAME, note="answer only inside the block"),
    ),
)
