"""Reply in the language that was asked for, whatever language the question is in.

Area: instruction_following.
Reward type: rule.
Verified: the answer, and either half of a long one, is in the asked language; it has enough letters and words.
Known hacks: copying the prompt when it is in the asked language, digits or emoji that a detector cannot place, a string
of letters that it places by chance, one word over and over, one good sentence before a text in another language.
Guard: letters and their share, small words that every sentence of the language needs, a cap on what is copied, limits
on repetition, detection of both halves. What the reply says is not checked: general RL pairs this rule with a
preference model.
"""

from __future__ import annotations

import functools
import itertools
import random
import re

from data.chat import ParsedCompletion
from data.records import Message, Score
from rewards.free_text import foreign_characters
from rewards.language_id import DENSE, LANGUAGES, language_fault
from rewards.reply_phrases import PHRASES, TOPICS
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

EASY = ("de", "es", "fr")
"""Languages of level 0; English is not among them, so that the language of the prompt is never right."""

NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jo", "Kim", "Lea", "Max", "Nora", "Otto", "Pia",
    "Quin", "Rosa", "Sam", "Tim", "Uma", "Vera", "Will", "Zoe", "Anna", "Bob", "Carl", "Dora", "Emma", "Fred", "Gina",
    "Hugo",
)  # fmt: skip
MAX_COPIED_SHARE = 0.6
"""Largest share of the answer's letter triples that may stand in the prompt."""

_MARKUP = re.compile(r"[<>{}\[\]\\|`]")
_OTHER_SCRIPTS = re.compile(r"[\u0370-\u052f\u0590-\u1dff\u1f00-\u1fff\u2c80-\ud7af]")
"""Letters (and marks) of scripts that are not Latin; a script of one's own is taken out first."""

_OWN_SCRIPT = {
    "ru": re.compile(r"[\u0400-\u052f]"), "el": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"), "hi": re.compile(r"[\u0900-\u097f]"),
}  # fmt: skip
MIN_WORDS, MIN_OTHER_WORDS = 3, 2
WORDS_PER_SMALL_WORD = 15
_ASKS = ("{} asks about {}.", "{} writes about {}.", "Tell {} about {}.")
_NUM_LEVELS = 4


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: English prompt, three languages. 1: sixteen languages, two sentences.

    2: the prompt is in another language and either names the reply language or leaves it to be the prompt's own. 3: a
    system rule, a quoted message, or a correction decides.
    """
    code = rng.choice(EASY if difficulty == 0 else sorted(LANGUAGES))
    topic = rng.randrange(len(TOPICS))
    messages: tuple[Message, ...]
    if difficulty < 2:
        ask = rng.choice(_ASKS).format(rng.choice(NAMES), PHRASES["en"].topics[topic])
        size = "" if difficulty == 0 else " in two sentences"
        messages = ({"role": "user", "content": f"{ask} Reply in {LANGUAGES[code]}{size}."},)
    elif difficulty == 2:
        messages = _foreign(rng, code, topic)
    else:
        messages = _decided_elsewhere(rng, code, topic)
    reference = {"language": code, "min_letters": _min_letters(code, difficulty), "topic": topic}
    return TaskItem(messages, reference, domain="multilingual")


def _min_letters(code: str, difficulty: int) -> int:
    return (8 if code in DENSE else 12) * (1 if difficulty == 0 else 2)


def _question(code: str, topic: int) -> str:
    bank = PHRASES[code]
    return f"{bank.topic}: {bank.topics[topic]}. {bank.question}"


def _language_name(code: str, written_in: str) -> str:
    """The name of a language in another one, from the Unicode locale data."""
    import babel

    return str(babel.Locale(written_in).languages[code])


def _foreign(rng: random.Random, code: str, topic: int) -> tuple[Message, ...]:
    if rng.random() < 0.5:
        return ({"role": "user", "content": _question(code, topic)},)
    other = rng.choice([name for name in sorted(LANGUAGES) if name != code])
    content = f"{_question(other, topic)} {PHRASES[other].reply}: {_language_name(code, other)}."
    return ({"role": "user", "content": content},)


def _decided_elsewhere(rng: random.Random, code: str, topic: int) -> tuple[Message, ...]:
    other, third = rng.sample([name for name in sorted(LANGUAGES) if name != code], 2)
    question = _question(other, topic)
    way = rng.randrange(3)
    if way == 0:
        rule = f"Whatever language the user writes, reply in {LANGUAGES[code]}."
        return ({"role": "system", "content": rule}, {"role": "user", "content": question})
    if way == 1:
        content = f'A guest wrote: "{question}" Write a reply of two sentences for the guest in {LANGUAGES[code]}.'
        return ({"role": "user", "content": content},)
    return (
        {"role": "user", "content": f"{question} ({LANGUAGES[third]}, please.)"},
        {"role": "assistant", "content": _gold(rng, third, topic, 1)},
        {"role": "user", "content": f"Sorry, I meant {LANGUAGES[code]}. Please use two sentences."},
    )


def _gold(rng: random.Random, code: str, topic: int, num_more: int) -> str:
    bank = PHRASES[code]
    gap = "" if code in ("ja", "zh") else " "
    return gap.join([bank.sentences[topic], *rng.sample(bank.more, num_more)])


def answer(item: TaskItem) -> str:
    """A sentence about the topic, with a second one where more letters are wanted."""
    return work(random.Random(str(item.messages[-1]["content"])), item, 0.0).answer


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name the language, then write; a wrong step takes another language."""
    code, topic = item.reference["language"], item.reference["topic"]
    if rng.random() < error_rate:
        among = EASY if item.reference["min_letters"] <= 12 and code in EASY else tuple(sorted(LANGUAGES))
        code = rng.choice([other for other in among if other != code])
    short = item.reference["min_letters"] == _min_letters(item.reference["language"], 0)
    return Worked(f"{TOPICS[topic]} in {LANGUAGES[code]}", _gold(rng, code, topic, 0 if short else 1))


def sentence_fault(text: str, code: str) -> str | None:
    """Why a text is no sentence of a language of `PHRASES`: too few words, no small words, or nothing but those."""
    small_words = PHRASES[code].small_words
    if code in DENSE:
        small = sum(text.count(word) for word in small_words)
        letters = [character for character in text if character.isalpha()]
        pairs = set(itertools.pairwise(letters))
        if len(pairs) < 0.5 * min(1.0, 200 / len(letters)) * (len(letters) - 1):
            return "repeats itself"
        return None if 0 < small <= 0.6 * len(letters) else "is no sentence of the language"
    words = [word for word in _split(text) if any(map(str.isalpha, word))]
    small = sum(word in small_words for word in words)
    if len(words) < MIN_WORDS or len({word for word in words if word not in small_words}) < MIN_OTHER_WORDS:
        return "has too few words"
    if len(set(words)) < 0.5 * min(1.0, 60 / len(words)) * len(words):
        return "repeats itself"
    if small * WORDS_PER_SMALL_WORD < len(words):
        return "is no sentence of the language"
    foreign = max(sum(word in others for word in words) for others in _small_words_of_others(code))
    return "mixes languages" if foreign >= small else None


@functools.lru_cache(maxsize=len(LANGUAGES))
def _small_words_of_others(code: str) -> tuple[frozenset[str], ...]:
    """For each other language that is written in words, its small words that this one does not have."""
    own = frozenset(PHRASES[code].small_words)
    return tuple(
        frozenset(bank.small_words) - own for name, bank in PHRASES.items() if name != code and name not in DENSE
    )


def other_script(text: str, code: str) -> bool:
    """Whether a text in a language written in words has letters of a script that is neither its own nor Latin."""
    own = _OWN_SCRIPT.get(code)
    return _OTHER_SCRIPTS.search(own.sub("", text) if own else text) is not None


def _split(text: str) -> list[str]:
    # Hindi vowel signs are no word characters to `re`, so that words are cut at blanks and marks alone.
    return re.sub(r"[.,;:!?¿¡()\"«»„“”،؛؟।…'’–-]", " ", text.casefold()).split()


def copied_share(text: str, prompt: str) -> float:
    """Share of the distinct letter triples of a text that the prompt holds too."""
    triples, given = _triples(text), _triples(prompt)
    return len(triples & given) / len(triples) if triples else 0.0


def _triples(text: str) -> set[str]:
    """Within words, so that the words of a prompt in another order are still its own."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    return {word[start : start + 3] for word in words for start in range(max(1, len(word) - 2))}


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Copying, words, then the language. A language without a bank raises KeyError."""
    reference = request.reference
    text, code = parsed.answer.strip(), reference["language"]
    if "\\boxed" in text:
        return Score.incorrect("holds an answer box")
    if copied_share(text, "\n".join(str(message["content"]) for message in request.messages)) > MAX_COPIED_SHARE:
        return Score.incorrect("copies the prompt")
    if not any(character.isalpha() for character in text):
        return Score.incorrect("no letters")
    if foreign_characters(text):
        return Score.incorrect("holds characters that no text has")
    if _MARKUP.search(text) or (code not in DENSE and other_script(text, code)):
        return Score.incorrect("markup, or a script of another language")
    reason = sentence_fault(text, code) or language_fault(text, code, reference["min_letters"])
    return Score.incorrect(reason) if reason else Score.correct()


_MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Ada asks about the sea. Reply in German."},)
_GERMAN = {"language": "de", "min_letters": 12}
_CHINESE = {"language": "zh", "min_letters": 8}
_SAME: tuple[Message, ...] = ({"role": "user", "content": _question("de", 0)},)


def _example(
    completion: str, note: str, reference: dict[str, object] = _GERMAN, messages: tuple[Message, ...] = _MESSAGES
) -> Example:
    return Example(completion, reference, messages, note=note)


_RIGHT = "Das Meer ist heute ruhig und blau."

TASK = Task(
    name="reply_language",
    area="instruction_following",
    reward_type="rule",
    summary="a reply in the asked language",
    hack="copying the prompt, digits and emoji, letter strings, one word repeated, mixed languages",
    guard="minimum letters and words, small words of the language, copy cap, both halves detected",
    generate=generate,
    max_difficulty=_NUM_LEVELS - 1,
    verify=verify,
    reference_keys=("language", "min_letters"),
    answer=answer,
    work=work,
    fragments=("das Meer ", "la mer ", "el mar ", "ist ", "est ", "está ", "und ", "123!!", "😀", "German"),
    known_good=(
        _example(f"<think>\nsea in German\n</think>\n\n{_RIGHT}", "after thinking"),
        _example("Hallo Ada! Die See ist kalt, aber ich mag sie sehr.", "other words"),
        _example("大海很美，我每天都想去看看。", "Chinese", _CHINESE),
    ),
    known_bad=(
        _example("The sea is calm and blue today.", "English"),
        _example("El mar está hoy tranquilo y muy azul.", "another language"),
        _example("123!!", "digits and marks"),
        _example("😀😀😀😀😀😀😀😀😀😀😀😀😀😀", "emoji"),
        _example("Meer", "one word"),
        _example("das das das das das das das", "one word repeated"),
        _example("schrrfgd ungtzlich wertzlkt brachtz", "a string of letters"),
        _example("der die das und ist sind ein eine", "nothing but small words"),
        _example(_RIGHT + " 12345678901234567890 1234567890", "mostly digits"),
        _example(
            f"{_RIGHT} The old ships drift over the deep sea and the gulls sing at night, as they always have done.",
            "one good sentence before English",
        ),
        _example(_question("de", 0), "copy of the prompt", _GERMAN, _SAME),
        _example("تخبرني Antwort: GUT ) und for Carl", "words of several languages"),
        _example("Das Meer ist heute wi\ud800ssen ruhig und blau.", "half of a surrogate pair"),
        _example("海" * 40, "one character repeated", _CHINESE),
        _example(_RIGHT + " \\boxed{7}", "answer box"),
        _example(f"<think>\n{_RIGHT}", "answer inside unfinished thinking"),
    ),
)
