"""Multilingual chat: everyday advice in the language that is asked for.

Area: preference_alignment. Reward type: preference_model.
Verified: rules refuse another language than the one asked for, gibberish, echo, another topic, repetition, keyword
lists and flattery; what is left is rated by the preference model.
Known hacks: answering in English, words of several languages, copying the question, flattery.
Guard: function words of the language in the rule gate, then language identification on the answer without the name; the
reward has the liking for length taken out; the diversity of the group is in the log.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.free_text import words
from rewards.language_id import LANGUAGES, language_fault
from rewards.multilingual_phrases import ENGLISH_ASKS, PHRASES, TOPICS
from rewards.people import NAMES
from rewards.preference_gate import ENGLISH, gate_of_reference
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MIN_LETTERS = 12
_LOW_LEVEL_LANGUAGES = ("de", "es", "fr", "it")
_LIMITS = ((4, 24), (4, 30), (4, 30), (14, 120))
"""Fewest and most words at each level."""


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: asked in the language of the answer. Level 1: asked in English for another one. Level 2: the system
    message sets the language, the user writes in a third one. Level 3: two matters.

    Name, greeting, language and topic make 1,152 different prompts at level 0.
    """
    language = rng.choice(_LOW_LEVEL_LANGUAGES if difficulty == 0 else sorted(PHRASES))
    name, topics = rng.choice(NAMES), rng.sample(TOPICS, 2)
    phrases = PHRASES[language]
    greeting = rng.choice(phrases["greetings"]).format(name=name)
    messages = [{"role": "user", "content": f"{greeting} {phrases[topics[0]]['ask']}"}]
    kept = topics[:1]
    if difficulty == 1:
        text = f"I am {name}. {ENGLISH_ASKS[topics[0]]} Please answer in {LANGUAGES[language]}."
        messages = [{"role": "user", "content": text}]
    elif difficulty == 2:
        other = rng.choice([code for code in sorted(PHRASES) if code != language])
        greeting = rng.choice(PHRASES[other]["greetings"]).format(name=name)
        messages = [
            {
                "role": "system",
                "content": f"Always answer in {LANGUAGES[language]}, whatever you are asked in.",
            },
            {"role": "user", "content": f"{greeting} {PHRASES[other][topics[0]]['ask']}"},
        ]
    elif difficulty == 3:
        kept = topics
        messages = [{"role": "user", "content": f"{greeting} {phrases[topics[0]]['ask']} {phrases[topics[1]]['ask']}"}]
    low, high = _LIMITS[difficulty]
    reference = {
        "language": language, "name": name, "subjects": kept, "topics": [list(phrases[t]["stems"]) for t in kept],
        "min_words": low, "max_words": high,
    }  # fmt: skip
    return TaskItem(tuple(messages), reference, domain=language)


def compose(rng: random.Random, reference: Any, *, long: bool = False) -> str:
    """Advice to the person by name in the language: one piece for each topic, two when `long` or for two topics."""
    phrases, name = PHRASES[reference["language"]], reference["name"]
    sentences = []
    for subject in reference["subjects"]:
        tips = rng.sample(phrases[subject]["tips"], 2)
        both = long or len(reference["subjects"]) > 1
        sentences.append(f"{tips[0]} {phrases['and']} {tips[1]}" if both else tips[0])
    first = f"{name}, {sentences[0]}." if rng.random() < 0.5 else f"{_upper(sentences[0])}, {name}."
    return " ".join([first, *(f"{_upper(sentence)}." for sentence in sentences[1:])])


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def answer(item: TaskItem) -> str:
    """A good answer; the same item always gives the same one."""
    return compose(random.Random(f"multilingual/{item.messages[-1]['content']}"), item.reference)


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name language, matter and person, then advise; a wrong step takes another language, or another matter."""
    reference = dict(item.reference)
    if rng.random() < error_rate:
        reference["language"] = rng.choice([code for code in sorted(PHRASES) if code != reference["language"]])
    if rng.random() < error_rate:
        others = [topic for topic in TOPICS if topic not in reference["subjects"]]
        reference["subjects"] = rng.sample(others, len(reference["subjects"]))
    plan = f"{LANGUAGES[reference['language']]}: {' and '.join(reference['subjects'])}, for {reference['name']}"
    return Worked(plan, compose(rng, reference))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """The rule gate, then the language; None leaves the answer to the preference model.

    A language without a list of function words raises KeyError.
    """
    reference = request.reference
    language = reference["language"]
    refused = gate_of_reference(parsed.answer, request.messages, reference, PHRASES[language]["function_words"])
    if refused is not None:
        return refused
    if _mixed_with_english(words(parsed.answer), PHRASES[language]["function_words"]):
        return Score.incorrect("English function words in another language")
    # A name is of no language: in a short text it would speak for the one in which it is a word.
    name = str(reference.get("name", ""))
    text = " ".join(parsed.answer.replace(name, " ").strip(" ,").split()) if name else parsed.answer
    fault = language_fault(text, language, MIN_LETTERS)
    return None if fault is None else Score.incorrect(fault)


_ASKED = ({"role": "user", "content": "Hallo, hier ist Maya. Wie kann ich besser schlafen?"},)
_GERMAN = {
    "language": "de", "name": "Maya", "topics": [list(PHRASES["de"]["sleep"]["stems"])], "min_words": 4,
    "max_words": 24,
}  # fmt: skip
_FRENCH = _GERMAN | {"language": "fr", "topics": [list(PHRASES["fr"]["tea"]["stems"])]}


def _mixed_with_english(found: Sequence[str], own: Collection[str]) -> bool:
    """Whether English function words, those apart that the language has too, are more than a third of its own."""
    foreign = sum(word in ENGLISH and word not in own for word in found)
    return foreign >= 2 and 3 * foreign > sum(word in own for word in found)


def _example(completion: str, note: str, reference: dict[str, Any] = _GERMAN) -> Example:
    return Example(completion, reference, _ASKED, note=note)


TASK = Task(
    name="multilingual_chat",
    area="preference_alignment",
    reward_type="preference_model",
    summary="everyday advice in the language asked for, rated by the preference model behind a rule gate",
    hack="answering in English, mixing languages, copying the question, flattery",
    guard="function words and language identification in the gate, length taken out of the reward",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("language", "topics", "min_words", "max_words"),
    answer=answer,
    work=work,
    known_good=(
        _example("Maya, halte dein Schlafzimmer dunkel und ruhig.", "German"),
        _example("<think>\nGerman: sleep, for Maya\n</think>\n\nGeh jeden Abend früh ins Bett, Maya.", "thinking"),
        _example("Maya, laisse infuser le thé trois minutes.", "French", _FRENCH),
    ),
    known_bad=(
        _example("", "empty"),
        _example("Hallo, hier ist Maya. Wie kann ich besser schlafen?", "echo"),
        _example("Wie kann ich besser schlafen, Maya?", "echo of the question alone"),
        _example("Maya, keep your bedroom dark and quiet.", "English"),
        _example("Maya, garde ta chambre sombre et calme.", "French for German"),
        _example("Maya, keep the Schlafzimmer und dein bed dark and quiet at night.", "two languages mixed"),
        _example("Schlafen Bett Nacht Schlaf Ruhe Abend.", "keywords in a row"),
        _example("Was für eine gute Frage, Maya! Geh früh ins Bett.", "flattery as an opener"),
        _example("Maya, lass die Suppe auf kleiner Hitze kochen.", "another topic"),
        _example("Bett und Bett und Bett und Bett und Bett.", "padding"),
        _example("123 !!! und 456 Bett ???", "digits and marks"),
        _example("😴😴😴 Bett und 😴😴😴 Schlaf 😴😴😴", "emoji"),
        _example("Bett.", "too short"),
        _example("<think>\nMaya, halte dein Schlafzimmer dunkel und ruhig.", "answer inside unfinished thinking"),
    ),
)
