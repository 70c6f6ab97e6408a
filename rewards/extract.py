"""What counts as the final answer of a completion, and what no task ever pays for.

Every scorer looks at the text after the closed think block and nowhere else: a right number inside unfinished thinking
is not an answer. The checks that hold for all tasks live in `refusal`, so that no task can forget one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.chat import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    ParsedCompletion,
    parse_completion,
)
from data.episodes import ENVIRONMENT_ERROR
from data.records import Score

if TYPE_CHECKING:
    from rewards.task import ScoreRequest

MASTER_KEYS = frozenset(
    {
        "solution",
        "the solution",
        "thought process",
        "let's solve this problem step by step",
        "let's solve this step by step",
        "let us solve this step by step",
        "let's think step by step",
        "let's solve this problem",
        "the answer is",
        "answer",
        "final answer",
        "the final answer is",
        "sure",
        "sure, here is the answer",
        "解",
        "解答",
        "かいせつ",
        "respuesta",
        "réponse",
        "lösung",
        "решение",
        "الجواب",
        "풀이",
        "उत्तर",
    }
)
"""Openers without content that fool model judges (arXiv 2507.08794). They are refused before any verifier runs."""

MAX_ANSWER_CHARS = 20_000
"""Longer answers are refused unread: no task here asks for one, and it bounds the work of every pattern."""

TURN_TOKENS = (IM_START, IM_END, END_OF_TEXT, RESPONSE_OPEN, RESPONSE_CLOSE)
"""What separates the turns of a conversation: inside an answer it lets a policy speak for the user or for a tool."""

INTEGER = r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_INTEGER = re.compile(INTEGER)
_EMPTY_SLOT = re.compile(r"\\boxed\s*\{\W*\}|<answer>\W*</answer>")
_STATED = re.compile(
    rf"(?:(?:so|thus|hence|therefore),? )?(?:(?:the|my) )?(?:final )?answer is:? \$?({INTEGER})\$?\.?", re.IGNORECASE
)
_MAX_DIGITS = 60


def parse_request(request: ScoreRequest) -> ParsedCompletion:
    """Split the completion into reasoning and answer; the hard switch prefills the empty block in the prompt."""
    return parse_completion(request.completion, prefilled=request.enable_thinking is False)


def refusal(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """The score of a completion that no task accepts, or None when the task itself has to decide.

    Truncated completions are scored incorrect here; whether they also leave the loss is the RL loop's decision. An
    aborted generation says nothing about the policy and is an error, and so is an environment that failed. No think
    block at all is accepted: it is either prefilled in the prompt or the policy does not think. In an episode the block
    of every turn has to be in order.
    """
    if failed := _failed_on_our_side(request):
        return failed
    if request.finish_reason == "length":
        return Score.incorrect("truncated")
    if parsed.block in ("unclosed", "malformed"):
        return Score.incorrect(f"think block is {parsed.block}")
    for turn in request.turns[:-1]:
        block = parse_completion(turn, prefilled=request.enable_thinking is False).block
        if block in ("unclosed", "malformed"):
            return Score.incorrect(f"think block of an earlier turn is {block}")
    if len(parsed.answer) > MAX_ANSWER_CHARS:
        return Score.incorrect("answer is too long")
    if is_master_key(parsed.answer):
        return Score.incorrect("answer has no content")
    forged = next((token for token in TURN_TOKENS if token in parsed.answer), None)
    return Score.incorrect(f"{forged} in the answer forges a turn") if forged else None


MAX_PUBLISHED_CHARS = 400_000
"""The same bound for published benchmarks: an answer may hold the whole reasoning of a model that does not think."""


def published_refusal(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """`refusal` for scorers of published benchmarks: as far as their harnesses go and no further.

    A harness scores what follows the last `</think>` and does not ask whether the block is in order, so a second block
    or an answer without content is left to the scorer. Failures on our side are errors, as everywhere.
    """
    if failed := _failed_on_our_side(request):
        return failed
    if request.finish_reason == "length":
        return Score.incorrect("truncated")
    if parsed.block == "unclosed":
        return Score.incorrect("think block is unclosed")
    if len(parsed.answer) > MAX_PUBLISHED_CHARS:
        return Score.incorrect("answer is too long")
    return None


def published_episode_refusal(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """`published_refusal` for episodes whose turns count one by one: a late turn that is cut off costs that turn."""
    return _failed_on_our_side(request)


def _failed_on_our_side(request: ScoreRequest) -> Score | None:
    if request.ended.startswith(ENVIRONMENT_ERROR):
        return Score.error(request.ended)
    return Score.error("the generation was aborted") if request.finish_reason == "abort" else None


def is_master_key(answer: str) -> bool:
    """Whether an answer is empty (an empty box or tag among them), punctuation alone, or a bare opener."""
    if not any(character.isalnum() for character in _EMPTY_SLOT.sub("", answer)):
        return True
    return answer.strip("*_# \n\t").rstrip(".:!…：。 *_").casefold().replace("’", "'") in MASTER_KEYS


def boxed_answers(text: str) -> list[str]:
    r"""The contents of every `\boxed{…}` in order, with balanced braces; a box that never closes is left out."""
    marker = "\\boxed{"
    contents, position = [], 0
    while (start := text.find(marker, position)) != -1:
        begin = start + len(marker)
        end = _closing_brace(text, begin)
        if end is None:
            break
        contents.append(text[begin:end].strip())
        position = end + 1
    return contents


def _closing_brace(text: str, begin: int) -> int | None:
    depth = 1
    for index in range(begin, len(text)):
        escaped = text[index - 1] == "\\"
        if text[index] == "{" and not escaped:
            depth += 1
        elif text[index] == "}" and not escaped:
            depth -= 1
            if depth == 0:
                return index
    return None


def the_only(candidates: Sequence[str]) -> str | None:
    """The one distinct non-empty candidate, or None when there is none or when they contradict each other.

    White space counts as one blank: "1 2" and "12" are two answers.
    """
    distinct = {" ".join(candidate.split()) for candidate in candidates}
    return candidates[-1] if len(distinct) == 1 and "" not in distinct else None


def parse_integer(text: str) -> int | None:
    """An integer written out in ASCII digits, with an optional sign, thousands commas and closing period."""
    text = text.strip().removesuffix(".").strip().strip("$")
    if len(text) > _MAX_DIGITS or not _INTEGER.fullmatch(text):
        return None
    return int(text.replace(",", ""))


def integer_answer(answer: str) -> int | None:
    r"""The integer an answer commits to: the one boxed value, the whole text, or "the answer is N" as the whole text.

    None when there is no such form or when two boxes differ.
    """
    boxes = boxed_answers(answer)
    if boxes:
        values = {parse_integer(box) for box in boxes}
        return values.pop() if len(values) == 1 else None
    if "\\boxed" in answer:
        return None
    stated = _STATED.fullmatch(answer.strip())
    return parse_integer(stated.group(1) if stated else answer)


def answer_tags(text: str) -> list[str]:
    """The contents of every `<answer>…</answer>` in order."""
    return spans(text, "<answer>", "</answer>")


def spans(text: str, opening: str, closing: str) -> list[str]:
    """What stands between each `opening` and the next `closing`; linear in the text, however many never close."""
    contents, position = [], 0
    while (start := text.find(opening, position)) != -1:
        end = text.find(closing, start + len(opening))
        if end == -1:
            break
        contents.append(text[start + len(opening) : end].strip())
        position = end + len(closing)
    return contents


def answer_slot(answer: str) -> str | None:
    r"""The expression an answer commits to: what `\boxed{}` and `<answer>` hold, else the whole text.

    None when several slots differ, or when a slot is empty or never closes.
    """
    slots = boxed_answers(answer) + answer_tags(answer)
    if slots:
        return the_only(slots)
    if "\\boxed" in answer or "<answer>" in answer:
        return None
    return answer.strip() or None
