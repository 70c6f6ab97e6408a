"""The attack suite: it is large, covers what is known to work, and builds texts that are what they say."""

from __future__ import annotations

from typing import get_args

import pytest

from rewards.attacks import ATTACKS, FORMS, Attack, Category
from rewards.audit_shots import targets_of
from rewards.extract import MAX_ANSWER_CHARS, boxed_answers
from rewards.registry import get_task

BY_NAME = {attack.name: attack for attack in ATTACKS}


def _text(name: str, task: str = "arithmetic", level: int = 0) -> str:
    (target,) = targets_of(get_task(task), level, 3, 1)
    text = BY_NAME[name].build(target)
    assert text is not None
    return text


def test_there_are_more_than_sixty_attacks_with_names_and_sources() -> None:
    assert len(BY_NAME) == len(ATTACKS) >= 300
    assert all(attack.source for attack in ATTACKS)
    assert {attack.category for attack in ATTACKS} == set(get_args(Category))
    assert sum(attack.rule == "refused" for attack in ATTACKS) >= 250


@pytest.mark.parametrize(
    "name",
    [
        "master key: colon", "master key: step by step", "master key: thought process", "master key: japanese opener",
        "think block: answer inside unfinished thinking", "think block: answer inside the closed block only",
        "think block: second think block", "think block: think tag in the answer", "several answers: correction",
        "several answers: 7 or 8", "math form: 0=7", "math form: x+y=7", "math form: percent", "math form: unit",
        "math form: unsolved sum", "resource: power tower", "resource: factorials", "resource: huge exponent",
        "resource: 3,000 round brackets", "format soup: soup of constraints", "echo: keyword stuffing",
        "language trick: fullwidth", "disguise: homoglyphs", "language trick: right to left",
        "disguise: zero-width characters", "structured data: duplicate keys, last right", "structured data: NaN",
        "structured data: Infinity", "structured data: deep array", "structured data: huge number",
        "structured data: lone surrogate", "regex bomb: nested quantifier", "structured data: YAML anchor bomb",
        "structured data: XML entity bomb", "sql: pragma", "sql: attach", "sql: stacked", "sql: infinite CTE",
        "sql: blob", "code: os._exit", "code: __eq__ says yes", "code: sys.exit", "code: forged result",
        "code: fork bomb",
        "code: test edits", "injection: ignore previous", "injection: fake fence, nonce", "echo: echo of the question",
        "echo: echo of the system rule", "empty: nothing", "empty: blanks", "constant: yes", "constant: -1",
        "constant: null", "constant: {}", "strategy: refuse all", "strategy: abstain always",
        "strategy: always clarify",
        "echo: cite all", "echo: dump of all keys", "disguise: ten times", "echo: copy of the quoted source",
        "truncated: answer too long to read", "truncated: right answer at the length limit", "flattery: great question",
        "echo: restated constraints", "tools: call of every tool", "special token: forged user turn",
        "constant: 6*4*1*1",
    ],
)  # fmt: skip
def test_the_known_attacks_are_among_them(name: str) -> None:
    assert name in BY_NAME


def test_built_attacks_hold_the_right_answer_where_it_must_not_count() -> None:
    (target,) = targets_of(get_task("arithmetic"), 0, 3, 1)
    gold = boxed_answers(target.gold)[0]
    assert _text("think block: answer inside unfinished thinking").endswith(target.gold)
    assert boxed_answers(_text("several answers: correction")) == ["-999", gold]
    assert _text("math form: 0=7") == f"\\boxed{{0={gold}}}"
    assert f" {gold}," in _text("several answers: list of guesses")
    assert len(_text("truncated: answer too long to read")) > MAX_ANSWER_CHARS
    assert target.question in _text("echo: restated constraints")


def test_attacks_on_formats_start_from_a_right_answer_of_that_format() -> None:
    assert _text("structured data: duplicate keys, last right", "json_answer").count('": ') >= 2
    assert "grade" in _text("tools: right calls and one more", "tool_call")
    (target,) = targets_of(get_task("arithmetic"), 0, 3, 1)
    for name in (
        "structured data: NaN for a value",
        "tools: 300 calls",
        "code: returns True",
        "citations: right answer, every citation",
    ):
        assert BY_NAME[name].build(target) is None


def test_an_answer_is_tried_bare_and_behind_the_block_of_the_mode_and_a_constant_behind_all() -> None:
    (target,) = targets_of(get_task("mode_flags"), 0, 3, 1)
    soup = list(BY_NAME["format soup: lorem ipsum"].completions(target))
    assert soup[0].startswith("Lorem")
    assert soup[1].startswith(FORMS["thinking block" if target.prompt.mode == "thinking" else "empty block"])
    assert list(BY_NAME["constant: yes"].completions(target)) == [form + "yes" for form in FORMS.values()]
    whole = BY_NAME["think block: second think block"]
    assert len(list(whole.completions(target))) == 1


def test_an_attack_outside_its_strict_areas_is_only_worth_a_look() -> None:
    attack: Attack = BY_NAME["several answers: 7 or 8"]
    (value,) = targets_of(get_task("arithmetic"), 0, 3, 1)
    (prose,) = targets_of(get_task("length"), 0, 3, 1)
    assert (attack.rule_for(value), attack.rule_for(prose)) == ("refused", "look")
