"""The checks behind `rewards.constraints`: pure functions of an answer and of the arguments of one constraint.

They follow the strict reading of IFEval (arXiv 2311.07911) and are stricter where its checkers can be paid with
nothing: words have boundaries ("maid" does not hold "ai"), bullets, titles, sections and placeholders hold a word, JSON
is an object or an array and not a bare number, and a language needs letters. Departures are listed, with counts, in
benchmarks/rewards_ifeval.md. None of them takes more than linear time in the length of an answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from rewards.language_id import detect, language_fault, num_letters
from rewards.strict_json import loads_strict

LESS_THAN, AT_LEAST = "less than", "at least"
RELATIONS = (LESS_THAN, AT_LEAST)

MIN_ENGLISH_LETTERS = 60
"""Shorter texts are not asked whether they are English: detectors guess there. Their letters have to be ASCII."""

MIN_ASCII_SHARE = 0.9
CONSTRAINED_RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

_LETTERS = re.compile(r"[^\W\d_]+")
_BULLET = re.compile(r"^[ \t]*(?:\*(?!\*)|-)[ \t]*(\S.*)$", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*(\d{1,4})[.)][ \t]+(\S.*)$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*\*([^\n*]+)\*\*|\*([^\n*]+)\*")
_TITLE = re.compile(r"<<([^\n<>]+)>>")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\]")
# Possessive and never begun inside a run: 20,000 underscores or periods cost one pass, not one pass each.
# Vowel signs and joiners belong to a word: `\w` alone cuts Hindi, Tamil or Thai into up to three times its words.
_SIGNS = "".join(sign for sign in map(chr, range(0x300, 0x11000)) if unicodedata.category(sign) in ("Mn", "Mc"))
_WORD = re.compile(rf"(?<!\w)_*+[^\W_][\w{_SIGNS}\u200c\u200d]*")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*]*+(?=\s|$)")
_CLOSERS = "\"'”’)]*"
_LAST_WORD = re.compile(r"[\w.]+$")
_NEXT_WORD = re.compile(r"\s*[\"'“‘(\[*]*(\w*)")
_ABBREVIATION = re.compile(r"(?:mr|mrs|ms|dr|prof|st|vs|e\.g|i\.e|p\.s|p\.p\.s|p\.p)", re.IGNORECASE)
_ABBREVIATION_OR_END = re.compile(r"(?:[A-Z]\.)*[A-Z]|sr|jr|inc|ltd|co", re.IGNORECASE)
_STARTERS = frozenset((
    "The", "An", "We", "You", "He", "She", "It", "They", "This", "That", "These", "Those", "There", "But", "And", "So",
    "Then", "In", "On", "My", "Our", "Your", "His", "Her", "Their",
))  # fmt: skip
"""Words that begin a sentence after an abbreviation; "A" and "I" are left out, because they are initials too."""

_CAPITAL_CANDIDATE = re.compile(r"(?<!\w)(?:[^\W\d_]\.)+[^\W\d_]\b|[^\W_]+(?:[-'’][^\W_]+)*")


def has_word(text: str) -> bool:
    """Whether a text holds a letter at all."""
    return bool(_LETTERS.search(text))


def words(text: str) -> list[str]:
    r"""The words as IFEval counts them, runs of `\w` and vowel signs; a run of underscores alone is none."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text; each holds a word, and a last one need not be closed by a mark.

    A period after an abbreviation or an initial ends nothing, unless a word that begins sentences follows; dots in a
    row and a number's period end nothing before a small letter. Line breaks end nothing either, as in IFEval, whose
    sentence splitter is a trained model (punkt): the two differ in rare cases.
    """
    found, start = [], 0
    for mark in _SENTENCE_END.finditer(text):
        before = text[max(start, mark.start() - 12) : mark.start()]
        if not _ends_sentence(before, mark.group().rstrip(_CLOSERS), text[mark.end() : mark.end() + 24]):
            continue
        found.append(text[start : mark.end()].strip())
        start = mark.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if _WORD.search(sentence)]


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Whether a mark ends a sentence, from the few characters on either side of it."""
    following = _NEXT_WORD.match(after)
    follower = following[1] if following else ""
    last = _LAST_WORD.search(before)
    word = last.group() if last else ""
    dots = mark != "." and not set(mark) - {".", "…"}
    if dots or (mark == "." and word.isdigit()):
        return not follower[:1].islower()
    if mark != "." or word == "I":
        return True
    if word.lower() == "no":
        return not follower[:1].isdigit()
    if word.lower() == "etc":
        return not follower or follower[0].isupper()
    if _ABBREVIATION.fullmatch(word):
        return False
    return not _ABBREVIATION_OR_END.fullmatch(word) or not follower or follower in _STARTERS


def _compare(count: int, relation: str, number: int) -> bool:
    if relation not in RELATIONS:
        raise ValueError(f"relation {relation!r} is not one of {RELATIONS}")
    return count < number if relation == LESS_THAN else count >= number


def count_of(keyword: str, text: str) -> int:
    """How often a word or phrase stands in a text, case ignored, never as a part of another word."""
    return len(re.findall(rf"(?<!\w){re.escape(keyword.strip())}(?!\w)", text, re.IGNORECASE))


def keywords_exist(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword stands in the text."""
    return all(count_of(keyword, text) > 0 for keyword in keywords)


def keyword_frequency(text: str, *, keyword: str, relation: str, frequency: int) -> bool:
    """The keyword stands there less than, or at least, so many times."""
    return _compare(count_of(keyword, text), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words stands in the text."""
    return not any(count_of(word, text) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_relation: str, let_frequency: int) -> bool:
    """The letter, in either case, stands there less than, or at least, so many times."""
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def keyword_in_sentence(text: str, *, keyword: str, nth: int) -> bool:
    """The keyword stands in the nth sentence, counted from 1."""
    found = sentences(text)
    return len(found) >= nth and count_of(keyword, found[nth - 1]) > 0


def response_language(text: str, *, language: str) -> bool:
    """The text is in the language of that ISO 639-1 code."""
    return language_fault(text, language, min_letters=8) is None


def number_words(text: str, *, relation: str, num_words: int) -> bool:
    """Less than, or at least, so many words."""
    return _compare(len(words(text)), relation, num_words)


def words_between(text: str, *, low: int, high: int) -> bool:
    """Between so many words, both ends included."""
    return low <= len(words(text)) <= high


def number_sentences(text: str, *, relation: str, num_sentences: int) -> bool:
    """Less than, or at least, so many sentences."""
    return _compare(len(sentences(text)), relation, num_sentences)


def max_sentence_words(text: str, *, num_words: int) -> bool:
    """No sentence has more than so many words."""
    return all(len(words(sentence)) <= num_words for sentence in sentences(text))


def distinct_first_words(text: str) -> bool:
    """At least two sentences, and no two that begin with the same word."""
    first = [words(sentence)[0].casefold() for sentence in sentences(text)]
    return len(first) > 1 and len(set(first)) == len(first)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """So many paragraphs, separated by lines with three asterisks; an empty one is allowed at either end only."""
    pieces = re.split(r"\s?\*\*\*\s?", text)
    if not all(has_word(piece) for piece in pieces[1:-1]):
        return False
    return sum(has_word(piece) for piece in pieces) == num_paragraphs


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs separated by an empty line, and the nth (from 1) begins with the word."""
    paragraphs = [piece.strip() for piece in text.split("\n\n") if piece.strip()]
    if len(paragraphs) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    first = paragraphs[nth_paragraph - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", first)[0].lower() == first_word.lower()


def number_lines(text: str, *, num_lines: int) -> bool:
    """So many lines, each with a word; empty lines are not counted."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) == num_lines and all(map(has_word, lines))


def number_bullets(text: str, *, num_bullets: int) -> bool:
    """So many bullet lines, each with a word; `***` and `---` lines are no bullets."""
    return sum(has_word(body) for body in _BULLET.findall(text)) == num_bullets


def numbered_list(text: str, *, num_items: int) -> bool:
    """A list numbered 1, 2, … with so many items, each with a word."""
    found = _NUMBERED.findall(text)
    return [int(number) for number, body in found if has_word(body)] == list(range(1, num_items + 1))


def number_highlights(text: str, *, num_highlights: int) -> bool:
    """At least so many spans in single or double asterisks, each with a word; a double one counts once."""
    return sum(has_word(double or single) for double, single in _HIGHLIGHT.findall(text)) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many numbered sections (IFEval's spelling of the argument), each with a word in it."""
    pieces = re.split(rf"(?<!\w){re.escape(section_spliter)}\s?\d+", text)[1:]
    return sum(map(has_word, pieces)) >= num_sections


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many `[placeholders]`, each with a word."""
    return sum(map(has_word, _PLACEHOLDER.findall(text))) >= num_placeholders


def title(text: str) -> bool:
    """A title in double angular brackets, with a word in it, and text beside it."""
    found = [body for body in _TITLE.findall(text) if has_word(body)]
    return bool(found) and has_word(_TITLE.sub(" ", text))


def postscript(text: str, *, postscript_marker: str) -> bool:
    """A postscript with a word after its marker, case ignored; a longer marker (P.P.S.) is not a shorter one (P.S.)."""
    letters = [letter for letter in postscript_marker if letter.isalpha()]
    marker = r"\.\s?".join(map(re.escape, letters)) + (r"\." if postscript_marker.endswith(".") else r"\b")
    found = re.search(rf"(?<!\w)(?<!p\.){marker}(.*)\Z", text, re.IGNORECASE | re.DOTALL)
    return found is not None and has_word(found[1])


def two_responses(text: str) -> bool:
    """Two different responses, each with a word, separated by six asterisks."""
    pieces = text.split("******")
    if not all(has_word(piece) for piece in pieces[1:-1]):
        return False
    found = [" ".join(piece.split()).casefold() for piece in pieces if has_word(piece)]
    return len(found) == 2 and found[0] != found[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """The prompt, case ignored, and then an answer with a word."""
    asked, given = prompt_to_repeat.strip().lower(), text.strip().lower()
    return given.startswith(asked) and has_word(given[len(asked) :])


def constrained_response(text: str) -> bool:
    """Exactly one of IFEval's three sentences stands in the text."""
    return sum(option in text for option in CONSTRAINED_RESPONSES) == 1


def _english(text: str) -> bool:
    letters = num_letters(text)
    num_ascii = sum(character.isascii() and character.isalpha() for character in text)
    if not letters or num_ascii < MIN_ASCII_SHARE * letters:
        return False
    return letters < MIN_ENGLISH_LETTERS or detect(text.lower()) == "en"


def english_capital(text: str) -> bool:
    """English without a small letter."""
    return text.isupper() and _english(text)


def english_lowercase(text: str) -> bool:
    """English without a capital letter."""
    return text.islower() and _english(text)


def count_capital_words(text: str) -> int:
    """How many words stand in capitals; "ALL-OVER", "U.S.A." and a single letter are one each."""
    return sum(word.isupper() for word in _CAPITAL_CANDIDATE.findall(text))


def capital_word_frequency(text: str, *, capital_relation: str, capital_frequency: int) -> bool:
    """Less than, or at least, so many words in capitals."""
    return _compare(count_capital_words(text), capital_relation, capital_frequency)


def no_comma(text: str) -> bool:
    """No comma, of Latin, Arabic or full width."""
    return not any(comma in text for comma in ",،，、")


def no_digits(text: str) -> bool:
    """No digit of any script."""
    return not any(character.isdigit() for character in text)


def exclamations(text: str, *, num_exclamations: int) -> bool:
    """At least so many sentences end in an exclamation mark."""
    return sum(sentence.rstrip(_CLOSERS).endswith("!") for sentence in sentences(text)) >= num_exclamations


def quotation(text: str) -> bool:
    """The whole text stands in double quotation marks, and holds a word."""
    stripped = text.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"' and has_word(stripped)


def start_phrase(text: str, *, phrase: str) -> bool:
    """The text begins with the phrase, case and an opening quotation mark ignored, at a word boundary."""
    given = text.strip().lstrip('"').lower()
    return given.startswith(phrase.lower()) and not given[len(phrase) : len(phrase) + 1].isalnum()


def end_phrase(text: str, *, end_phrase: str) -> bool:
    """The text ends with the phrase, case and a closing quotation mark ignored, at a word boundary."""
    given, phrase = text.strip().strip('"').lower(), end_phrase.strip().lower()
    before = given[: -len(phrase)] if phrase else given
    return given.endswith(phrase) and not (before[-1:].isalnum() and phrase[:1].isalnum())


def last_word(text: str, *, word: str) -> bool:
    """The last word is the given one; marks may follow it."""
    found = words(text)
    return bool(found) and found[-1].lower() == word.lower()


def json_format(text: str) -> bool:
    """One standard JSON object or array, which may stand in one code fence; a bare number or string is no format."""
    body = text.strip()
    if body.startswith("```") and body.endswith("```") and len(body) > 6:
        body = re.sub(r"\A(?:json)?\s", "", body[3:-3], flags=re.IGNORECASE)
    try:
        found: Any = loads_strict(body.strip())
    except ValueError:
        return False
    return isinstance(found, dict | list) and has_word(body)
