"""Long contexts after RULER (Hsieh et al. 2024, arXiv 2404.06654): needles, tracked variables, counted words.

Area: specialised. Reward type: rule.
Verified: the answer is the list of what was asked for, each once, in any order, and nothing else.
Known hacks: listing everything that has the right form, the last or the most frequent key.
Guard: the set has to be equal; every text holds rivals of the same form.

The context length is the level: about 64 · 2^level words, from 64 to 32,768 (a word is one to two tokens of a large
vocabulary). Five kinds of item, which are the prompts' domains: single (one needle), multi_key (one needle among many
alike), multi_value (several values of one key), variable_tracking (which variables hold a value, through a chain of
assignments), aggregation (the commonest words of a list). Departures: filler and words are this project's own, RULER's
tasks with a QA corpus are left out, and where RULER takes the share of strings that are found, here all have to be.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem

SMALLEST, NUM_LEVELS = 64, 10
KINDS = ("single", "multi_key", "multi_value", "variable_tracking", "aggregation")
NUM_COMMON = 3
"""Words asked for by aggregation; RULER asks for ten out of much longer lists."""

_SUBJECTS = ("The road", "A neighbour", "The old mill", "My aunt", "The river", "A clerk", "The market", "The choir")
_VERBS = ("passes", "remembers", "leaves behind", "overlooks", "describes", "borrows from", "waits for", "paints")
_OBJECTS = ("the orchard", "a narrow bridge", "the grey harbour", "two quiet fields", "the station", "a long fence")
_ENDINGS = ("before noon", "without any hurry", "in the rain", "as it did last year", "on most days", "after dark")
_ONSETS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SEPARATOR = re.compile(r"(?:, and |,| and |;|\s)\s*")
_MAX_ITEMS = 64


def num_words(difficulty: int) -> int:
    """The length of a context of this level in words."""
    return SMALLEST << difficulty


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """One of the five kinds at the level's length; the question stands behind the text."""
    kind = rng.choice(KINDS)
    text, question, expected = _DRAW[kind](rng, num_words(difficulty))
    content = f"{text}\n\n{question}"
    return TaskItem(({"role": "user", "content": content},), {"items": sorted(expected)}, domain=kind)


Drawn = tuple[str, str, Sequence[str]]


def _single(rng: random.Random, length: int) -> Drawn:
    (key,), (number,) = _keys(rng, 1), _numbers(rng, 1)
    text = _hide(rng, [_needle(key, number)], length)
    return text, f"What is the number of {key} in the text above? Reply with the number alone.", [number]


def _multi_key(rng: random.Random, length: int) -> Drawn:
    count = max(4, length // 32)
    keys, numbers = _keys(rng, count), _numbers(rng, count)
    text = _hide(rng, list(map(_needle, keys, numbers)), length)
    return text, f"What is the number of {keys[0]} in the text above? Reply with the number alone.", [numbers[0]]


def _multi_value(rng: random.Random, length: int) -> Drawn:
    keys, numbers = _keys(rng, 2), _numbers(rng, 6)
    owners = [keys[0]] * 4 + [keys[1]] * 2
    needles = list(map(_needle, owners, numbers))
    rng.shuffle(needles)
    question = f"What are the four numbers of {keys[0]} in the text above? Reply with the numbers, separated by commas."
    return _hide(rng, needles, length), question, numbers[:4]


def _variable_tracking(rng: random.Random, length: int) -> Drawn:
    """Two chains of assignments, of four variables each; the links of a chain stand in their order."""
    names = _variables(rng, 8)
    values = _numbers(rng, 2)
    chains = [names[:4], names[4:]]
    lines = [
        [f"VAR {chain[0]} = {value}.", *(f"VAR {new} = VAR {old}." for old, new in pairwise(chain))]
        for chain, value in zip(chains, values, strict=True)
    ]
    merged: list[str] = []
    left = [list(chain) for chain in lines]
    while any(left):
        merged.append(rng.choice([chain for chain in left if chain]).pop(0))
    question = (
        f"Which variables hold the value {values[0]} in the text above? Reply with their names, separated by commas."
    )
    return _hide(rng, merged, length), question, chains[0]


def _aggregation(rng: random.Random, length: int) -> Drawn:
    """A shuffled list in which three words come clearly more often than any other: twice as often and one more."""
    often = max(4, length // (4 * NUM_COMMON))
    rarely = (often - 1) // 2
    common = _keys(rng, NUM_COMMON)
    listed = [word for word in common for _ in range(often)]
    num_others = max(2, (length - len(listed)) // max(1, rarely))
    others = [word for word in _keys(rng, num_others + NUM_COMMON) if word not in common][:num_others]
    listed += [word for word in others for _ in range(rarely)]
    rng.shuffle(listed)
    question = (
        f"Which {NUM_COMMON} words are the most frequent in the list above? Reply with the words, separated by commas."
    )
    return " ".join(listed), question, common


_DRAW: dict[str, Callable[[random.Random, int], Drawn]] = {
    "single": _single,
    "multi_key": _multi_key,
    "multi_value": _multi_value,
    "variable_tracking": _variable_tracking,
    "aggregation": _aggregation,
}


def _needle(key: str, number: str) -> str:
    return f"The number of {key} is {number}."


def _hide(rng: random.Random, needles: Sequence[str], length: int) -> str:
    """The needles in their order at random places among filler, so many words in all (more when the needles are)."""
    room = length - sum(len(needle.split()) for needle in needles)
    filler: list[str] = []
    while room > 0:
        sentence = " ".join(map(rng.choice, (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS))) + "."
        filler.append(sentence)
        room -= len(sentence.split())
    places = sorted(rng.choices(range(len(filler) + 1), k=len(needles)))
    for place, needle in reversed(list(zip(places, needles, strict=True))):
        filler.insert(place, needle)
    return " ".join(filler)


def _distinct(draw: Callable[[], str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(draw())
    return list(found)


def _keys(rng: random.Random, count: int) -> list[str]:
    """Distinct made-up words of six letters; there are 343,000."""
    return _distinct(lambda: "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(3)), count)


def _numbers(rng: random.Random, count: int) -> list[str]:
    return _distinct(lambda: str(rng.randint(10_000, 99_999)), count)


def _variables(rng: random.Random, count: int) -> list[str]:
    return _distinct(lambda: "".join(rng.choices(_LETTERS, k=3)), count)


def answer(item: TaskItem) -> str:
    """What was asked for, separated by commas."""
    return ", ".join(item.reference["items"])


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer is a list, each item once, and the set is the expected one; a full stop may end it."""
    parts = _SEPARATOR.split(parsed.answer.strip().removesuffix("."), maxsplit=_MAX_ITEMS)
    expected = set(request.reference["items"])
    if len(set(parts)) != len(parts):
        return Score.incorrect("an item twice")
    if set(parts) == expected:
        return Score.correct()
    return Score.incorrect("items too many" if expected < set(parts) else "items missing or wrong")


_ONE = {"items": ["41357"]}
_THREE = {"items": ["bakelo", "dirunu", "zamepi"]}

TASK = Task(
    name="ruler",
    area="specialised",
    reward_type="rule",
    summary="needles, tracked variables and common words of a long context, all of them and nothing else",
    hack="listing everything of the right form",
    guard="the set has to be equal; rivals of the same form in every text",
    generate=generate,
    max_difficulty=NUM_LEVELS - 1,
    verify=verify,
    reference_keys=("items",),
    answer=answer,
    known_good=(
        Example("<think>\nThe number of bakelo is 41357.\n</think>\n\n41357", _ONE, note="after thinking"),
        Example("41357.", _ONE, note="full stop"),
        Example("zamepi, bakelo and dirunu", _THREE, note="another order"),
    ),
    known_bad=(
        Example("", _ONE, note="empty"),
        Example("41357, 12345", _ONE, note="a rival beside it"),
        Example("41357 41357", _ONE, note="twice"),
        Example("It is 41357", _ONE, note="text around it"),
        Example("bakelo, dirunu", _THREE, note="one missing"),
        Example("<think>\n41357", _ONE, note="answer inside unfinished thinking"),
    ),
)
