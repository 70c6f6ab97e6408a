"""Invented people, towns and companies: facts that no model has read before, so that only the given text can tell.

draw_world(rng, …) -> facts -> sentences and questions of one or two hops
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gus", "Ida", "Jon", "Kim", "Lea", "Max")
PLACES = ("Bern", "Cork", "Kiel", "Lima", "Nice", "Oslo", "Pisa", "Rome", "Turin", "Vigo")
THINGS = ("bell", "boat", "book", "coat", "cup", "drum", "hat", "kite", "lamp", "ring")
COLORS = ("black", "blue", "brown", "gold", "green", "pink", "red", "white")
"""Closed vocabularies of level 0."""

_ONSETS = ("B", "Br", "D", "F", "G", "Gr", "K", "L", "M", "N", "P", "R", "S", "St", "T", "Tr", "V", "Z")
_VOWELS = ("a", "e", "i", "o", "u")
_MIDDLES = ("l", "ld", "m", "nd", "r", "rn", "sk", "v", "x", "z")
_ENDINGS = {"person": ("a", "o", "en", "is"), "town": ("burg", "holm", "mar", "wick"), "river": ("el", "er", "ush")}
_TRADES = ("Shipping", "Glassworks", "Press", "Motors", "Bakeries", "Optics", "Textiles", "Railways")


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact: each subject has exactly one value. `described` names the value by its subject."""

    name: str
    subject_kind: str
    value_kind: str
    statement: str
    question: str
    described: str


RELATIONS = (
    Relation("lives", "person", "town", "{s} lives in {v}", "In which town does {s} live?", "the town where {s} lives"),
    Relation("works", "person", "company", "{s} works for {v}", "Which company does {s} work for?",
             "the company that {s} works for"),
    Relation("born", "person", "year", "{s} was born in {v}", "In which year was {s} born?",
             "the year in which {s} was born"),
    Relation("based", "company", "town", "{s} is based in {v}", "In which town is {s} based?",
             "the town where {s} is based"),
    Relation("founder", "company", "person", "{s} was founded by {v}", "Who founded {s}?", "the founder of {s}"),
    Relation("river", "town", "river", "{s} lies on the river {v}", "On which river does {s} lie?",
             "the river on which {s} lies"),
    Relation("mayor", "town", "person", "the mayor of {s} is {v}", "Who is the mayor of {s}?", "the mayor of {s}"),
)  # fmt: skip
BY_NAME = {relation.name: relation for relation in RELATIONS}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of a world; `relation` is a key of `BY_NAME`."""

    relation: str
    subject: str
    value: str

    @property
    def sentence(self) -> str:
        """The fact as a sentence."""
        return capitalised(BY_NAME[self.relation].statement.format(s=self.subject, v=self.value)) + "."

    @property
    def value_kind(self) -> str:
        """What kind of thing the value is."""
        return BY_NAME[self.relation].value_kind


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest unchanged."""
    return text[:1].upper() + text[1:]


def draw_name(rng: random.Random, kind: str, taken: set[str]) -> str:
    """A name that is not taken yet, and takes it; no name is a part of another's word."""
    while True:
        stem = rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_MIDDLES)
        name = f"{stem}ar {rng.choice(_TRADES)}" if kind == "company" else stem + rng.choice(_ENDINGS[kind])
        if name not in taken:
            taken.add(name)
            return name


def draw_world(rng: random.Random, num_towns: int) -> list[Fact]:
    """All facts of a world with so many towns, as many companies and twice as many people: 10 facts a town, shuffled.

    Towns, companies and people are spread evenly, so that a frequent value is no good guess.
    """
    taken: set[str] = set()
    towns = [draw_name(rng, "town", taken) for _ in range(num_towns)]
    companies = [draw_name(rng, "company", taken) for _ in range(num_towns)]
    people = [draw_name(rng, "person", taken) for _ in range(2 * num_towns)]
    facts = [Fact("river", town, draw_name(rng, "river", taken)) for town in towns]
    facts += map(Fact, ["mayor"] * num_towns, towns, rng.sample(people, num_towns))
    facts += map(Fact, ["based"] * num_towns, companies, rng.sample(towns, num_towns))
    facts += map(Fact, ["founder"] * num_towns, companies, rng.sample(people, num_towns))
    facts += map(Fact, ["lives"] * len(people), people, rng.sample(towns * 2, len(people)))
    facts += map(Fact, ["works"] * len(people), people, rng.sample(companies * 2, len(people)))
    years = rng.sample(range(1911, 1999), len(people))
    facts += map(Fact, ["born"] * len(people), people, map(str, years))
    rng.shuffle(facts)
    return facts


def one_hop(fact: Fact) -> str:
    """The question that a fact answers."""
    return BY_NAME[fact.relation].question.format(s=fact.subject)


def draw_chain(rng: random.Random, facts: Sequence[Fact]) -> tuple[Fact, Fact]:
    """Two facts of which the second is about the first's value, which neither shares with the other's subject."""
    by_subject: dict[str, list[Fact]] = {}
    for fact in facts:
        by_subject.setdefault(fact.subject, []).append(fact)
    while True:
        first = rng.choice(list(facts))
        seconds = [fact for fact in by_subject.get(first.value, []) if fact.value != first.subject]
        if seconds:
            return first, rng.choice(seconds)


def two_hops(first: Fact, second: Fact) -> str:
    """The question that two chained facts answer, without the name in the middle."""
    described = BY_NAME[first.relation].described.format(s=first.subject)
    return BY_NAME[second.relation].question.format(s=described)


def with_distractors(rng: random.Random, facts: Sequence[Fact], kept: Sequence[Fact], num_facts: int) -> list[Fact]:
    """So many facts, the kept ones among them, in shuffled order; those with the kept relations come first."""
    others = [fact for fact in facts if fact not in kept]
    relations = {fact.relation for fact in kept}
    others.sort(key=lambda fact: fact.relation not in relations)
    chosen = [*kept, *others[: num_facts - len(kept)]]
    rng.shuffle(chosen)
    return chosen
