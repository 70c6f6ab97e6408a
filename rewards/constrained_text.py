"""Texts under constraints: a writer of gold texts, and the verdict on an answer.

The writer makes a draft from a topic's word bank, lays it out as the constraints want it, and tries again until every
check holds. The verdict is the checks plus the guard on content of `rewards.prose_guard`.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards.constraint_checks import AT_LEAST, LESS_THAN
from rewards.constraints import Constraint, describe, has_content, kind_of
from rewards.prose_guard import content_fault, strip_echo
from rewards.tasks.length import ADVERBS, BANKS

_PLACES = ("[place]", "[name]", "[date]", "[time]")


def fault(
    text: str, *, topic: str, prompt: str, constraints: Sequence[Constraint], revoked: Sequence[Constraint] = ()
) -> str | None:
    """Why an answer earns nothing, or None when it obeys.

    Every constraint has to hold with and without what the answer copies from the rules and the prompt; a revoked one
    must not hold. An empty topic is not looked for.
    """
    own = strip_echo(text, prompt, constraints)
    reason = content_fault(own, topic, prompt, {name for name, _ in constraints})
    if reason:
        return reason
    if not has_content(own):
        return "has no content"
    for name, arguments in constraints:
        check = kind_of(name).check
        if not check(text, **arguments) or (own != text and not check(own, **arguments)):
            return f"violates: {describe((name, arguments))}"
    for name, arguments in revoked:
        if kind_of(name).check(text, **arguments):
            return f"still obeys a revoked rule: {describe((name, arguments))}"
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
