"""Small functions to be written or repaired: what each does in words, a solution, likely slips and hidden tests.

    rng, level -> draw_spec -> FunctionSpec -> rewards.tasks.code_from_spec, rewards.tasks.code_repair

Level 0 is a chain of two sums and products on one line; higher levels draw from `rewards.function_templates`. Expected
values come from running the solution here: it is text of this project, filled in with numbers, never the policy's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewards.function_inputs import numbers
from rewards.function_templates import TEMPLATES, Template
from rewards.strict_json import strictly_equal
from rewards.task import TaskItem

MAX_LEVEL = 4
_FUNCTION_NAMES, _ARGUMENT_NAMES = "fgh", "xn"
_OPERATIONS = {"+": "add {}", "-": "subtract {}", "*": "multiply by {}"}
_MISTAKEN = {"+": "-", "-": "+", "*": "+"}
_LONG_NAMES = ("f", "g", "solve", "compute", "run")
_KEPT = (
    ("greater than LIMIT", "x > LIMIT"), ("less than LIMIT", "x < LIMIT"), ("even", "x % 2 == 0"),
    ("odd", "x % 2 == 1"), ("divisible by LIMIT", "x % LIMIT == 0"), ("not divisible by LIMIT", "x % LIMIT != 0"),
    ("negative", "x < 0"), ("at least LIMIT", "x >= LIMIT"),
)  # fmt: skip
_CHANGED = (
    ("square each", "x * x"), ("multiply each by FACTOR", "x * FACTOR"), ("add FACTOR to each", "x + FACTOR"),
    ("subtract FACTOR from each", "x - FACTOR"), ("take the absolute value of each", "abs(x)"),
    ("take the remainder of each by FACTOR", "x % FACTOR"), ("negate each", "-x"),
)  # fmt: skip
_BROUGHT_TOGETHER = (
    ("their sum", "sum({})"), ("the largest (0 if there is none)", "max({}, default=0)"),
    ("the smallest (0 if there is none)", "min({}, default=0)"), ("how many different ones there are", "len(set({}))"),
    ("them sorted from small to large", "sorted({})"), ("them sorted from large to small", "sorted({}, reverse=True)"),
    ("them in reverse order", "{}[::-1]"), ("the last (None if there is none)", "({} or [None])[-1]"),
)  # fmt: skip
Step = tuple[str, int]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function to write: `text` says what it does, `slips` are solutions that are wrong in one place each.

    `thoughts` are the lines of a worked solution; at level 0 the last of them is the expression returned.
    """

    name: str
    signature: str
    text: str
    solution: str
    slips: tuple[str, ...]
    thoughts: tuple[str, ...]
    inputs: tuple[tuple[Any, ...], ...]
    example: tuple[Any, ...] | None = None
    steps: tuple[Step, ...] = ()


def draw_spec(rng: random.Random, level: int) -> FunctionSpec:
    """A function of the level whose hidden tests tell the solution from every constant and every slip."""
    while True:
        if level == 0:
            spec = _draw_chain(rng, 2)
        elif level == 1 and rng.random() < 0.3:
            spec = _draw_chain(rng, 3)
        elif level in (2, 3) and rng.random() < 0.5:
            spec = _draw_pipeline(rng, sums=level == 3)
        else:
            spec = _fill_in(rng, rng.choice(TEMPLATES[level]))
        expected = outputs(spec.solution, spec.name, spec.inputs)
        if _num_distinct(expected) >= 3 or (set(map(str, expected)) == {"True", "False"} and len(expected) >= 8):
            slips = tuple(s for s in spec.slips if not strictly_equal(outputs(s, spec.name, spec.inputs), expected))
            if slips:
                return replace(spec, slips=slips)


def reference_of(spec: FunctionSpec) -> dict[str, Any]:
    """The reference of a prompt: the hidden tests, and the solution for the base model's training rows."""
    return {
        "name": spec.name,
        "inputs": [list(arguments) for arguments in spec.inputs],
        "expected": outputs(spec.solution, spec.name, spec.inputs),
        "solution": spec.solution,
        "slips": list(spec.slips),
        "thoughts": list(spec.thoughts),
        "steps": [list(step) for step in spec.steps],
    }


def outputs(source: str, name: str, inputs: Sequence[Sequence[Any]]) -> list[Any]:
    """What a function of this project's own text returns on each input; an exception counts as the text of its name."""
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    results = []
    for arguments in inputs:
        try:
            results.append(namespace[name](*json.loads(json.dumps(arguments))))
        except Exception as error:  # a slip may raise whatever it likes, which is a result like any other here
            results.append(f"raises {type(error).__name__}")
    return results


def example_text(spec: FunctionSpec) -> str:
    """The one visible example, such as "For example, f([1, 2]) is 3."; empty at levels without."""
    if spec.example is None:
        return ""
    value = outputs(spec.solution, spec.name, [spec.example])[0]
    return f" For example, {spec.name}({', '.join(map(repr, spec.example))}) returns {value!r}."


def mistaken_work(rng: random.Random, item: TaskItem, error_rate: float) -> tuple[list[str], str]:
    """Lines of reasoning and the function they lead to, each step wrong with probability `error_rate`."""
    reference = item.reference
    if reference["steps"]:
        signature = reference["solution"].partition(":")[0].removeprefix("def ")
        taken = [
            (_MISTAKEN[operator] if rng.random() < error_rate else operator, number)
            for operator, number in reference["steps"]
        ]
        lines = _expressions(signature[2:-1], taken)
        return lines, f"def {signature}: return {lines[-1]}"
    wrong = rng.random() < error_rate
    return reference["thoughts"], rng.choice(reference["slips"]) if wrong else reference["solution"]


# ------------------------------------------------------------------------------------------- drawing


def _draw_chain(rng: random.Random, num_steps: int) -> FunctionSpec:
    """Sums and products in a row, "add 3, then multiply by 4" for (x+3)*4; no number twice, so that none cancel."""
    name, argument = rng.choice(_FUNCTION_NAMES), rng.choice(_ARGUMENT_NAMES)
    steps = tuple((rng.choice("+-*"), number) for number in rng.sample(range(2, 10), num_steps))
    thoughts = _expressions(argument, steps)
    words = ", then ".join(_OPERATIONS[operator].format(number) for operator, number in steps)
    slips = [f"{name}({argument}): return {text}" for text in _slipped_expressions(argument, steps)]
    signature = f"{name}({argument})"
    return FunctionSpec(
        name, signature, words, f"def {signature}: return {thoughts[-1]}", tuple(f"def {slip}" for slip in slips),
        tuple(thoughts), tuple((value,) for value in rng.sample(range(-20, 40), 6)), steps=steps,
    )  # fmt: skip


def _expressions(argument: str, steps: Sequence[Step]) -> list[str]:
    """The expression after each step."""
    text, results, is_sum = argument, [], False
    for operator, number in steps:
        if operator == "*" and is_sum:
            text = f"({text})"
        is_sum = operator != "*"
        text += f"{operator}{number}"
        results.append(text)
    return results


def _slipped_expressions(argument: str, steps: Sequence[Step]) -> list[str]:
    """The last expression with one operation or number changed, or without its parentheses."""
    found = []
    for index, (operator, number) in enumerate(steps):
        for other in ((_MISTAKEN[operator], number), (operator, number + 1), (operator, number - 1)):
            changed = [*steps[:index], other, *steps[index + 1 :]]
            found.append(_expressions(argument, changed)[-1])
    whole = _expressions(argument, steps)[-1]
    bare = whole.replace("(", "").replace(")", "")
    return [*found, bare] if bare != whole else found


def _draw_pipeline(rng: random.Random, *, sums: bool) -> FunctionSpec:
    """Keep some numbers of a list and change each; with `sums` bring them to one value as well."""
    limit, factor = rng.randint(2, 6), rng.randint(2, 6)
    kept, changed, last = rng.sample(_KEPT, 2), rng.sample(_CHANGED, 2), rng.sample(_BROUGHT_TOGETHER, 2)
    name = rng.choice(_LONG_NAMES)

    def source(keep: str, change: str, together: str) -> str:
        items = f"[{change} for x in xs if {keep}]"
        return f"def {name}(xs):\n    return {together.format(items) if sums else items}".replace(
            "LIMIT", str(limit)
        ).replace("FACTOR", str(factor))

    parts = [(kept[0][1], changed[0][1], last[0][1])]
    parts += [(kept[1][1], *parts[0][1:]), (parts[0][0], changed[1][1], parts[0][2])]
    parts += [(*parts[0][:2], last[1][1])] if sums else []
    words = f"keep the numbers that are {kept[0][0]}, {changed[0][0]}, and return {last[0][0] if sums else 'the list'}"
    words = words.replace("LIMIT", str(limit)).replace("FACTOR", str(factor))
    drawn = [numbers(rng) for _ in range(12)]
    solution, *slips = (source(*part) for part in parts)
    return FunctionSpec(
        name, f"{name}(xs)", words, solution, tuple(slips), ("filter, then change each in a comprehension",),
        tuple(drawn[1:]), example=drawn[0],
    )  # fmt: skip


def _fill_in(rng: random.Random, template: Template) -> FunctionSpec:
    values = template.draw_numbers(rng)
    name = rng.choice(_LONG_NAMES)

    def filled(text: str) -> str:
        for key, value in values.items():
            text = text.replace("{" + key + "}", str(value))
        return text

    signature = f"{name}({template.parameters})"
    source = f"def {signature}:\n{template.code}".replace("SELF(", f"{name}(")
    slips = tuple(filled(source.replace(right, wrong, 1)) for right, wrong in template.slips if right in source)
    drawn = [template.draw_input(rng) for _ in range(12)]
    return FunctionSpec(
        name, signature, filled(f"return {template.text}"), filled(source), slips, (filled(template.thought),),
        tuple(drawn[1:]), example=drawn[0],
    )  # fmt: skip


def _num_distinct(values: Sequence[Any]) -> int:
    return len({json.dumps(value, sort_keys=True) for value in values})
