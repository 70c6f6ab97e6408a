"""The supervised loop that base training, cold start and thinking fusion share.

Rows in, one optimizer step a batch: the order is a function of the seed and the epoch, so the position in the data is
the step number and a resumed run continues exactly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.records import TrainingSample, UserError
from learner.learner import LearnerConfig
from stages.services import Services
from stages.stage_context import StageContext
from stages.step_clock import with_rates


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTConfig:
    """Supervised training: passes over the rows in batches of about `batch_tokens` tokens."""

    learner: LearnerConfig = field(default_factory=lambda: LearnerConfig(lr=1e-5, schedule="linear", warmup_steps=0))
    num_epochs: int = 1
    batch_tokens: int = 4096
    max_steps: int | None = None
    save_every: int = 50

    def validate(self) -> None:
        for name in ("num_epochs", "batch_tokens", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"max_steps: {self.max_steps} must be 1 or more, or null for all")


def batches(lengths: Sequence[int], *, num_epochs: int, batch_tokens: int, seed: int) -> list[list[int]]:
    """Indices of the rows of every optimizer step; each epoch is shuffled anew and cut at `batch_tokens`."""
    steps: list[list[int]] = []
    for epoch in range(num_epochs):
        order = list(range(len(lengths)))
        random.Random(f"sft/{seed}/{epoch}").shuffle(order)
        current: list[int] = []
        tokens = 0
        for index in order:
            if current and tokens + lengths[index] > batch_tokens:
                steps.append(current)
                current, tokens = [], 0
            current.append(index)
            tokens += lengths[index]
        if current:
            steps.append(current)
    return steps


def run_sft(
    samples: Sequence[TrainingSample],
    config: SFTConfig,
    start: Path,
    services: Services,
    context: StageContext,
) -> dict[str, float]:
    """Train the model of folder `start` on `samples`; the learner then holds the result. Returns the last metrics."""
    if not samples:
        raise UserError(
            f"{context.stage}: no training rows are left after filtering; loosen the filters or add queries"
        )
    plan = batches(
        [len(sample.token_ids_T) for sample in samples],
        num_epochs=config.num_epochs,
        batch_tokens=config.batch_tokens,
        seed=context.seed,
    )[: config.max_steps]
    learner = services.learner
    learner.load(start, replace(config.learner, total_steps=len(plan)), seed=context.seed)
    state = context.restore(learner.load_state)
    context.begin_steps(int(state.get("step", 0)), len(plan))
    metrics: dict[str, float] = {}
    for step in range(int(state.get("step", 0)), len(plan)):
        with context.traced(step + 1, learner), context.clock.phase("learn"):
            result = learner.sft_step([samples[index] for index in plan[step]])
        context.clock.add_learner(result.timing)
        metrics = dict(result.metrics)
        context.num_tokens += int(metrics["num_tokens"])
        timing = with_rates(context.clock.lap(), metrics)
        timing["tokens_per_s"] = timing["learn_tokens_per_s"]
        context.record(step + 1, metrics, timing)
        context.progress.update(step + 1, loss=metrics["loss"], tokens_per_s=timing["tokens_per_s"])
        if (step + 1) % config.save_every == 0 and step + 1 < len(plan):
            context.save(step + 1, learner.save_state, {})
    return metrics
