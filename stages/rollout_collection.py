"""Where the groups of a training step come from: the synchronous way, and what the RL loop asks of any way.

`SyncRollouts` samples the batch of a step from the present policy and waits for all of it, which repeats exactly.
`stages.async_rollouts` goes on sampling while the learner learns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from data.records import Prompt, ScoredGroup
from rollout.groups import assemble_groups, build_requests
from rollout.policy import GenerationRequest, Policy
from stages.services import Services
from stages.stage_context import StageContext
from stages.step_clock import StepClock

if TYPE_CHECKING:
    from stages.rl_loop import RLConfig

R = TypeVar("R")


def batch_of_step(prompts: Sequence[Prompt], step: int, *, size: int, seed: int) -> list[Prompt]:
    """The prompts of one step: passes over all prompts, each shuffled anew; a function of its arguments alone."""
    size = min(size, len(prompts))
    return [prompt_of_step(prompts, step, position, size=size, seed=seed) for position in range(size)]


def prompt_of_step(prompts: Sequence[Prompt], step: int, position: int, *, size: int, seed: int) -> Prompt:
    """One prompt of `batch_of_step`, at no more cost than its own; `size` is at most the number of prompts."""
    epoch, step_of_pass = divmod(step, len(prompts) // size)
    return prompts[_order_of_pass(len(prompts), seed, epoch)[step_of_pass * size + position]]


@lru_cache(maxsize=4)
def _order_of_pass(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Kept, because asynchronous rollouts ask once for every group: ten thousand shuffles of ten thousand prompts."""
    order = list(range(count))
    random.Random(f"rl/{seed}/{epoch}").shuffle(order)
    return tuple(order)


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What a run samples: which prompts in which order, and the requests made of them."""

    prompts: Sequence[Prompt]
    config: RLConfig
    services: Services
    context: StageContext
    tokenizer: Any

    @property
    def groups_per_step(self) -> int:
        return min(self.config.prompts_per_step, len(self.prompts))

    def batch(self, step: int) -> list[Prompt]:
        return batch_of_step(self.prompts, step, size=self.groups_per_step, seed=self.context.seed)

    def prompt(self, ticket: int) -> Prompt:
        """The prompt of the run's group number `ticket`."""
        step, position = divmod(ticket, self.groups_per_step)
        return prompt_of_step(self.prompts, step, position, size=self.groups_per_step, seed=self.context.seed)

    def requests(self, prompts: Sequence[Prompt], step: int) -> list[GenerationRequest]:
        return build_requests(
            prompts,
            tokenizer=self.tokenizer,
            group_size=self.config.group_size,
            sampling=self.config.sampling,
            run_seed=self.context.seed,
            purpose=self.context.stage,
            step=step,
        )


class RolloutSource(Protocol):
    """A source of scored groups for the steps of a run, in order."""

    def collect(self, step: int, clock: StepClock, beside: dict[str, float]) -> list[ScoredGroup]:
        """The groups of a step whose learner has made `step` steps.

        Phases of the step go to `clock`; seconds of what ran beside it, and is no phase, to `beside`.
        """
        ...

    def beside(self, work: Callable[[], R]) -> R:
        """Do the learner's `work`; what is sampled meanwhile costs no time of its own."""
        ...

    def published(self, version: int) -> None:
        """The engines have the weights of `version` from now on."""

    def metrics(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        """What a step's record says of its rollouts, beyond what every record says."""
        ...

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know, as JSON."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SyncRollouts:
    """Every group of a step is sampled from the policy that the step starts from."""

    plan: RolloutPlan
    policy: Policy

    def collect(self, step: int, clock: StepClock, beside: dict[str, float]) -> list[ScoredGroup]:
        plan, began = self.plan, clock.now()
        batch = plan.batch(step)
        rollouts = plan.services.roll_out(
            self.policy, batch, plan.requests(batch, step), mode_gate=plan.config.mode_gate
        )
        clock.add("generate", began, rollouts.generate_s)
        clock.add("score", began + rollouts.generate_s, rollouts.score_s)
        beside["score_while_generating_s"] = rollouts.overlapped_s
        return assemble_groups(batch, rollouts.completions, rollouts.scores)

    def beside(self, work: Callable[[], R]) -> R:
        return work()

    def published(self, version: int) -> None:
        del version

    def metrics(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        del step, groups
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def close(self) -> None: ...
