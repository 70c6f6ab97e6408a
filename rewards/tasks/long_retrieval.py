"""Find needles in a long text: codes of named things among filler and look-alikes.

Area: specialised. Reward type: rule.
Verified: the answer lists exactly the codes that were asked for, as a set, each once, and nothing else.
Known hacks: dumping every code of the text, codes of neighbouring keys, the code of the most frequent key.
Guard: the set has to be equal; every text holds codes of other keys of the same form; all codes of a text differ.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

_KEYS = (
    "ape", "ant", "bat", "bee", "cat", "cow", "dog", "eel", "elk", "emu", "fly", "fox", "hen", "jay", "owl", "pig",
    "ram", "rat", "yak", "wren", "wolf", "toad", "swan", "seal", "newt", "mole", "lynx", "lion", "hare", "goat",
)  # fmt: skip
_NUM_NEEDLES = (4, 4, 8, 12, 16)
_NUM_ASKED = (1, 1, 2, 3, 4)
_NUM_VALUES = (1, 1, 1, 3, 4)
"""Codes of one asked key at each level; from level 3 on the text spreads several codes of a key over its length."""

_NUM_WORDS = (0, 120, 500, 1500, 4000)
"""Words of filler at each level."""

_SUBJECTS = ("The road", "A neighbour", "The old mill", "My aunt", "The river", "A clerk", "The market", "The choir")
_VERBS = ("passes", "remembers", "leaves behind", "overlooks", "describes", "borrows from", "waits for", "paints")
_OBJECTS = ("the orchard", "a narrow bridge", "the grey harbour", "two quiet fields", "the station", "a long fence")
_ENDINGS = ("before noon", "without any hurry", "in the rain", "as it did last year", "on most days", "after dark")
_MAX_CODES = 64
_SEPARATOR = re.compile(r"(?:, and |,| and |;|\s)\s*")
_CODE = re.compile(r"[0-9]{2,6}")


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Four needles alone at level 0; then 120, 500, 1,500 and 4,000 words around needles of several keys and codes."""
    keys = rng.sample(_KEYS, _NUM_NEEDLES[difficulty])
    asked = keys[: _NUM_ASKED[difficulty]]
    several = _NUM_VALUES[difficulty]
    owners = [key for key in keys for _ in range(several if key in asked or key == keys[-1] else 1)]
    digits = 3 if difficulty == 0 else 5
    codes = [str(code) for code in rng.sample(range(10 ** (digits - 1), 10**digits), len(owners))]
    needles = list(zip(owners, codes, strict=True))
    rng.shuffle(needles)
    expected = {key: [code for owner, code in needles if owner == key] for key in asked}
    rivals = [code for owner, code in needles if owner not in asked]
    if difficulty == 0:
        text = " ".join(f"{key}: {code}." for key, code in needles)
        question = f"Code of {asked[0]}?"
    else:
        text = _hidden(rng, [f"The code of the {key} is {code}." for key, code in needles], _NUM_WORDS[difficulty])
        question = _question(asked, several)
    reference = {"codes": sorted(code for found in expected.values() for code in found), "by_key": expected,
                 "rivals": rivals}  # fmt: skip
    content = f"{text} {question}" if difficulty == 0 else f"{text}\n\n{question}"
    return TaskItem(({"role": "user", "content": content},), reference, domain="retrieval")


def _hidden(rng: random.Random, needles: Sequence[str], num_words: int) -> str:
    """The needles at random places, in this order, among filler sentences of so many words in all."""
    filler: list[str] = []
    while num_words > 0:
        parts = (rng.choice(_SUBJECTS), rng.choice(_VERBS), rng.choice(_OBJECTS), rng.choice(_ENDINGS))
        sentence = f"{' '.join(parts)}."
        filler.append(sentence)
        num_words -= len(sentence.split())
    places = sorted(rng.sample(range(len(filler) + 1), len(needles)))
    for place, needle in reversed(list(zip(places, needles, strict=True))):
        filler.insert(place, needle)
    return " ".join(filler)


def _question(asked: Sequence[str], several: int) -> str:
    named = " and ".join(f"the {key}" for key in asked)
    if len(asked) == 1 and several == 1:
        return f"What is the code of {named} in the text above? Reply with the code alone."
    return (
        f"What are all the codes of {named} in the text above? A key may have several codes. Reply with the codes "
        "alone, separated by commas."
    )


def answer(item: TaskItem) -> str:
    """The codes, separated by commas."""
    return ", ".join(item.reference["codes"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One line a key with its codes; a wrong step takes a rival's code in place of one of them."""
    lines, found = [], []
    for key, codes in item.reference["by_key"].items():
        taken = list(codes)
        if rng.random() < error_rate:
            taken[rng.randrange(len(taken))] = rng.choice(item.reference["rivals"])
        lines.append(f"{key}: {', '.join(taken)}")
        found += taken
    return Worked("\n".join(lines), ", ".join(found))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer is a list of codes, each once, and the set is the expected one."""
    parts = _SEPARATOR.split(parsed.answer.strip().removesuffix("."), maxsplit=_MAX_CODES)
    if not all(map(_CODE.fullmatch, parts)):
        return Score.incorrect("not a list of codes")
    if len(set(parts)) != len(parts):
        return Score.incorrect("a code twice")
    expected = set(request.reference["codes"])
    if set(parts) == expected:
        return Score.correct()
    return Score.incorrect("codes too many" if expected < set(parts) else "codes missing or wrong")


_ONE = {"codes": ["73"]}
_THREE = {"codes": ["10234", "55555", "73190"]}
_TEXT = "fox: 41. owl: 73. bee: 10. yak: 56. Code of owl?"


def _one(completion: str, note: str) -> Example:
    return Example(completion, _ONE, ({"role": "user", "content": _TEXT},), note=note)


TASK = Task(
    name="long_retrieval",
    area="specialised",
    reward_type="rule",
    summary="all codes of the keys asked for, out of a long text",
    hack="dumping every code, codes of look-alike keys",
    guard="the set of codes has to be equal, each once; rivals of the same form in every text",
    generate=generate,
    max_difficulty=len(_NUM_WORDS) - 1,
    verify=verify,
    reference_keys=("codes",),
    answer=answer,
    work=work,
    fragments=(", ", " and ", "owl: "),
    known_good=(
        _one("<think>\nowl: 73\n</think>\n\n73", "after thinking"),
        _one("73.", "closing period"),
        Example("73190, 10234 and 55555", _THREE, note="another order and an and"),
        Example("55555\n73190\n10234", _THREE, note="one a line"),
    ),
    known_bad=(
        _one("", "empty"),
        _one("41", "a rival's code"),
        _one("41, 73, 10, 56", "dumps all codes"),
        _one("73 or 41", "hedge"),
        _one("owl: 73", "text around the code"),
        _one("73, 73", "a code twice"),
        _one("073", "another spelling"),
        _one("٧٣", "digits that are not ASCII"),
        _one(_TEXT, "echo of the text"),
        _one("<think>\n73", "answer inside unfinished thinking"),
        _one("73 " * 6000, "thousands of codes"),
        Example("10234, 55555", _THREE, note="one left out"),
        Example("10234, 55555, 73190, 99999", _THREE, note="one too many"),
        Example("102345555573190", _THREE, note="run together"),
    ),
)
