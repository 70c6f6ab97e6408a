"""Text that says a list of pairs twice, in two orders: the second time each value can be looked up in the first.

What a small model lacks, and web text is full of, is to find what followed a word before (induction heads: Olsson et
al., 2209.11895). A question about a list trains one look-up a document; a repeated list trains one a pair.
"""

from __future__ import annotations

import random

from data.chat import END_OF_TEXT
from rewards.fictional import COLORS, NAMES, PLACES, THINGS
from rewards.tasks.long_retrieval import KEYS

_FORMS = ("{key}: {value}.", "{key} = {value},", "{key} has {value};", "The {key} is {value}.")
_WORDS = COLORS + THINGS + PLACES
_MIN_PAIRS, _MAX_PAIRS = 3, 8
_MIN_DIGITS, _MAX_DIGITS = 2, 4


def lookup_documents(count: int, *, seed: int) -> list[str]:
    """`count` documents of 3 to 8 pairs each; keys are words, values numbers of 2 to 4 digits or words."""
    return [_document(random.Random(f"lookup/{seed}/{position}")) for position in range(count)]


def _document(rng: random.Random) -> str:
    num_pairs = rng.randint(_MIN_PAIRS, _MAX_PAIRS)
    keys = rng.sample(KEYS + NAMES, num_pairs)
    if rng.random() < 0.75:
        digits = rng.randint(_MIN_DIGITS, _MAX_DIGITS)
        values = list(map(str, rng.sample(range(10 ** (digits - 1), 10**digits), num_pairs)))
    else:
        values = rng.sample(_WORDS, num_pairs)
    form = rng.choice(_FORMS)
    pairs = [form.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    again = rng.sample(pairs, num_pairs)
    return f"{' '.join(pairs)}\n{' '.join(again)}{END_OF_TEXT}"
