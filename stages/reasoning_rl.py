"""Stage 2, reasoning RL (Qwen3 report, arXiv 2505.09388, section 4.2).

Query-verifier pairs that stage 1 did not use, that the cold-start model can learn from (measured: neither always nor
never solved), as challenging as that allows, over all sub-domains; GRPO with many rollouts a query, off-policy
minibatches, and entropy that is kept from falling. One run, no change by hand.

Departures. The report gives neither batch, group, learning rate, clip, KL nor the entropy mechanism: all are settings
of ours, and the objective's default is the token mean with asymmetric clip and no KL (learner/losses.py). "Learnable"
is measured on `probe_samples` completions a query. Sub-domains are balanced by keeping the hardest of each task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.filters import learnable
from data.records import Prompt, UserError
from stages.pass_rates import pass_rates
from stages.prompts import HeldOut, PromptMix, mixed_prompts, prompt_of_record, prompt_record, same_item
from stages.rl_loop import RLConfig, run_rl
from stages.services import Services
from stages.stage_context import StageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasoningRLConfig:
    """Stage 2. Of `num_candidates` measured queries the hardest `num_queries` learnable ones are trained on."""

    queries: PromptMix
    num_candidates: int = 600
    num_queries: int = 300
    probe_samples: int = 4
    rl: RLConfig = field(default_factory=RLConfig)

    def validate(self) -> None:
        for name in ("num_candidates", "num_queries"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.probe_samples < 2:
            raise UserError(
                f"probe_samples: {self.probe_samples} cannot show a pass rate between 0 and 1; use 2 or more"
            )


def run(
    config: ReasoningRLConfig,
    start: Path,
    services: Services,
    context: StageContext,
    held_out: HeldOut,
    used_queries: Sequence[Prompt],
) -> dict[str, float]:
    """Measure, select, reinforce; the learner then holds the reasoning model. `used_queries` are those of stage 1."""
    rows = context.cached_rows(
        "queries", lambda: _learnable_queries(config, start, services, context, held_out, used_queries)
    )
    return run_rl([prompt_of_record(row) for row in rows], config.rl, start, services, context)


def _learnable_queries(
    config: ReasoningRLConfig,
    start: Path,
    services: Services,
    context: StageContext,
    held_out: HeldOut,
    used_queries: Sequence[Prompt],
) -> list[dict[str, Any]]:
    drawn = mixed_prompts(config.queries, count=config.num_candidates, seed=context.seed, purpose="reasoning_rl")
    clean, contaminated = held_out.exclude(drawn)
    used = {same_item(prompt) for prompt in used_queries}
    unused = [prompt for prompt in clean if same_item(prompt) not in used]
    context.progress.say(f"reasoning_rl: measuring the pass rate of {len(unused)} queries")
    rates = pass_rates(unused, config.rl, start, services, context, num_samples=config.probe_samples)
    kept, report = learnable(unused, rates, hardest_first=True)
    chosen = _hardest_of_each_task(kept, config.num_queries)
    context.record_data(
        "query_filters",
        {
            "drawn": len(drawn),
            "kept": len(chosen),
            "dropped": {
                "held out": contaminated,
                "used in stage 1": len(clean) - len(unused),
                **report.dropped_by_reason,
                "not among the hardest": len(kept) - len(chosen),
            },
            "mean_pass_rate": sum(rates[p.uid] or 0.0 for p in chosen) / max(1, len(chosen)),
            "tasks": dict(Counter(prompt.task for prompt in chosen)),
        },
    )
    return [prompt_record(prompt) for prompt in chosen]


def _hardest_of_each_task(hardest_first: Sequence[Prompt], count: int) -> list[Prompt]:
    """The first `count` prompts taken from the tasks in turn, so that the hardest task does not crowd out the rest."""
    by_task: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in hardest_first:
        by_task[prompt.task].append(prompt)
    chosen: list[Prompt] = []
    depth = 0
    while len(chosen) < count and any(depth < len(prompts) for prompts in by_task.values()):
        chosen += [prompts[depth] for _, prompts in sorted(by_task.items()) if depth < len(prompts)]
        depth += 1
    return chosen[:count]
