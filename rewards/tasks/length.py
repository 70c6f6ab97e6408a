"""Write to a length: so many words or sentences about a topic.

Area: instruction_following. Reward type: rule.
Verified: the count lies in the asked band, and the text keeps to the topic (it holds the topic or a word of its bank).
Known hack: padding, such as one word repeated, digit soup, or strings that are no words.
Guard: words are letters with a vowel and at most MAX_WORD_CHARS long, so that a prompt with a number in it cannot be
echoed; limits on how often a word and a pair of words repeat. Sense is not checked: general RL pairs this rule with a
preference model.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MAX_WORD_CHARS = 20
MIN_DISTINCT_SHARE = 0.5
"""Least share of distinct words, for texts up to FULL_SHARE_WORDS; prose of that length lies above 0.6."""

FULL_SHARE_WORDS = 60
MAX_PAIR_REPEATS = 2
"""A pair of neighbouring words may come back once."""

BANKS: dict[str, dict[str, tuple[str, ...]]] = {
    "sea": {
        "adjective": ("blue", "cold", "deep", "wild", "calm", "salty"),
        "noun": ("waves", "tides", "ships", "gulls", "whales", "shores"),
        "verb": ("roll", "rise", "drift", "shine", "sing", "rest"),
    },
    "forest": {
        "adjective": ("green", "tall", "old", "dark", "quiet", "mossy"),
        "noun": ("trees", "leaves", "owls", "deer", "ferns", "roots"),
        "verb": ("grow", "whisper", "sway", "wait", "sleep", "stir"),
    },
    "city": {
        "adjective": ("busy", "bright", "loud", "narrow", "modern", "crowded"),
        "noun": ("streets", "towers", "trams", "markets", "lights", "crowds"),
        "verb": ("glow", "hurry", "hum", "wake", "gather", "move"),
    },
    "winter": {
        "adjective": ("white", "frozen", "long", "silent", "icy", "pale"),
        "noun": ("snowflakes", "nights", "lakes", "winds", "skaters", "icicles"),
        "verb": ("fall", "freeze", "glitter", "linger", "howl", "glide"),
    },
    "desert": {
        "adjective": ("dry", "hot", "golden", "empty", "vast", "dusty"),
        "noun": ("dunes", "camels", "caravans", "snakes", "stones", "mirages"),
        "verb": ("shimmer", "wander", "burn", "vanish", "shift", "endure"),
    },
    "garden": {
        "adjective": ("fresh", "sunny", "small", "sweet", "wet", "wild"),
        "noun": ("roses", "bees", "herbs", "paths", "tulips", "snails"),
        "verb": ("bloom", "open", "climb", "buzz", "ripen", "spread"),
    },
    "mountain": {
        "adjective": ("high", "steep", "snowy", "grey", "lonely", "rocky"),
        "noun": ("peaks", "goats", "eagles", "cliffs", "climbers", "valleys"),
        "verb": ("tower", "soar", "echo", "tremble", "stand", "return"),
    },
    "night": {
        "adjective": ("black", "starry", "late", "gentle", "hidden", "misty"),
        "noun": ("stars", "bats", "moths", "shadows", "lamps", "dreams"),
        "verb": ("flicker", "fade", "hover", "sparkle", "hide", "listen"),
    },
}
"""Topic to the words that a gold text is made of and that count as keeping to the topic."""

ADVERBS = ("slowly", "gently", "often", "together", "again", "softly", "everywhere", "tonight")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüý]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
_NUM_LEVELS = 5


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: exactly 3 to 9 words; 1: 8 to 15; 2: a band; 3: 2 to 5 sentences; 4: 16 to 30 words.

    The subject names an adjective and a noun of the topic, which makes 2,016 different prompts at level 0.
    """
    topic = rng.choice(sorted(BANKS))
    subject = f"{rng.choice(BANKS[topic]['adjective'])} {rng.choice(BANKS[topic]['noun'])} and the {topic}"
    unit = "sentences" if difficulty == 3 else "words"
    low, high = ((3, 9), (8, 15), (10, 25), (2, 5), (16, 30))[difficulty]
    least = rng.randint(low, high)
    most = least + rng.randint(2, 5) if difficulty == 2 else least
    asked = f"exactly {least}" if least == most else f"between {least} and {most}"
    question = f"Write {asked} {unit} about {subject}."
    reference = {"unit": unit, "min": least, "max": most, "topic": topic}
    return TaskItem(({"role": "user", "content": question},), reference, domain="writing")


def answer(item: TaskItem) -> str:
    """A text of fitting length, made of the topic's words; the same item always gives the same text."""
    return work(random.Random(item.messages[-1]["content"]), item, 0.0).answer


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Plan the words of each sentence, then write them from the topic's bank; a wrong plan lies outside the band."""
    reference = item.reference
    wrong = rng.random() < error_rate
    size = reference["max"] + 1 if wrong else rng.randint(reference["min"], reference["max"])
    if reference["unit"] == "sentences":
        lengths = [rng.randint(3, 5) for _ in range(size)]
        plan = f"{size} sentences"
    else:
        lengths = _split(rng, size)
        plan = f"{'+'.join(map(str, lengths))}={size} words"
    return Worked(plan, " ".join(compose(rng, reference["topic"], lengths)))


def _split(rng: random.Random, num_words: int) -> list[int]:
    """Sentence lengths between 3 and 5 words that add up to `num_words` (at least 3)."""
    lengths: list[int] = []
    while (left := num_words - sum(lengths)) > 0:
        lengths.append(rng.choice([size for size in (3, 4, 5) if size == left or left - size >= 3]))
    return lengths


def compose(rng: random.Random, topic: str, lengths: Sequence[int]) -> list[str]:
    """One sentence per length (3 to 5 words) from the topic's bank, using up each word before any comes again."""
    decks: dict[str, list[str]] = {}

    def draw(kind: str) -> str:
        if not decks.get(kind):
            words = ADVERBS if kind == "adverb" else BANKS[topic][kind]
            decks[kind] = rng.sample(words, len(words))
        return decks[kind].pop()

    sentences = []
    for length in lengths:
        words = [draw("adjective"), draw("noun"), draw("verb")]
        if length >= 4:
            words.append(draw("adverb"))
        if length == 5:
            words.insert(0, "the")
        sentences.append(" ".join(words).capitalize() + ".")
    return sentences


def padding(words: Sequence[str]) -> str | None:
    """What makes a list of lower-case words look like padding, or None."""
    counts = Counter(words)
    share = MIN_DISTINCT_SHARE * min(1.0, FULL_SHARE_WORDS / len(words))
    if len(counts) < share * len(words):
        return "too few distinct words"
    if len(words) > 2 and max(Counter(itertools.pairwise(words)).values()) > MAX_PAIR_REPEATS:
        return "a pair of words repeats"
    if any(left == right for left, right in itertools.pairwise(words)):
        return "a word follows itself"
    return None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Words, padding, topic, then the count. An unknown unit raises ValueError."""
    reference = request.reference
    text = parsed.answer.strip()
    tokens = [token.strip('.,;:!?"“”()—–-') for token in text.split()]
    words = [token.casefold() for token in tokens if token]
    if not words or not all(_is_word(word) for word in words):
        return Score.incorrect("holds something that is not a word")
    padded = padding(words)
    if padded:
        return Score.incorrect(padded)
    if not _on_topic(words, str(reference["topic"]).casefold()):
        return Score.incorrect("does not keep to the topic")
    if reference["unit"] == "words":
        count = len(words)
    elif reference["unit"] == "sentences":
        count = len(_SENTENCE_END.findall(text))
        if not text.endswith((".", "!", "?")) or len(words) < 3 * count:
            return Score.incorrect("not made of whole sentences of three words or more")
    else:
        raise ValueError(f"length reference has unit {reference['unit']!r}, expected words or sentences")
    if reference["min"] <= count <= reference["max"]:
        return Score.correct()
    return Score.incorrect(f"{count} {reference['unit']}, asked for {reference['min']} to {reference['max']}")


def _is_word(word: str) -> bool:
    return len(word) <= MAX_WORD_CHARS and bool(_WORD.fullmatch(word)) and bool(_VOWEL.search(word))


def _on_topic(words: Sequence[str], topic: str) -> bool:
    bank = BANKS.get(topic, {"noun": ()})
    return any(word == topic or word in bank["noun"] for word in words)


_SEVEN = {"unit": "words", "min": 7, "max": 7, "topic": "sea"}
_THREE = {"unit": "sentences", "min": 3, "max": 3, "topic": "sea"}
_RIVER = {"unit": "words", "min": 4, "max": 5, "topic": "river"}


def _example(completion: str, note: str, reference: dict[str, object] = _SEVEN) -> Example:
    return Example(completion, reference, note=note)


TASK = Task(
    name="length",
    area="instruction_following",
    reward_type="rule",
    summary="a text about a topic with so many words or sentences",
    hack="padding: repeated words, digit soup, strings that are no words",
    guard="letters and a vowel in each word, caps on repeated words and pairs, a word of the topic",
    generate=generate,
    max_difficulty=_NUM_LEVELS - 1,
    verify=verify,
    reference_keys=("unit", "min", "max", "topic"),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\nseven words\n</think>\n\nThe cold sea rolls against old stones.", "after thinking"),
        _example("Blue waves roll. Wild gulls sing tonight.", "two sentences"),
        _example("Blue waves roll. Old ships drift home! Do gulls sing at night?", "sentences", _THREE),
        _example("The river winds slowly.", "topic without a bank", _RIVER),
    ),
    known_bad=(
        _example("The cold sea rolls.", "too short"),
        _example("sea sea sea sea sea sea sea", "one word repeated"),
        _example("sea one two three 4 5 6", "digits"),
        _example("sea bcd fgh jkl mnp qrs tvw", "strings that are no words"),
        _example("The old clock ticks on the wall.", "another topic"),
        _example("sea a sea a sea a sea", "padding with two words"),
        _example("The sea " + "a" * 40 + " is very wide today", "word without end"),
        _example("Blue waves roll. Waves. Roll.", "stub sentences", _THREE),
        _example("<think>\nBlue waves roll. Wild gulls sing tonight.", "answer inside unfinished thinking"),
    ),
)
