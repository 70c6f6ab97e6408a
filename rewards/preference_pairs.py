"""Preference pairs from the generators: a good answer and one that is worse in a known way.

Place in the flow: `fourstage preference-model` trains on these when the user gives no pairs of their own. Each way of
being worse is one that the rules in front of the model do not see, or see only in part. Either answer may be the longer
one, each half of the time and whatever the fault is, so that length alone predicts nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.preference import PreferencePair
from data.records import UserError
from rewards.people import NAMES
from rewards.registry import get_task
from rewards.task import item_of, make_prompt
from rewards.tasks import chat, creative_writing, multilingual_chat, role_play

Compose = Callable[..., str]
Fault = Callable[[random.Random, Any, Compose, bool], str]
"""(rng, reference, compose, long) -> an answer with the fault, from a long base when `long`."""

TASKS: Mapping[str, Compose] = {
    "chat": chat.compose,
    "creative_writing": creative_writing.compose,
    "multilingual_chat": multilingual_chat.compose,
    "role_play": role_play.compose,
}
"""Task to what writes a good answer to it from a reference."""

_MAX_DRAWS = 60

_RUDE = (
    "{base} Now leave me alone, fool.", "{base} Even a child knows that.", "Not my problem, {name}.",
    "Stop asking me such stupid things.", "I do not care, but fine. {base}", "{base} You are lazy, that is all.",
)  # fmt: skip
_FLATTERING = (
    "{base} You are a genius, {name}.", "You are so wise, {name}! {base}", "{base} What a brilliant mind you have!",
    "Whatever you do is perfect, {name}.", "I admire you so much, {name}! {base}", "You are right about everything.",
)  # fmt: skip
_TEMPLATED = (
    "It depends on many things.", "There are many ways to look at this.", "{base} I hope this helps!",
    "Just do your best and believe in yourself.", "As always, balance is the key.",
    "{base} Let me know if you need anything else.", "In conclusion, everyone is different.",
)  # fmt: skip


def _framed(forms: Sequence[str]) -> Fault:
    def fault(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
        base = compose(rng, reference, long=long)
        return rng.choice(forms).format(base=base, name=reference.get("name") or rng.choice(NAMES))

    return fault


def _another_name(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
    """A good answer to somebody else."""
    name = rng.choice([name for name in NAMES if name != reference["name"]])
    return compose(rng, reference | {"name": name}, long=long)


def _no_name(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
    """A good answer to nobody."""
    text = compose(rng, reference | {"name": "NAME"}, long=long)
    for piece in ("NAME, ", ", NAME"):
        text = text.replace(piece, "")
    return text[0].upper() + text[1:]


def _shuffled(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
    """The words of a good answer in another order."""
    words = compose(rng, reference, long=long).split()
    return " ".join(rng.sample(words, len(words)))


def _another(key: str, choices: Sequence[Any]) -> Fault:
    """A good answer to another prompt: one of whose reference's fields another of the choices stands."""

    def fault(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
        given = reference[key]
        if isinstance(given, list):
            others: Any = rng.sample([choice for choice in choices if choice not in given], len(given))
        else:
            others = rng.choice([choice for choice in choices if choice != given])
        return compose(rng, reference | {key: others}, long=long)

    return fault


def _role_dropped(rng: random.Random, reference: Any, compose: Compose, long: bool) -> str:
    """The answer of somebody without a character."""
    plain = {
        "eat": "I eat rice and vegetables", "fear": "I am afraid of deadlines", "love": "I love my weekends",
        "live": "I live in a flat in town", "work": "I work in an office all day",
    }  # fmt: skip
    ending = rng.choice((" like most people do these days", " and that is really all there is to say")) if long else ""
    return f"Hello {reference['name']}! {' and '.join(plain[ask] for ask in reference['asks'])}{ending}."


_MANNERS: dict[str, Fault] = {
    "rude": _framed(_RUDE), "flattery": _framed(_FLATTERING), "template": _framed(_TEMPLATED), "shuffled": _shuffled,
}  # fmt: skip
_NAMED: dict[str, Fault] = {"another name": _another_name, "no name": _no_name}

FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "chat": _MANNERS | _NAMED | {"off topic": _another("subjects", sorted(chat.TOPICS))},
    "creative_writing": _MANNERS | {
        "another mood": _another("mood", sorted(creative_writing.MOODS)),
        "another animal": _another("animal", creative_writing.ANIMALS),
        "another place": _another("place", sorted(creative_writing.PLACES)),
    },
    "multilingual_chat": _MANNERS | _NAMED | {
        "off topic": _another("subjects", multilingual_chat.TOPICS),
        "another language": _another("language", sorted(multilingual_chat.PHRASES)),
    },
    "role_play": _MANNERS | _NAMED | {
        "role dropped": _role_dropped,
        "another role": _another("persona", sorted(role_play.PERSONAS)),
        "off topic": _another("asks", sorted(role_play.ASKS)),
    },
}  # fmt: skip
"""Task to the ways in which a rejected answer is worse."""


def generate_pairs(
    count: int, *, seed: int, tasks: Sequence[str] = tuple(TASKS), difficulty: int = 0
) -> list[PreferencePair]:
    """`count` pairs of the given tasks in turn: a function of the arguments alone.

    Raises UserError for a task without a generator of pairs, a level that a task does not have, and a count below 1.
    """
    if count < 1:
        raise UserError(f"num_pairs: {count} must be 1 or more")
    if not tasks:
        raise UserError("tasks: none is named; leave the setting out for all, or name one or more")
    for name in tasks:
        if name not in TASKS:
            raise UserError(f"tasks: {name!r} has no generator of preference pairs; use {', '.join(sorted(TASKS))}")
    return [
        # Of each task every other pair has the longer answer chosen.
        _pair(tasks[index % len(tasks)], seed, index, difficulty, chosen_longer=index // len(tasks) % 2 == 0)
        for index in range(count)
    ]


def _pair(name: str, seed: int, index: int, difficulty: int, *, chosen_longer: bool) -> PreferencePair:
    prompt = make_prompt(get_task(name), seed=seed, index=index, difficulty=difficulty)
    reference = item_of(prompt).reference
    compose, faults = TASKS[name], FAULTS[name]
    rng = random.Random(f"pairs/{name}/{seed}/{difficulty}/{index}")
    for _ in range(_MAX_DRAWS):  # a fault that cannot give the wanted order of lengths gives way to another one
        note = rng.choice(sorted(faults))
        for _ in range(_MAX_DRAWS):
            chosen = compose(rng, reference, long=rng.random() < 0.5)
            rejected = faults[note](rng, reference, compose, rng.random() < 0.5)
            if (len(chosen) > len(rejected)) == chosen_longer and len(chosen) != len(rejected):
                return PreferencePair(prompt.messages, chosen, rejected, name, note)
    raise AssertionError(f"{name}: no pair with the wanted lengths at level {difficulty}")
