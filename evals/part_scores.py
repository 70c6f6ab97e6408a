"""Separate scores of what makes an answer right: the choice of tools, their arguments, agreement with the thinking.

A reward is one number; here a completion that earned nothing still says what was wrong with it. Each function sees what
the verifier saw and returns shares in [0, 1] by name; a part that a completion says nothing about is left out, and so
leaves its mean. Pure functions, used by evaluation alone: nothing is trained on them.

Tool use after the report's in-house ToolUse (arXiv 2505.09388, section 4.6: intent, format, parameters); how each share
is counted is not published and is this project's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.chat import STOP_SENTENCE
from rewards.extract import integer_answer, parse_request
from rewards.strict_json import strictly_equal
from rewards.task import ScoreRequest
from rewards.tasks import tool_workflow
from rewards.tool_environment import ToolEnvironment, calls_made

Parts = Mapping[str, float]
Call = Mapping[str, Any]

_STEP = re.compile(r"(-?[0-9]{1,18})\+(-?[0-9]{1,18})=(-?[0-9]{1,18})")
_SUM = re.compile(r"Compute ((?:-?[0-9]{1,18} \+ )+-?[0-9]{1,18})\.")


def part_scores(request: ScoreRequest) -> Parts:
    """The parts of one completion; empty for a task that has none."""
    scorer = _SCORERS.get(request.task)
    return scorer(request) if scorer is not None else {}


def call_parts(made: Sequence[Call], expected: Sequence[Call], *, num_bad: int) -> Parts:
    """Intent, format and parameters of the calls that were made beside those that were expected.

    intent: 1 when the names of the calls, malformed ones left out, are the expected names as a multiset; to call
    nothing is right where nothing was expected. format: the share of attempted calls that are well formed and fit
    their tool's signature; left out when nothing was attempted. parameters: of the calls whose name was expected, the
    share that has exactly the expected arguments, types included; left out when there is none.
    """
    names, wanted = Counter(call["name"] for call in made), Counter(call["name"] for call in expected)
    parts = {"intent": float(names == wanted)}
    if made or num_bad:
        parts["format"] = len(made) / (len(made) + num_bad)
    shared = (names & wanted).total()
    if shared:
        open_calls = list(expected)
        num_right = 0
        for call in made:
            found = next((other for other in open_calls if _same_call(call, other)), None)
            if found is not None:
                open_calls.remove(found)
                num_right += 1
        parts["parameters"] = num_right / shared
    return parts


def _same_call(one: Call, other: Call) -> bool:
    return one["name"] == other["name"] and strictly_equal(dict(one["arguments"]), dict(other["arguments"]))


def _single_turn_calls(request: ScoreRequest) -> Parts:
    parsed = parse_request(request)
    return call_parts(parsed.tool_calls, request.reference["calls"], num_bad=parsed.malformed_calls)


def _episode_calls(request: ScoreRequest) -> Parts:
    if not isinstance(request.outcome, dict):
        return {}
    expected = request.reference["calls"]
    return call_parts(calls_made(request.outcome), expected, num_bad=request.outcome["bad_calls"])


def _workflow_calls(request: ScoreRequest) -> Parts:
    """Only changes are held against the reference: how often somebody looks before is free."""
    if not isinstance(request.outcome, dict):
        return {}
    environment = tool_workflow.environment(request.reference)
    assert isinstance(environment, ToolEnvironment)
    made = [call for call in calls_made(request.outcome) if environment.tools[call["name"]].writes]
    expected = [{"name": name, "arguments": arguments} for name, arguments in request.reference["changes"]]
    return call_parts(made, expected, num_bad=request.outcome["bad_calls"])


def budget_coherence(question: str, reasoning: str, answer: str) -> Parts:
    """Whether the answer after a forced stop agrees with the thinking so far, for sums worked in partial sums.

    The thinking "7+5=12, 12+9=21" of the sum 7 + 5 + 9 + 3 has added three terms and holds 21; what is left is 3, so
    24 agrees with it. coherent: the answer is the last partial sum plus the terms not yet added, whether or not the
    partial sum is right. read_off: it is the partial sum itself, the plain state of the thinking. Left out: thinking
    that was not stopped, that holds no finished step, or whose steps do not follow the terms, so that nothing can be
    read off; with all terms added both ask for the same number. No published definition; section 4.3 of arXiv
    2505.09388 only says that the ability to answer from partial thinking emerges.
    """
    before, stopped, _ = reasoning.partition(STOP_SENTENCE)
    found = _SUM.search(question)
    if not stopped or found is None:
        return {}
    terms = [int(term) for term in found[1].split(" + ")]
    state = _partial_sum(before, terms)
    if state is None:
        return {}
    partial, num_added = state
    given = integer_answer(answer)
    return {
        "coherent": float(given == partial + sum(terms[num_added:])),
        "read_off": float(given == partial),
    }


def _partial_sum(reasoning: str, terms: Sequence[int]) -> tuple[int, int] | None:
    """The last finished partial sum and how many terms it holds; None when the steps do not follow the terms.

    `reasoning` is the thinking up to the stop sentence, before which the protocol writes an empty line. A number that
    the stop cut in two is not told from a whole one, so the last step counts only when the policy wrote on after it.
    """
    whole = reasoning.removesuffix("\n\n")
    steps = [(int(m[1]), int(m[2]), int(m[3]), m.end()) for m in _STEP.finditer(whole)]
    if steps and steps[-1][3] == len(whole):
        steps.pop()
    if not steps or len(steps) > len(terms) - 1:
        return None
    total = terms[0]
    for (left, right, result, _), term in zip(steps, terms[1:], strict=False):
        if left != total or right != term:
            return None
        total = result
    return total, len(steps) + 1


def _coherence_of_a_sum(request: ScoreRequest) -> Parts:
    parsed = parse_request(request)
    question = str(request.messages[-1]["content"])
    return budget_coherence(question, parsed.reasoning or "", parsed.answer)


_SCORERS: Mapping[str, Callable[[ScoreRequest], Parts]] = {
    "tool_call": _single_turn_calls,
    "tool_use": _episode_calls,
    "tool_workflow": _workflow_calls,
    "arithmetic": _coherence_of_a_sum,
}
