"""Times reasoning RL with synchronous and with asynchronous rollouts on an engine slowed to imitate a long tail.

    python -m benchmarks.async_rollouts RECIPE CHECKPOINT FOLDER [--steps 24] [--seeds 0 1 2] [--staleness 3]
        [--step-s 0.02] [--one-in 16] [--tail 4] [key=value ...]

CHECKPOINT is where RL starts from, such as that of a recipe's cold start. RECIPE gives the prompts of its reasoning RL,
its engines and its learner (with the default loss, one minibatch and a constant rate), the same for both; `key=value`
changes it. The two take turns, seed by seed. A step of the
engine lasts at least `--step-s` seconds, as it does on an accelerator however few requests run, and one completion in
`--one-in` stays in flight for `--tail` times as many steps as it has tokens. Both are done here, by a worker that
stands in for the product's. FOLDER gets the metrics of every run, and `async_rollouts.md` with times, staleness and
rewards.

The reward is compared over the last third of the steps, seed by seed; its noise is the spread of the synchronous seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rollout.workers
from data.records import Completion
from learner.learner import LearnerConfig
from rollout.agent_loop import EpisodeLoop
from rollout.config import EngineConfig
from rollout.engine import Engine
from rollout.policy import GenerationRequest
from rollout.workers import RolloutWorker
from stages.cli import load_recipe
from stages.progress import Progress
from stages.prompts import mixed_prompts
from stages.rl_loop import RLConfig, run_rl
from stages.services import Services
from stages.stage_context import StageContext

TARGET = 0.65
BLOCK = 4  # steps that one line of the reward table averages


@dataclasses.dataclass(frozen=True)
class Tail:
    """How the engine is slowed."""

    step_s: float
    one_in: int
    factor: float


class LongTail:
    """An engine whose steps have a shortest length, and which keeps some completions back for a number of steps."""

    def __init__(self, engine: Engine, tail: Tail) -> None:
        self.engine, self.tail = engine, tail
        self._seeds: dict[tuple[str, int], int] = {}
        self._held: list[tuple[int, Completion]] = []  # steps left

    @property
    def num_pending(self) -> int:
        return self.engine.num_pending + len(self._held)

    def submit(self, request: GenerationRequest) -> None:
        self._seeds[request.prompt_uid, request.sample_index] = request.seed
        self.engine.submit(request)

    def step(self) -> list[Completion]:
        began = time.monotonic()
        finished = self.engine.step() if self.engine.num_pending else []
        self._held = [(left - 1, completion) for left, completion in self._held]
        over = [completion for left, completion in self._held if left <= 0]
        self._held = [item for item in self._held if item[0] > 0]
        for completion in finished:
            seed = self._seeds.pop((completion.prompt_uid, completion.sample_index))
            extra = round((self.tail.factor - 1) * len(completion.token_ids)) if seed % self.tail.one_in == 0 else 0
            if extra:
                self._held.append((extra, completion))
            else:
                over.append(completion)
        time.sleep(max(0.0, self.tail.step_s - (time.monotonic() - began)))
        return over


def slowed_worker(tail: Tail) -> type[RolloutWorker]:
    """A rollout worker whose engine is slowed."""

    class SlowedWorker(RolloutWorker):
        def __init__(self, model_folder: str, config: EngineConfig, log_path: str | None = None) -> None:
            super().__init__(model_folder, config, log_path)
            self.loop = EpisodeLoop(LongTail(self.engine, tail), self.engine.tokenizer)

    return SlowedWorker


def run_once(
    name: str, rl: RLConfig, seed: int, *, recipe: Any, services: Services, start: Path, folder: Path
) -> dict[str, Any]:
    """One run; its wall seconds and the rows of its metrics."""
    mix = recipe.reasoning_rl.queries
    prompts = mixed_prompts(mix, count=recipe.reasoning_rl.num_queries, seed=seed, purpose="benchmark")
    path = folder / name
    shutil.rmtree(path, ignore_errors=True)
    context = StageContext("reasoning_rl", path, seed=seed, progress=services.progress)
    run_rl(prompts, rl, start, services, context)
    context.close()
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = sum(row["timing"]["step_s"] for row in rows)
    print(f"{name}: {seconds:.1f} s, reward {last_third(rows):.3f}", flush=True)
    return {"name": name, "seed": seed, "seconds": seconds, "rows": rows}


def last_third(rows: Sequence[dict[str, Any]]) -> float:
    """Mean reward over the last third of the steps."""
    return statistics.fmean(row["reward"] for row in rows[-max(1, len(rows) // 3) :])


def _median(runs: Sequence[dict[str, Any]], field: str) -> float:
    return statistics.median(row["timing"].get(field, 0.0) for run in runs for row in run["rows"])


def _range(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(sync: Sequence[dict[str, Any]], run_async: Sequence[dict[str, Any]], bound: int, settings: str) -> str:
    """Times, staleness and rewards as a markdown page."""
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(sync, run_async, strict=True)]
    ratio = statistics.median(ratios)
    gains = [last_third(b["rows"]) - last_third(a["rows"]) for a, b in zip(sync, run_async, strict=True)]
    finals = [last_third(run["rows"]) for run in sync]
    noise = statistics.stdev(finals) if len(finals) > 1 else math.nan
    rows = [row for run in run_async for row in run["rows"]]
    both = {"synchronous": sync, f"max_staleness {bound}": run_async}
    lines = [
        "# Asynchronous rollouts", "", settings, "",
        f"Ratio of the times, median over the seeds: **{ratio:.2f}** (target: at most {TARGET}); each seed: "
        f"{', '.join(f'{value:.2f}' for value in ratios)}.", "",
        "| | " + " | ".join(both) + " |", "|---|---|---|",
        "| seconds of all steps, median (range) | "
        + " | ".join(_range([run["seconds"] for run in runs], ".1f") for runs in both.values()) + " |",
        *(
            f"| {label}, median s | " + " | ".join(f"{_median(runs, field):.2f}" for runs in both.values()) + " |"
            for label, field in (
                ("a step", "step_s"), ("waiting for rollouts and scores", "collect_s"), ("learning", "learn_s"),
                ("weight sync", "sync_s"),
            )
        ),
        f"| generation hidden behind learning | 0.00 | {_median(run_async, 'hidden_share'):.2f} |",
        f"| staleness, mean and max | 0, 0 | {statistics.fmean(r['staleness/mean'] for r in rows):.2f}, "
        f"{max(r['staleness/max'] for r in rows)} (bound {bound}) |",
        f"| completions with two or more versions, a step | 0 | "
        f"{statistics.fmean(r['staleness/carried_over'] for r in rows):.1f} |",
        f"| groups dropped as too old | 0 | {sum(r['staleness/dropped_groups'] for r in rows)} |",
        "| reward of the last third, median (range) | "
        + " | ".join(_range([last_third(run["rows"]) for run in runs], ".3f") for runs in both.values()) + " |", "",
        f"Reward of the last third, asynchronous minus synchronous, seed by seed: "
        f"{', '.join(f'{gain:+.3f}' for gain in gains)}; mean {statistics.fmean(gains):+.3f}. Standard deviation of "
        f"the synchronous seeds: {noise:.3f}.", "",
        "Mean reward over all seeds:", "", "| steps | " + " | ".join(both) + " |", "|---|---|---|",
    ]  # fmt: skip
    for begin in range(0, len(sync[0]["rows"]), BLOCK):
        means = [
            statistics.fmean(row["reward"] for run in runs for row in run["rows"][begin : begin + BLOCK])
            for runs in both.values()
        ]
        last = min(begin + BLOCK, len(sync[0]["rows"]))
        lines.append(f"| {begin + 1} to {last} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--staleness", type=int, default=3)
    parser.add_argument("--step-s", type=float, default=0.02)
    parser.add_argument("--one-in", type=int, default=16)
    parser.add_argument("--tail", type=float, default=4.0)
    options = parser.parse_intermixed_args()
    recipe = load_recipe(options.recipe, options.overrides)
    tail = Tail(options.step_s, options.one_in, options.tail)
    learner: LearnerConfig = dataclasses.replace(
        recipe.reasoning_rl.rl.learner, loss="default", loss_config=None, schedule="constant", warmup_steps=4
    )
    rl = dataclasses.replace(
        recipe.reasoning_rl.rl, num_steps=options.steps, minibatches=1, learner=learner, save_every=10**6
    )
    rollout.workers.RolloutWorker = slowed_worker(tail)  # type: ignore[misc]
    services = Services(recipe, options.folder, Progress(1, True))
    runs: dict[int, list[dict[str, Any]]] = {0: [], options.staleness: []}
    try:
        parts = {"recipe": recipe, "services": services, "start": options.checkpoint, "folder": options.folder}
        run_once("warm-up", dataclasses.replace(rl, num_steps=2), 0, **parts)
        for seed in options.seeds:
            for bound, found in runs.items():
                bounded = dataclasses.replace(rl, max_staleness=bound)
                bounded.validate()
                found.append(run_once(f"staleness-{bound}-seed-{seed}", bounded, seed, **parts))
    finally:
        services.close()
    settings = (
        f"Recipe {options.recipe}, {options.steps} steps of {rl.prompts_per_step} prompts, groups of {rl.group_size}, "
        f"at most {rl.sampling.max_tokens} tokens; a step of the engine lasts at least {tail.step_s:g} s, one "
        f"completion in {tail.one_in} takes {tail.factor:g} times as many as it has tokens. "
        f"Seeds {', '.join(map(str, options.seeds))}."
    )
    page = table(runs[0], runs[options.staleness], options.staleness, settings)
    (options.folder / "async_rollouts.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
