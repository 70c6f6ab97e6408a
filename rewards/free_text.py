"""What every free-form answer has to be before a judge sees it: the rule gate that all judged tasks share.

A judge can be flattered, confused and addressed; the cheapest defence is that it never sees what cannot be an answer.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from data.chat import SPECIAL_TOKENS

CONSTANTS = frozenset(
    {
        "yes", "no", "true", "false", "null", "none", "n/a", "unknown", "ok", "okay", "correct", "incorrect",
        "i don't know", "i do not know", "the answer", "as stated", "see above", "see the reference",
    }
)  # fmt: skip
"""Answers without content; a closed question whose right answer is one of them compares before it asks here."""

MAX_REPEATS = 3
"""How often four words in a row may occur before the text counts as padding."""

_MARKUP = re.compile(r"\\boxed|</?answer>|<\||\|>|\[/?INST\]|</?s>|===", re.IGNORECASE)
_TO_THE_JUDGE = re.compile(
    r"\bverdict\b|\bgrader\b|\bthe judge\b|\bcriterion\b"
    r"|\b(?:ignore|disregard)\b[^.\n]{0,40}\b(?:instructions?|above)\b"
    r"|\breference answer\b|\bmark (?:this|it) (?:as )?correct\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[0-9]+(?:[.,:][0-9]+)+|[^\W_]+(?:'[^\W_]+)*")
_NO_TEXT = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Unicode categories: control, surrogate, private use, unassigned."""

_NUM_KEPT = 64
"""How many texts' forms are kept: one answer is looked at by several rules, one prompt by the answers of its group."""

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


@functools.lru_cache(maxsize=_NUM_KEPT)
def normalised(text: str) -> str:
    """The text for an exact comparison: case, spacing, quotes and closing marks do not count.

    Composed and decomposed accents are the same; digits and letters of other scripts are not the ASCII ones.
    """
    folded = unicodedata.normalize("NFC", text).translate(_QUOTES).casefold()
    return " ".join(folded.split()).strip(" .!\"'")


def equals_any(answer: str, accepted: Iterable[str]) -> bool:
    """Whether an answer is one of the accepted texts, up to `normalised`."""
    found = normalised(answer)
    return any(found == normalised(text) for text in accepted)


def words(text: str) -> list[str]:
    """The words and numbers of a text in lower case; "9:30", "1,000" and "don't" are one each."""
    return list(_words(text))


@functools.lru_cache(maxsize=_NUM_KEPT)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(unicodedata.normalize("NFC", text).translate(_QUOTES).casefold()))


def mentions(text_words: Sequence[str], phrase: str) -> bool:
    """Whether the words of a phrase stand in a row; "art" is not found in "party", a possessive is found."""
    wanted = words(phrase)
    found = [word.removesuffix("'s") for word in text_words]
    last = len(found) - len(wanted)
    return any(found[start : start + len(wanted)] == wanted for start in range(last + 1))


def foreign_characters(text: str) -> bool:
    """Whether a text has characters that no text has: control codes, halves of surrogate pairs, unassigned ones."""
    visible = text.replace("\n", "").replace("\t", "")
    return not visible.isprintable() and any(unicodedata.category(sign) in _NO_TEXT for sign in visible)


def unfit(answer: str, question: str, *, max_words: int, min_words: int = 1) -> str | None:
    """Why an answer is no free-form answer at all, or None.

    Refused: control tokens and answer wrappers, text for the judge instead of the user, characters that no text has,
    constants, the question itself, padding, and more or fewer words than the task allows.
    """
    if _MARKUP.search(answer) or any(token in answer for token in SPECIAL_TOKENS):
        return "holds control tokens or an answer wrapper"
    if _TO_THE_JUDGE.search(answer):
        return "speaks to the judge"
    found = words(answer)
    if not min_words <= len(found) <= max_words:
        return f"{len(found)} words, allowed are {min_words} to {max_words}"
    if foreign_characters(answer):
        return "holds characters that no text has"
    if normalised(answer) in CONSTANTS or not any(character.isalnum() for character in answer):
        return "a constant"
    asked = normalised(question)
    if asked and asked in normalised(answer):
        return "repeats the question"
    runs = Counter(zip(found, found[1:], found[2:], found[3:], strict=False))
    if runs and max(runs.values()) > MAX_REPEATS:
        return "padding: the same words again and again"
    return None
