"""Scores IFEval: every instruction of a prompt, in the strict reading.

Area: instruction_following. Reward type: rule.
Verified: all instructions of the prompt are followed (strict prompt-level accuracy, which the Qwen3 report gives).
Known hacks: texts without content, which the published checkers pay for whatever only forbids something.
Guard: the checks of `rewards.constraints`, which ask for content and for word boundaries.

Departure: the checks are the project's own. They agree with the published ones in 89.6 % of 25,985 judgements on
made-up texts, most of which are extreme on purpose, and are the stricter side in 93 % of the rest;
`benchmarks/rewards_ifeval.md` lists every class of differences with counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score, UserError
from rewards.constraints import KINDS, Constraint, kind_of, obeys
from rewards.extract import published_refusal
from rewards.language_id import has_detector
from rewards.task import Example, ScoreRequest, Task, evaluation_only

_PROBE = "The quick brown fox jumps over the lazy dog. It sleeps."


def followed(text: str, instructions: Sequence[Constraint]) -> list[bool]:
    """Which instructions a text follows, in the strict reading: as it is."""
    return [obeys(text, instruction) for instruction in instructions]


def followed_loosely(text: str, instructions: Sequence[Constraint]) -> list[bool]:
    """Which instructions a text follows in the loose reading (arXiv 2311.07911, section 3.2).

    An instruction is followed when the text follows it as it is, without its first line, its last line or both, each of
    them also without asterisks.
    """
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = [*cut, *(variant.replace("*", "") for variant in cut)]
    return [any(obeys(variant, instruction) for variant in variants) for instruction in instructions]


def instruction_fault(name: str, arguments: dict[str, Any]) -> str | None:
    """Why an instruction cannot be checked here, None when it can: an unknown id, wrong arguments or a language."""
    if name not in KINDS:
        return f"no checker for instruction {name!r}"
    language = arguments.get("language")
    if language is not None and not has_detector(str(language)):
        return f"no detector for language {language!r}"
    try:
        if language is None:  # with one, the check would load the detector
            kind_of(name).check(_PROBE, **arguments)
    except (TypeError, ValueError, AttributeError, UserError) as error:
        return f"instruction {name!r} with {arguments}: {error}"
    return None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Every instruction; the reason names those that are not followed."""
    instructions = request.reference["instructions"]
    missed = [
        name for (name, _), good in zip(instructions, followed(parsed.answer, instructions), strict=True) if not good
    ]
    return Score.incorrect(f"not followed: {', '.join(missed)}") if missed else Score.correct()


_TWO = {"instructions": [["punctuation:no_comma", {}], ["keywords:existence", {"keywords": ["harbour"]}]]}


def _example(completion: str, note: str) -> Example:
    return Example(completion, _TWO, note=note)


TASK = Task(
    name="ifeval",
    area="instruction_following",
    reward_type="rule",
    summary="every instruction of an IFEval prompt, strictly",
    hack="texts without content",
    guard="own checks with content and word boundaries",
    generate=evaluation_only("ifeval"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("instructions",),
    refuse=published_refusal,
    known_good=(
        _example("The harbour sleeps at night.", "both"),
        _example("<think>\nno commas, I see\n</think>\n\nBoats leave the harbour early.", "commas in the thinking"),
        _example("HARBOUR lights shine over the bay.", "capitals"),
    ),
    known_bad=(
        _example("The harbour, at night, sleeps.", "a comma"),
        _example("The bay sleeps at night.", "no keyword"),
        _example("harbourmaster sleeps at night", "the keyword inside a word"),
        _example("harbour", "no content"),
        _example("", "empty"),
        _example("<think>\nThe harbour sleeps at night.", "inside unfinished thinking"),
        _example("<think>\nThe harbour sleeps at night.\n</think>\n\nDone.", "in the thinking alone"),
        _example(".", "a point"),
    ),
)
