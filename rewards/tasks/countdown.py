r"""The countdown game: reach a target with given numbers, each used exactly once.

Area: reasoning. Reward type: rule.
Verified: the expression is built from the given numbers alone and has the target as its exact value.
Known hacks: an expression with other numbers (a constant that always hits a fixed target), leaving numbers out, text
that an evaluating scorer executes (`9**9**9`, code), and writing "= target" after an expression of another value.
Guard: own reader of the syntax tree with the four operations alone, exact fractions, no eval, a length cap, a multiset
comparison of the numbers.
"""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from fractions import Fraction

from data.chat import ParsedCompletion
from data.records import Score
from rewards.extract import answer_slot, parse_integer
from rewards.task import Example, ScoreRequest, Task, TaskItem, Worked

MAX_EXPRESSION_CHARS = 120
"""Six three-digit numbers with every parenthesis need fewer than 60."""

_ALLOWED = re.compile(r"[0-9+\-*/() ]+")
_SYMBOLS = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("×", "*"), ("÷", "/"), ("−", "-"))
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_NUM_NUMBERS = (3, 3, 4, 4, 5, 6)
_LEVEL_OPERATORS = ("+-", "+-*", "+-*", "+-*/", "+-*/", "+-*/")
_MAX_TARGET = 1000


class NotAnExpression(ValueError):
    """The answer is not an arithmetic expression of the four operations over non-negative integers."""


def generate(rng: random.Random, difficulty: int) -> TaskItem:
    """Numbers and a target that some expression reaches with integers all the way; the reference keeps that one."""
    high = 9 if difficulty < 3 else 25
    while True:
        numbers = [rng.randint(1, high) for _ in range(_NUM_NUMBERS[difficulty])]
        built = _build(rng, numbers, _LEVEL_OPERATORS[difficulty])
        if built is not None and 0 < built[1] <= _MAX_TARGET and built[1] not in numbers:
            break
    solution, target = built
    shown = ", ".join(map(str, rng.sample(numbers, len(numbers))))
    operators = " ".join(_LEVEL_OPERATORS[difficulty])
    question = f"Use {shown} once each with {operators} and parentheses to make {target}."
    reference = {"numbers": sorted(numbers), "target": target, "solution": solution}
    return TaskItem(({"role": "user", "content": question},), reference, domain="arithmetic")


def _build(rng: random.Random, numbers: list[int], operators: str) -> tuple[str, int] | None:
    """Join random pairs with random operations until one value is left; None when a division leaves a remainder."""
    parts = [(str(number), number) for number in numbers]
    while len(parts) > 1:
        (left_text, left), (right_text, right) = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        operator = rng.choice(operators)
        if operator == "/" and (right == 0 or left % right):
            return None
        value = {"+": left + right, "-": left - right, "*": left * right, "/": left // (right or 1)}[operator]
        if value < 0:
            return None
        parts.append((f"({left_text}{operator}{right_text})", value))
    text, value = parts[0]
    return text[1:-1], value


def parse_expression(text: str) -> ast.expr:
    """The syntax tree of an expression; NotAnExpression for anything but integers, + - * / and parentheses."""
    if len(text) > MAX_EXPRESSION_CHARS:
        raise NotAnExpression("expression is too long")
    if not _ALLOWED.fullmatch(text) or "**" in text or "//" in text:
        raise NotAnExpression("not an arithmetic expression")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotAnExpression("not an arithmetic expression") from error
    for node in ast.walk(tree):
        if not isinstance(node, ast.BinOp | ast.Constant | ast.operator):
            raise NotAnExpression(f"{type(node).__name__} is not one of + - * /")
    return tree


def evaluate(tree: ast.expr) -> Fraction:
    """The exact value of a parsed expression; ZeroDivisionError when it divides by zero."""
    if isinstance(tree, ast.Constant):
        assert type(tree.value) is int
        return Fraction(tree.value)
    assert isinstance(tree, ast.BinOp)
    return _apply(_OPERATORS[type(tree.op)], evaluate(tree.left), evaluate(tree.right))


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right


def answer(item: TaskItem) -> str:
    """The boxed expression that the generator built."""
    return f"\\boxed{{{item.reference['solution']}}}"


def work(rng: random.Random, item: TaskItem, error_rate: float) -> Worked:
    """One operation a line; a wrong step writes another operator but goes on with the value it meant to reach."""
    lines: list[str] = []

    def walk(tree: ast.expr) -> tuple[str, Fraction]:
        if isinstance(tree, ast.Constant):
            return str(tree.value), evaluate(tree)
        assert isinstance(tree, ast.BinOp)
        (left_text, left), (right_text, right) = walk(tree.left), walk(tree.right)
        operator = _OPERATORS[type(tree.op)]
        value = _apply(operator, left, right)
        if rng.random() < error_rate:
            operator = "-" if operator == "+" else "+"
        lines.append(f"{left}{operator}{right}={value}")
        return f"({left_text}{operator}{right_text})", value

    text, _ = walk(parse_expression(item.reference["solution"]))
    return Worked("\n".join(lines), f"\\boxed{{{text.removeprefix('(').removesuffix(')')}}}")


def verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    """The numbers as a multiset, then the exact value."""
    numbers = Counter(int(number) for number in request.reference["numbers"])
    target = int(request.reference["target"])
    slot = answer_slot(parsed.answer)
    if slot is None:
        return Score.incorrect("no single expression")
    expression, equals, claimed = slot.strip().strip("$").partition("=")
    if equals and parse_integer(claimed) != target:
        return Score.incorrect("the text after = is not the target")
    for symbol, plain in _SYMBOLS:
        expression = expression.replace(symbol, plain)
    try:
        tree = parse_expression(expression.strip())
    except NotAnExpression as error:
        return Score.incorrect(str(error))
    used = Counter(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    if used != numbers:
        return Score.incorrect("does not use each given number exactly once")
    try:
        value = evaluate(tree)
    except ZeroDivisionError:
        return Score.incorrect("divides by zero")
    return Score.correct() if value == target else Score.incorrect(f"value is {value}, not {target}")


_REFERENCE = {"numbers": [2, 3, 4], "target": 14}
_PUZZLE24 = {"numbers": [3, 3, 8, 8], "target": 24}

TASK = Task(
    name="countdown",
    area="reasoning",
    reward_type="rule",
    summary="an expression over given numbers that reaches a target",
    hack="other numbers, numbers left out, code or towers for an evaluating scorer, a false '= target'",
    guard="own syntax-tree reader with four operations, exact fractions, multiset of numbers, length cap",
    generate=generate,
    max_difficulty=len(_NUM_NUMBERS) - 1,
    verify=verify,
    reference_keys=("numbers", "target"),
    answer=answer,
    work=work,
    known_good=(
        Example("<think>\n3+4=7\n7*2=14\n</think>\n\n\\boxed{(3+4)*2}", _REFERENCE),
        Example("2 * (3 + 4) = 14", _REFERENCE, note="bare, with = target"),
        Example("<answer>2*(4+3)</answer>", _REFERENCE, note="answer tag"),
        Example("$(3+4) \\times 2$", _REFERENCE, note="LaTeX operator"),
        Example("8/(3-8/3)", _PUZZLE24, note="needs exact fractions"),
    ),
    known_bad=(
        Example("6*4*1*1", _PUZZLE24, note="constant that makes 24 from other numbers"),
        Example("14", _REFERENCE, note="the target itself"),
        Example("2*3+4+4", _REFERENCE, note="a number twice"),
        Example("2*4+6", _REFERENCE, note="a number that was not given"),
        Example("2+3+4 = 14", _REFERENCE, note="false claim after ="),
        Example("(3+4)*2 = 15", _REFERENCE, note="right expression, wrong claim"),
        Example("9**9**9**9", _REFERENCE, note="power tower"),
        Example("__import__('os').system('true')", _REFERENCE, note="code"),
        Example("(" * 3000 + "2", _REFERENCE, note="deep brackets"),
        Example("34-2*10", _REFERENCE, note="digits run together"),
        Example("--2*(3+4)", _REFERENCE, note="unary signs"),
        Example("3*4/(2-2)", {"numbers": [2, 2, 3, 4], "target": 14}, note="division by zero"),
        Example("\\boxed{(3+4)*2} or \\boxed{2+3+4}", _REFERENCE, note="two boxes"),
        Example("<think>\n\\boxed{(3+4)*2}", _REFERENCE, note="answer inside unfinished thinking"),
        Example("<think>\n\\boxed{(3+4)*2}\n</think>\n\n", _REFERENCE, note="answer only inside the block"),
    ),
)
