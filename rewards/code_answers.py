"""Reads the function that an answer holds and judges it by hidden tests that run in the sandbox."""

from __future__ import annotations

import re

from data.chat import ParsedCompletion
from data.records import Score
from rewards.code_runner import call_function, wrong_result
from rewards.task import ScoreRequest

REFERENCE_KEYS = ("name", "inputs", "expected")
"""What verification needs of a reference: the function's name, a list of arguments per call, and what each returns."""

MAX_CODE_CHARS = 4000
TIMEOUT_S = 40.0
"""Wall seconds for one verification in a worker. The sandbox's own limits are far below: this ends a stuck machine."""

FRAGMENTS = ("def f(x): ", "return ", "lambda x: ", "import os\n", "```python\n", "```", "x+", "os._exit(0)", "\n    ")
"""Pieces of code for a fuzzer."""

_DEFINITION = re.compile(r"^(?:def[ \t]+(\w+)[ \t]*\(|(\w+)[ \t]*=(?!=))", re.MULTILINE)
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)\n?```", re.DOTALL)


def extract_code(answer: str) -> str | None:
    """The code of an answer: its one fenced block, or the whole answer when there is no fence; None when unclear."""
    if "```" not in answer:
        return answer.strip("\n")
    blocks = _FENCE.findall(answer) if answer.count("```") == 2 else []
    return blocks[0] if blocks else None


def fenced_blocks(answer: str) -> list[str]:
    """The contents of the fenced blocks of an answer in order, fences taken two by two; one that stays open is none."""
    lines = answer.split("\n")
    fences = [index for index, line in enumerate(lines) if line.lstrip().startswith("```")]
    return ["\n".join(lines[first + 1 : last]) for first, last in zip(fences[::2], fences[1::2], strict=False)]


def last_fenced_block(answer: str) -> str | None:
    """What lies between the last two lines that hold a fence, as LiveCodeBench extracts code; None without two."""
    lines = answer.split("\n")
    fences = [index for index, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else None


def quick_check(request: ScoreRequest, parsed: ParsedCompletion) -> Score | None:
    """Refuse what does not define the function once, without a sandbox; a helper is welcome when something uses it.

    Code is not parsed here: parsers can be crashed.
    """
    code = extract_code(parsed.answer)
    if code is None:
        return Score.incorrect("not exactly one block of code")
    if len(code) > MAX_CODE_CHARS:
        return Score.incorrect("the code is too long")
    name = request.reference["name"]
    defined = [first or second for first, second in _DEFINITION.findall(code)]
    if defined.count(name) != 1:
        return Score.incorrect(f"function {name} is defined {defined.count(name)} times")
    for other in set(defined) - {name}:
        if len(re.findall(rf"\b{re.escape(other)}\b", code)) < 2:
            return Score.incorrect(f"function {other} is a second answer: nothing uses it")
    return None


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Run the code on the hidden inputs in the sandbox and compare here.

    Raises SandboxError when the sandbox itself fails, UserError where programs cannot be isolated at all.
    """
    refused = quick_check(request, parsed)
    if refused is not None:
        return refused
    code = extract_code(parsed.answer)
    assert code is not None
    reference = request.reference
    wrong = wrong_result(call_function(code, reference["name"], reference["inputs"]), reference["expected"])
    return Score.correct() if wrong is None else Score.incorrect(wrong)
