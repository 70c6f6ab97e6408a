"""The commands `fourstage models`, `promote` and `rollback`: arguments in, verdicts and tables out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.gates_config import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from serving.gates import Verdict
    from serving.registry import Registry

RegistryOption = Annotated[
    str, typer.Option("--registry", help="Where the models are: a folder, or a URL such as s3://bucket/models.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

_REFUSED = 1
_MOST_METRICS = 6
_FOLDED = frozenset({"thinking and non-thinking", "why", "gate", "measured", "asked for"})
"""Columns that give way on a narrow screen; names and dates stay in one piece, for whoever copies them."""


def models(
    registry: RegistryOption = DEFAULT_REGISTRY,
    history: Annotated[
        str | None, typer.Option("--history", metavar="ALIAS", help="Show every move of this alias instead.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every file of every version with its hash first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions of the registry with stage, lineage, metrics and the aliases that point to them.

    Example: `fourstage models --history production`
    """
    from serving.registry import Registry

    place = Registry(registry)
    if verify:
        for version in place.versions():
            place.verify(version)
    rows = history_rows(place, history) if history is not None else version_rows(place)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    elif not rows:
        print(f"the registry {registry} is empty; `fourstage promote CHECKPOINT --to production` fills it")
    elif history is not None:
        _print_table([_change_cells(row) for row in rows], title=f"History of {history}")
    else:
        _print_table([_version_cells(row) for row in rows], title=f"Models in {registry}")


def version_rows(registry: Registry) -> list[dict[str, Any]]:
    """A row for each version, oldest first."""
    from data.files import finite
    from serving.gates_record import measured_scores

    pointed: dict[str, list[str]] = {}
    for alias in registry.aliases():
        change = registry.alias(alias)
        if change is not None:
            pointed.setdefault(change.version, []).append(alias)
    return [
        {
            "version": version.name,
            "aliases": pointed.get(version.name, []),
            "stage": version.manifest.stage,
            "parent": version.manifest.parent.key[:12] if version.manifest.parent is not None else None,
            "code": version.manifest.code_commit[:12],
            "scores": measured_scores(registry, version),
            "metrics": finite(dict(version.manifest.metrics)),
        }
        for version in registry.versions()
    ]


def _version_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A version as one row of a table that fits 80 columns, its name in one piece for whoever copies it.

    A stage has dozens of metrics: they are shown, and few, where no gate measured a benchmark.
    """
    lineage = [row["stage"], f"of {row['parent']}" if row["parent"] else "of nothing", f"code {row['code']}"]
    return {
        "version": row["version"],
        "aliases": "\n".join(row["aliases"]),
        "lineage": "\n".join(lineage),
        "thinking and non-thinking": score_lines(row["scores"])
        or "\n".join(f"{name} {_cell(value)}" for name, value in list(row["metrics"].items())[:_MOST_METRICS]),
    }


def _change_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A move of an alias as one row of a table; the version before is that of the row above."""
    why = row["reason"] if row["forced"] is None else f"{row['reason']}; forced: {row['forced']}"
    at = row["at"].replace("T", " ")[:16]
    return {"": row["generation"], "at (UTC)": at, "move": row["move"], "version": row["version"], "why": why}


def score_lines(scores: Mapping[str, float]) -> str:
    """A line for each benchmark, its score with thinking before that without: "math 0.77 0.09"."""
    lines: dict[str, list[str]] = {}
    for place, score in scores.items():
        lines.setdefault(place.rpartition(", ")[0] or place, []).append(f"{score:.2f}")
    return "\n".join(" ".join((name, *found)) for name, found in lines.items())


def history_rows(registry: Registry, alias: str) -> list[dict[str, Any]]:
    """A row for each move of an alias, oldest first."""
    return [
        {
            "generation": change.generation,
            "at": change.at,
            "version": change.version,
            "before": change.before,
            "move": change.kind,
            "reason": change.reason,
            "forced": change.forced,
        }
        for change in registry.history(alias)
    ]


def promote(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a version or alias of the registry.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the gates as key=value, such as benchmarks.margin=0.03")
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="ALIAS", help="The alias to move, such as production.")] = (
        "production"
    ),
    gates: Annotated[str, typer.Option(help="Name of shipped gates, or the path of a YAML file.")] = "embedded",
    registry: RegistryOption = DEFAULT_REGISTRY,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run all gates and show the verdicts; change nothing.")
    ] = False,
    force: Annotated[
        str | None, typer.Option("--force", metavar="REASON", help="Promote though gates fail; the reason is recorded.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where measurements are kept and reused.")] = Path("runs/eval"),
    plain: Annotated[bool, typer.Option("--plain", help="Plain progress lines even on a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Promote a checkpoint: run every gate, show every verdict, move the alias, and see to it that servers follow.

    A failed gate leaves the alias where it is; the exit code is then 1.

    Example: `fourstage promote runs/quickstart/stages/general_rl-*/checkpoint --to production`
    """
    from serving.gates_config import load_gates
    from serving.registry import Registry
    from stages.promotion import promote_checkpoint, promotion_lines

    found = promote_checkpoint(
        Registry(registry), checkpoint, to, load_gates(gates, overrides or []),
        dry_run=dry_run, forced=force, out=out, plain=True if plain else None,
    )  # fmt: skip
    if as_json:
        print(json.dumps(found.document(), ensure_ascii=False))
    else:
        _print_table(verdict_rows(found.verdicts), title=f"Gates for {to}")
        for line in promotion_lines(found):
            print(line)
        if found.card is not None:
            print(f"card: {found.card}")
    if not (found.passed if found.move is None else found.move.done):
        raise typer.Exit(_REFUSED)


def verdict_rows(verdicts: tuple[Verdict, ...]) -> list[dict[str, Any]]:
    """The verdicts as rows of a table."""
    return [{"gate": v.gate, "verdict": v.status, "measured": v.measured, "asked for": v.required} for v in verdicts]


def rollback(
    alias: Annotated[str, typer.Argument(help="The alias to move back.")] = "production",
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "rollback",
    registry: RegistryOption = DEFAULT_REGISTRY,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that servers have to follow.")] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Return an alias to the version before, in the registry and in every server that follows it.

    Its files are compared with their hashes first. Going back twice goes two versions back.

    Example: `fourstage rollback production --reason "tool calls break"`
    """
    from serving.registry import Registry
    from stages.promotion import move_document, move_lines, rollback_alias

    move = rollback_alias(Registry(registry), alias, reason=reason, timeout_s=timeout_s)
    if as_json:
        print(json.dumps(move_document(move), ensure_ascii=False))
    else:
        for line in move_lines(move):
            print(line)
        if move.reason is not None:
            print(move.reason)
    if not move.done:
        raise typer.Exit(_REFUSED)


def _print_table(rows: list[dict[str, Any]], *, title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in rows[0]:
        table.add_column(column, overflow="fold", no_wrap=column not in _FOLDED)
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("[", r"\[")
