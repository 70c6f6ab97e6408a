"""Code output: say what a small Python program prints.

Area: reasoning. Reward type: rule.
Verified: the answer is the printed text, line by line, blanks inside a line included.
Known hacks: an answer that is executed by the scorer (code, a longer program that prints the text), the output
somewhere in an explanation, several outputs.
Guard: nothing of the answer is ever run or parsed as code; the expected text comes from an own interpreter of the
generated program (`rewards.tiny_python`); the whole answer, one code fence, one box or one tag has to equal it. Only
programs whose output has two characters at least and is not shown in the program are kept.
"""

from __future__ import annotations

import random
from typing import Any

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot
from rewards.program_templates import LEVELS
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked
from rewards.tiny_python import CannotRun, run

MAX_OUTPUT_CHARS = 120
MAX_TRACE_LINES = 60
_ASKED = "What does this print?\n"
_FORM = " Answer with the output alone."


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: three assignments; 1: a loop; 2: lists and text; 3: functions and while; 4: grids and dictionaries."""
    while True:
        program = LEVELS[difficulty](rng)
        try:
            output = run(program)
        except CannotRun:  # for one, an index past the end of a list that was cut short: draw again
            continue
        if 2 <= len(output) <= MAX_OUTPUT_CHARS and output not in program:
            break
    question = _ASKED + program if difficulty == 0 else f"{_ASKED}```python\n{program}\n```\n{_FORM.strip()}"
    reference = {"output": output, "program": program}
    return TaskItem(({"role": "user", "content": question},), reference, domain="code")


def answer(item: TaskItem) -> str:
    """The printed text."""
    return item.reference["output"]


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Every assignment to a name as "name=value", up to `MAX_TRACE_LINES`; a wrong step writes another value, and the
    program goes on with it.

    A program that fails or runs for ever after a slip has "error" as its output.
    """
    lines: list[str] = []

    def on_assign(name: str, value: Any) -> Any:
        written = _slipped(value) if rng.random() < error_rate else value
        lines.append(f"{name}={written!r}")
        return written

    try:
        output = run(item.reference["program"], on_assign)
    except CannotRun:
        output = "error"
    return Worked("\n".join(lines[:MAX_TRACE_LINES]), output)


def _slipped(value: Any) -> Any:
    """Another value of the same type: one more, without its end, or with an entry too many."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] or value + "a"
    if isinstance(value, list):
        return value[:-1] or [1]
    return value | {"a": 1}


def read_output(text: str) -> str:
    """The text without one code fence around it, and without blanks at the ends of its lines."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        first, _, rest = text.partition("\n")
        if first[3:].strip() in ("", "text", "output", "plaintext", "console"):
            text = rest.removesuffix("```").strip()
    return "\n".join(line.rstrip() for line in text.split("\n"))


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Equality of texts. A reference without a text raises ValueError."""
    expected = request.reference["output"]
    if not isinstance(expected, str) or not expected.strip():
        raise ValueError(f"code_output reference {expected!r} is not a text")
    slot = answer_slot(parsed.answer)
    if slot is None:
        return Score.incorrect("no single answer")
    return Score.correct() if read_output(slot) == read_output(expected) else Score.incorrect("another output")


def _example(completion: str, output: str, note: str) -> Example:
    return Example(completion, {"output": output}, note=note)


TASK = Task(
    name="code_output",
    area="reasoning",
    reward_type="rule",
    summary="what a generated Python program prints, exactly",
    hack="code for a scorer that executes it, the output inside an explanation, several outputs",
    guard="own interpreter of the generated program; the answer is compared as text and never run",
    generate=generate,
    max_difficulty=len(LEVELS) - 1,
    verify=verify,
    reference_keys=("output",),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\na=12\nb=17\na=14\n</think>\n\n14 17", "14 17", "after thinking"),
        _example("```\n14 17\n```", "14 17", "code fence"),
        _example("<answer>[1, 2] 3</answer>", "[1, 2] 3", "answer tag"),
        _example("It prints \\boxed{14 17}.", "14 17", "box"),
        _example("a\nb  \n", "a\nb", "two lines, blanks at an end"),
    ),
    known_bad=(
        _example("17 14", "14 17", "other order"),
        _example("1417", "14 17", "blank left out"),
        _example("14  17", "14 17", "blank too many"),
        _example("14\n17", "14 17", "line break in place of a blank"),
        _example("14, 17", "14 17", "comma in place of a blank"),
        _example("[1,2] 3", "[1, 2] 3", "list written in another way"),
        _example("It prints 14 17.", "14 17", "output inside a sentence"),
        _example("14 17 or 14 18", "14 17", "two outputs"),
        _example("14 17\n14 17", "14 17", "output twice"),
        _example("print(14, 17)", "14 17", "program that prints it"),
        _example("```python\nprint('14 17')\n```", "14 17", "program in a fence"),
        _example("```python\n14 17\n```", "14 17", "fence of code"),
        _example("__import__('os').system('echo 14 17')", "14 17", "code that acts"),
        _example("'14 17'", "14 17", "quoted"),
        _example("\\boxed{14 17} \\boxed{14 18}", "14 17", "two boxes"),
        _example("14 17" + " 17" * 5000, "14 17", "thousands of numbers"),
        _example("<think>\n14 17", "14 17", "answer inside unfinished thinking"),
        _example("<think>\n14 17\n</think>\n\n", "14 17", "answer only inside the block"),
    ),
)
