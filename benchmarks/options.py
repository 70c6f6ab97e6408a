"""The command line that the comparisons share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import PEERS, RESULTS, SCRATCH, Plan, Row
from benchmarks.workloads import workload, write_workload
from data.records import UserError


def comparison_parser(
    text: str | None, claim: str, *, workloads: Sequence[str], sides: Sequence[str], default: Sequence[str]
) -> argparse.ArgumentParser:
    """Workloads, precision, sides, repeats and where results go."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{claim}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(workloads)}")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), nargs="+", default=["float32"])
    parser.add_argument("--sides", nargs="+", choices=sides, default=list(default))
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--steps", type=int, default=5, help="counted steps of each run")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each run before these")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory run out")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds that one run of one side may take")
    parser.add_argument("--fourstage", action="append", default=[], metavar="key=value", help="a setting of the recipe")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' virtual environment")
    parser.add_argument("--label", default="", help="a name for the case, kept beside the one without")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where lines and tables are kept")
    parser.add_argument("--table", action="store_true", help="only write the tables again (give no workload)")
    return parser


def plan_of(parsed: argparse.Namespace) -> Plan:
    """How often the sides run."""
    return Plan(
        repeats=parsed.repeats,
        steps=parsed.steps,
        warmup=parsed.warmup,
        memory=not parsed.no_memory,
        timeout_s=parsed.timeout,
    )


def cases_of(parsed: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Workload and precision of every case that was asked for; UserError when none was and no table either."""
    if not parsed.workloads and not parsed.table:
        raise UserError("workloads: name at least one, such as A, or give --table")
    for name in parsed.workloads:
        workload(name)
        for precision in parsed.precision:
            yield name, precision


def make_workload(name: str) -> Path:
    """The folder of a workload, written on first use."""
    return write_workload(workload(name), SCRATCH / "workloads")


def parsed_values(texts: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts; a value is JSON where it can be read as such, else text."""
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"setting {text!r} is not of the form key=value")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
    return values


def case_name(name: str, precision: str, parsed: argparse.Namespace) -> str:
    """How the results call one case."""
    return " ".join([name, precision, *parsed.label.split()])


def case_rows(rows: Sequence[Row], case: str) -> list[Row]:
    """The lines of one case."""
    return [row for row in rows if row["case"] == case]


def run_as_program(main: Callable[[], None]) -> None:
    """Run `main`; what the user can mend is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
