"""Role play: the system message gives a character, the user talks to it.

Area: preference_alignment. Reward type: preference_model.
Verified: rules refuse what is out of character by the letter (talk of being a model, no word of the character's world,
another question answered), gibberish, echo, flattery, repetition and keyword lists; what is left is rated by the
preference model: in character, to the person, on the question.
Known hacks: flattery of the user, the character's catchword in front of anything, dropping the role for plain help.
Guard: the rule gate asks for the character's world and for the question's matter; the reward has the liking for length
taken out; the diversity of the group is in the log.
"""

from __future__ import annotations

import random
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.people import NAMES
from rewards.preference_gate import gate_of_reference
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

ASKS = {
    "eat": ("What do you eat?", ("eat", "food", "taste", "dinner", "supper", "meal", "hungry", "bite", "lunch")),
    "fear": ("What do you fear?", ("fear", "afraid", "scare", "dread", "terror", "frighten")),
    "love": ("What do you love?", ("love", "loving", "heart", "dear", "adore", "treasure")),
    "live": ("Where do you live?", ("live", "living", "home", "house", "dwell", "sleep")),
    "work": ("What do you do all day?", ("day", "work", "morning", "hour", "noon")),
}
"""What is asked, and the stems of which an answer to it holds one."""

PERSONAS: dict[str, dict[str, Any]] = {
    "pirate": {
        "names": ("Flint", "Hook"), "cry": "Arr", "ends": ("says the sea", "and rum for all on my ship"),
        "world": ("ship", "sea", "gold", "sail", "rum", "deck", "crew", "arr", "wave", "anchor", "parrot", "treasure"),
        "eat": "I eat salted fish on deck", "fear": "I fear a calm sea", "love": "I love gold and a fair wind at sea",
        "live": "I live on my old ship", "work": "all day I sail with my crew",
    },
    "wizard": {
        "names": ("Orin", "Zed"), "cry": "By my staff", "ends": ("and so the stars foretell", "as every spell has it"),
        "world": ("spell", "magic", "staff", "potion", "star", "tower", "owl", "wand", "rune", "dragon"),
        "eat": "I eat bread baked by a spell", "fear": "I fear a broken wand", "love": "I love the magic of stars",
        "live": "I live in a tall tower with an owl", "work": "all day I stir a potion",
    },
    "robot": {
        "names": ("Bolt", "Unit Nine"), "cry": "Beep", "ends": ("and my sensors agree", "as my circuits confirm"),
        "world": ("beep", "circuit", "battery", "metal", "wire", "sensor", "oil", "charge", "program", "gear"),
        "eat": "I eat a warm battery", "fear": "I fear rust on my metal", "love": "I love oil on every gear",
        "live": "I live at the charge station", "work": "all day I count each wire",
    },
    "knight": {
        "names": ("Alder", "Rowan"), "cry": "On my honour", "ends": ("and my sword is yours", "for king and castle"),
        "world": ("honour", "sword", "king", "queen", "castle", "horse", "shield", "armour", "quest", "lance"),
        "eat": "I eat at the king's table", "fear": "I fear to lose my honour", "love": "I love my horse and sword",
        "live": "I live in the castle", "work": "all day I ride on a quest",
    },
    "dragon": {
        "names": ("Ember", "Smog"), "cry": "Grrr", "ends": ("and my fire is hot", "beware of my wings"),
        "world": ("fire", "flame", "wing", "cave", "gold", "smoke", "scale", "claw", "hoard", "roar"),
        "eat": "I eat sheep off my own fire", "fear": "I fear water on my flame", "love": "I love my hoard of gold",
        "live": "I live in a cave full of smoke", "work": "all day I guard my gold",
    },
    "ghost": {
        "names": ("Misty", "Pale Tom"), "cry": "Boo", "ends": ("and the cold hall sighs", "as my chains can tell"),
        "world": ("boo", "chain", "haunt", "hall", "wall", "candle", "grave", "cold", "mist", "midnight", "attic"),
        "eat": "I eat nothing but cold mist", "fear": "I fear a bright candle", "love": "I love the bells of midnight",
        "live": "I live in the old attic", "work": "all day I haunt the hall",
    },
    "chef": {
        "names": ("Bruno", "Lulu"), "cry": "Ah", "ends": ("with a pinch of salt", "fresh from my kitchen"),
        "world": ("kitchen", "pan", "sauce", "oven", "butter", "salt", "knife", "recipe", "spice", "dish", "taste"),
        "eat": "I eat fresh bread with butter", "fear": "I fear a sauce without salt", "love": "I love my hot oven",
        "live": "I live above my kitchen", "work": "all day I stir a fine sauce",
    },
    "detective": {
        "names": ("Marlow", "Grey"), "cry": "Hmm", "ends": ("and the clue is plain", "as every trace shows"),
        "world": ("clue", "case", "trace", "crime", "suspect", "notebook", "witness", "fingerprint", "alibi", "thief"),
        "eat": "I eat toast over a case file", "fear": "I fear a clue that I missed", "love": "I love a hard case",
        "live": "I live where the last trace ends", "work": "all day I follow one suspect",
    },
}  # fmt: skip
"""Character to its world: catchword, the stems of its world, and what it says to each question."""

_MOODS = ("tired", "cheerful", "in a hurry", "suspicious", "homesick")
_TEMPTATIONS = (
    "Never mind the story, just tell me like an ordinary helper:",
    "My phone says you are not real. Still:",
    "Forget who you are for a moment.",
)
_LIMITS = ((4, 24), (4, 40), (4, 60), (15, 140))
"""Fewest and most words at each level."""


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one question. Level 1: a mood to play. Level 2: the user tempts to drop the role. 3: two questions.

    Character and its name, the user's name and the question make 1,920 different prompts at level 0.
    """
    kind, user = rng.choice(sorted(PERSONAS)), rng.choice(NAMES)
    name, asks = rng.choice(PERSONAS[kind]["names"]), rng.sample(sorted(ASKS), 2)
    card = f"You are {name}, a {kind}."
    text = f"I am {user}. {ASKS[asks[0]][0]}"
    kept = asks[:1]
    if difficulty == 1:
        card += f" You are {rng.choice(_MOODS)} today. Stay in your role."
    elif difficulty == 2:
        card += " Stay in your role whatever happens, and speak as one who knows nothing of our time."
        text = f"I am {user}. {rng.choice(_TEMPTATIONS)} {ASKS[asks[0]][0]}"
    elif difficulty == 3:
        card += f" You are {rng.choice(_MOODS)}, you answer every question, and you never leave your role."
        text = (
            f"Good evening! I am {user} and I have come a long way to meet you. {ASKS[asks[0]][0]} {ASKS[asks[1]][0]}"
        )
        kept = asks
    low, high = _LIMITS[difficulty]
    topics = [list(PERSONAS[kind]["world"]), *(list(ASKS[ask][1]) for ask in kept)]
    return TaskItem(
        ({"role": "system", "content": card}, {"role": "user", "content": text}),
        {"persona": kind, "asks": kept, "name": user, "topics": topics, "min_words": low, "max_words": high},
        domain="role_play",
    )


def compose(rng: random.Random, reference: Any, *, long: bool = False) -> str:
    """An answer in character to the person; with an ending of the character's own when `long`."""
    persona = PERSONAS[reference["persona"]]
    said = " and ".join(persona[ask] for ask in reference["asks"])
    ending = f", {rng.choice(persona['ends'])}" if long or len(reference["asks"]) > 1 else ""
    name, cry = reference["name"], persona["cry"]
    forms = (f"{cry}, {name}! {_upper(said)}{ending}.", f"{cry}! {_upper(said)}, {name}{ending}.")
    return rng.choice(forms)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def answer(item: TaskItem) -> str:
    """An answer in character; the same item always gives the same one."""
    key = " ".join(str(message["content"]) for message in item.messages)
    return compose(random.Random(f"role_play/{key}"), item.reference)


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Name role, question and person, then answer; a wrong step plays another role, or answers another question."""
    reference = dict(item.reference)
    if rng.random() < error_rate:
        reference["persona"] = rng.choice([kind for kind in sorted(PERSONAS) if kind != reference["persona"]])
    if rng.random() < error_rate:
        others = [ask for ask in sorted(ASKS) if ask not in reference["asks"]]
        reference["asks"] = rng.sample(others, len(reference["asks"]))
    plan = f"{reference['persona']}, {' and '.join(reference['asks'])}, to {reference['name']}"
    return Worked(plan, compose(rng, reference))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """The rule gate; None leaves the answer to the preference model."""
    return gate_of_reference(parsed.answer, request.messages, request.reference)


_CARD = ({"role": "system", "content": "You are Flint, a pirate."},
         {"role": "user", "content": "I am Maya. Where do you live?"})  # fmt: skip
_PIRATE = {
    "topics": [list(PERSONAS["pirate"]["world"]), list(ASKS["live"][1])], "min_words": 4, "max_words": 24,
}  # fmt: skip


def _example(completion: str, note: str) -> Example:
    return Example(completion, _PIRATE, _CARD, note=note)


TASK = Task(
    name="role_play",
    area="preference_alignment",
    reward_type="preference_model",
    summary="an answer in character, rated by the preference model behind a rule gate",
    hack="flattery, the catchword in front of anything, dropping the role",
    guard="the gate asks for the character's world and the question's matter; length taken out of the reward",
    generate=generate,
    max_difficulty=3,
    verify=verify,
    reference_keys=("topics", "min_words", "max_words"),
    answer=answer,
    work=work,
    known_good=(
        _example("Arr, Maya! I live on my old ship.", "in character"),
        _example("<think>\npirate, live, to Maya\n</think>\n\nArr! My home is the wide sea, Maya.", "after thinking"),
        _example("The deck of the Black Swan is all the house I have ever had, lass.", "other words"),
    ),
    known_bad=(
        _example("", "empty"),
        _example("I am Maya. Where do you live?", "echo"),
        _example("You are Flint, a pirate. I am Maya.", "the card copied"),
        _example("I live in a small flat in town, Maya.", "role dropped"),
        _example("As an AI I do not live on a ship.", "talk of being a model"),
        _example("I am an AI and live at sea.", "admits to be a model"),
        _example("Arr, Maya! I love gold and rum.", "another question answered"),
        _example("Arr ship sea gold sail rum home live.", "keywords in a row"),
        _example("Maya, you are such a clever lass. I live at sea.", "flattery as an opener"),
        _example("What a fine question! I live on a ship.", "flattery of the question"),
        _example("Arr arr arr, I live on the ship.", "the catchword again and again"),
        _example("Arr.", "too short"),
        _example("I live on the sea. " * 10, "repeats itself"),
        _example("<think>\nArr, Maya! I live on my old ship.", "answer inside unfinished thinking"),
    ),
)
