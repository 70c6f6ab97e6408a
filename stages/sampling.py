"""The current model's answers to a stage's own prompts, scored: what filters and rejection sampling start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.records import Prompt, ScoredCompletion
from rollout.groups import build_requests
from rollout.policy import SamplingConfig
from stages.services import Services
from stages.stage_context import StageContext


def sample_and_score(
    prompts: Sequence[Prompt],
    start: Path,
    services: Services,
    context: StageContext,
    *,
    num_samples: int,
    sampling: SamplingConfig,
    purpose: str,
    mode_gate: bool = False,
) -> list[ScoredCompletion]:
    """`num_samples` scored completions of each prompt by the model in folder `start`, in the order of the prompts.

    `purpose` seeds the sampling apart from other uses of the same prompt. The tokens count as the stage's cost. Raises
    UserError when more than the set share of verifications failed.
    """
    requests = build_requests(
        prompts,
        tokenizer=services.tokenizer(start),
        group_size=num_samples,
        sampling=sampling,
        run_seed=context.seed,
        purpose=purpose,
        want_logprobs=False,
    )
    rollouts = services.roll_out(services.policy(start), prompts, requests, mode_gate=mode_gate)
    context.num_tokens += sum(completion.num_tokens for completion in rollouts.completions)
    return rollouts.scored()
