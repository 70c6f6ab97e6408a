"""Stage 4, general RL (Qwen3 report, arXiv 2505.09388, section 4.4).

A weighted mixture of tasks (instruction and format following, mode flags, tools) in both modes, each with its own
verifier, advantages balanced per task so that no task's scale swamps another's. Prompts can be drawn in excess, so that
those the starting model sometimes solves come first (`oversample`). A completion that thinks when it was
told not to, or the other way round, earns nothing whatever its answer (`rl.mode_gate`).

Departures. The report trains over 20 tasks and discloses neither list nor weights nor algorithm: ours are settings, and
GRPO is used again. The report's Table 22 shows reasoning getting worse in this stage and names no cure. The cure tried
here is `reasoning_replay`: a share of every batch are stage-2 style reasoning queries in thinking mode with their
verifier, so that the policy is paid for keeping what it can; 0 switches it off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.records import Prompt, UserError
from stages.pass_rates import is_learnable, pass_rates, prefer_learnable
from stages.prompts import HeldOut, PromptMix, mixed_prompts, prompt_of_record, prompt_record
from stages.rl_loop import RLConfig, run_rl
from stages.services import Services
from stages.stage_context import StageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneralRLConfig:
    """Stage 4. `reasoning_replay` is the share of `num_prompts` drawn from `replay` instead of `tasks`.

    With `oversample` above 1 so many times `num_prompts` are drawn, `probe_samples` answers of the starting model to
    each are scored, and of every task and mode the learnable prompts are taken first.
    """

    prompts: PromptMix
    replay: PromptMix | None = None
    reasoning_replay: float = 0.25
    num_prompts: int = 600
    oversample: int = 1
    probe_samples: int = 4
    rl: RLConfig = field(default_factory=lambda: RLConfig(balance_tasks=True, mode_gate=True))

    def validate(self) -> None:
        for name in ("num_prompts", "oversample"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be 1 or more")
        if self.probe_samples < 2:
            raise UserError(
                f"probe_samples: {self.probe_samples} cannot show a pass rate between 0 and 1; use 2 or more"
            )
        if not 0 <= self.reasoning_replay < 1:
            raise UserError(f"reasoning_replay: {self.reasoning_replay} must lie in [0, 1)")
        if self.reasoning_replay and self.replay is None:
            raise UserError(
                "replay: reasoning_replay above 0 needs the tasks to replay; set reasoning_replay=0 to do without"
            )


def run(
    config: GeneralRLConfig, start: Path, services: Services, context: StageContext, held_out: HeldOut
) -> dict[str, float]:
    """Draw the mixture and reinforce; the learner then holds the final model."""
    rows = context.cached_rows("prompts", lambda: _mixture(config, start, services, context, held_out))
    return run_rl([prompt_of_record(row) for row in rows], config.rl, start, services, context)


def _mixture(
    config: GeneralRLConfig, start: Path, services: Services, context: StageContext, held_out: HeldOut
) -> list[dict[str, Any]]:
    count = config.num_prompts * config.oversample
    num_replay = round(count * config.reasoning_replay)
    drawn: list[Prompt] = mixed_prompts(
        config.prompts, count=count - num_replay, seed=context.seed, purpose="general_rl"
    )
    if config.replay is not None and num_replay:
        drawn += mixed_prompts(config.replay, count=num_replay, seed=context.seed, purpose="replay")
    clean, contaminated = held_out.exclude(drawn)
    chosen, learnable = clean, {}
    if config.oversample > 1:
        context.progress.say(f"general_rl: measuring the pass rate of {len(clean)} prompts")
        rates = pass_rates(clean, config.rl, start, services, context, num_samples=config.probe_samples)
        chosen = prefer_learnable(clean, rates, one_in=config.oversample)
        learnable = {
            "learnable": _counts([prompt for prompt in clean if is_learnable(rates[prompt.uid])]),
            "learnable_chosen": _counts([prompt for prompt in chosen if is_learnable(rates[prompt.uid])]),
        }
    context.record_data(
        "query_filters",
        {
            "drawn": len(drawn),
            "kept": len(chosen),
            "dropped": {"held out": contaminated, "not preferred": len(clean) - len(chosen)},
            "tasks": _counts(chosen),
            **learnable,
        },
    )
    return [prompt_record(prompt) for prompt in chosen]


def _counts(prompts: Sequence[Prompt]) -> dict[str, int]:
    return dict(Counter(f"{prompt.task} ({prompt.mode})" for prompt in prompts))
