"""A small interpreter of a subset of Python, for programs that this project writes itself.

It gives the expected output of `rewards.tasks.code_output` without running anything: the program is parsed with `ast`,
and only the nodes named here are understood. `on_assign` sees every value that is assigned to a name and may replace
it, which is how a worked solution with errors goes on from a wrong value.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

MAX_STEPS = 5_000
"""Nodes visited; generated programs need fewer than a thousand, a slip may make a loop run for ever."""

MAX_VALUE_DIGITS = 30

OnAssign = Callable[[str, Any], Any]


class CannotRun(ValueError):
    """The program is outside the subset, fails, or does not end in time."""


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right,
}


def _range(*bounds: int) -> range:
    """`range` within the limit, because `sum` and `sorted` go through it in one step."""
    numbers = range(*bounds)
    if len(numbers) > MAX_STEPS:
        raise CannotRun(f"a range of more than {MAX_STEPS} numbers")
    return numbers


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "max": max,
    "min": min,
    "range": _range,
    "sorted": sorted,
    "str": str,
    "sum": sum,
}
_METHODS: Mapping[type, Mapping[str, Callable[..., Any]]] = {
    list: {"append": list.append, "pop": list.pop},
    str: {"upper": str.upper},
    dict: {"get": dict.get},
}


class _Return(Exception):
    """Carries the value of a `return` to its call."""

    def __init__(self, value: Any) -> None:
        self.value = value


def run(source: str, on_assign: OnAssign = lambda _name, value: value) -> str:
    """What the program prints, without the last line break.

    Raises CannotRun for a program outside the subset, for one that fails as it would in Python, and past `MAX_STEPS`.
    """
    interpreter = _Interpreter(on_assign)
    try:
        for statement in ast.parse(source).body:
            interpreter.execute(statement, interpreter.globals)
    except CannotRun:
        raise
    except _Return as error:
        raise CannotRun("return outside a function") from error
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, SyntaxError, RecursionError) as error:
        raise CannotRun(f"{type(error).__name__}: {error}") from error
    return "\n".join(interpreter.printed)


class _Interpreter:
    def __init__(self, on_assign: OnAssign) -> None:
        self.on_assign = on_assign
        self.globals: dict[str, Any] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.printed: list[str] = []
        self.num_steps = 0

    def _step(self) -> None:
        self.num_steps += 1
        if self.num_steps > MAX_STEPS:
            raise CannotRun(f"no end after {MAX_STEPS} steps")

    # --- statements ---

    def execute(self, node: ast.stmt, names: dict[str, Any]) -> None:
        self._step()
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self._assign(node.targets[0], self.evaluate(node.value, names), names)
        elif isinstance(node, ast.AugAssign):
            current = self.evaluate(node.target, names)
            changed = self._binary(node.op, current, self.evaluate(node.value, names))
            self._assign(node.target, changed, names)
        elif isinstance(node, ast.Expr):
            self.evaluate(node.value, names)
        elif isinstance(node, ast.If):
            self._body(node.body if self.evaluate(node.test, names) else node.orelse, names)
        elif isinstance(node, ast.While) and not node.orelse:
            while self.evaluate(node.test, names):
                self._body(node.body, names)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name) and not node.orelse:
            for item in self.evaluate(node.iter, names):
                names[node.target.id] = item
                self._body(node.body, names)
        elif isinstance(node, ast.FunctionDef):
            self.functions[node.name] = node
        elif isinstance(node, ast.Return) and node.value is not None:
            raise _Return(self.evaluate(node.value, names))
        else:
            raise CannotRun(f"{type(node).__name__} is not understood")

    def _body(self, statements: list[ast.stmt], names: dict[str, Any]) -> None:
        for statement in statements:
            self.execute(statement, names)

    def _assign(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = self.on_assign(target.id, value)
        elif isinstance(target, ast.Subscript):
            self.evaluate(target.value, names)[self.evaluate(target.slice, names)] = value
        else:
            raise CannotRun(f"assignment to {type(target).__name__} is not understood")

    # --- expressions ---

    def evaluate(self, node: ast.expr, names: dict[str, Any]) -> Any:
        self._step()
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return names[node.id] if node.id in names else self.globals[node.id]
        if isinstance(node, ast.BinOp):
            return self._binary(node.op, self.evaluate(node.left, names), self.evaluate(node.right, names))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = self.evaluate(node.left, names), self.evaluate(node.comparators[0], names)
            return _COMPARE[type(node.ops[0])](left, right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.evaluate(node.operand, names)
        if isinstance(node, ast.List):
            return [self.evaluate(element, names) for element in node.elts]
        if isinstance(node, ast.Dict):
            keys = [self.evaluate(key, names) for key in node.keys if key is not None]
            return dict(zip(keys, [self.evaluate(value, names) for value in node.values], strict=True))
        if isinstance(node, ast.Subscript):
            return self.evaluate(node.value, names)[self._index(node.slice, names)]
        if isinstance(node, ast.IfExp):
            return self.evaluate(node.body if self.evaluate(node.test, names) else node.orelse, names)
        if isinstance(node, ast.ListComp):
            return self._comprehension(node, names)
        if isinstance(node, ast.Call):
            return self._call(node, names)
        raise CannotRun(f"{type(node).__name__} is not understood")

    def _binary(self, kind: ast.operator, left: Any, right: Any) -> Any:
        if isinstance(kind, ast.Mult | ast.Mod) and not (isinstance(left, int) and isinstance(right, int)):
            raise CannotRun("* and % are for integers alone")  # on text they can make it as long as they like
        value = _BINARY[type(kind)](left, right)
        if isinstance(value, int) and abs(value) >= 10**MAX_VALUE_DIGITS:
            raise CannotRun(f"a number of more than {MAX_VALUE_DIGITS} digits")
        if isinstance(value, str | list) and len(value) > MAX_STEPS:
            raise CannotRun(f"a value of more than {MAX_STEPS} parts")
        return value

    def _index(self, node: ast.expr, names: dict[str, Any]) -> Any:
        if not isinstance(node, ast.Slice):
            return self.evaluate(node, names)
        return slice(*(self.evaluate(part, names) if part else None for part in (node.lower, node.upper, node.step)))

    def _comprehension(self, node: ast.ListComp, names: dict[str, Any]) -> list[Any]:
        (generator,) = node.generators
        if not isinstance(generator.target, ast.Name):
            raise CannotRun("a comprehension over several names is not understood")
        made, inner = [], dict(names)
        for item in self.evaluate(generator.iter, names):
            inner[generator.target.id] = item
            if all(self.evaluate(test, inner) for test in generator.ifs):
                made.append(self.evaluate(node.elt, inner))
        return made

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        if node.keywords:
            raise CannotRun("keyword arguments are not understood")
        arguments = [self.evaluate(argument, names) for argument in node.args]
        if isinstance(node.func, ast.Attribute):
            owner = self.evaluate(node.func.value, names)
            return _METHODS[type(owner)][node.func.attr](owner, *arguments)
        if not isinstance(node.func, ast.Name):
            raise CannotRun("only functions with a name are called")
        name = node.func.id
        if name == "print":
            self.printed.append(" ".join(map(str, arguments)))
            return None
        if name not in self.functions:
            return _FUNCTIONS[name](*arguments)
        function = self.functions[name]
        inner = dict(zip((parameter.arg for parameter in function.args.args), arguments, strict=True))
        try:
            self._body(function.body, inner)
        except _Return as returned:
            return returned.value
        return None
