"""What the controller can drive: the real RL loop over imitated engines and an imitated learner.

    python -m benchmarks.controller_load [--workers 50 200] [--slots 50] [--group 2] [--tokens 256]
        [--step-s 0.1] [--learn-s 10] [--steps 2] [--staleness 3]

`run_rl`, the rollout pool, the scorer, the buffer and Ray are the product's; what an accelerator does is imitated
(`benchmarks/imitated_cluster.py`). An imitated engine runs `--slots` requests at once and gives each one token in
`--step-s` seconds, so a completion is in flight for a length from a long-tailed distribution (mean `--tokens`) times
`--step-s`; the imitated learner takes `--learn-s` seconds a step. A step trains on as many completions as all workers
have slots, so with a wide enough `--staleness` that many requests are in flight all the time: 200 workers of 50 slots
hold 10,000. (A bound of 1 makes each step wait for the longest completion that began two versions before.)

A controller that is a bottleneck leaves slots empty. So the table has the share of slot seconds that were busy after
the first step, beside the processor time of the controller: its share of the time, and milliseconds for each
completion, which must not grow with the number of workers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, SCRATCH, read_results, write_results
from benchmarks.imitated_cluster import ImitatedPool, ImitatedServices, Imitation
from benchmarks.machine import describe_machine
from benchmarks.options import make_workload, run_as_program
from benchmarks.sides.fourstage_run import RECIPE
from benchmarks.tables import markdown_table
from benchmarks.workloads import TASK_FILE
from configs.load import load_config
from data.records import Prompt
from stages.progress import Progress
from stages.rl_loop import run_rl
from stages.run_config import RunConfig
from stages.stage_context import StageContext

CLAIM = "controller_load"
PARTS = ("step", "generate", "wait", "score", "learn", "sync", "check")


class Watch(Progress):
    """Notes when each step ended and what controller and engines had used by then."""

    def __init__(self) -> None:
        super().__init__(1, True, quiet=True)
        self.pool: ImitatedPool | None = None
        self.seen: list[tuple[float, float, float]] = []  # time, processor time, busy slot seconds

    def update(self, step: int, **figures: Any) -> None:
        super().update(step, **figures)
        assert self.pool is not None
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.seen.append((time.monotonic(), used.ru_utime + used.ru_stime, self.pool.busy_slot_s()))


def measure(num_workers: int, parsed: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run with so many workers: its figures after the first step."""
    slots = num_workers * parsed.slots
    config: RunConfig = load_config(
        RunConfig, [RECIPE], [f"rollout.num_workers={num_workers}", f"rollout.engine.max_num_seqs={parsed.slots}"]
    )
    rl = dataclasses.replace(
        config.reasoning_rl.rl,
        num_steps=parsed.steps + 2 + parsed.staleness,  # the last steps have nothing left to begin
        prompts_per_step=slots // parsed.group,
        group_size=parsed.group,
        max_staleness=parsed.staleness,
    )
    rl.validate()
    prompts = [
        Prompt(f"load/{index}", str(TASK_FILE), ({"role": "user", "content": f"Add {index} to {index + 1}."},), {})
        for index in range(2 * rl.prompts_per_step)
    ]
    watch, scratch = Watch(), folder / f"workers-{num_workers}"
    shutil.rmtree(scratch, ignore_errors=True)
    services = ImitatedServices(config, scratch, watch)
    services.imitation, services.learn_s = Imitation(parsed.slots, parsed.step_s, parsed.tokens), parsed.learn_s
    model = make_workload("A") / "model"
    try:
        watch.pool = services.policy(model)  # type: ignore[assignment]
        context = StageContext("reasoning_rl", scratch, seed=0, progress=watch)
        run_rl(prompts, rl, model, services, context)
        context.close()
    finally:
        services.close()
    seconds, processor, busy = (b - a for a, b in zip(watch.seen[0], watch.seen[parsed.steps], strict=True))
    rows = read_results(scratch / "metrics.jsonl")[1 : 1 + parsed.steps]
    completions = parsed.steps * slots
    timing = {f"{name}_s": sum(row["timing"].get(f"{name}_s", 0.0) for row in rows) / len(rows) for name in PARTS}
    return {
        "num_workers": num_workers,
        "in_flight": slots,
        "prompts": rl.prompts_per_step,
        "seconds": seconds,
        "busy_share": busy / (seconds * slots),
        "controller_share": processor / seconds,
        "controller_ms": 1e3 * processor / completions,
        "completions_per_s": completions / seconds,
        "timing": timing,
    }


NOTES = """# What the controller can drive

Made by `benchmarks/controller_load.py`, which says what is real here and what is imitated.
"""


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """All runs of one recording."""
    about, runs = rows[0], rows[1:]
    lines = [
        [
            f"{run['num_workers']}", f"{run['in_flight']:,}", f"{run['prompts']:,}", f"{run['completions_per_s']:.0f}",
            f"{100 * run['busy_share']:.1f} %", f"{100 * run['controller_share']:.0f} %",
            f"{run['controller_ms']:.2f}",
            *(f"{run['timing'][f'{name}_s']:.1f}" for name in PARTS),
        ]
        for run in runs
    ]  # fmt: skip
    header = (
        "workers", "requests in flight", "prompts a step", "completions/s", "slots busy", "controller's core",
        "controller ms a completion", *(f"{name}, s" for name in PARTS),
    )  # fmt: skip
    return (
        f"## {about['case']}\n\n{about['processor']}, {about['cores']} cores, which the imitated engines share; commit "
        f"{about['commit']}. `{about['command']}`\n\n{markdown_table(header, lines)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--slots", type=int, default=50, help="requests that an imitated engine runs at once")
    parser.add_argument("--group", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="mean length of a completion")
    parser.add_argument("--step-s", type=float, default=0.1, help="seconds of an imitated engine's step")
    parser.add_argument("--learn-s", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=2, help="measured steps, between others that are not")
    parser.add_argument("--staleness", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    case = f"max_staleness {parsed.staleness}, groups of {parsed.group}"
    shown = " ".join(f"--{name} {value}" for name, value in (
        ("workers", " ".join(map(str, parsed.workers))), ("slots", parsed.slots), ("group", parsed.group),
        ("tokens", parsed.tokens), ("step-s", parsed.step_s), ("learn-s", parsed.learn_s), ("steps", parsed.steps),
        ("staleness", parsed.staleness),
    ))  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"case": case, "command": f"python -m benchmarks.{CLAIM} {shown}", **describe_machine()}
    ]
    for num_workers in parsed.workers:
        rows.append({"case": case, **measure(num_workers, parsed, SCRATCH / CLAIM / f"staleness-{parsed.staleness}")})
        print(json.dumps(rows[-1]), flush=True)
    path = parsed.results / f"{CLAIM}.jsonl"
    kept = [row for row in read_results(path) if row["case"] != case]
    write_results(path, [*kept, *rows])
    recorded = read_results(path)
    cases = dict.fromkeys(row["case"] for row in recorded)
    text = "\n".join([NOTES, *(table_of([row for row in recorded if row["case"] == one]) for one in cases)])
    (RESULTS.parent if parsed.results == RESULTS else parsed.results).joinpath(f"{CLAIM}.md").write_text(text)
    print(table_of(rows))


if __name__ == "__main__":
    run_as_program(main)
