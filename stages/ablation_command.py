"""The command `fourstage ablate`: reads its arguments and prints the plan or the table."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from data.records import UserError


def ablate(
    ablation: Annotated[str, typer.Argument(help="Name of a shipped ablation, or the path of a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings as key=value, such as seeds=[0,1,2] recipe=own-data"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print variants and stages, what is shared and what is done; run nothing.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain progress lines even on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Run variants of a recipe, sharing every stage that they have in common, and write the table.

    Stages that are done are reused and an interrupted ablation resumes: call the same command again.

    Example: `fourstage ablate stages seeds=[0,1] --dry-run`
    """
    from stages.ablation_config import load_ablation, plan_ablation, plan_summary, planned_outputs

    config = load_ablation(ablation, overrides or [])
    if dry_run:
        outputs = planned_outputs(plan_ablation(config))
        print_plan([output.row() for output in outputs], plan_summary(outputs), as_json=as_json)
        return
    from evals.ablation_formats import to_document, to_markdown
    from stages.ablation import run_ablation

    outcome = run_ablation(config, plain=True if plain else None)
    if "variants" in outcome.tables:
        table = outcome.tables["variants"]
        print(json.dumps(to_document(table), ensure_ascii=False) if as_json else to_markdown(table))
    if outcome.failed:
        reasons = "; ".join(f"{title}: {reason}" for title, reason in outcome.failed.items())
        raise UserError(f"variants: {len(outcome.failed)} not finished ({reasons}); the table has the others")


def print_plan(rows: list[dict[str, object]], summary: str, *, as_json: bool) -> None:
    """The plan as a table with its counts below it, or as one JSON document."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Plan")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    print(summary)
