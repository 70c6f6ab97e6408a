"""Checkable constraints on a text: what a prompt may ask, in words, and whether an answer does it.

A constraint is plain data, `(kind, arguments)`; a `Kind` builds arguments from a seeded generator, describes them in
English and checks a text. Kinds that IFEval has (arXiv 2311.07911) carry its instruction id and the names of its
arguments, so that its prompts can be scored as they are. Strict reading only: no line is dropped and no asterisk
removed to let an answer pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.records import UserError
from rewards import constraint_checks as checks
from rewards.constraint_checks import AT_LEAST, LESS_THAN, RELATIONS
from rewards.language_id import LANGUAGES, num_letters
from rewards.tasks.length import BANKS

Arguments = Mapping[str, Any]
Constraint = Sequence[Any]
"""[kind, arguments] as it stands in a reference."""

MIN_CONTENT_WORDS = 3
MIN_CONTENT_LETTERS = 8
"""An answer below either says nothing, whatever constraints it meets ("." and "123" meet a quarter of IFEval's)."""

START_PHRASES = ("Good morning.", "Once upon a time", "Let me tell you:", "Here is my view:", "Listen closely.")
END_PHRASES = ("That is all.", "See you soon.", "Thanks for reading.", "Any other questions?", "This is the end.")
KEYWORDS = ("letters", "songs", "windows", "bridges", "clocks", "candles", "painters", "rivers", "stories", "bells")
LAST_WORDS = ("home", "now", "forever", "peace", "done", "gold")
RARE_LETTERS, COMMON_LETTERS = "jkpquvxz", "aeinorst"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of constraint. `slots` name the parts of a text that it decides: kinds that share one do not combine.

    `visible` says that no ordinary text obeys it by chance, so that its absence can be asked for too; `plan` names what
    a writer has to do in a few words, for worked solutions.
    """

    name: str
    check: Callable[..., bool]
    describe: Callable[[Arguments], str]
    build: Callable[[random.Random, str], Arguments]
    slots: frozenset[str] = frozenset()
    ifeval_id: str = ""
    visible: bool = False
    plan: str = ""


def has_content(text: str) -> bool:
    """Whether a text says anything: three words and eight letters, or eight letters of a script without blanks."""
    spaceless = any("\u3040" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0e7f" for character in text)
    enough_words = spaceless or sum(map(checks.has_word, checks.words(text))) >= MIN_CONTENT_WORDS
    return enough_words and num_letters(text) >= MIN_CONTENT_LETTERS


def kind_of(name: str) -> Kind:
    """The kind of that name or IFEval id; UserError when there is none."""
    if name not in KINDS:
        raise UserError(f"constraint {name!r} does not exist: use one of {', '.join(sorted(KINDS))}")
    return KINDS[name]


def describe(constraint: Constraint) -> str:
    """The constraint as an English sentence."""
    name, arguments = constraint
    return kind_of(name).describe(arguments)


def obeys(text: str, constraint: Constraint) -> bool:
    """Whether a text with content obeys a constraint. Raises UserError or TypeError for a constraint that is broken."""
    name, arguments = constraint
    return has_content(text) and kind_of(name).check(text, **arguments)


def compatible(names: Sequence[str]) -> bool:
    """Whether kinds can stand in one prompt: none twice, and no slot of a text is decided by two of them."""
    taken = [slot for name in names for slot in KINDS[name].slots]
    return len(set(names)) == len(names) and len(set(taken)) == len(taken)


def draw(rng: random.Random, topic: str, count: int, among: Sequence[str]) -> list[Constraint]:
    """`count` constraints of different compatible kinds. Raises ValueError when `among` does not hold so many."""
    chosen: list[str] = []
    for name in rng.sample(among, len(among)):
        if len(chosen) < count and compatible([*chosen, name]):
            chosen.append(name)
    if len(chosen) < count:
        raise ValueError(f"no {count} compatible kinds among {list(among)}")
    return [[name, dict(KINDS[name].build(rng, topic))] for name in chosen]


def _nothing(rng: random.Random, topic: str) -> Arguments:
    return {}


def _number(name: str, low: int, high: int) -> Callable[[random.Random, str], Arguments]:
    return lambda rng, topic: {name: rng.randint(low, high)}


def _choice(name: str, values: Sequence[str]) -> Callable[[random.Random, str], Arguments]:
    return lambda rng, topic: {name: rng.choice(values)}


def _relation(
    rng: random.Random, relation: str, number: str, less: tuple[int, int], least: tuple[int, int]
) -> Arguments:
    chosen = rng.choice(RELATIONS)
    return {relation: chosen, number: rng.randint(*(less if chosen == LESS_THAN else least))}


def _keyword(rng: random.Random, topic: str) -> str:
    return rng.choice(BANKS[topic]["noun"] + KEYWORDS)


def _build_letter(rng: random.Random, topic: str) -> Arguments:
    relation = rng.choice(RELATIONS)
    rare = relation == LESS_THAN
    letter = rng.choice(RARE_LETTERS if rare else COMMON_LETTERS)
    number = rng.randint(1, 3) if rare else rng.randint(3, 8)
    return {"letter": letter, "let_relation": relation, "let_frequency": number}


def _build_words_between(rng: random.Random, topic: str) -> Arguments:
    low = rng.randint(8, 40)
    return {"low": low, "high": low + rng.randint(4, 12)}


def _build_first_word(rng: random.Random, topic: str) -> Arguments:
    count = rng.randint(2, 4)
    word = rng.choice(BANKS[topic]["adjective"])
    return {"num_paragraphs": count, "nth_paragraph": rng.randint(1, count), "first_word": word}


def _listed(items: Sequence[str]) -> str:
    quoted = [f'"{item}"' for item in items]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_WRAP_ALL = frozenset({"wrap", "layout", "opening", "closing", "case", "marks"})

_KIND_LIST = (
    Kind(
        "keywords_exist", checks.keywords_exist, lambda a: f"Use the word {_listed(a['keywords'])}."
        if len(a["keywords"]) == 1 else f"Use the words {_listed(a['keywords'])}.",
        lambda rng, topic: {"keywords": rng.sample(BANKS[topic]["noun"] + KEYWORDS, rng.randint(1, 2))},
        ifeval_id="keywords:existence", plan="use the word",
    ),
    Kind(
        "keyword_frequency", checks.keyword_frequency,
        lambda a: f'Use the word "{a["keyword"]}" {a["relation"]} {_plural(a["frequency"], "time")}.',
        lambda rng, topic: {"keyword": _keyword(rng, topic), **_relation(rng, "relation", "frequency", (2, 3), (2, 4))},
        frozenset({"frequency"}), "keywords:frequency", plan="count the word",
    ),
    Kind(
        "forbidden_words", checks.forbidden_words, lambda a: f"Do not use {_listed(a['forbidden_words'])}.",
        lambda rng, topic: {"forbidden_words": rng.sample(sum(BANKS[topic].values(), ()), rng.randint(2, 3))},
        ifeval_id="keywords:forbidden_words", plan="avoid words",
    ),
    Kind(
        "letter_frequency", checks.letter_frequency,
        lambda a: f'Use the letter "{a["letter"]}" {a["let_relation"]} {_plural(a["let_frequency"], "time")}.',
        _build_letter, frozenset({"letter"}), "keywords:letter_frequency", plan="count the letter",
    ),
    Kind(
        "keyword_in_sentence", checks.keyword_in_sentence,
        lambda a: f'Sentence number {a["nth"]} must hold the word "{a["keyword"]}".',
        lambda rng, topic: {"keyword": _keyword(rng, topic), "nth": rng.randint(1, 3)},
        frozenset({"order", "opening", "layout"}), plan="place the word",
    ),
    Kind(
        "response_language", checks.response_language,
        lambda a: f"Answer in {LANGUAGES.get(a['language'], a['language'])} only.",
        _choice("language", sorted(LANGUAGES)), _WRAP_ALL | {"language"}, "language:response_language",
    ),
    Kind(
        "number_words", checks.number_words, lambda a: f"Write {a['relation']} {a['num_words']} words.",
        lambda rng, topic: _relation(rng, "relation", "num_words", (20, 60), (10, 50)),
        frozenset({"words"}), "length_constraints:number_words", plan="count words",
    ),
    Kind(
        "words_between", checks.words_between, lambda a: f"Write between {a['low']} and {a['high']} words.",
        _build_words_between, frozenset({"words"}), plan="count words",
    ),
    Kind(
        "number_sentences", checks.number_sentences,
        lambda a: f"Write {a['relation']} {_plural(a['num_sentences'], 'sentence')}.",
        lambda rng, topic: _relation(rng, "relation", "num_sentences", (4, 8), (2, 8)),
        frozenset({"sentences"}), "length_constraints:number_sentences", plan="count sentences",
    ),
    Kind(
        "max_sentence_words", checks.max_sentence_words,
        lambda a: f"No sentence may have more than {a['num_words']} words.", _number("num_words", 8, 12),
        frozenset({"sentence size"}), plan="short sentences",
    ),
    Kind(
        "distinct_first_words", checks.distinct_first_words,
        lambda a: "Write several sentences and begin each with a different word.", _nothing,
        frozenset({"layout", "starts"}), plan="different starts",
    ),
    Kind(
        "number_paragraphs", checks.number_paragraphs,
        lambda a: f"Write exactly {a['num_paragraphs']} paragraphs, separated by a line with ***.",
        _number("num_paragraphs", 2, 4), frozenset({"layout"}), "length_constraints:number_paragraphs", True,
        plan="paragraphs with ***",
    ),
    Kind(
        "nth_paragraph_first_word", checks.nth_paragraph_first_word,
        lambda a: f"Write {_plural(a['num_paragraphs'], 'paragraph')}, separated by an empty line. "
        f'Paragraph {a["nth_paragraph"]} must begin with the word "{a["first_word"]}".',
        _build_first_word, frozenset({"layout", "opening", "closing"}), "length_constraints:nth_paragraph_first_word",
        plan="first word",
    ),
    Kind(
        "number_lines", checks.number_lines, lambda a: f"Write exactly {a['num_lines']} lines.",
        _number("num_lines", 2, 6), frozenset({"layout", "opening", "closing"}), plan="lines",
    ),
    Kind(
        "number_bullets", checks.number_bullets,
        lambda a: f"Write exactly {a['num_bullets']} bullet points that begin with \"- \".",
        _number("num_bullets", 2, 5), frozenset({"layout"}), "detectable_format:number_bullet_lists", True,
        plan="bullets",
    ),
    Kind(
        "numbered_list", checks.numbered_list,
        lambda a: f"Write a numbered list (1., 2., …) of {a['num_items']} items.",
        _number("num_items", 2, 5), frozenset({"layout", "digits"}), visible=True, plan="numbered list",
    ),
    Kind(
        "number_highlights", checks.number_highlights,
        lambda a: f"Highlight at least {_plural(a['num_highlights'], 'part')} with *asterisks*.",
        _number("num_highlights", 1, 3), frozenset({"asterisks"}), "detectable_format:number_highlighted_sections",
        True, plan="highlight",
    ),
    Kind(
        "multiple_sections", checks.multiple_sections,
        lambda a: f'Write {a["num_sections"]} sections and head each with "{a["section_spliter"]}" and its number.',
        lambda rng, topic: {"section_spliter": rng.choice(("Section", "SECTION")), "num_sections": rng.randint(2, 4)},
        frozenset({"layout", "case", "digits"}), "detectable_format:multiple_sections", True, plan="sections",
    ),
    Kind(
        "number_placeholders", checks.number_placeholders,
        lambda a: f"Use at least {_plural(a['num_placeholders'], 'placeholder')} in square brackets, such as [name].",
        _number("num_placeholders", 1, 3), frozenset({"brackets"}), "detectable_content:number_placeholders", True,
        plan="placeholders",
    ),
    Kind(
        "title", checks.title, lambda a: "Add a title in double angular brackets, like <<title>>.", _nothing,
        frozenset({"opening"}), "detectable_format:title", True, plan="title",
    ),
    Kind(
        "postscript", checks.postscript, lambda a: f"End with a postscript that starts with {a['postscript_marker']}",
        _choice("postscript_marker", ("P.S.", "P.P.S.")), frozenset({"closing"}), "detectable_content:postscript",
        True, plan="postscript",
    ),
    Kind(
        "two_responses", checks.two_responses,
        lambda a: "Give two different responses, separated by a line with ******.", _nothing,
        frozenset({"layout", "opening", "closing", "asterisks"}), "combination:two_responses", True,
        plan="two responses",
    ),
    Kind(
        "repeat_prompt", checks.repeat_prompt,
        lambda a: f'First repeat the sentence "{a["prompt_to_repeat"]}" word for word, then answer.',
        _nothing,  # the prompt is not known here: the task that asks for it fills it in
        frozenset({"opening", "case", "wrap", "layout", "order"}), "combination:repeat_prompt", plan="repeat",
    ),
    Kind(
        "constrained_response", checks.constrained_response,
        lambda a: "Answer with one of the following options: " + ", ".join(map(repr, checks.CONSTRAINED_RESPONSES)),
        _nothing, _WRAP_ALL, "detectable_format:constrained_response",
    ),
    Kind(
        "english_capital", checks.english_capital, lambda a: "Write in English and in capital letters only.", _nothing,
        frozenset({"case"}), "change_case:english_capital", True, plan="capital letters",
    ),
    Kind(
        "english_lowercase", checks.english_lowercase, lambda a: "Write in English, with no capital letter.", _nothing,
        frozenset({"case"}), "change_case:english_lowercase", True, plan="small letters",
    ),
    Kind(
        "capital_word_frequency", checks.capital_word_frequency,
        lambda a: f"Write {a['capital_relation']} {_plural(a['capital_frequency'], 'word')} in capital letters.",
        lambda rng, topic: _relation(rng, "capital_relation", "capital_frequency", (2, 4), (1, 3)),
        frozenset({"case"}), "change_case:capital_word_frequency", plan="capital words",
    ),
    Kind(
        "no_comma", checks.no_comma, lambda a: "Do not use commas.", _nothing, ifeval_id="punctuation:no_comma",
        plan="no commas",
    ),
    Kind(
        "no_digits", checks.no_digits, lambda a: "Do not use digits.", _nothing, frozenset({"digits"}), plan="no digits"
    ),
    Kind(
        "exclamations", checks.exclamations,
        lambda a: f"End at least {_plural(a['num_exclamations'], 'sentence')} with an exclamation mark.",
        _number("num_exclamations", 1, 3), frozenset({"marks"}), plan="exclamation marks",
    ),
    Kind(
        "quotation", checks.quotation, lambda a: "Wrap the whole answer in double quotation marks.", _nothing,
        frozenset({"wrap"}), "startend:quotation", True, plan="quotation marks",
    ),
    Kind(
        "start_phrase", checks.start_phrase, lambda a: f'Begin with "{a["phrase"]}"',
        _choice("phrase", START_PHRASES), frozenset({"opening"}), visible=True, plan="start",
    ),
    Kind(
        "end_phrase", checks.end_phrase, lambda a: f'End with "{a["end_phrase"]}"',
        _choice("end_phrase", END_PHRASES), frozenset({"closing"}), "startend:end_checker", True, plan="end",
    ),
    Kind(
        "last_word", checks.last_word, lambda a: f'The last word must be "{a["word"]}".', _choice("word", LAST_WORDS),
        frozenset({"closing"}), visible=True, plan="last word",
    ),
    Kind(
        "json_format", checks.json_format, lambda a: "Write the whole answer as one JSON object.", _nothing,
        _WRAP_ALL | {"asterisks", "brackets", "sentences"}, "detectable_format:json_format", plan="JSON",
    ),
)  # fmt: skip

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _KIND_LIST} | {
    kind.ifeval_id: kind for kind in _KIND_LIST if kind.ifeval_id
}
"""Every kind by its name, and by its IFEval id where it has one."""

NAMES = tuple(sorted(kind.name for kind in _KIND_LIST))
__all__ = ["AT_LEAST", "KINDS", "LESS_THAN", "NAMES", "Kind", "compatible", "describe", "draw", "has_content", "obeys"]
