"""`fourstage eval CHECKPOINT`: arguments in, tables out; `stages.evaluate_checkpoint` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def eval_(
    checkpoint: Annotated[Path, typer.Argument(help="A Hugging Face folder, such as a stage's checkpoint.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help='Settings of the suite as key=value, such as "seeds=[0,1,2]"')
    ] = None,
    suite: Annotated[str, typer.Option(help="Name of a shipped suite, or the path of a YAML file.")] = "generated",
    only: Annotated[list[str] | None, typer.Option(help="Measure this benchmark alone; may be given again.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this benchmark out; may be given again.")] = None,
    out: Annotated[Path, typer.Option(help="Where measurements and results are kept.")] = Path("runs/eval"),
    plain: Annotated[bool, typer.Option("--plain", help="Plain progress lines even on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Measure a checkpoint on a suite of benchmarks, in both modes: avg@k and pass@k with 95 % intervals.

    What was measured before is reused, and an interrupted evaluation goes on: call the same command again.

    Example: `fourstage eval path/to/model "seeds=[0,1,2]" --only ruler`
    """
    from stages.eval_suite import load_suite
    from stages.evaluate_checkpoint import evaluate_checkpoint, show

    chosen = load_suite(suite, overrides or [], only=only or (), skip=skip or ())
    document, _ = evaluate_checkpoint(chosen, checkpoint, out, plain=True if plain else None)
    show(document, as_json=as_json)
