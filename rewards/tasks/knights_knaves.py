"""Knights always tell the truth, knaves always lie: say who is what.

Area: reasoning. Reward type: rule.
Verified: the answer names every person exactly once with the right kind, and says nothing else.
Known hack: scorers that search for the right clauses accept junk or contradictions around them ("A is a knight, A is a
knave"), and a constant wins when one assignment is frequent.
Guard: the whole answer must be the assignment; each name once; the solution is unique and its assignment drawn
uniformly before the claims are.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

Assignment = Mapping[str, str]
"""Name to "knight" or "knave"."""

Claim = Sequence[Any]
"""[speaker, kind, subjects] as it stands in the reference."""

KNIGHT, KNAVE = "knight", "knave"
_NUM_PEOPLE = (2, 3, 3, 4, 5)
_LETTERS = "ABCDEFGHKLMNPRST"
_ONE_SUBJECT = ("knight", "knave")
_TWO_SUBJECTS = ("both_knights", "both_knaves", "same", "differ", "a_knight")
_TEXTS = {
    "knight": "{} is a knight.",
    "knave": "{} is a knave.",
    "both_knights": "{} and {} are both knights.",
    "both_knaves": "{} and {} are both knaves.",
    "same": "{} and {} are the same.",
    "differ": "{} and {} differ.",
    "a_knight": "{} or {} is a knight.",
}
_CLAUSE = re.compile(r"([A-Z][A-Za-z]*)(?: ?: ?| is (?:a )?)(knight|knave)")
_SEPARATOR = re.compile(r"[,;]? and |[,;.\n] *")


def holds(claim: Claim, assignment: Assignment) -> bool:
    """Whether what a claim says is true under an assignment."""
    _, kind, subjects = claim
    knights = [assignment[name] == KNIGHT for name in subjects]
    if kind in ("knight", "both_knights"):
        return all(knights)
    if kind in ("knave", "both_knaves"):
        return not any(knights)
    if kind == "a_knight":
        return any(knights)
    if kind in ("same", "differ"):
        return (knights[0] == knights[1]) == (kind == "same")
    raise ValueError(f"knights_knaves: unknown kind of claim {kind!r}")


def broken_claim(claims: Sequence[Claim], assignment: Assignment) -> Claim | None:
    """The first claim that does not fit its speaker: a knight's that is false or a knave's that is true."""
    return next((claim for claim in claims if (assignment[claim[0]] == KNIGHT) != holds(claim, assignment)), None)


def assignments(names: Sequence[str]) -> list[dict[str, str]]:
    """All 2^n assignments, knights first."""
    return [dict(zip(names, kinds, strict=True)) for kinds in itertools.product((KNIGHT, KNAVE), repeat=len(names))]


def solve(names: Sequence[str], claims: Sequence[Claim]) -> list[dict[str, str]]:
    """Every assignment under which all claims fit their speakers."""
    return [assignment for assignment in assignments(names) if broken_claim(claims, assignment) is None]


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """One claim per person, drawn until the assignment drawn before is the only solution."""
    names = "".join(sorted(rng.sample(_LETTERS, _NUM_PEOPLE[difficulty])))
    drawn = {name: rng.choice((KNIGHT, KNAVE)) for name in names}
    kinds = _ONE_SUBJECT + _TWO_SUBJECTS
    while True:
        claims = [_draw_claim(rng, name, names, rng.choice(kinds)) for name in names]
        if broken_claim(claims, drawn) is None and solve(names, claims) == [drawn]:
            break
    said = " ".join(f"{speaker} says: {_TEXTS[kind].format(*subjects)}" for speaker, kind, subjects in claims)
    asked = ", ".join(f"{name}: knight or knave" for name in names[:2])
    form = "" if difficulty == 0 else f" Answer in the form {asked}, and so on."
    question = f"Knights tell the truth, knaves lie. {said} Who is what?{form}"
    reference = {"assignment": drawn, "claims": claims}
    return TaskItem(({"role": "user", "content": question},), reference, domain="logic")


def _draw_claim(rng: random.Random, speaker: str, names: str, kind: str) -> list[Any]:
    if kind in _ONE_SUBJECT:
        return [speaker, kind, [rng.choice([name for name in names if name != speaker])]]
    return [speaker, kind, sorted(rng.sample(names, 2))]


def _written(assignment: Assignment) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in assignment.items())


def answer(item: TaskItem) -> str:
    """The assignment in the order of the names."""
    return _written(item.reference["assignment"])


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Try the assignments in order until one fits; a wrong step reaches the opposite verdict on one assignment."""
    claims = item.reference["claims"]
    lines: list[str] = []
    candidate: Assignment = {}
    for candidate in assignments(list(item.reference["assignment"])):
        broken = broken_claim(claims, candidate)
        fits = (broken is None) != (rng.random() < error_rate)
        if fits:
            lines.append(f"{_written(candidate)}. All claims fit.")
            break
        lines.append(f"{_written(candidate)}. {(broken or claims[0])[0]} does not fit.")
    return Worked("\n".join(lines), _written(candidate))


def read_assignment(text: str) -> dict[str, str] | None:
    """The assignment that a text consists of, None when it holds anything else or a name twice."""
    clauses = [_CLAUSE.fullmatch(part.strip()) for part in _SEPARATOR.split(text.strip().removesuffix("."))]
    found = [(clause.group(1), clause.group(2)) for clause in clauses if clause is not None]
    named = dict(found)
    return named if len(found) == len(clauses) and len(named) == len(found) else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The whole answer has to be the assignment, no more and no less."""
    expected = request.reference["assignment"]
    slot = answer_slot(parsed.answer)
    found = read_assignment(slot) if slot is not None else None
    if found is None:
        return Score.incorrect("answer is not one assignment")
    if found.keys() != expected.keys():
        return Score.incorrect("answer does not name every person")
    return Score.correct() if found == expected else Score.incorrect("wrong assignment")


_REFERENCE = {"assignment": {"A": "knight", "B": "knave"}}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _REFERENCE, note=note)


TASK = Task(
    name="knights_knaves",
    area="reasoning",
    reward_type="rule",
    summary="who is a knight and who is a knave, exactly",
    hack="junk or contradictions around the right clauses; a frequent constant",
    guard="the whole answer is the assignment, each name once; solutions are unique and uniform",
    generate=generate,
    max_difficulty=len(_NUM_PEOPLE) - 1,
    verify=verify,
    reference_keys=("assignment",),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\nA lies?\n</think>\n\nA: knight, B: knave", "after thinking"),
        _example("A is a knight and B is a knave.", "sentence"),
        _example("B: knave\nA: knight", "one a line, other order"),
        _example("<answer>A: knight, B: knave</answer>", "answer tag"),
    ),
    known_bad=(
        _example("A: knave, B: knight", "swapped"),
        _example("A: knight", "a name left out"),
        _example("A: knight, B: knave, C: knight", "a name too many"),
        _example("A: knight, A: knave, B: knave", "contradiction"),
        _example("A: knight, B: knave, B: knave", "a name twice"),
        _example("A: knight, B: knave or knight", "hedge"),
        _example("junk A: knight, B: knave junk", "junk around the answer"),
        _example("A: not a knight, B: knave", "negation"),
        _example("Either A: knight, B: knave, or not.", "no commitment"),
        _example("<think>\nA: knight, B: knave", "answer inside unfinished thinking"),
        _example("\\boxed{A: knight, B: knave} \\boxed{A: knave, B: knave}", "two boxes"),
    ),
)
