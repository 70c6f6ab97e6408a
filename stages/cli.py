"""The command line: `fourstage COMMAND`. Reads arguments, calls, prints; bad input is one line and exit code 2."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from data.records import UserError
from stages.ablation_command import ablate
from stages.eval_command import eval_
from stages.promotion_command import models, promote, rollback
from stages.serve_command import serve

app = typer.Typer(
    help="Post-train a base model into a hybrid reasoning model with the four-stage recipe of the Qwen3 report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
rewards_app = typer.Typer(help="Look at reward tasks, and score completions.", no_args_is_help=True)
data_app = typer.Typer(help="Look at the data of a stage before training on it.", no_args_is_help=True)
app.add_typer(rewards_app, name="rewards")
app.add_typer(data_app, name="data")
app.command(name="eval")(eval_)
for _command in (ablate, models, promote, rollback, serve):
    app.command()(_command)

_INTERRUPTED = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, such as seed=1 reasoning_rl.rl.num_steps=10")
]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a YAML file.")],
    overrides: Overrides = None,
    rerun_from: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this stage and all after it again.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Run this stage alone.")] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="With --only: the model folder to start from.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write traces of a few steps of each stage, which Perfetto opens.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain progress lines even on a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the pipeline of a recipe.

    Finished stages are reused and an interrupted one resumes where it was: call the same command again.

    Example: `fourstage run quickstart seed=1 run_dir=runs/second`
    """
    from stages.run import Selection, promote_finished, run_pipeline

    config = load_recipe(recipe, [*(overrides or []), *(["profile.enabled=true"] if profile else [])])
    selection = Selection(rerun_from=rerun_from, until=until, only=only, start=start)
    summary = run_pipeline(config, selection, plain=True if plain else None)
    _print_summary(summary, as_json)
    if not promote_finished(config, selection, plain=True if plain else None):
        raise typer.Exit(1)


@app.command()
def status(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, such as runs/quickstart.")],
    as_json: JsonOption = False,
) -> None:
    """Show which stages of a run are done, running, interrupted or not started."""
    from stages.run_dir import RunDir

    rows = [
        {"stage": s.stage, "state": s.state, "step": s.step, "seconds": s.seconds, "key": s.key}
        for s in RunDir(run_dir).status()
    ]
    _print_rows(rows, as_json, title=f"Run {run_dir}")


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/quickstart.")],
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run, finished or not: a page for a browser, a text, and the results so far.

    `report.html` is one file that needs no network: curves, tables, rollouts to read, checkpoints side by side.
    """
    from stages.run_report import report_run

    summary, page = report_run(run_dir)
    _print_summary(summary, as_json)
    if not as_json:
        print(f"report: {page}\n        {page.with_suffix('.md')}")


@app.command()
def watch(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/quickstart.")],
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes any free port.")] = 8642,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own let others read.")] = (
        "127.0.0.1"
    ),
    refresh: Annotated[float, typer.Option(help="Seconds between two looks at the run.")] = 5.0,
) -> None:
    """Serve the report of a run while it goes on; the page follows without losing the reader's place."""
    from stages.watch import WatchConfig
    from stages.watch import watch as serve

    serve(run_dir, WatchConfig(host=host, port=port, refresh_s=refresh))


@app.command(name="import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder (config, tokenizer, safetensors).")],
    out: Annotated[Path, typer.Argument(help="Where to write the model that is ready for the pipeline.")],
) -> None:
    """Take a model in: add the chat tokens it lacks, resize its embeddings, set the Qwen3 template."""
    from stages.import_model import ImportConfig, import_model

    if out.exists():
        raise UserError(f"OUT: {out} exists; choose a folder that does not")
    for line in import_model(ImportConfig(folder=str(folder)), out):
        print(line)
    print(f"written to {out}")


@app.command(name="preference-model")
def preference_model(
    model: Annotated[Path, typer.Argument(help="The policy to start from, such as a stage's checkpoint folder.")],
    out: Annotated[Path, typer.Argument(help="Where to write the preference model; must not exist.")],
    pairs: Annotated[
        Path | None, typer.Option(help="JSON lines of your own pairs; without it pairs are generated.")
    ] = None,
    num_pairs: Annotated[int, typer.Option(min=20, help="How many pairs to generate.")] = 4000,
    difficulty: Annotated[int, typer.Option(min=0, help="Level of the generated prompts.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of pairs, split and training.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="How often each pair is seen.")] = 2,
    lr: Annotated[float, typer.Option(help="Peak learning rate; 1e-5 suits a model of some billion weights.")] = 5e-4,
    dtype: Annotated[str, typer.Option(help="What products run in: float32 or bfloat16.")] = "float32",
    plain: Annotated[bool, typer.Option("--plain", help="Plain progress lines even on a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a preference model: a scalar score of an answer, for tasks that have neither a rule nor a reference.

    It learns which of two answers is better (Bradley-Terry). Each line of PAIRS is
    `{"messages": [{"role": "user", "content": "..."}], "chosen": "...", "rejected": "..."}`. A tenth of the prompts is
    held out; on these its accuracy and its liking for long answers are measured, and the liking is taken out of the
    reward. Set `preference.folder=OUT` in a recipe to use it in general RL.

    Example: `fourstage preference-model runs/quickstart/stages/base-*/checkpoint runs/preference`
    """
    from learner.preference_trainer import PreferenceTrainingConfig
    from stages.preference_model import PreferenceModelConfig, result_rows, train_preference_model
    from stages.progress import Progress

    train = PreferenceTrainingConfig(num_epochs=epochs, lr=lr, dtype=dtype)  # type: ignore[arg-type]
    config = PreferenceModelConfig(
        pairs=None if pairs is None else str(pairs), num_pairs=num_pairs, difficulty=difficulty, train=train
    )
    with Progress(1, plain=True if plain else None) as progress:
        manifest = train_preference_model(config, model, out, seed=seed, progress=progress)
    if as_json:
        print(json.dumps(manifest, ensure_ascii=False))
        return
    _print_rows(result_rows(manifest), as_json, title=f"Preference model {out}")
    print(f"written to {out}; use it with preference.folder={out}")


# ---- rewards


@rewards_app.command(name="list")
def rewards_list(
    full: Annotated[bool, typer.Option("--full", help="With the known hack of each task and its guard.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the reward tasks by area: type, levels, turns and what is verified (docs/rewards.md says more)."""
    from rewards.cli_rows import task_table

    rows = task_table()
    if not as_json:
        rows.sort(key=lambda row: row["area"])
    if not full and not as_json:
        rows = [{k: v for k, v in row.items() if k not in ("in_worker", "hack", "guard")} for row in rows]
    _print_rows(rows, as_json, title="Reward tasks")


@rewards_app.command(name="preview")
def rewards_preview(
    task: Annotated[str, typer.Argument(help="Name of a reward task; see `fourstage rewards list`.")],
    count: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the generator.")] = 0,
    difficulty: Annotated[int, typer.Option(min=0, help="Difficulty level.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show generated prompts of a task with their references and what earns full reward, all turns of an episode."""
    from rewards.cli_rows import preview
    from rewards.episodes import gold_turns
    from rewards.registry import get_task

    rows = [
        {
            "prompt": "\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages),
            "reference": prompt.reference,
            "gold": "\n\n".join(gold_turns(get_task(task), prompt)),
        }
        for prompt in preview(task, seed, count, difficulty)
    ]
    _print_rows(rows, as_json, title=f"{task}, level {difficulty}, seed {seed}")


@rewards_app.command(name="score")
def rewards_score(
    file: Annotated[Path | None, typer.Argument(help="JSON lines; standard input when left out.")] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Verifier processes.")] = 1,
    timeout_s: Annotated[float, typer.Option(help="Seconds after which a verifier is killed.")] = 5.0,
) -> None:
    """Score completions: JSON lines in, the same lines with reward, outcome and reason out.

    Each line: `{"task", "messages", "reference", "completion"}`, optionally `enable_thinking` and `finish_reason`.
    """
    from rewards.cli_rows import score_lines
    from rewards.verifier_pool import VerifierPool

    if file is not None and not file.exists():
        raise UserError(f"FILE: {file} does not exist; give a JSON lines file, or pipe lines in")
    with VerifierPool(num_workers=num_workers, timeout_s=timeout_s) as pool:
        lines = file.open(encoding="utf-8") if file is not None else sys.stdin
        with lines:
            for line in score_lines(lines, pool):
                print(line)


@rewards_app.command(name="audit")
def rewards_audit(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Names of reward tasks, or .py files of your own; all when left out.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A Python file of your own that defines TASK.")] = None,
    texts: Annotated[int, typer.Option(min=0, help="Fuzz texts for each task.")] = 300,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of each level under attack.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the prompts and of the fuzzer.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fire the attack suite and a fuzzer at reward tasks; exit code 1 when one pays, fails, hangs or is slow.

    Example: `fourstage rewards audit my_task.py --texts 10000`
    """
    from rich.progress import Progress

    from rewards.audit import audit_tasks
    from rewards.audit_shots import AuditSize
    from rewards.registry import all_tasks, get_task, load_user_task

    names = [*(tasks or ()), *([str(file)] if file is not None else [])]
    chosen = [load_user_task(name) if name.endswith(".py") else get_task(name) for name in names]
    size = AuditSize(num_prompts=prompts, num_texts=texts)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("")

        def show(task: str, done: int, total: int) -> None:
            progress.update(bar, description=task, completed=done, total=total)

        reports = audit_tasks(chosen or all_tasks(), seed=seed, size=size, on_progress=show)
    if as_json:
        print(json.dumps([report.document() for report in reports], ensure_ascii=False))
    else:
        _print_rows([report.row() for report in reports], False, title="Audit")
        for line in (line for report in reports for line in report.lines()):
            print(line)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


@rewards_app.command(name="docs")
def rewards_docs(
    out: Annotated[Path, typer.Argument(help="Where to write the Markdown.")] = Path("docs/rewards.md"),
) -> None:
    """Write the catalogue of reward tasks as Markdown, from the tasks themselves."""
    from rewards.catalogue import catalogue

    out.write_text(catalogue(), encoding="utf-8")
    print(f"written to {out}")


# ---- data


@data_app.command(name="preview")
def data_preview(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a YAML file.")],
    stage: Annotated[str, typer.Option(help="base, cold_start, reasoning_rl, thinking_fusion or general_rl.")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show rendered rows of a stage with their loss mask: tokens with loss in green, without in grey."""
    from stages.data_preview import preview_rows, render_rows

    rows = preview_rows(load_recipe(recipe, overrides), stage, count)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        render_rows(rows, Console())


# ---- helpers


def load_recipe(recipe: str, overrides: list[str] | None) -> Any:
    """The run configuration of a recipe with overrides."""
    from configs.load import find_recipe, load_config
    from stages.run_config import RunConfig

    return load_config(RunConfig, [find_recipe(recipe)], overrides or [])


def _print_summary(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
        return
    from evals.summary import summary_rows, summary_table

    if not any(summary_rows(summary)):
        print("no checkpoint of this run was evaluated")
        return
    Console().print(summary_table(summary))


def _print_rows(rows: list[dict[str, Any]], as_json: bool, *, title: str) -> None:
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = Table(title=title)
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Entry point: user errors, a full disk among them, are one line on standard error and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models come from folders; nothing is fetched behind one's back
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's notice stops a run as Ctrl-C does
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            print("stopped; the same command resumes", file=sys.stderr)
        raise
    except Exception as error:
        if not _disk_is_full(error):
            raise
        _fail(f"disk: no space left ({error}); free some space and start the same command again, it resumes")


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error comes from a full disk or quota, in this process or in a worker, whose error is text here."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
