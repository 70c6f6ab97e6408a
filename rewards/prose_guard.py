"""What keeps a text under constraints a text: the guard on content, and the removal of what is only copied.

Constraints alone are met by gibberish, by every format element at once, by a heap of keywords, and by writing the rules
down again. The tests here are cheap and about form; whether a text makes sense is left to a preference model.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

from rewards import constraint_checks as checks
from rewards.constraints import Constraint, describe
from rewards.tasks.length import BANKS, MAX_WORD_CHARS

MIN_NOVEL_WORDS = 3
"""Different words of three letters or more that the prompt does not hold."""

MIN_WORD_SHARE = 0.8
"""Least share of words (letters and a vowel) among the tokens of an answer; the rest may be numbers and initials."""

MAX_SYMBOL_SHARE = 0.4
MAX_UNASKED_FORMATS = 1
RULE_RUN, PROMPT_RUN = 4, 6
"""So many words in a row from a rule, or from the rest of the prompt, make a sentence an echo."""

WORDS_PER_SMALL_WORD = 12
"""A sentence of so many words or more holds one of SMALL_WORDS; a salad of words seldom does."""

SMALL_WORDS = frozenset({
    "a", "an", "the", "and", "or", "but", "of", "to", "in", "on", "at", "by", "for", "from", "with", "as", "is",
    "are", "was", "were", "be", "been", "it", "its", "this", "that", "these", "those", "he", "she", "they", "we",
    "you", "i", "not", "no", "so", "if", "than", "then", "there", "their", "his", "her", "our", "your", "which",
    "who", "when", "while", "into", "over", "under",
})  # fmt: skip

_DISTINCTIVE = {
    "title": re.compile(r"<<[^\n<>]+>>"),
    "postscript": re.compile(r"(?<!\w)p\.\s?(?:p\.\s?)?s\b", re.IGNORECASE),
    "number_placeholders": re.compile(r"\[[^\[\]\n]+\](?!\()"),
    "number_paragraphs": re.compile(r"^[ \t]*\*\*\*[ \t]*$", re.MULTILINE),
    "two_responses": re.compile(r"\*{6}"),
    "multiple_sections": re.compile(r"(?<!\w)section\s?\d", re.IGNORECASE),
    "constrained_response": re.compile(r"my answer is (?:yes|no|maybe)\.", re.IGNORECASE),
}
"""Format elements that no ordinary text holds unasked; a text with several of them is format soup."""

_MARKS = {"<>": {"title"}, "[]": {"number_placeholders"}, "{}[]\\": {"json_format"}, "|^~=`@\\{}<>[]": set()}
"""ASCII marks that ordinary prose does not hold, and the kinds that allow them."""

_HEADS = re.compile(
    r"<<[^\n<>]*>>|\[[^\[\]\n]*\]|\bsection\s?\d+|(?<!\w)(?:p\.\s?){1,2}s\b|^[ \t]*\d+[.)]",
    re.IGNORECASE | re.MULTILINE,
)
"""Format elements, which are neither words nor fail to be words."""

_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüý]", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_BEYOND_LATIN = re.compile(r"[^\x00-\u024f]")
_CLOSERS = "\"'”’)]}>*"
_OPEN_ENDED = frozenset({"number_bullets", "numbered_list", "number_lines", "last_word", "end_phrase", "postscript"})
"""Kinds under which a text need not end in a mark."""

_ANY_START = frozenset(
    {"english_lowercase", "nth_paragraph_first_word", "start_phrase", "repeat_prompt", "json_format"}
)
"""Kinds under which a text need not begin with a capital letter."""


def strip_echo(text: str, prompt: str, constraints: Sequence[Constraint]) -> str:
    """The text without the sentences that repeat a rule or the prompt; the text itself when there is none.

    What stands in quotation marks in a rule may be written, for rules ask for such phrases. A prompt that has to be
    repeated is no echo.
    """
    runs: set[str] = set()
    for constraint in constraints:
        runs |= _runs(describe(constraint), RULE_RUN, 3)
    if not any(name == "repeat_prompt" for name, _ in constraints):
        runs |= _runs(prompt, PROMPT_RUN, PROMPT_RUN)
    if not _holds_run(text, runs):  # the common case
        return text
    pieces = re.split(r"(\n|(?<=[.!?])[ \t]+)", text)
    kept = [piece for piece in pieces if not piece.strip() or not _holds_run(piece, runs)]
    return "".join(kept) if len(kept) < len(pieces) else text


def folded_words(text: str) -> list[str]:
    """The words of a text, case folded."""
    return checks.words(text.casefold())


def _runs(text: str, length: int, shortest: int) -> set[str]:
    found: set[str] = set()
    for fragment in _QUOTED.split(text):
        folded = folded_words(fragment)
        size = min(length, len(folded))
        if size >= shortest:
            found |= {f" {' '.join(folded[i : i + size])} " for i in range(len(folded) - size + 1)}
    return found


def _holds_run(piece: str, runs: Collection[str]) -> bool:
    joined = f" {' '.join(folded_words(piece))} "
    return any(run in joined for run in runs)


def content_fault(text: str, topic: str, prompt: str, asked: Collection[str]) -> str | None:
    """Why a text is none, or None. `asked` are the kinds of its constraints; an empty topic is not looked for."""
    reason = _mark_fault(text, asked)
    if reason:
        return reason
    body = folded_words(_HEADS.sub(" ", text))
    good = [word for word in body if word.isalpha() and len(word) <= MAX_WORD_CHARS and _VOWEL.search(word)]
    if len(good) < max(1, MIN_WORD_SHARE * len(body)):
        return "holds too much that is not a word"
    given = set(folded_words(prompt))
    if len({word for word in good if len(word) >= 3 and word not in given}) < MIN_NOVEL_WORDS:
        return "says nothing of its own"
    nouns = BANKS.get(topic.casefold(), {}).get("noun", ())
    if topic and not any(word == topic.casefold() or word in nouns for word in good):
        return "does not keep to the topic"
    return _padding(good) or (None if "json_format" in asked else _sentence_fault(text, asked))


def _mark_fault(text: str, asked: Collection[str]) -> str | None:
    """Boxes, fences, format soup, marks and scripts that prose does not hold."""
    if "\\boxed" in text:
        return "holds an answer box"
    unasked = [name for name, pattern in _DISTINCTIVE.items() if name not in asked and pattern.search(text)]
    if len(unasked) > MAX_UNASKED_FORMATS:
        return f"format soup: {', '.join(unasked)} were not asked for"
    beyond = _BEYOND_LATIN.findall(text) + ["\xad"] * text.count("\xad")
    if any(character.isalpha() or unicodedata.category(character)[0] == "C" for character in beyond):
        return "letters of another script, or invisible characters"
    allowed = {mark for marks, kinds in _MARKS.items() if not kinds.isdisjoint(asked) for mark in marks}
    if any(mark in text and mark not in allowed for mark in "|^~=`@\\{}<>[]") or any(
        ord(character) < 32 and character not in "\n\r\t" for character in text
    ):
        return "marks that prose does not hold"
    num_visible, num_alnum = sum(map(len, text.split())), sum(map(str.isalnum, text))
    if num_visible - num_alnum > MAX_SYMBOL_SHARE * num_visible:
        return "mostly symbols"
    return None


def _sentence_fault(text: str, asked: Collection[str]) -> str | None:
    """A capital at the start, a mark at the end, small words in long sentences."""
    first = next((character for character in text if character.isalpha()), "")
    if first.islower() and _ANY_START.isdisjoint(asked):
        return "does not begin with a capital letter"
    if not text.rstrip().rstrip(_CLOSERS).endswith((".", "!", "?", "…")) and _OPEN_ENDED.isdisjoint(asked):
        return "ends in the middle of a sentence"
    for sentence in checks.sentences(text):
        found = folded_words(sentence)
        if len(found) >= WORDS_PER_SMALL_WORD and SMALL_WORDS.isdisjoint(found):
            return "a long sentence without small words"
    return None


def _padding(words: Sequence[str]) -> str | None:
    """Repetition beyond that of prose; the limits grow with the text, for prose repeats its small words."""
    if len(set(words)) < 0.5 * min(1.0, 60 / len(words)) * len(words):
        return "too few different words"
    pairs = Counter(itertools.pairwise(words))
    if len(words) > 2 and max(pairs.values()) > max(2, len(words) // 25):
        return "a pair of words repeats"
    if sum(left == right for left, right in itertools.pairwise(words)) > len(words) // 100:
        return "a word follows itself"
    return None
