r"""Scores AIME, MATH-500 and GSM8K: the last box of an answer against the published one.

Area: reasoning. Reward type: rule.
Verified: the last `\boxed{}` has the reference's normal form, or is mathematically equal to it (the task `math`).
Known hacks: those of `math`; a heap of boxes is scored by its last one, as published, which a training task refuses.
Guard: `math` decides equality, with its form checks and its killable worker; normal forms only take writing away.

The normal form is what the published graders take away before they compare: `is_equiv` of MATH (arXiv 2103.03874) and
`grade_answer` of MATH-500's authors (arXiv 2305.20050). Departures: an answer without a box is wrong (some harnesses
fall back to the last number); algebra is math-verify's instead of sympy's parser on translated LaTeX.
"""

from __future__ import annotations

import dataclasses
import re

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import boxed_answers, published_refusal
from rewards.task import Example, ScoreRequest, Task, evaluation_only
from rewards.tasks import math

_TEXT = r"\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf)"
_WHOLE_TEXT = re.compile(rf"\A\s*{_TEXT}\s*\{{([^{{}}]*)\}}\s*\Z")
_UNIT = re.compile(rf"(?<=\S)\s*{_TEXT}\s*\{{[^{{}}]*\}}\s*(?:\^\s*\{{?[23]\}}?)?\s*\Z")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|°")
_SPACING = re.compile(r"(?<!\\)\\[!,;: ]|\\(?:left|right|quad|qquad|displaystyle)(?![a-zA-Z])|~|\\?\$|\\?%|\s+")
_COMMAND_END = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])")
_KEPT = "\0"
_FRAC = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_SHORT_FRAC = re.compile(r"\\frac\s*([0-9a-zA-Z]|\{[^{}]*\})\s*([0-9a-zA-Z]|\{[^{}]*\})")
_SHORT_SQRT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_SLASH = re.compile(r"\A(-?)([0-9]+)/([0-9]+)\Z")
_SCRIPT = re.compile(r"([_^])\{([0-9a-zA-Z])\}")
_ASSIGNED = re.compile(r"\A[a-zA-Z]\s*(?:=|\\in(?![a-zA-Z]))(?=[^=]*\Z)")
_THOUSANDS = re.compile(r"\A-?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?\Z")
_OPTION = re.compile(r"\A\(?([A-Za-z])\)?\Z")


def last_box(answer: str) -> str | None:
    r"""The content of the last `\boxed{}`, boxes inside it taken off; None without one that closes.

    >>> last_box(r"\boxed{1}, no: $\boxed{\boxed{\frac{1}{2}}}$")
    '\\frac{1}{2}'
    """
    found = boxed_answers(answer)
    if not found:
        return None
    content = found[-1]
    while inner := boxed_answers(content):
        if content != f"\\boxed{{{inner[-1]}}}":
            break
        content = inner[-1]
    return content


def is_words(latex: str) -> bool:
    r"""Whether LaTeX is words as a whole, such as `\text{Evelyn}`: letters are compared then, never multiplied."""
    return _WHOLE_TEXT.match(latex) is not None


def normal_form(latex: str) -> str:
    r"""The answer without what is only writing: spaces, dollars, percent signs, degrees, units in `\text`, `x =`.

    Fractions, roots and scripts get their braces in one way, thousands lose their commas, words their case.
    """
    whole = _WHOLE_TEXT.match(latex)
    if whole:
        return " ".join(whole[1].split()).casefold()
    text = _UNIT.sub("", _DEGREES.sub("", latex.strip().removesuffix(".").replace("{,}", ",")))
    text = _COMMAND_END.sub(rf"\1{_KEPT}", _FRAC.sub(r"\\frac", text))  # `\pi r` must not become `\pir`
    text = _SPACING.sub("", text).replace(_KEPT, " ")
    text = _ASSIGNED.sub("", text).strip()
    text = _SHORT_FRAC.sub(lambda found: f"\\frac{{{found[1].strip('{}')}}}{{{found[2].strip('{}')}}}", text)
    text = _SHORT_SQRT.sub(r"\\sqrt{\1}", text)
    text = _SCRIPT.sub(r"\1\2", text)
    text = _SLASH.sub(r"\1\\frac{\2}{\3}", text)
    if _THOUSANDS.match(text):
        text = text.replace(",", "")
    return f"0{text}" if text.startswith(".") else text.replace("-.", "-0.")


def same_form(found: str, gold: str) -> bool:
    """Whether two answers have one normal form; a lone letter may stand in parentheses, as options do."""
    ours, theirs = normal_form(found), normal_form(gold)
    if is_words(found) != is_words(gold):  # `Evelyn` for `\text{Evelyn}`
        ours, theirs = ours.casefold().replace(" ", ""), theirs.casefold().replace(" ", "")
    options = _OPTION.match(ours), _OPTION.match(theirs)
    if options[0] and options[1] and "(" in ours + theirs:
        return options[0][1] == options[1][1]
    return bool(ours) and ours == theirs


def quick_check(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """Everything that text alone decides; None when algebra is needed."""
    gold = str(request.reference["answer"])
    found = last_box(parsed.answer)
    if found is None:
        return Score.incorrect("no boxed answer")
    if same_form(found, gold):
        return Score.correct()
    if is_words(gold):
        return Score.incorrect("other words than the reference")
    return math.quick_check(*_for_math(request, found))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Text first, then the algebra of `math`; a reference that is no formula is compared as text alone."""
    quick = quick_check(request, parsed)
    if quick is not None:
        return quick
    try:
        return math.verify(*_for_math(request, last_box(parsed.answer) or ""))
    except math.UnreadableReference:
        return Score.incorrect("not the text of the reference, which is no formula")


def _for_math(request: ScoreRequest, found: str) -> tuple[ScoreRequest, ParsedCompletion]:
    """The question as `math` takes it: both sides in normal form, the answer alone in one box."""
    boxed = f"\\boxed{{{normal_form(found)}}}"
    reference = {"answer": normal_form(str(request.reference["answer"]))}
    plain = dataclasses.replace(request, task=math.TASK.name, reference=reference, completion=boxed)
    return plain, ParsedCompletion(None, boxed, (), "none")


def _example(completion: str, gold: str, note: str) -> Example:
    return Example(completion, {"answer": gold}, note=note)


TASK = Task(
    name="boxed_math",
    area="reasoning",
    reward_type="rule",
    summary="the last boxed answer, equal to the published one",
    hack="those of `math`; several boxes",
    guard="equality by `math`; the last box alone counts, as published",
    generate=evaluation_only("boxed_math"),
    max_difficulty=0,
    verify=verify,
    reference_keys=("answer",),
    in_worker=True,
    quick_check=quick_check,
    refuse=published_refusal,
    known_good=(
        _example("<think>\n\\boxed{1}\n</think>\n\nSo \\boxed{33}.", "033", "an integer with a leading zero"),
        _example("First \\boxed{7}, but then $\\boxed{\\frac{1}{2}}$", "\\frac{1}{2}", "the last of several boxes"),
        _example("\\boxed{\\dfrac12}", "\\frac{1}{2}", "braces left out"),
        _example("\\boxed{0.5}", "\\frac{1}{2}", "a decimal"),
        _example("\\boxed{\\$1{,}250}", "1250", "dollars"),
        _example("\\boxed{18.00}", "18", "a decimal for an integer"),
        _example("\\boxed{5\\text{ cm}^2}", "5", "a unit"),
        _example("\\boxed{90}", "90^\\circ", "degrees left out"),
        _example("\\boxed{Evelyn}", "\\text{Evelyn}", "words without the command"),
        _example("\\boxed{C}", "\\text{(C)}", "an option without its parentheses"),
        _example("\\boxed{\\left(3,\\frac{\\pi}{2}\\right)}", "\\left( 3, \\frac{\\pi}{2} \\right)", "a point"),
        _example("\\boxed{52_{8}}", "52_8", "a base"),
        _example("\\boxed{x \\in [-2,7]}", "x \\in [-2,7]", "a set"),
        _example("\\boxed{[-2,7]}", "x \\in [-2,7]", "a set without its letter"),
        _example("\\boxed{\\boxed{204}}", "204", "a box in a box"),
    ),
    known_bad=(
        _example("\\boxed{34}", "033", "another integer"),
        _example("The answer is 33.", "33", "no box"),
        _example("\\boxed{33} or rather \\boxed{34}", "33", "the last box is wrong"),
        _example("\\boxed{33", "33", "a box that never closes"),
        _example("\\boxed{}", "33", "an empty box"),
        _example("<think>\n\\boxed{33}", "33", "inside unfinished thinking"),
        _example("<think>\n\\boxed{33}\n</think>\n\nDone.", "33", "a box in the thinking alone"),
        _example("\\boxed{evne}", "\\text{even}", "the letters of a word in another order"),
        _example("\\boxed{(\\frac{\\pi}{2},3)}", "(3,\\frac{\\pi}{2})", "a point the other way round"),
        _example("\\boxed{0=33}", "33", "an equation"),
        _example("\\boxed{\\sum_{i=1}^{33} 1}", "33", "left unsolved"),
        _example("\\boxed{B}", "\\text{(C)}", "another option"),
    ),
)
