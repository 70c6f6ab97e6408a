r"""Measures what the response filters decide on: final values, guess markers, scripts. Pure functions of text.

Used by `data.filters`; n-gram measures are in `data.ngrams`. Nothing here knows a threshold.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Set
from fractions import Fraction

from data.ngrams import tokens

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?")
_GUESS = re.compile(
    r"\b(?:i(?:['’]ll| will| would| have to| must| can only|['’]d)? (?:just |simply |randomly |only )?guess"
    r"|(?:a|my) (?:wild|random|lucky|best|pure) guess|(?:just|only|merely) guessing"
    r"|random(?:ly)? (?:pick|choose|guess)\w*|no idea,? so|i(?:['’]ll| will) go with)\b"
    r"|我猜|随便猜|瞎猜",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\[a-zA-Z]+|https?://\S+", re.DOTALL
)
_SCRIPT_OF_NAME = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "HALFWIDTH": "kana", "FULLWIDTH": "latin"}


def _boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces; None if there is none that is closed."""
    start = text.rfind(r"\boxed{")
    while start >= 0:
        depth = 0
        for position in range(start + len(r"\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start + len(r"\boxed{") : position].strip()
        start = text.rfind(r"\boxed{", 0, start)
    return None


def final_value(text: str) -> str | None:
    r"""The last `\boxed{...}` of a text, else its last number, else None: a fallback where a task has no extractor.

    A thinking that ends in a check ("... so 7; indeed 2*7 = 14") has another last number than its answer, so pass the
    task's own extractor where there is one.
    """
    boxed = _boxed(text)
    if boxed:
        return boxed
    found = _NUMBER.findall(text)
    return found[-1] if found else None


def same_value(left: str, right: str) -> bool:
    """Whether two final values are equal as numbers (1,000 = 1000.0, 1/2 = 0.5), else as comparison tokens."""
    numbers = _as_number(left), _as_number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return tokens(left) == tokens(right)


def _as_number(text: str) -> Fraction | None:
    stripped = text.strip().strip("$").replace(",", "")
    if not re.fullmatch(r"[-+]?\d{1,400}(?:\.\d{1,400})?(?:/\d{1,400})?", stripped, re.ASCII):
        return None
    numerator, _, denominator = stripped.partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(numerator) / int(denominator or 1)


def has_guess_marker(text: str) -> bool:
    """Whether the text says that it guesses."""
    return _GUESS.search(text) is not None


def derived(value: str, reasoning: str) -> bool:
    """Whether `value` appears in a sentence of `reasoning` that does not itself announce a guess."""
    wanted = tokens(value)
    for sentence in _SENTENCE_END.split(reasoning):
        found = tokens(sentence)
        starts = range(len(found) - len(wanted) + 1)
        if not has_guess_marker(sentence) and any(found[at : at + len(wanted)] == wanted for at in starts):
            return bool(wanted)
    return False


def script_shares(text: str) -> dict[str, float]:
    """The share of each Unicode script among the letters of the prose in `text`; empty without letters.

    Code, formulas, links and one-letter words (variables) are no prose, and Greek letters are mathematics unless they
    form words. Chinese characters are `han`, both Japanese syllabaries `kana`, others the script's name in lower case
    ("latin", "cyrillic"), which is the first word of the Unicode name of its letters.
    """
    counts: Counter[str] = Counter()
    for word in re.findall(r"[^\W\d_]+", _NOT_PROSE.sub(" ", text)):
        scripts = [_script(letter) for letter in word]
        if len(word) > 1 or scripts[0] in ("han", "kana"):
            counts.update(scripts)
    total = sum(counts.values())
    return {script: count / total for script, count in counts.items()}


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]
    return _SCRIPT_OF_NAME.get(name, name.lower())


def foreign_share(text: str, expected: Set[str]) -> float:
    """The share of letters of `text` outside the expected scripts; if none is expected, outside its main script."""
    shares = script_shares(text)
    known = expected or set(sorted(shares, key=lambda script: (-shares[script], script))[:1])
    return sum(share for script, share in shares.items() if script not in known)
