"""Calls a function that the policy wrote on inputs the policy has not seen, and brings what it returned out as data.

    code, name, inputs -> call_function -> sandbox: harness, code -> one line of JSON -> Returned | Raised per call

Expected values never enter the sandbox. The policy's code shares an interpreter with the harness and may do to it what
it likes: end it, patch it, find the nonce in its frames, print a line of its own. None of that knows the right values,
and the comparison is made outside on plain data (None, booleans, numbers, text, lists, tuples, sets, dicts of exactly
these types), so an object that claims to equal everything never arrives. A forged line that holds the right values was
computed, which is what was asked for. The nonce only keeps accidental output from being read as the result.
"""

from __future__ import annotations

import marshal
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.sandbox import KIB, SandboxLimits, SandboxStatus, run_python
from rewards.strict_json import loads_strict, strictly_equal

CODE_LIMITS = SandboxLimits(cpu_s=1, wall_s=6.0, output_bytes=64 * KIB)
"""For answers to generated tasks, which take milliseconds. What comes out is small, so that reading it is quick even
when it is made to be slow, such as a set of numbers whose hashes collide."""

_NUM_TAGGED = 2

# Nothing of the host's json is imported: with its regular expressions it would double the time that a run takes.
_HARNESS = """
import os, sys
from marshal import loads
from _json import encode_basestring_ascii as quoted

def encoded(value, depth=0):
    kind = type(value)
    if depth > 50:
        raise ValueError("nested too deeply")
    if value is None or kind is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if kind is int:
        return int.__repr__(value)
    if kind is str:
        return quoted(value)
    if kind is float:
        return '["float",' + quoted(float.__repr__(value)) + "]"
    if kind in (list, tuple, set, frozenset):
        return '["' + kind.__name__ + '",[' + ",".join([encoded(item, depth + 1) for item in value]) + "]]"
    if kind is dict:
        pairs = ["[" + encoded(key, depth + 1) + "," + encoded(item, depth + 1) + "]" for key, item in value.items()]
        return '["dict",[' + ",".join(pairs) + "]]"
    raise TypeError("the value is no plain data: " + kind.__name__)

def outcome(function, arguments):
    try:
        return "[true," + encoded(function(*loads(arguments))) + "]"
    except BaseException as error:
        return "[false," + quoted(type(error).__name__) + "]"

def main():
    nonce, code, name, inputs = loads(sys.stdin.buffer.read())
    results = os.dup(1)
    os.dup2(2, 1)  # what the code prints goes with its errors
    namespace = {"__name__": "answer"}
    exec(compile(code, "<answer>", "exec"), namespace)
    function = namespace[name]
    line = quoted(nonce) + ",[" + ",".join([outcome(function, arguments) for arguments in inputs]) + "]"
    line = ("[" + line + "]\\n").encode()
    while line:
        line = line[os.write(results, line):]
    os._exit(0)

main()
"""


@dataclass(frozen=True, slots=True)
class Returned:
    """A call came back with this value, which is plain data."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """A call raised an exception of this name, or returned what is no plain data."""

    error: str


@dataclass(frozen=True, slots=True)
class CallReport:
    """What came out of one run: an outcome for every call, or none at all and why."""

    outcomes: tuple[Returned | Raised, ...] | None
    status: SandboxStatus
    reason: str = ""


def call_function(
    code: str, name: str, inputs: Sequence[Sequence[Any]], *, limits: SandboxLimits = CODE_LIMITS
) -> CallReport:
    """Define `code` in a sandbox and call its function `name` once on each list of arguments, in order.

    Each call gets arguments of its own; state that the code keeps lives on from call to call, as in any module.
    Raises SandboxError and UserError as `rewards.sandbox.run_python`, ValueError for arguments that are no plain data.
    """
    nonce = secrets.token_hex(16)
    # marshal is read inside, from this process; what comes out is read as JSON, never by marshal.
    stdin = marshal.dumps((nonce, code, name, [marshal.dumps(list(arguments)) for arguments in inputs]))
    result = run_python(_HARNESS, stdin=stdin, limits=limits)
    if result.status != "ok":
        last = result.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return CallReport(None, result.status, f"the program ended as {result.status}: {last}".rstrip(": "))
    outcomes = _read(result.stdout, nonce, len(inputs))
    if outcomes is None:
        return CallReport(None, result.status, "the program ended without a result")
    return CallReport(outcomes, result.status)


def wrong_result(report: CallReport, expected: Sequence[Any]) -> str | None:
    """The first difference between what calls returned and what they should, types included; None: all are right.

    Tuples and lists differ, and so do 1, 1.0 and True.
    """
    if report.outcomes is None:
        return report.reason
    for index, (outcome, value) in enumerate(zip(report.outcomes, expected, strict=True)):
        if isinstance(outcome, Raised):
            return f"test {index + 1} raised {outcome.error}"
        if not strictly_equal(outcome.value, value):
            return f"test {index + 1} returned another value"
    return None


def _read(stdout: bytes, nonce: str, num_calls: int) -> tuple[Returned | Raised, ...] | None:
    """The outcomes that the harness printed, or None when stdout is anything but its one line."""
    try:
        line = loads_strict(stdout.decode())
        found, outcomes = line
        if found != nonce or len(outcomes) != num_calls:
            return None
        return tuple(
            Returned(_decoded(value)) if good is True else Raised(str(value)[:100]) for good, value in outcomes
        )
    except (
        ValueError,
        TypeError,
        LookupError,
        RecursionError,
    ):  # not the harness's line, so it came from the policy's code
        return None


def _decoded(value: Any) -> Any:
    """The plain data that a tagged JSON value stands for; ValueError or TypeError when it stands for none."""
    if not isinstance(value, list):
        if isinstance(value, float | dict):
            raise ValueError("a bare float or object")
        return value
    if len(value) != _NUM_TAGGED:
        raise ValueError("a list without a tag")
    tag, content = value
    if tag == "float":
        return float(content)
    if tag == "dict":
        return {_decoded(key): _decoded(item) for key, item in content}
    kinds = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[tag](_decoded(item) for item in content)
