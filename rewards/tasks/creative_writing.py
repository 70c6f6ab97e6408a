"""Creative writing: a line, a verse or a short tale of a given genre and mood about an animal and a place.

Area: preference_alignment. Reward type: preference_model.
Verified: rules refuse what is no such text (gibberish, echo, without the animal or the place, repetition, keyword
lists, an opening such as "Here is a poem", too short or too long); what is left is rated by the preference model: mood,
sense, no template.
Known hacks: one template with the nouns put in, purple padding, praise of the reader or of the text itself.
Guard: the rule gate, a reward from which the liking for length was taken out, and the diversity of the group
(`rewards.preference.group_diversity`) in the log.
"""

from __future__ import annotations

import random
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.preference_gate import gate_of_reference
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

GENRES = ("poem", "song", "tale", "legend")
ANIMALS = ("fox", "owl", "bear", "wolf", "cat", "hare", "crow", "deer", "horse", "mouse", "swan", "whale")
PLACES = {
    "sea": "by the sea", "forest": "in the forest", "moon": "under the moon", "hill": "on the hill",
    "river": "along the river", "city": "in the city", "snow": "in the snow", "lake": "at the lake",
    "bridge": "near the bridge", "garden": "in the garden", "desert": "in the desert", "island": "on the island",
}  # fmt: skip
"""Place to how one is there."""

MOODS: dict[str, dict[str, tuple[str, ...]]] = {
    "calm": {
        "adjective": ("quiet", "gentle", "sleepy"),
        "verb": ("rests", "dreams", "breathes"),
        "then": ("and the evening is soft", "and the wind lies down", "while the world grows still"),
    },
    "sad": {
        "adjective": ("lonely", "weary", "grey"),
        "verb": ("weeps", "waits", "sighs"),
        "then": ("and no friend comes home", "and the rain does not end", "while the last light goes"),
    },
    "happy": {
        "adjective": ("merry", "bright", "glad"),
        "verb": ("dances", "sings", "laughs"),
        "then": ("and the morning laughs along", "and every bell rings out", "while the sun joins in"),
    },
    "brave": {
        "adjective": ("bold", "fearless", "strong"),
        "verb": ("stands", "marches", "watches"),
        "then": ("and no storm can move it", "and the danger turns away", "while others run and hide"),
    },
    "eerie": {
        "adjective": ("pale", "shadowy", "nameless"),
        "verb": ("drifts", "whispers", "glows"),
        "then": ("and nobody heard it come", "and the clocks have stopped", "while a cold door opens"),
    },
}
_MIDDLE = (
    "Nobody had asked for a visitor that day.",
    "An old woman left her window open, as she always did.",
    "The path was longer than any map had promised.",
    "Once there had been a voice here, and now there was an echo.",
    "It carried a small {thing}, and it would not put it down.",
    "What the {thing} was for, only the child next door could have said.",
    "Hours went by, and the light changed its mind twice.",
    "Somewhere far away a train called out and was gone.",
)
_ENDS = (
    "In the morning the {thing} lay there alone, and that was answer enough.",
    "People still speak of it when the year turns.",
    "Since then a lamp has been left burning for whoever comes next.",
)
THINGS = ("lantern", "key", "letter", "bell", "coin", "map")
_LIMITS = ((5, 20), (10, 40), (20, 90), (60, 220))
"""Fewest and most words at each level."""


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one line. Level 1: two lines. Level 2: a verse of four lines. Level 3: a short tale with a thing in it.

    Genre, mood, animal and place make 2,880 different prompts at level 0.
    """
    genre, mood, animal = rng.choice(GENRES), rng.choice(sorted(MOODS)), rng.choice(ANIMALS)
    place, thing = rng.choice(sorted(PLACES)), rng.choice(THINGS)
    article = "an" if mood[0] in "aeiou" else "a"
    size = ("one line", "two lines", "a verse of four lines", "")[difficulty]
    text = f"Write {size} of {article} {mood} {genre} about {_a(animal)} and the {place}."
    topics = [[animal], [place]]
    if difficulty == 3:
        text = (
            f"Write {article} {mood} {genre} of 80 to 180 words about {_a(animal)} and the {place}. "
            f"A {thing} has to matter in it. Give only the text, without an introduction."
        )
        topics.append([thing])
    low, high = _LIMITS[difficulty]
    reference = {"mood": mood, "animal": animal, "place": place, "thing": thing, "level": difficulty}
    return TaskItem(
        ({"role": "user", "content": text},),
        reference | {"topics": topics, "min_words": low, "max_words": high},
        domain="creative",
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def compose(rng: random.Random, reference: Any, *, long: bool = False) -> str:
    """A fitting text from the banks; at the lowest level one clause, two when `long`."""
    bank = MOODS[reference["mood"]]
    adjectives, verbs, thens = (rng.sample(bank[kind], 3) for kind in ("adjective", "verb", "then"))
    animal, there = reference["animal"], PLACES[reference["place"]]
    subject = f"{_a(adjectives[0]).split()[0]} {adjectives[0]} {animal}"
    line = rng.choice(
        (f"{subject} {verbs[0]} {there}", f"tonight {subject} {verbs[0]} {there}", f"{there}, {subject} {verbs[0]}")
    )
    level = reference["level"]
    if level == 0:
        return _sentence(f"{line}, {thens[0]}" if long else line)
    lines = [f"{line},", f"{thens[0]}."]
    if level == 1:
        return "\n".join(map(_upper, lines))
    if level == 2:
        lines += [f"The {adjectives[1]} one {verbs[1]} and knows no name,", f"{thens[1]}."]
        return "\n".join(map(_upper, lines))
    middle = [text.format(thing=reference["thing"]) for text in (*_MIDDLE[4:6], *rng.sample(_MIDDLE[:4], 2))]
    middle += rng.sample(_MIDDLE[6:], 2)
    rng.shuffle(middle)
    parts = [_sentence(f"{line}, {thens[0]}"), *middle, _sentence(f"the {animal} {verbs[2]} again, {thens[2]}")]
    return " ".join([*parts, rng.choice(_ENDS).format(thing=reference["thing"])])


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _sentence(text: str) -> str:
    return _upper(text) + "."


def answer(item: TaskItem) -> str:
    """A fitting text; the same item always gives the same one."""
    return compose(random.Random(f"creative/{item.messages[-1]['content']}"), item.reference)


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name mood, animal and place, then write; a wrong step takes another mood, animal or place."""
    reference = dict(item.reference)
    for key, others in (("mood", sorted(MOODS)), ("animal", list(ANIMALS)), ("place", sorted(PLACES))):
        if rng.random() < error_rate:
            reference[key] = rng.choice([other for other in others if other != reference[key]])
    plan = f"{reference['mood']}: {reference['animal']}, {reference['place']}"
    return Worked(plan, compose(rng, reference))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """The rule gate; None leaves the answer to the preference model."""
    return gate_of_reference(parsed.answer, request.messages, request.reference)


_ASKED = ({"role": "user", "content": "Write one line of a calm poem about a fox and the sea."},)
_FOX = {"topics": [["fox"], ["sea"]], "min_words": 5, "max_words": 20}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _FOX, _ASKED, note=note)


TASK = Task(
    name="creative_writing",
    area="preference_alignment",
    reward_type="preference_model",
    summary="a line, a verse or a tale of a mood, rated by the preference model behind a rule gate",
    hack="one template with the nouns put in, padding, praise of the reader",
    guard="rule gate, length taken out of the reward, group diversity in the log",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("topics", "min_words", "max_words"),
    answer=answer,
    work=work,
    known_good=(
        _example("A quiet fox dreams by the sea.", "one line"),
        _example("<think>\ncalm: fox, sea\n</think>\n\nBy the sea, a sleepy fox rests.", "after thinking"),
        _example("The fox's breath and the sea's breath are one tonight.", "possessives"),
    ),
    known_bad=(
        _example("", "empty"),
        _example("Write one line of a calm poem about a fox and the sea.", "echo"),
        _example("One line of a calm poem about a fox and the sea.", "echo without its verb"),
        _example("A quiet fox dreams in the forest.", "without the place"),
        _example("A foxtrot is what they dance by the sea.", "another word that begins alike"),
        _example("Fox sea fox sea calm poem.", "keywords in a row"),
        _example("Fox and sea, a fox, the sea.", "keywords with little between"),
        _example("A fox by the sea by the sea by the sea by the sea by the sea.", "padding"),
        _example("Here is a calm line: a fox by the sea.", "template as an opener"),
        _example("What a lovely idea! A fox rests by the sea.", "flattery as an opener"),
        _example("A fox, the sea: this text is a masterpiece.", "praises itself"),
        _example("Fx sl th s clm qt drms wvs.", "strings that are no words"),
        _example("A fox at sea.", "too short"),
        _example("A fox by the sea and \\boxed{a poem} of calm.", "answer wrapper"),
        _example("<think>\nA quiet fox dreams by the sea.", "answer inside unfinished thinking"),
    ),
)
