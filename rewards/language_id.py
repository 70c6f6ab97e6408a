"""Which language a text is in: the one home of lingua, with a restricted set of languages.

lingua with all its languages takes about 1.1 GB; the set below takes about 0.3 GB and is loaded once, at the first text
that gets past the cheap tests. Digits, emoji and punctuation are no language: a text needs letters, and letters have to
be most of it, because detectors that count an undecidable text as right were seen to pay for `123!!`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingua import LanguageDetector

LANGUAGES = {
    "ar": "Arabic", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fr": "French", "hi": "Hindi",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese",
    "ru": "Russian", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
"""ISO 639-1 code to English name of every language that a task asks for."""

DENSE = frozenset({"ja", "ko", "zh"})
"""Languages whose characters carry a syllable or a word, so that fewer of them make a sentence."""

MIN_LETTER_SHARE = 0.7
"""Least share of letters (and the marks that belong to them) among the characters that are not white space."""

MIN_HALF_LETTERS = 40
"""From twice this many letters on, either half of a text has to be in the language by itself."""


_NO_WORD = re.compile(r"[A-Za-z]{80}")
"""The detector takes a fifth of a second for one run of 18,000 letters."""


@functools.lru_cache(maxsize=4)
def _detector(codes: tuple[str, ...]) -> LanguageDetector:
    from lingua import IsoCode639_1, Language, LanguageDetectorBuilder

    languages = []
    for code in codes:
        if not has_detector(code):
            raise ValueError(f"language {code!r}: no detector for this code")
        languages.append(Language.from_iso_code_639_1(getattr(IsoCode639_1, code.upper())))
    return LanguageDetectorBuilder.from_languages(*languages).build()


def has_detector(code: str) -> bool:
    """Whether texts of this ISO 639-1 code can be told from others at all; loads no model."""
    from lingua import IsoCode639_1

    return hasattr(IsoCode639_1, code.upper())


def detect(text: str, *, also: str = "") -> str | None:
    """The code of the likeliest of `LANGUAGES` (and of the language `also`), None when nothing speaks for any.

    Raises ValueError for a code that lingua does not know.
    """
    codes = tuple(sorted({*LANGUAGES, also} - {""}))
    found = _detector(codes).detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found is not None else None


def num_letters(text: str) -> int:
    """How many characters are letters of any script."""
    return sum(map(str.isalpha, text))


def letter_share(text: str) -> float:
    """Share of letters among the characters that are not white space; marks such as Hindi vowel signs count as one."""
    visible = "".join(text.split())
    if not visible:
        return 0.0
    marks = 0 if visible.isascii() else sum(unicodedata.category(sign) in ("Mn", "Mc") for sign in visible)
    return (num_letters(visible) + marks) / len(visible)


def language_fault(text: str, code: str, min_letters: int) -> str | None:
    """Why a text is not one in the language `code`, or None when it is.

    The text needs `min_letters` letters and `MIN_LETTER_SHARE` of them. A long text is read in halves, so that one good
    sentence does not carry a text in another language.
    """
    if num_letters(text) < min_letters:
        return f"fewer than {min_letters} letters"
    if letter_share(text) < MIN_LETTER_SHARE:
        return "made of something else than letters"
    if _NO_WORD.search(text):
        return "holds a run of letters that is no word"
    pieces = [text]
    if num_letters(text) >= 2 * (MIN_HALF_LETTERS // (4 if code in DENSE else 1)):
        middle = len(text) // 2
        blank = text.find(" ", middle)
        cut = blank if 0 <= blank < middle + 40 else middle
        pieces = [text[:cut], text[cut:]]
    for piece in pieces:
        found = detect(piece, also=code)
        if found != code:
            return f"language is {found or 'unknown'}, asked for {code}"
    return None
