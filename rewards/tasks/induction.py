"""Induction: find the rule behind a sequence or behind examples of a list function, and apply it once more.

Area: reasoning. Reward type: rule.
Verified: the next number, or the list that the rule makes of a new list, exactly.
Known hacks: several candidates in one answer; a list in a text; repeating the last term, the last difference or an
example's list; and the fault of the task itself: a sequence that has two sensible continuations, of which one is paid.
Guard: one number or one list as the whole answer. Unique by construction: rules come from a closed family
(`rewards.list_rules`: six rules of sequences; 22 list operations, alone or two in a row), the question names that
family from level 1 on, and an item is kept only when every rule of the family that fits what is shown gives the same
answer. At level 0 only two of the rules are drawn: adding a constant, or a number that itself changes by a constant.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot, integer_answer, parse_integer
from rewards.list_rules import LIST_OPERATIONS, SEQUENCE_RULES, Numbers, next_terms, rules_that_fit, transform
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MAX_LIST_CHARS = 200
_MAX_TERM = 9_999
_MIN_ANSWER = 12
"""Smaller numbers, and the round 10, are what a guess or noise hits."""

_NUM_EXAMPLES = 4
_LIST = re.compile(r"\[\s*(?:-?[0-9]{1,6}\s*,\s*)*-?[0-9]{1,6}\s*\]")
_FIRST_LIST_LEVEL = 3
_LAST_LEVEL = 4


# --- sequences -----------------------------------------------------------------------------------------------------


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Level 0: differences that are constant or change by a constant; 1: also two in turn and multiply-and-add; 2: the
    whole family with seven terms; 3: one list operation; 4: two in a row.
    """
    if difficulty >= _FIRST_LIST_LEVEL:
        return _list_item(rng, depth=difficulty - _FIRST_LIST_LEVEL + 1)
    while True:
        terms = _draw_terms(rng, difficulty)
        *shown, last = terms
        in_range = last >= _MIN_ANSWER and max(map(abs, terms)) <= _MAX_TERM
        if in_range and last not in shown and next_terms(shown) == {last}:
            break
    listed = ", ".join(map(str, shown))
    if difficulty == 0:
        question = f"Next number: {listed}, ?"
    else:
        family = "; ".join(SEQUENCE_RULES)
        question = f"Which number comes next: {listed}, ? The rule is one of: {family}. Answer with one integer."
    return TaskItem(({"role": "user", "content": question},), {"answer": last, "terms": shown}, domain="induction")


def _draw_terms(rng: random.Random, difficulty: int) -> list[int]:
    """Six terms (eight at level 2), the last of which is the answer."""
    if difficulty == 0:
        return _changing(rng, rng.randint(1, 90), rng.choice((0, 0, 1, 2, -1)), 6)
    kinds = (_alternating, _affine, _quadratic) if difficulty == 1 else (_interleaved, _fibonacci, _affine, _quadratic)
    return rng.choice(kinds)(rng, 6 if difficulty == 1 else 8)


def _changing(rng: random.Random, first: int, growth: int, count: int) -> list[int]:
    step = rng.choice((1, 1, -1)) * rng.randint(2, 9)
    terms = [first]
    for index in range(count - 1):
        terms.append(terms[-1] + step + growth * index)
    return terms


def _quadratic(rng: random.Random, count: int) -> list[int]:
    return _changing(rng, rng.randint(1, 99), rng.choice([-5, -4, -3, 3, 4, 5, 6, 7]), count)


def _alternating(rng: random.Random, count: int) -> list[int]:
    steps = rng.sample([step for step in range(-9, 13) if step], 2)
    terms = [rng.randint(10, 99)]
    for index in range(count - 1):
        terms.append(terms[-1] + steps[index % 2])
    return terms


def _affine(rng: random.Random, count: int) -> list[int]:
    p, q, terms = rng.randint(2, 3), rng.randint(-5, 9), [rng.randint(1, 9)]
    for _ in range(count - 1):
        terms.append(p * terms[-1] + q)
    return terms


def _fibonacci(rng: random.Random, count: int) -> list[int]:
    terms = [rng.randint(1, 20), rng.randint(1, 20)]
    while len(terms) < count:
        terms.append(terms[-2] + terms[-1])
    return terms


def _interleaved(rng: random.Random, count: int) -> list[int]:
    starts, steps = (rng.randint(10, 60), rng.randint(10, 60)), (rng.randint(-5, 12), rng.randint(-5, 12))
    return [starts[index % 2] + steps[index % 2] * (index // 2) for index in range(count)]


# --- lists ---------------------------------------------------------------------------------------------------------


def _list_item(rng: random.Random, depth: int) -> TaskItem:
    """Examples of a rule and one more list; the answer is neither that list nor a list that is shown."""
    while True:
        rule = tuple(rng.choice(list(LIST_OPERATIONS)) for _ in range(depth))
        *shown, asked = (tuple(rng.randint(1, 20) for _ in range(rng.randint(4, 6))) for _ in range(_NUM_EXAMPLES + 1))
        examples = [(before, transform(rule, before)) for before in shown]
        made = transform(rule, asked)
        if not made or made in (asked, *shown) or made in [after for _, after in examples]:
            continue
        if {transform(fitting, asked) for fitting in rules_that_fit(depth, examples)} == {made}:
            break
    told = "\n".join(f"{list(before)} -> {list(after)}" for before, after in examples)
    how = "one of these operations" if depth == 1 else "two of these operations in a row"
    question = (
        f"One rule makes each second list from the first:\n{told}\n{list(asked)} -> ?\n"
        f"The rule is {how}: {'; '.join(LIST_OPERATIONS)}. Answer with the list."
    )
    reference = {"answer": list(made), "rule": list(rule), "asked": list(asked)}
    return TaskItem(({"role": "user", "content": question},), reference, domain="induction")


# --- worked solutions ----------------------------------------------------------------------------------------------


def answer(item: TaskItem) -> str:
    """The boxed number, or the list in brackets."""
    gold = item.reference["answer"]
    return str(gold) if isinstance(gold, list) else f"\\boxed{{{gold}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """Sequences: the differences, then the next difference, then the sum; a wrong step is one too many. Lists: one
    operation a line; a wrong step applies another operation of the family.
    """
    if "rule" in item.reference:
        return _work_list(rng, item, error_rate)
    terms, gold = item.reference["terms"], item.reference["answer"]
    differences = [b - a for a, b in itertools.pairwise(terms)]
    following = gold - terms[-1]
    if rng.random() < error_rate:
        following += 1
    total = terms[-1] + following
    if rng.random() < error_rate:
        total += 10 if following < 0 else 1
    shown = " ".join(f"{difference:+d}" for difference in differences)
    lines = [shown, f"next {following:+d}", f"{terms[-1]}{following:+d}={total}"]
    return Worked("\n".join(lines), f"\\boxed{{{total}}}")


def _work_list(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    numbers: Numbers = tuple(item.reference["asked"])
    lines = []
    for name in item.reference["rule"]:
        used = name
        if rng.random() < error_rate:
            right = transform([name], numbers)
            used = rng.choice([other for other in LIST_OPERATIONS if transform([other], numbers) not in (right, ())])
        numbers = transform([used], numbers)
        lines.append(f"{used}: {list(numbers)}")
    return Worked("\n".join(lines), str(list(numbers)))


# --- verification --------------------------------------------------------------------------------------------------


def read_list(text: str) -> list[int] | None:
    """The list of integers that a text consists of, in square brackets; None for other text."""
    text = text.strip().strip("$").strip().removesuffix(".").strip()
    if len(text) > MAX_LIST_CHARS or not _LIST.fullmatch(text):
        return None
    return [int(number) for number in text[1:-1].split(",")]


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """Exact comparison with the number or the list. A reference that is neither raises ValueError."""
    expected = request.reference["answer"]
    found: int | Sequence[int] | None
    if isinstance(expected, list):
        if not expected or any(type(number) is not int for number in expected):
            raise ValueError(f"induction reference {expected!r} is not a list of integers")
        slot = answer_slot(parsed.answer)
        found = read_list(slot) if slot is not None else None
    else:
        expected = parse_integer(str(expected))
        if expected is None:
            raise ValueError(f"induction reference {request.reference['answer']!r} is neither an integer nor a list")
        found = integer_answer(parsed.answer)
    if found is None:
        return Score.incorrect("no single number or list")
    return Score.correct() if found == expected else Score.incorrect(f"{found} is not {expected}")


def _example(completion: str, gold: int | list[int], note: str) -> Example:
    return Example(completion, {"answer": gold}, note=note)


TASK = Task(
    name="induction",
    area="reasoning",
    reward_type="rule",
    summary="the next number of a sequence, or what a list rule makes of a new list",
    hack="several candidates, repeating what is shown, ambiguous sequences",
    guard="one number or list as the whole answer; all fitting rules of a closed, stated family agree",
    generate=generate,
    max_difficulty=_LAST_LEVEL,
    verify=verify,
    reference_keys=("answer",),
    answer=answer,
    work=work,
    known_good=(
        _example("<think>\n+3 +3 +3\nnext +3\n11+3=14\n</think>\n\n\\boxed{14}", 14, "after thinking"),
        _example("14", 14, "bare number"),
        _example("[3, 2, 1]", [3, 2, 1], "list"),
        _example("So the list is \\boxed{[3,2,1]}.", [3, 2, 1], "list in a box, no blanks"),
        _example("<answer>[-3]</answer>", [-3], "list of one in a tag"),
    ),
    known_bad=(
        _example("-14", 14, "dropped sign"),
        _example("14 or 17", 14, "two candidates"),
        _example("2, 5, 8, 11, 14", 14, "the whole sequence"),
        _example("14, 17, 20", 14, "more terms than asked for"),
        _example("\\boxed{14} \\boxed{17}", 14, "two boxes"),
        _example("11+3", 14, "not calculated"),
        _example("[14]", 14, "list in place of a number"),
        _example("14", [14], "number in place of a list"),
        _example("3, 2, 1", [3, 2, 1], "list without brackets"),
        _example("[1, 2, 3]", [3, 2, 1], "another order"),
        _example("[3, 2, 1, 1]", [3, 2, 1], "a number too many"),
        _example("[3, 2]", [3, 2, 1], "a number left out"),
        _example("[3, 2, 1] or [1, 2, 3]", [3, 2, 1], "two lists"),
        _example("[[3, 2, 1]]", [3, 2, 1], "nested list"),
        _example("[3, 2, 1,]", [3, 2, 1], "comma at the end"),
        _example("[3.0, 2, 1]", [3, 2, 1], "decimal"),
        _example("list(reversed([1, 2, 3]))", [3, 2, 1], "code"),
        _example("[" * 5000 + "3", [3, 2, 1], "deep brackets"),
        _example("[" + "1," * 5000 + "1]", [3, 2, 1], "thousands of numbers"),
        _example("<think>\n\\boxed{14}", 14, "answer inside unfinished thinking"),
        _example("<think>\n[3, 2, 1]\n</think>\n\n", [3, 2, 1], "answer only inside the block"),
    ),
)
