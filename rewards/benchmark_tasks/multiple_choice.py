r"""Scores GPQA-Diamond and MMLU-Redux: the letter that an answer commits to.

Area: reasoning. Reward type: rule.
Verified: the letter equals the published one.
Known hacks: naming every letter. An answer is read by the first form of these that it has, the last such place alone:
the JSON field `"answer": "C"` that the prompt asks for, "Answer: C" (the form of simple-evals), and `\boxed{C}`.
Guard: letters elsewhere in the text do not count; the last place alone does.

Departure: harnesses differ in how far they search for a letter. An answer in none of the three forms is wrong here.
"""

from __future__ import annotations

import re

from data.chat import ParsedCompletion
from data.records import Score
from rewards.benchmark_tasks.boxed_math import last_box
from rewards.extract import published_refusal
from rewards.task import Example, ScoreRequest, Task, evaluation_only

LETTERS = "ABCDEFGHIJ"
_LETTER = rf"\(?([{LETTERS}])(?!\w)"
_FIELD = re.compile(rf"""["“'`]answer["”'`]\s*[:：]\s*["“'`]?\s*{_LETTER}""", re.IGNORECASE)
_STATED = re.compile(rf"answer(?:\s+is)?[*_`\s]*[:：][*_`$\s]*(?:\\boxed\{{)?{_LETTER}(?!['’])", re.IGNORECASE)
_BOXED = re.compile(rf"\A(?:\\(?:text|textbf|mathrm|mathbf)\s*\{{)?\s*{_LETTER}", re.IGNORECASE)


def chosen_letter(answer: str) -> str | None:
    """The capital letter that an answer commits to, None when it has none of the three forms.

    >>> chosen_letter('Not A. "answer": "C"')
    'C'
    """
    for form in (_FIELD, _STATED):
        if found := form.findall(answer):
            return found[-1].upper()
    box = _BOXED.match(last_box(answer) or "")
    return box[1].upper() if box else None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Letter against letter."""
    found = chosen_letter(parsed.answer)
    if found is None:
        return Score.incorrect("no letter in a form that is read")
    return Score.correct() if found == request.reference["answer"] else Score.incorrect(f"chose {found}")


def _example(completion: str, note: str) -> Example:
    return Example(completion, {"answer": "C"}, note=note)


TASK = Task(
    name="multiple_choice",
    area="reasoning",
    reward_type="rule",
    summary="the letter of the right option",
    hack="naming every letter",
    guard="the last place of the first form that the answer has",
    generate=evaluation_only("multiple_choice"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("answer",),
    refuse=published_refusal,
    known_good=(
        _example('<think>\nB?\n</think>\n\n"answer": "C"', "the form that is asked for"),
        _example('```json\n{"answer": "C"}\n```', "a whole object in a fence"),
        _example('"answer": "B" is tempting, yet {"answer":"c) 12 kJ"}', "the last field, with its text"),
        _example("**Answer:** C", "the form of simple-evals"),
        _example("The answer is: (C)", "in words"),
        _example("So $\\boxed{\\text{C}}$.", "a box"),
        _example("`'answer': 'C'`", "other quotation marks"),
    ),
    known_bad=(
        _example('"answer": "B"', "another letter"),
        _example('"answer": "C", no, "answer": "D"', "the last field is wrong"),
        _example('"answer": "D"\nAnswer: C', "the field goes first"),
        _example('"answer": "Carbon"', "a word that begins with the letter"),
        _example("C", "a letter alone has no form"),
        _example("A, B, C or D", "every letter"),
        _example('"answer": ""', "an empty field"),
        _example('<think>\n"answer": "C"', "inside unfinished thinking"),
        _example('<think>\n"answer": "C"\n</think>\n\nI am done.', "in the thinking alone"),
        _example("", "empty"),
    ),
)
