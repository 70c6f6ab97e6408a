"""Turns an ablation's table on its side, for a page: one row a variant, one column a benchmark in one mode.

    python -m benchmarks.ablation_rows runs/ablate-stages/tables/variants.json
    python -m benchmarks.ablation_rows TABLE.json --columns arithmetic:thinking think_follow:mixed --short

Cells are percent, and points to the variant it is compared with, with their interval; * as in the table itself. With
--short the interval is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import read_json

Document = Mapping[str, Any]
Place = tuple[str, str]


def places_of(document: Document) -> list[Place]:
    """All (benchmark, mode) of the table that have a thinking block or leave it to the flags, in its order."""
    found = dict.fromkeys((cell["benchmark"], cell["mode"]) for cell in document["cells"])
    return [place for place in found if place[1] != "non_thinking"]


def rows(document: Document, places: Sequence[Place], *, short: bool = False) -> list[list[str]]:
    """The heading and one row for each variant: its name, what it is compared with, the cells, hours of wall time.

    Raises ValueError for a place that the table does not have.
    """
    cells = {(cell["column"], cell["benchmark"], cell["mode"]): cell for cell in document["cells"]}
    known = {(benchmark, mode) for _, benchmark, mode in cells}
    if missing := [place for place in places if place not in known]:
        raise ValueError(f"columns: the table has no {missing[0]}; it has {sorted(known)}")
    heading = ["variant", "against", *(f"{name}, {mode.replace('_', '-')}" for name, mode in places), "hours"]
    found = [heading]
    for column in document["columns"]:
        hours = column["cost"]["hours"]
        found.append(
            [
                column["name"],
                column["baseline"] or "–",
                *(_cell(cells.get((column["name"], *place)), short) for place in places),
                "–" if hours is None else f"{hours:.2f}",
            ]
        )
    return found


def _cell(cell: Mapping[str, Any] | None, short: bool) -> str:
    if cell is None:
        return "–"
    mean = f"{100 * cell['mean']:.1f}"
    if cell["delta"] is None:
        return mean
    low, high = 100 * cell["delta_low"], 100 * cell["delta_high"]
    points = f"{mean}, {100 * cell['delta']:+.1f}{'*' if cell['significant'] else ''}"
    return points if short else f"{points} ({low:+.1f} to {high:+.1f})"


def markdown(found: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table, numbers to the right."""
    rule = ["---", "---", *["---:"] * (len(found[0]) - 2)]
    return "".join("| " + " | ".join(row) + " |\n" for row in [found[0], rule, *found[1:]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--columns", nargs="+", metavar="BENCHMARK:MODE", help="default: all but non-thinking ones")
    parser.add_argument("--short", action="store_true", help="leave the intervals out")
    options = parser.parse_args(arguments)
    document = read_json(options.table)
    if options.columns:
        places = [(name, mode) for name, _, mode in (text.rpartition(":") for text in options.columns)]
    else:
        places = places_of(document)
    print(markdown(rows(document, places, short=options.short)), end="")


if __name__ == "__main__":
    main()
