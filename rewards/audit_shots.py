"""Which hostile completions an audit fires at a task: the attack suite, constants, and the fuzzer's texts.

Task -> targets (prompts of every level with right answers) -> shots
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.episodes import turn_text
from data.records import Prompt
from rewards.attack_builders import Target, answers_alike
from rewards.attacks import ATTACKS, FORMS, Attack, Rule
from rewards.audit_report import shortened
from rewards.fuzz import fuzz_texts
from rewards.probe import Trial
from rewards.task import Task, item_of, make_prompt

FIRST_LOOK = 8
"""Prompts per level on which every constant is tried; one that earns anything there is tried on all."""

_NOISE: tuple[str, Rule] = ("fuzz: noise", "refused")
_MUTANT: tuple[str, Rule] = ("fuzz: mutant of the right answer", "look")


@dataclass(frozen=True, slots=True)
class Shot:
    """One hostile completion under way: who made it, what a payment means, what it was aimed at."""

    name: str
    rule: Rule
    target: Target
    trial: Trial
    gated: bool = False
    fuzzed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditSize:
    """How much is tried: prompts per level for attacks and for constants, fuzz texts per task, levels (None: all)."""

    num_prompts: int = 3
    num_constant_prompts: int = 60
    num_texts: int = 300
    levels: tuple[int, ...] | None = None

    def levels_of(self, task: Task) -> tuple[int, ...]:
        """The levels to audit: those named that the task has, or all."""
        every = range(task.max_difficulty + 1)
        return tuple(every if self.levels is None else (level for level in every if level in self.levels))


def targets_of(task: Task, level: int, seed: int, count: int) -> list[Target]:
    """The first `count` prompts of a level, each with its right answer and the next prompt's that differs from it."""
    prompts = [make_prompt(task, seed=seed, index=index, difficulty=level) for index in range(max(count, 2) + 6)]
    solved = [_solution(task, prompt) for prompt in prompts]
    targets = []
    for index in range(count):
        gold, turns = solved[index]
        others = [other for other, _ in (*solved[index + 1 :], *solved[:index]) if other.split() != gold.split()]
        targets.append(Target(task, prompts[index], gold, others[0] if others else "-999", turns))
    return targets


def _solution(task: Task, prompt: Prompt) -> tuple[str, tuple[str, ...]]:
    """The right answer without a think block, and all turns of a solved episode."""
    item = item_of(prompt)
    if task.demonstrate is not None:
        said = task.demonstrate(random.Random(f"audit/{prompt.uid}"), item, 0.0)
        turns = tuple(turn_text(m, thinking=False, prefilled=True) for m in said if m["role"] == "assistant")
        return turns[-1], turns
    if task.answer is None:
        return "7", ()
    return task.answer(item), ()


def attack_shots(task: Task, seed: int, size: AuditSize) -> list[Shot]:
    """Every attack on prompts of every level; the constants first on few of them."""
    shots = []
    for level in size.levels_of(task):
        targets = targets_of(task, level, seed, max(size.num_prompts, size.num_constant_prompts))
        shots += [
            _shot(attack, target, completion)
            for target in targets[: size.num_prompts]
            for attack in ATTACKS
            if attack.rule != "share"
            for completion in attack.completions(target)
            if not _is_right(completion, target, attack)
        ]
        shots += [
            Shot(name, "share", target, Trial(target.prompt, completion))
            for name, completion in constants(targets)
            for target in targets[: min(FIRST_LOOK, size.num_constant_prompts)]
        ]
    return shots


def constants(targets: Sequence[Target]) -> list[tuple[str, str]]:
    """The constants of the suite and the most frequent right answers, each behind every form of think block."""
    fixed = [
        (f"{attack.name} ({form})", completion)
        for attack in ATTACKS
        if attack.rule == "share"
        for form, completion in zip(FORMS, attack.completions(targets[0]), strict=True)
    ]
    frequent = Counter(target.gold for target in targets).most_common(3)
    return fixed + [
        (f"constant: right answer of {count} prompts, {shortened(gold, 60)} ({form})", block + gold)
        for gold, count in frequent
        for form, block in FORMS.items()
    ]


def fuzz_shots(task: Task, seed: int, size: AuditSize) -> list[Shot]:
    if not size.num_texts:
        return []
    targets = [
        target
        for level in size.levels_of(task)
        for target in targets_of(task, level, seed + 1, max(2, size.num_prompts))
    ]
    shots = []
    for text in fuzz_texts(targets, seed_value=seed, num_texts=size.num_texts):
        name, rule = _MUTANT if text.is_mutant else _NOISE
        trial = Trial(text.target.prompt, text.completion)
        shots.append(Shot(name, rule, text.target, trial, fuzzed=True))
    return shots


def _shot(attack: Attack, target: Target, completion: str) -> Shot:
    trial = Trial(target.prompt, completion, attack.finish_reason)
    return Shot(attack.name, attack.rule_for(target), target, trial, attack.gated)


def _is_right(completion: str, target: Target, attack: Attack) -> bool:
    """Whether a fixed text happens to be the right answer of this prompt."""
    return not attack.whole and answers_alike(completion.rpartition("</think>")[2], target.gold)
