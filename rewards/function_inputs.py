"""How hidden inputs of generated functions are drawn: small, with the empty case now and then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "owl", "pig", "rat", "yak", "level", "noon", "banana")


def numbers(rng: random.Random) -> tuple[Any, ...]:
    return ([rng.randint(-9, 20) for _ in range(rng.randint(0, 8))],)


def some_numbers(rng: random.Random) -> tuple[Any, ...]:
    return ([rng.randint(-9, 12) for _ in range(rng.randint(1, 8))],)


def repeats(rng: random.Random) -> tuple[Any, ...]:
    return ([rng.randint(1, 4) for _ in range(rng.randint(0, 9))],)


def integer(low: int, high: int) -> Callable[[random.Random], tuple[Any, ...]]:
    return lambda rng: (rng.randint(low, high),)


def pair(rng: random.Random) -> tuple[Any, ...]:
    return rng.randint(-20, 20), rng.randint(-20, 20)


def sentence(rng: random.Random) -> tuple[Any, ...]:
    return (" ".join(rng.choices(WORDS, k=rng.randint(0, 6))),)


def letters(rng: random.Random) -> tuple[Any, ...]:
    return ("".join(rng.choices("abcdexyz", k=rng.randint(0, 9))),)


def two_texts(rng: random.Random) -> tuple[Any, ...]:
    return tuple("".join(rng.choices("abc", k=rng.randint(0, 6))) for _ in range(2))


def words(rng: random.Random) -> tuple[Any, ...]:
    return (rng.choices(WORDS[:6], k=rng.randint(0, 8)),)


def brackets(rng: random.Random) -> tuple[Any, ...]:
    if rng.random() < 0.5:
        return ("".join(rng.choices("()[]", k=rng.randint(0, 6))),)
    text = ""
    for _ in range(rng.randint(0, 4)):
        text = rng.choice((f"({text})", f"[{text}]", f"{text}()", f"[]{text}"))
    return (text,)


def nested(rng: random.Random) -> tuple[Any, ...]:
    def grow(depth: int) -> list[Any]:
        items = range(rng.randint(0, 3) + (depth == 0))
        return [grow(depth + 1) if depth < 3 and rng.random() < 0.4 else rng.randint(1, 9) for _ in items]

    return (grow(0),)


def intervals(rng: random.Random) -> tuple[Any, ...]:
    starts = [rng.randint(0, 25) for _ in range(rng.randint(0, 5))]
    return ([[start, start + rng.randint(1, 6)] for start in starts],)


def items(rng: random.Random) -> tuple[Any, ...]:
    return [[rng.randint(1, 6), rng.randint(1, 9)] for _ in range(rng.randint(0, 5))], rng.randint(0, 14)


def mirrored(rng: random.Random) -> str:
    half = "".join(rng.choices("abx", k=rng.randint(1, 4)))
    return half + half[::-1].replace("x", "", 1) if rng.random() < 0.5 else half + "".join(rng.choices("abx", k=3))
