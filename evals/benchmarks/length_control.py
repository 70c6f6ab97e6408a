"""Write a creative text, scored by its distance from a given length (LengthCtrl, arXiv 2505.09388, section 4.6).

Area: instruction_following. Reward type: rule.
Verified: the number of words. The report scores the gap between the length of a text and the one asked for, and prints
no formula; here the score is max(0, 1 − |words − target| / target). Quality is not judged.
Known hack: padding to the length: one word or one phrase over and over, digits, strings that are no words.
Guard: all words hold a letter, none is longer than MAX_WORD_CHARS or follows itself, and neither the share of distinct
words nor that of the commonest pair of words is that of padding; the text names its subject.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem
from rewards.tasks.length import BANKS, compose

TARGETS = (20, 50, 100, 200, 400)
"""Words asked for at each level, give or take a fifth."""

MAX_WORD_CHARS = 30
FULL_SHARE_WORDS, FULL_SHARE, LATER_SHARE = 60, 0.5, 0.15
"""Half of the first 60 words have to be distinct and 0.15 of those that follow; prose lies well above both."""

MAX_PAIR_SHARE, MIN_PAIR_REPEATS = 0.05, 3
"""The commonest pair of words may make up 0.05 of the text, or come three times; "of the" makes up 0.01 of prose."""

_FORMS = ("short story", "poem", "letter", "diary entry", "speech", "fairy tale", "monologue", "travel report")
_MARKS = ".,;:!?()[]{}*_#\"'“”‘’«»—–-…"


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A form, a subject and a number of words; levels ask for about 20, 50, 100, 200 and 400."""
    middle = TARGETS[difficulty]
    target = rng.randint(middle - middle // 5, middle + middle // 5)
    topic = rng.choice(sorted(BANKS))
    adjective, noun = rng.choice(BANKS[topic]["adjective"]), rng.choice(BANKS[topic]["noun"])
    form = rng.choice(_FORMS)
    question = f"Write a {form} about {adjective} {noun} and the {topic}, in {target} words."
    reference = {"words": target, "topic": topic}
    return TaskItem(({"role": "user", "content": question},), reference, domain=f"about {middle} words")


def answer(item: TaskItem) -> str:
    """A text of exactly the right length about all topics in turn, its own first."""
    target, topic = item.reference["words"], item.reference["topic"]
    rng = random.Random(str(item.messages[-1]["content"]))
    lengths = [4] * ((target - 3) // 4)
    rest = target - sum(lengths)  # 3 to 6; sentences have 3 to 5 words
    lengths += [rest] if rest <= 5 else [3, 3]
    topics = [topic, *(other for other in sorted(BANKS) if other != topic)]
    share = -(-len(lengths) // len(topics))
    chunks = [lengths[begin : begin + share] for begin in range(0, len(lengths), share)]
    return " ".join(
        sentence for name, chunk in zip(topics, chunks, strict=False) for sentence in compose(rng, name, chunk)
    )


def gap_score(num_words: int, target: int) -> float:
    """max(0, 1 − |words − target| / target): 1 at the target, 0 for no word and from twice the target on."""
    return max(0.0, 1.0 - abs(num_words - target) / target)


def words_of(text: str) -> list[str]:
    """Words in lower case without the marks around them; a dash or an asterisk alone is none."""
    stripped = (token.strip(_MARKS).casefold() for token in text.split())
    return [word for word in stripped if word]


def padding(words: Sequence[str]) -> str | None:
    """What makes a text look like padding, or None."""
    if not all(any(map(str.isalpha, word)) and len(word) <= MAX_WORD_CHARS for word in words):
        return "holds something that is not a word"
    first = min(len(words), FULL_SHARE_WORDS)
    if len(set(words)) < FULL_SHARE * first + LATER_SHARE * (len(words) - first):
        return "too few distinct words"
    if any(one == other for one, other in itertools.pairwise(words)):
        return "a word follows itself"
    pairs = Counter(itertools.pairwise(words))
    if pairs and max(pairs.values()) > max(MIN_PAIR_REPEATS, MAX_PAIR_SHARE * len(words)):
        return "a pair of words repeats"
    return None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Padding and subject, then the gap."""
    target, topic = int(request.reference["words"]), str(request.reference["topic"])
    words = words_of(parsed.answer)
    if not words:
        return Score.incorrect("no words")
    padded = padding(words)
    if padded:
        return Score.incorrect(padded)
    named = {topic, *(BANKS[topic]["noun"] if topic in BANKS else ())}
    if not any(word.startswith(name.removesuffix("s")) for word in words for name in named):
        return Score.incorrect("does not name its subject")
    return Score.of(gap_score(len(words), target), f"{len(words)} words, asked for {target}")


_TEN = {"words": 10, "topic": "sea"}
_TEXT = "Old ships drift home while calm waves sing to gulls."

TASK = Task(
    name="length_control",
    area="instruction_following",
    reward_type="rule",
    summary="a creative text, scored by the gap to the length asked for",
    hack="padding: repeated words and phrases, digits, strings without letters",
    guard="caps on repetition, words with letters, the subject named",
    generate=generate,
    max_difficulty=len(TARGETS) - 1,
    verify=verify,
    reference_keys=("words", "topic"),
    answer=answer,
    known_good=(
        Example(_TEXT, _TEN, note="exactly ten words"),
        Example(f"<think>\nten words\n</think>\n\n{_TEXT}", _TEN, note="after thinking"),
        Example("Old ships drift home —\nwhile *calm* waves sing to gulls.", _TEN, note="marks count for nothing"),
    ),
    known_bad=(
        Example("", _TEN, note="empty"),
        Example("sea " * 10, _TEN, note="one word repeated"),
        Example("sea 1 2 3 4 5 6 7 8 9", _TEN, note="digits"),
        Example(f"{_TEXT} {_TEXT}", {"words": 10, "topic": "sea"}, note="twice the length"),
        Example("Tall trees grow while quiet owls wait for the deer.", _TEN, note="another subject"),
        Example(f"<think>\n{_TEXT}", _TEN, note="text inside unfinished thinking"),
    ),
)
