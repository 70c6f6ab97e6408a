"""The rule gate in front of a preference model: what no taste can make a good answer.

A preference model is a learned function and can be climbed: by flattery, by text about itself, by keywords in a row, by
one sentence again and again. What is recognisable by rule never reaches it. Every check is linear in the answer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from typing import Any

from data.ngrams import ngrams, repetition_share
from data.records import Message, Score
from rewards.free_text import normalised, unfit, words
from rewards.language_id import letter_share


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH = _listed(
    "a an and are as at be been before but by can do does each every for from had has have he her his how i if in "
    "into is it its me my no not of on one or our she so than that the their them then there they this through to "
    "too under up us was we were what when where which while who will with you your"
)
"""Function words of English: prose is made of them, a list of keywords is not."""

MIN_LETTER_SHARE = 0.75
MIN_FUNCTION_SHARE = 0.1
MAX_TOPIC_SHARE = 0.5
"""Of the words, those that are the topic's own; a sentence about a thing says something of it as well."""

MAX_COPIED_SHARE = 0.5
"""Of the answer's trigrams, those that stand in the prompt."""

MAX_TAKEN_SHARE = 0.8
"""Of the answer's words, those that stand anywhere in the prompt: the question turned round says nothing new."""

MAX_TRIGRAM_REPETITION = 0.2
MIN_DISTINCT_SHARE, FULL_SHARE_WORDS = 0.5, 60
"""Least share of distinct words, for texts up to so many words; it falls with length beyond, as in prose."""

MAX_WORD_CHARS = 25
_PAST_LATIN = re.compile(r"[^\x00-\u1eff]")
"""Letters before these are Latin, with accents; between them and the basic ones lie Greek, Cyrillic and others, whose
texts fail for want of function words."""

_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?…\n]")
_CALLED = r"^\W*(?:\w+[,!:] )?"
"""The start of an answer, perhaps with a name: "Mia, …"."""

_FLATTERY = re.compile(
    _CALLED + r"(?:what an? (?:\w+ ){0,2}(?:question|idea|request|choice|thought|topic)\b"
    r"|(?:such a |a )?(?:great|good|excellent|wonderful|amazing|fantastic|brilliant|lovely|superb) "
    r"(?:question|idea|request|choice|point)\b"
    r"|i (?:\w+ )?(?:love|adore|admire) (?:your|this|that|you)\b"
    r"|you(?:'re| are) (?:\w+ ){0,2}(?:smart|clever|wise|brilliant|amazing|genius|wonderful|special|perfect)\b"
    r"|was für eine (?:\w+ )?frage|quelle (?:\w+ )?question|qué (?:\w+ )?pregunta|che (?:\w+ )?domanda"
    r"|que (?:\w+ )?pergunta|wat een (?:\w+ )?vraag)"
)
_TEMPLATE = re.compile(_CALLED + r"(?:here(?:'s| is| are) (?:a|an|my|your|some|the)\b|below is\b|as requested\b)")
_ABOUT_ITSELF = re.compile(
    r"\bas an? (?:ai|language model|assistant)\b|\blanguage model\b|\bi(?:'m| am) an ai\b"
    r"|\b(?:this|my) (?:answer|reply|response|text) (?:is|deserves|was)\b|\b(?:highest|full|maximum) (?:score|reward)"
    r"|\b10/10\b|\breward model\b|\bpreference model\b"
)


def preference_gate(
    answer: str,
    messages: Sequence[Message],
    *,
    topics: Sequence[Sequence[str]],
    min_words: int,
    max_words: int,
    function_words: Collection[str] = ENGLISH,
) -> Score | None:
    """Score.incorrect for an answer that no preference may reward, None when the preference model has to decide.

    `topics` holds one group of word stems for each thing that the answer has to speak of: one word of each group must
    occur. The size of the answer is counted in words. Echo is judged against every message of the prompt.
    """
    asked = " ".join(str(message.get("content") or "") for message in messages)
    last = str(messages[-1].get("content") or "") if messages else ""
    reason = unfit(answer, last, min_words=min_words, max_words=max_words) or _opening_fault(answer)
    if reason is None:
        found = words(answer)
        reason = (
            _gibberish(answer, found, function_words)
            or _repetition(answer, found)
            or _copied(found, words(asked))
            or topic_fault(found, topics)
        )
    return None if reason is None else Score.incorrect(reason)


def _opening_fault(answer: str) -> str | None:
    text = normalised(answer)
    if _FLATTERY.search(text):
        return "opens with flattery"
    if _TEMPLATE.search(text):
        return "opens with a template"
    if _ABOUT_ITSELF.search(text):
        return "speaks of itself instead of the matter"
    return None


def _gibberish(answer: str, found: Sequence[str], function_words: Collection[str]) -> str | None:
    if "```" in answer or any(map(str.isalpha, _PAST_LATIN.findall(answer))):
        return "a fence of code or letters of another script"
    if letter_share(answer) < MIN_LETTER_SHARE:
        return "made of something else than letters"
    if any(len(word) > MAX_WORD_CHARS for word in found):
        return "a word without end"
    if sum(not _VOWEL.search(word) for word in found) > max(1.0, 0.1 * len(found)):  # "Hmm" is a word
        return "strings that are no words"
    if sum(word in function_words for word in found) < max(1.0, MIN_FUNCTION_SHARE * len(found)):
        return "words in a row, no sentence of the language"
    return None


def _repetition(answer: str, found: Sequence[str]) -> str | None:
    for sentence in _SENTENCE_END.split(answer):
        if any(left == right not in ("had", "that") for left, right in itertools.pairwise(words(sentence))):
            return "a word follows itself"
    if len(set(found)) < MIN_DISTINCT_SHARE * min(1.0, FULL_SHARE_WORDS / len(found)) * len(found):
        return "too few distinct words"
    return "repeats itself" if repetition_share(answer, 3) > MAX_TRIGRAM_REPETITION else None


def _copied(found: Sequence[str], asked: Sequence[str]) -> str | None:
    own = list(ngrams(found, 3))
    theirs = set(ngrams(asked, 3))
    copied = sum(gram in theirs for gram in own)
    if own and copied > MAX_COPIED_SHARE * len(own):
        return "copies the prompt"
    known = set(asked)
    taken = sum(word in known for word in found)
    return "only words of the prompt" if taken > MAX_TAKEN_SHARE * len(found) else None


def topic_fault(found: Sequence[str], topics: Sequence[Sequence[str]]) -> str | None:
    """Why words do not keep to the topics, or are little else than the topics' own words; None when they do."""
    num_own = 0
    for stems in topics:
        begins = tuple(stems)  # a form begins with its stem, which is one test for all of them
        hits = sum(word.startswith(begins) and any(is_form(word, stem) for stem in stems) for word in found)
        if not hits:
            return f"says nothing of {stems[0]!r}"
        num_own += hits
    return "keywords in a row" if num_own > MAX_TOPIC_SHARE * len(found) else None


def is_form(word: str, stem: str) -> bool:
    """Whether a word is the stem with an ending; a stem of three letters or fewer takes "s" and "'s" alone."""
    if len(stem) <= 3:
        return word in (stem, stem + "s", stem + "'s")
    return word.startswith(stem) and len(word) <= len(stem) + 6


def gate_of_reference(
    answer: str, messages: Sequence[Message], reference: Any, function_words: Collection[str] = ENGLISH
) -> Score | None:
    """`preference_gate` with `topics`, `min_words` and `max_words` of a reference."""
    return preference_gate(
        answer, messages, topics=reference["topics"], min_words=reference["min_words"],
        max_words=reference["max_words"], function_words=function_words,
    )  # fmt: skip
