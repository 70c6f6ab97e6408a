"""Texts under constraints: a writer of gold texts, and the verdict on an answer.

The writer makes a draft from a topic's word bank, lays it out as the constraints want it, and tries again until every
check holds. The verdict is the checks plus a guard on content, because constraints alone can be met by gibberish, by
every format element at once, by a heap of keywords, and by writing the rules down again.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards import constraint_checks as checks
from rewards.constraint_checks import AT_LEAST, LESS_THAN
from rewards.constraints import Constraint, describe, kind_of, obeys
from rewards.tasks.length import ADVERBS, BANKS, MAX_WORD_CHARS

MIN_NOVEL_WORDS = 3
"""Different words of three letters or more that the prompt does not hold."""

MIN_WORD_SHARE = 0.8
"""Least share of words (letters and a vowel) among the tokens of an answer; the rest may be numbers and initials."""

MAX_SYMBOL_SHARE = 0.4
MAX_UNASKED_FORMATS = 1
RULE_RUN, PROMPT_RUN = 4, 6
"""So many words in a row from a rule, or from the rest of the prompt, make a sentence an echo."""

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

_HEADS = re.compile(
    r"<<[^\n<>]*>>|\[[^\[\]\n]*\]|\bsection\s?\d+|(?<!\w)(?:p\.\s?){1,2}s\b|^[ \t]*\d+[.)]",
    re.IGNORECASE | re.MULTILINE,
)
"""Format elements, which are neither words nor fail to be words."""

_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüý]", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_PLACES = ("[place]", "[name]", "[date]", "[time]")


def fault(
    text: str, *, topic: str, prompt: str, constraints: Sequence[Constraint], revoked: Sequence[Constraint] = ()
) -> str | None:
    """Why an answer earns nothing, or None when it obeys.

    Every constraint has to hold with and without what the answer copies from the rules and the prompt; a revoked one
    must not hold. An empty topic is not looked for.
    """
    own = strip_echo(text, prompt, constraints)
    reason = _content_fault(own, topic, prompt, constraints)
    if reason:
        return reason
    for constraint in constraints:
        if not obeys(text, constraint) or (own != text and not obeys(own, constraint)):
            return f"violates: {describe(constraint)}"
    for constraint in revoked:
        if obeys(text, constraint):
            return f"still obeys a revoked rule: {describe(constraint)}"
    return None


def strip_echo(text: str, prompt: str, constraints: Sequence[Constraint]) -> str:
    """The text without the sentences that repeat a rule or the prompt; the text itself when there is none.

    What stands in quotation marks in a rule may be written, for rules ask for such phrases. A prompt that has to be
    repeated is no echo.
    """
    runs: set[tuple[str, ...]] = set()
    for constraint in constraints:
        runs |= _runs(describe(constraint), RULE_RUN, 3)
    if not any(name == "repeat_prompt" for name, _ in constraints):
        runs |= _runs(prompt, PROMPT_RUN, PROMPT_RUN)
    pieces = re.split(r"(\n|(?<=[.!?])[ \t]+)", text)
    kept = [piece for piece in pieces if not piece.strip() or not _holds_run(piece, runs)]
    return "".join(kept) if len(kept) < len(pieces) else text


def _folded(text: str) -> list[str]:
    return [word.casefold() for word in checks.words(text)]


def _runs(text: str, length: int, shortest: int) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for fragment in _QUOTED.split(text):
        folded = _folded(fragment)
        size = min(length, len(folded))
        if size >= shortest:
            found |= {tuple(folded[i : i + size]) for i in range(len(folded) - size + 1)}
    return found


def _holds_run(piece: str, runs: set[tuple[str, ...]]) -> bool:
    folded = _folded(piece)
    sizes = {len(run) for run in runs}
    return any(tuple(folded[i : i + size]) in runs for size in sizes for i in range(len(folded) - size + 1))


_LAST_LATIN = 0x24F


def _content_fault(text: str, topic: str, prompt: str, constraints: Sequence[Constraint]) -> str | None:
    if "\\boxed" in text:
        return "holds an answer box"
    asked = {name for name, _ in constraints}
    unasked = [name for name, pattern in _DISTINCTIVE.items() if name not in asked and pattern.search(text)]
    if len(unasked) > MAX_UNASKED_FORMATS:
        return f"format soup: {', '.join(unasked)} were not asked for"
    visible = [character for character in text if not character.isspace()]
    if "response_language" not in asked and any(c.isalpha() and ord(c) > _LAST_LATIN for c in visible):
        return "letters of another script"
    if "```" in text or any(unicodedata.category(character) == "Cf" for character in visible):
        return "a fence or invisible characters"
    symbols = sum(not character.isalnum() for character in visible)
    if not visible or symbols > MAX_SYMBOL_SHARE * len(visible):
        return "mostly symbols"
    body = _folded(_HEADS.sub(" ", text))
    good = [word for word in body if word.isalpha() and len(word) <= MAX_WORD_CHARS and _VOWEL.search(word)]
    if len(good) < max(1, MIN_WORD_SHARE * len(body)):
        return "holds too much that is not a word"
    given = set(_folded(prompt))
    if len({word for word in good if len(word) >= 3 and word not in given}) < MIN_NOVEL_WORDS:
        return "says nothing of its own"
    nouns = BANKS.get(topic.casefold(), {}).get("noun", ())
    if topic and not any(word == topic.casefold() or word in nouns for word in good):
        return "does not keep to the topic"
    return _padding(good)


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


def write(
    rng: random.Random, *, topic: str, prompt: str, constraints: Sequence[Constraint],
    revoked: Sequence[Constraint] = (), num_sentences: tuple[int, int] = (2, 4), attempts: int = 40,
) -> str | None:  # fmt: skip
    """A text about a topic of `BANKS` that obeys, or None when no attempt did. `num_sentences` is a wish."""
    for _ in range(attempts):
        text = draft(rng, topic, constraints, rng.randint(*num_sentences))
        if fault(text, topic=topic, prompt=prompt, constraints=constraints, revoked=revoked) is None:
            return text
    return None


def draft(rng: random.Random, topic: str, constraints: Iterable[Constraint], wished: int) -> str:
    """One attempt: as many sentences as the constraints want (else `wished`), then layout, opening, closing, case."""
    rules: dict[str, Any] = {constraint[0]: constraint[1] for constraint in constraints}
    blocks = _num_blocks(rules)
    count = max(_num_sentences(rng, rules, wished), blocks)
    body = _sentences(rng, topic, rules, count)
    body = [_decorate(sentence, index, rules) for index, sentence in enumerate(body)]
    if word := rules.get("last_word", {}).get("word"):
        body[-1] = f"{body[-1][:-1]} {word}{body[-1][-1]}"
    cuts = sorted(rng.sample(range(1, count), blocks - 1))
    pieces = [" ".join(body[start:end]) for start, end in itertools.pairwise([0, *cuts, count])]
    text = _lay_out(pieces, rules)
    text = _open_and_close(rng, topic, text, rules)
    if "english_capital" in rules:
        text = text.upper()
    if "english_lowercase" in rules:
        text = text.lower()
    if "json_format" in rules:
        text = json.dumps({"text": text})
    return f'"{text}"' if "quotation" in rules else text


def _num_blocks(rules: Mapping[str, Any]) -> int:
    for name, key in (
        ("number_paragraphs", "num_paragraphs"), ("nth_paragraph_first_word", "num_paragraphs"),
        ("number_lines", "num_lines"), ("number_bullets", "num_bullets"), ("numbered_list", "num_items"),
        ("multiple_sections", "num_sections"),
    ):  # fmt: skip
        if name in rules:
            return int(rules[name][key])
    return 2 if "two_responses" in rules else 1


def _num_sentences(rng: random.Random, rules: Mapping[str, Any], wished: int) -> int:
    low, high = 1, wished
    for name, key in (
        ("number_highlights", "num_highlights"), ("number_placeholders", "num_placeholders"),
        ("exclamations", "num_exclamations"), ("keyword_in_sentence", "nth"),
    ):  # fmt: skip
        low = max(low, rules.get(name, {}).get(key, 1))
    low = max(low, len(_needed_nouns(rules)), 2 if "distinct_first_words" in rules else 1)
    if (rule := rules.get("number_sentences", {})).get("relation") == AT_LEAST:
        low = max(low, rule["num_sentences"])
    if (rule := rules.get("number_words", {})).get("relation") == AT_LEAST:
        low = max(low, -(-rule["num_words"] // 4))
    if rule := rules.get("words_between", {}):
        return max(1, rng.randint(rule["low"], rule["high"]) // 4)
    return rng.randint(low, max(low, high))


def _needed_nouns(rules: Mapping[str, Any]) -> list[str]:
    needed = list(rules.get("keywords_exist", {}).get("keywords", ()))
    frequency = rules.get("keyword_frequency", {})
    if frequency.get("relation") == AT_LEAST:
        needed += [frequency["keyword"]] * frequency["frequency"]
    return needed


def _sentences(rng: random.Random, topic: str, rules: Mapping[str, Any], count: int) -> list[str]:
    """`count` sentences of three to five words that use the needed nouns and avoid what is banned."""
    decks: dict[str, list[str]] = {}
    letter = rules.get("letter_frequency", {})
    banned = set(rules.get("forbidden_words", {}).get("forbidden_words", ()))
    if rules.get("keyword_frequency", {}).get("relation") == LESS_THAN:
        banned.add(rules["keyword_frequency"]["keyword"])
    avoided = letter["letter"] if letter.get("let_relation") == LESS_THAN else "0"

    def draw(kind: str) -> str:
        if not decks.get(kind):
            words = ADVERBS if kind == "adverb" else BANKS[topic][kind]
            allowed = [word for word in words if word not in banned and avoided not in word] or list(words)
            decks[kind] = rng.sample(allowed, len(allowed))
        return decks[kind].pop()

    nouns = _needed_nouns(rules)[:count]
    nouns += [draw("noun") for _ in range(count - len(nouns))]
    rng.shuffle(nouns)
    if place := rules.get("keyword_in_sentence"):
        nouns[min(place["nth"], count) - 1] = place["keyword"]
    sentences = []
    for noun in nouns:
        words = [draw("adjective"), noun, draw("verb")]
        length = rng.randint(3, 5)
        words += [draw("adverb")] if length >= 4 else []
        sentences.append(" ".join(["the"] * (length == 5) + words).capitalize() + ".")
    first = rules.get("nth_paragraph_first_word")
    if first:  # each paragraph is one sentence or more, and this one has to begin a paragraph
        sentences[min(first["nth_paragraph"], count) - 1] = (
            f"{first['first_word'].capitalize()} {draw('noun')} {draw('verb')} {draw('adverb')}."
        )
    return sentences


def _decorate(sentence: str, index: int, rules: Mapping[str, Any]) -> str:
    """Highlights, capitals, placeholders and exclamation marks of the sentence number `index`."""
    words = sentence[:-1].split()
    noun = 2 if words[0] == "The" else 1
    if (rule := rules.get("capital_word_frequency", {})).get("capital_relation") == AT_LEAST:
        words[noun] = words[noun].upper() if index < rule["capital_frequency"] else words[noun]
    if index < rules.get("number_highlights", {}).get("num_highlights", 0):
        words[noun] = f"*{words[noun]}*"
    if index < rules.get("number_placeholders", {}).get("num_placeholders", 0):
        words += ["near", _PLACES[index % len(_PLACES)]]
    mark = "!" if index < rules.get("exclamations", {}).get("num_exclamations", 0) else "."
    return " ".join(words) + mark


def _lay_out(pieces: Sequence[str], rules: Mapping[str, Any]) -> str:
    if "number_bullets" in rules:
        return "\n".join(f"- {piece}" for piece in pieces)
    if "numbered_list" in rules:
        return "\n".join(f"{number}. {piece}" for number, piece in enumerate(pieces, 1))
    if "multiple_sections" in rules:
        head = rules["multiple_sections"]["section_spliter"]
        return "\n".join(f"{head} {number}\n{piece}" for number, piece in enumerate(pieces, 1))
    if "number_paragraphs" in rules:
        return "\n***\n".join(pieces)
    if "two_responses" in rules:
        return "\n******\n".join(pieces)
    return ("\n\n" if "nth_paragraph_first_word" in rules else "\n").join(pieces)


def _open_and_close(rng: random.Random, topic: str, text: str, rules: Mapping[str, Any]) -> str:
    bank, gap = BANKS[topic], "\n" if _starts_lines(rules) else " "
    if "title" in rules:
        text = f"<<{rng.choice(bank['adjective']).capitalize()} {topic}>>\n{text}"
    if "start_phrase" in rules:
        phrase = rules["start_phrase"]["phrase"]
        text = phrase + gap + (text if phrase[-1] in ".!?" or gap == "\n" else text[0].lower() + text[1:])
    if "repeat_prompt" in rules:
        text = f"{rules['repeat_prompt']['prompt_to_repeat']}\n{text}"
    if "postscript" in rules:
        sentence = (
            f"{rng.choice(bank['adjective']).capitalize()} {rng.choice(bank['noun'])} {rng.choice(bank['verb'])}."
        )
        text = f"{text}\n{rules['postscript']['postscript_marker']} {sentence}"
    if "end_phrase" in rules:
        text = f"{text}{gap}{rules['end_phrase']['end_phrase']}"
    return text


def _starts_lines(rules: Mapping[str, Any]) -> bool:
    """Whether the layout gives meaning to the start of a line, so that a phrase needs a line of its own."""
    return not rules.keys().isdisjoint({"number_bullets", "numbered_list", "multiple_sections"})


def plan(constraints: Sequence[Constraint]) -> str:
    """What a writer has to do, in a few words per constraint, with the values that matter."""
    return "; ".join(_planned(name, arguments) for name, arguments in constraints)


def _planned(name: str, arguments: Mapping[str, Any]) -> str:
    values = [", ".join(value) if isinstance(value, list) else str(value) for value in arguments.values()]
    return " ".join([kind_of(name).plan, *([] if name == "repeat_prompt" else values)])
