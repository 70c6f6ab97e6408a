r"""Sums of integers, the smallest task on which reasoning pays.

Area: reasoning. Reward type: rule.
Verified: the one integer that the answer commits to equals the reference, exactly.
Known hack: listing several numbers, or relying on a parser that takes the first number and drops its sign.
Guard: exactly one distinct boxed integer, or an integer as the whole answer; signs count; nothing inside the think
block is read.
"""

from __future__ import annotations

import random

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import integer_answer, parse_integer
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

LAST_SINGLE_DIGIT_LEVEL = 4


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """A sum of 4+d to 6+d single-digit terms up to level 4; from level 5 on two-digit terms, starting at 4 to 6."""
    single_digit = difficulty <= LAST_SINGLE_DIGIT_LEVEL
    extra_terms = difficulty if single_digit else difficulty - LAST_SINGLE_DIGIT_LEVEL - 1
    low, high = (1, 9) if single_digit else (10, 99)
    terms = [rng.randint(low, high) for _ in range(rng.randint(4 + extra_terms, 6 + extra_terms))]
    question = f"Compute {' + '.join(map(str, terms))}."
    return TaskItem(({"role": "user", "content": question},), {"answer": sum(terms)}, domain="arithmetic")


def answer(item: TaskItem) -> str:
    """The boxed sum."""
    return f"\\boxed{{{item.reference['answer']}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One partial sum a line; a wrong step forgets the carry (10 too little) or, without a carry, is 1 too large."""
    question = item.messages[-1]["content"]
    first, *rest = (int(term) for term in question.removeprefix("Compute ").removesuffix(".").split(" + "))
    lines, total = [], first
    for term in rest:
        result = total + term
        if rng.random() < error_rate:
            carries = total % 10 + term % 10 >= 10
            result += -10 if carries else 1
        lines.append(f"{total}+{term}={result}")
        total = result
    return Worked("\n".join(lines), f"\\boxed{{{total}}}")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Exact comparison of integers. A reference that is no integer raises ValueError."""
    expected = parse_integer(str(request.reference["answer"]))
    if expected is None:
        raise ValueError(f"arithmetic reference {request.reference['answer']!r} is not an integer")
    found = integer_answer(parsed.answer)
    if found is None:
        return Score.incorrect("no single integer answer")
    return Score.correct() if found == expected else Score.incorrect(f"{found} is not {expected}")


def _bad(completion: str, answer: int | str, note: str) -> Example:
    return Example(completion, {"answer": answer}, note=note)


TASK = Task(
    name="arithmetic",
    area="reasoning",
    reward_type="rule",
    summary="sums of integers, compared exactly",
    hack="several numbers in one answer; a dropped sign",
    guard="one distinct boxed integer or an integer as the whole answer; sign and value must match",
    generate=generate,
    max_difficulty=9,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    known_good=(
        Example("<think>\n7+5=12\n12+9=21\n21+3=24\n</think>\n\n\\boxed{24}", {"answer": 24}),
        Example("24", {"answer": "24"}, note="whole answer, reference as text"),
        Example("24.", {"answer": 24}, note="closing period"),
        Example("The answer is 1,024.", {"answer": 1024}, note="thousands comma"),
        Example("Adding up: \\boxed{24}. So \\boxed{24}.", {"answer": 24}, note="the same box twice"),
        Example("\\boxed{-18}", {"answer": -18}),
        Example("24", {"answer": 24}, enable_thinking=False, note="block prefilled"),
    ),
    known_bad=(
        _bad("-18", 18, "dropped sign"),
        _bad("288 or 1 or 2", 288, "several candidates"),
        _bad("\\boxed{24} \\boxed{25}", 24, "two boxes"),
        _bad("18.0", 18, "not an integer as written"),
        _bad("<think>\n21+3=24\n\\boxed{24}", 24, "answer inside unfinished thinking"),
        _bad("<think>\n\\boxed{24}\n</think>\n\n", 24, "answer only inside the block"),
        _bad("\\boxed{24 or 25}", 24, "two numbers in one box"),
        _bad("The answer is 24 or 25.", 24, "two numbers in a sentence"),
        _bad("24 apples and 3 pears", 24, "a number in other text"),
        _bad("١٨", 18, "digits that are not ASCII"),
        _bad("\\boxed{24", 24, "box never closes"),
        Example("\\boxed{24}", {"answer": 24}, finish_reason="length", note="truncated"),
    ),
)
