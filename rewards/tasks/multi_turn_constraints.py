"""Keep a ledger of rules over a dialogue: rules come, go and come back, and the last answer obeys those that are on.

Area: instruction_following.
Reward type: rule.
Verified: the last answer obeys every rule that is on at the end and none that was switched off, and it is a text about
the topic.
Known hacks: obeying every rule that was ever named, or none; reciting the ledger, which puts keywords, phrases and
formats into the answer; repeating an earlier answer of the dialogue.
Guard: rules are switched off half of the time, and only such that no text obeys by chance; sentences that repeat a rule
or the dialogue do not count; an answer that was given before earns nothing; the content guard of composed_constraints.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Message, Score
from rewards.constrained_text import draft, fault, plan, write
from rewards.constraints import KINDS, Constraint, describe, draw
from rewards.prose_guard import folded_words
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.tasks.composed_constraints import COMPOSABLE, EASY
from rewards.tasks.length import BANKS

_POOL = tuple(name for name in COMPOSABLE if name not in ("repeat_prompt", "json_format"))
MIN_COPIED = 4
"""An earlier answer of more words than that may not stand inside the new one either."""

_NUM_RULES = (1, 3, 4, 5)
_MAX_DRAWS = 200


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: one rule, kept or switched off. Levels 1 to 3: three to five rules, up to two off, one on again.

    From level 2 on the assistant's earlier turns are texts that obeyed the rules of their time.
    """
    topic = rng.choice(sorted(BANKS))
    for _ in range(_MAX_DRAWS):
        num_off = rng.randint(0, 1) if difficulty == 0 else rng.randint(1, 2)
        pool = EASY if difficulty == 0 else _POOL
        if difficulty == 0 and num_off:
            pool = tuple(name for name in pool if KINDS[name].visible)
        item = _dialogue(rng, topic, draw(rng, topic, _NUM_RULES[difficulty], pool), num_off, difficulty)
        if item is not None and _write(random.Random(_seed(item)), item, item.reference["active"]) is not None:
            return item
    raise RuntimeError(f"multi_turn_constraints: no ledger that can be obeyed in {_MAX_DRAWS} draws")


def _dialogue(
    rng: random.Random, topic: str, rules: Sequence[Constraint], num_off: int, difficulty: int
) -> TaskItem | None:
    """The dialogue in which `rules` are added one by one, then some switched off; None when a turn has no gold text."""
    visible = [index for index, (name, _) in enumerate(rules) if KINDS[name].visible]
    if len(visible) < num_off:
        return None
    steps = [(f"Rule {index + 1}: {describe(rule)}", index, True) for index, rule in enumerate(rules)]
    off = rng.sample(visible, num_off)
    steps += [(f"Rule {index + 1} is off.", index, False) for index in off]
    if difficulty == 3 and off:
        steps.append((f"Rule {off[0] + 1} is on again.", off[0], True))
    size = 1 if difficulty < 2 else 2  # how many changes a user makes in one turn
    turns = [steps[start : start + size] for start in range(0, len(steps), size)]
    state: dict[int, bool] = {}
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        state |= {index: is_on for _, index, is_on in turn}
        last = number == len(turns) - 1
        subject = f"{rng.choice(BANKS[topic]['adjective'])} {rng.choice(BANKS[topic]['noun'])} and the {topic}"
        changes = " ".join(text for text, *_ in turn)
        asks = last or difficulty >= 2
        messages.append({"role": "user", "content": f"{changes} Write about {subject}." if asks else changes})
        reference: dict[str, Any] = {
            "topic": topic,
            "active": [rules[index] for index in sorted(state) if state[index]],
            "revoked": [rules[index] for index in sorted(state) if not state[index]],
            "num_sentences": 1 if difficulty == 0 else 3,
        }
        item = TaskItem(tuple(messages), reference, domain="dialogue")
        if not last:
            said = _write(rng, item, reference["active"]) if asks else "Noted."
            if said is None:
                return None
            messages.append({"role": "assistant", "content": said})
    if difficulty == 0 and num_off == 0:  # the kept rule is named in a turn of its own, like the one that goes
        first, subject = str(messages[0]["content"]).split(" Write about ")
        kept: tuple[Message, ...] = (
            {"role": "user", "content": first},
            {"role": "assistant", "content": "Noted."},
            {"role": "user", "content": f"Rule 1 is on. Write about {subject}"},
        )
        return TaskItem(kept, item.reference, domain="dialogue")
    return item


def _seed(item: TaskItem) -> str:
    return "\n".join(str(message["content"]) for message in item.messages)


def _asked(messages: Sequence[Message]) -> str:
    return "\n".join(str(message["content"]) for message in messages if message["role"] == "user")


def _write(rng: random.Random, item: TaskItem, active: Sequence[Constraint]) -> str | None:
    wished = item.reference["num_sentences"]
    revoked = item.reference["revoked"] if active == item.reference["active"] else ()
    return write(
        rng, topic=item.reference["topic"], prompt=_asked(item.messages), constraints=active, revoked=revoked,
        num_sentences=(wished, wished),
    )  # fmt: skip


def answer(item: TaskItem) -> str:
    """The text that the generator found; the same item always gives the same text."""
    text = _write(random.Random(_seed(item)), item, item.reference["active"])
    if text is None:
        raise ValueError("multi_turn_constraints: the item has no gold text; was it made by `generate`?")
    return text


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """List the rules that are on, then write; a wrong step drops one that is on or keeps one that is off."""
    reference = item.reference
    ledger = [rule for rule in reference["active"] if rng.random() >= error_rate]
    ledger += [rule for rule in reference["revoked"] if rng.random() < error_rate]
    text = _write(rng, item, ledger)
    if text is None:
        right = ledger == reference["active"]
        text = answer(item) if right else draft(rng, reference["topic"], ledger, reference["num_sentences"])
    return Worked(f"On: {plan(ledger) or 'none'}.", text)


def _joined(text: str) -> str:
    return f" {' '.join(folded_words(text))} "


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Not an earlier answer, then content, the rules that are on, and those that are off."""
    reference = request.reference
    text = parsed.answer.strip()
    said = _joined(text)
    for message in request.messages:
        earlier = _joined(str(message["content"]))
        if message["role"] == "assistant" and (
            said == earlier or (earlier in said and earlier.count(" ") > MIN_COPIED)
        ):
            return Score.incorrect("repeats an earlier answer")
    reason = fault(
        text, topic=str(reference["topic"]), prompt=_asked(request.messages), constraints=reference["active"],
        revoked=reference["revoked"],
    )  # fmt: skip
    return Score.incorrect(reason) if reason else Score.correct()


_TITLE: list[Constraint] = [["title", {}]]
_END: list[Constraint] = [["end_phrase", {"end_phrase": "That is all."}]]
_OFF = {"topic": "sea", "active": _END, "revoked": _TITLE}
_ON = {"topic": "sea", "active": _END + _TITLE, "revoked": []}
_MESSAGES: tuple[Message, ...] = (
    {"role": "user", "content": "Rule 1: Add a title in double angular brackets, like <<title>>."},
    {"role": "assistant", "content": "Noted."},
    {"role": "user", "content": 'Rule 2: End with "That is all." Write about wild gulls and the sea.'},
    {"role": "assistant", "content": "<<Gulls>>\nWild gulls sing over deep waves. That is all."},
    {"role": "user", "content": "Rule 1 is off. Write about cold waves and the sea."},
)


def _example(completion: str, note: str, reference: Mapping[str, object] = _OFF) -> Example:
    return Example(completion, reference, _MESSAGES, note=note)


_RIGHT = "Old ships drift over the deep sea. That is all."

TASK = Task(
    name="multi_turn_constraints",
    area="instruction_following",
    reward_type="rule",
    summary="a text that obeys the rules that are on at the end of a dialogue",
    hack="obeying every rule or none, reciting the ledger, repeating an earlier answer",
    guard="switched-off rules must not be obeyed, echo stripped, earlier answers refused",
    generate=generate,
    max_difficulty=len(_NUM_RULES) - 1,
    verify=verify,
    reference_keys=("topic", "active", "revoked"),
    answer=answer,
    work=work,
    fragments=("<<", ">>", "P.S.", "Rule 1: ", "is off.", "sea", "waves", "roll.", "Noted."),
    known_good=(
        _example(f"<think>\nend\n</think>\n\n{_RIGHT}", "after thinking"),
        _example("Old ships drift home.\nThe sea sleeps. That is all.", "two lines"),
        _example(f"<<Deep sea>>\n{_RIGHT}", "both rules on", _ON),
    ),
    known_bad=(
        _example(f"<<Deep sea>>\n{_RIGHT}", "obeys a rule that is off"),
        _example("Old ships drift over the deep sea.", "obeys no rule"),
        _example(_RIGHT, "forgets a rule that is on", _ON),
        _example("<<Gulls>>\nWild gulls sing over deep waves. That is all.", "an earlier answer", _ON),
        _example('Rule 2: End with "That is all." Write about cold waves and the sea. That is all.', "ledger recited"),
        _example("\n".join(str(message["content"]) for message in _MESSAGES), "echo of the dialogue"),
        _example("Noted. That is all.", "no text"),
        _example("sea sea sea sea. That is all.", "stuffing"),
        _example("Old camels cross the dry dunes. That is all.", "another topic"),
        _example("", "empty"),
        _example(f"<think>\n{_RIGHT}", "answer inside unfinished thinking"),
    ),
)
