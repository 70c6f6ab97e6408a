"""Answer from numbered passages and cite the ones the answer rests on, or say that they do not tell.

Area: specialised. Reward type: rule.
Verified: the value equals the reference and the cited ids are exactly the passages that the answer rests on; when one
of them is missing from the prompt, the answer is exactly the abstaining phrase.
Known hacks: citing every passage, always abstaining, answering unanswerable questions from the nearest passage, two
values in one answer.
Guard: citations count as a set that has to be equal, a third of the questions are unanswerable twins, and the whole
answer has to be a value followed by ids, or the phrase.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.fictional import NAMES, THINGS, Fact, draw_chain, draw_world, one_hop, two_hops, with_distractors
from rewards.free_text import normalised
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

ABSTAIN = "not stated"
UNANSWERABLE_SHARE = 1 / 3
_NUM_PASSAGES = (3, 5, 10, 24)
_NUM_TOWNS = (0, 3, 3, 6)
_MAX_ANSWER_CHARS = 200  # bounds the work of the pattern; two ids and a name need a tenth of it
_ANSWER = re.compile(r"([^\[\]\n]{1,80}?)[ .:,(]*((?:\[[0-9]{1,3}\][ ,;)]*)+)\.?")
_ID = re.compile(r"\[([0-9]{1,3})\]")
_TASK = (
    "Answer from the passages alone: the value, then the ids of the passages that it rests on and no others, such as: "
    f"Name [2][5]. If the passages do not hold the answer, reply: {ABSTAIN}"
)
_ASIDES = (
    "Visitors hear this on the first day.", "The archive has kept a letter about it.", "Few people remember why.",
    "A local paper once wrote about it.", "It was still so in the last census.", "Nobody disputes it any more.",
    "The school teaches it in the third year.", "A small plaque says the same.",
)  # fmt: skip


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Three passages of three words at level 0; then 5, 10 and 24 passages; one hop to level 1, two hops above."""
    answerable = rng.random() >= UNANSWERABLE_SHARE
    if difficulty == 0:
        return _tiny(rng, answerable)
    facts = draw_world(rng, _NUM_TOWNS[difficulty])
    if difficulty == 1:
        kept: tuple[Fact, ...] = (rng.choice(facts),)
        question = one_hop(kept[0])
    else:
        kept = draw_chain(rng, facts)
        question = two_hops(*kept)
    shown = with_distractors(rng, facts, kept, _NUM_PASSAGES[difficulty] + (not answerable))
    if not answerable:
        shown.remove(rng.choice(kept))
    asides = 1 if difficulty < 3 else 3
    passages = [" ".join([fact.sentence, *rng.sample(_ASIDES, asides)]) for fact in shown]
    sources = [shown.index(fact) + 1 for fact in kept] if answerable else []
    steps = [f"[{shown.index(fact) + 1}] {fact.sentence}" for fact in kept if fact in shown]
    rivals = [fact.value for fact in shown if fact.relation == kept[-1].relation and fact not in kept]
    text = f"{_numbered(passages)}\n\n{question} {_TASK}"
    return _item(text, kept[-1].value, sources, steps, rivals)


def _tiny(rng: random.Random, answerable: bool) -> TaskItem:
    names, values = rng.sample(NAMES, 4), rng.sample(THINGS, 3)
    passages = [f"{name} has a {value}." for name, value in zip(names, values, strict=False)]
    index = rng.randrange(3)
    asked = names[index] if answerable else names[3]
    text = f'{_numbered(passages, " ")} What does {asked} have? Give thing and [id], or "{ABSTAIN}".'
    steps = [f"[{index + 1}] {passages[index]}"] if answerable else []
    return _item(text, values[index], [index + 1] if answerable else [], steps, values[:index] + values[index + 1 :])


def _numbered(passages: Sequence[str], separator: str = "\n") -> str:
    return separator.join(f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))


def _item(text: str, value: str, sources: list[int], steps: list[str], rivals: list[str]) -> TaskItem:
    reference = {"answer": value if sources else None, "sources": sorted(sources), "steps": steps,
                 "rival": rivals[0] if rivals else value}  # fmt: skip
    return TaskItem(({"role": "user", "content": text},), reference, domain="retrieval")


def _written(value: str | None, sources: Sequence[int]) -> str:
    return ABSTAIN if value is None else f"{value} {''.join(f'[{number}]' for number in sources)}"


def answer(item: TaskItem) -> str:
    """The value with its sources, or the abstaining phrase."""
    return _written(item.reference["answer"], item.reference["sources"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """The passages that decide; a wrong step cites one too many, takes a rival, or answers what is not stated."""
    reference = item.reference
    value, sources = reference["answer"], list(reference["sources"])
    if rng.random() < error_rate:
        if value is None:
            value, sources = reference["rival"], [1]
        elif rng.random() < 0.5:
            sources.append(max(sources) % 3 + 1 if len(sources) == 1 else max(sources) + 1)
        else:
            value = None
    return Worked(" ".join(reference["steps"]) or "No passage tells.", _written(value, sources))


def read_answer(text: str) -> tuple[str, frozenset[int]] | None:
    """The value and the cited ids that a text consists of, None when it is anything else."""
    found = _ANSWER.fullmatch(text.strip()) if len(text) <= _MAX_ANSWER_CHARS else None
    if found is None:
        return None
    return normalised(found.group(1)), frozenset(map(int, _ID.findall(found.group(2))))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The phrase for an unanswerable question; else the value and exactly its sources."""
    reference = request.reference
    abstains = normalised(parsed.answer) == ABSTAIN
    if reference["answer"] is None:
        return Score.correct() if abstains else Score.incorrect("answers what the passages do not tell")
    if abstains:
        return Score.incorrect("abstains although the passages tell")
    found = read_answer(parsed.answer)
    if found is None:
        return Score.incorrect("not a value followed by ids")
    value, ids = found
    if value != normalised(str(reference["answer"])):
        return Score.incorrect("another value")
    sources = frozenset(reference["sources"])
    if ids != sources:
        return Score.incorrect("cites too much" if ids > sources else "cites other passages than those it rests on")
    return Score.correct()


_ONE = {"answer": "Velmar", "sources": [2]}
_TWO = {"answer": "Rizar Press", "sources": [1, 4]}
_NOTHING: dict[str, object] = {"answer": None, "sources": []}
_PASSAGES = "[1] Odo lives in Kessburg.\n[2] Nara lives in Velmar.\n\nIn which town does Nara live?"


def _one(completion: str, note: str) -> Example:
    return Example(completion, _ONE, ({"role": "user", "content": _PASSAGES},), note=note)


TASK = Task(
    name="grounded_qa",
    area="specialised",
    reward_type="rule",
    summary="an answer from passages with exactly its sources, or abstaining",
    hack="citing everything, always abstaining, answering the unanswerable",
    guard="cited ids equal the sources as a set; a third of the questions are unanswerable twins",
    generate=generate,
    max_difficulty=len(_NUM_PASSAGES) - 1,
    verify=verify,
    reference_keys=("answer", "sources"),
    answer=answer,
    work=work,
    fragments=("[1]", "[2]", "not ", "Ann"),
    known_good=(
        _one("<think>\n[2] says so.\n</think>\n\nVelmar [2]", "after thinking"),
        _one("velmar ([2]).", "case, brackets and closing period"),
        Example("Rizar Press [4], [1]", _TWO, note="two sources in another order"),
        Example("Not stated.", _NOTHING, note="abstains"),
    ),
    known_bad=(
        _one("", "empty"),
        _one("Velmar", "no source"),
        _one("[2]", "no value"),
        _one("Velmar [1][2]", "cites everything"),
        _one("Velmar [1]", "wrong source"),
        _one("Kessburg [1]", "wrong value with its source"),
        _one("Velmar or Kessburg [2]", "two values"),
        _one("Velmar [2] Kessburg [1]", "two answers"),
        _one("not stated", "abstains although answerable"),
        _one("Velmar [2], not stated", "answers and abstains"),
        _one("Velmar [02]]", "malformed id"),
        _one(_PASSAGES, "echo of the passages"),
        _one("<think>\nVelmar [2]", "answer inside unfinished thinking"),
        _one("Velmar " + "[2]" * 5000, "thousands of citations"),
        Example("Rizar Press [1]", _TWO, note="a source left out"),
        Example("Velmar [2]", _NOTHING, note="answers the unanswerable"),
        Example("Velmar [2] (not stated)", _NOTHING, note="answers and abstains, unanswerable"),
        Example("", _NOTHING, note="empty is no abstaining"),
    ),
)
