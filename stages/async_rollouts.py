"""Asynchronous rollouts: engines go on sampling while the learner learns, under a declared bound of staleness.

    RolloutBuffer.next_ticket -> requests -> ContinuousPolicy.submit … poll -> ScoringBatch -> RolloutBuffer.take

Groups begin as far ahead as `max_staleness` allows (`rollout.buffer` says which, and what a step may train on). The
learner's work runs in a thread, in which it only waits for other processes; the controller polls the engines meanwhile,
hands what is over to the verifiers, and begins new groups. New weights reach the engines between two of their steps:
requests in flight keep their keys and values and go on, so a long completion is carried over as many steps as the bound
allows and its version spans say which tokens saw which weights. Its log-probabilities are those of the distributions
that it was really sampled from, whatever mixture of weights they came out of, and the loss's truncated importance
weights are taken against them.

What is sampled when hangs on the clock: such a run does not repeat bit for bit. Which prompts are trained on does not:
each group of the synchronous run is trained on exactly once. A resumed run begins anew what was in flight or waiting.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from data.records import Completion, Prompt, ScoredCompletion, ScoredGroup
from rewards.registry import get_task
from rewards.scorer import ScoringBatch
from rollout.buffer import RolloutBuffer
from rollout.policy import ContinuousPolicy, GenerationRequest
from stages.rollout_collection import RolloutPlan
from stages.rollouts import Rollouts, error_examples, gate_mode, score_request
from stages.step_clock import StepClock

R = TypeVar("R")

_POLL_S = 0.02
"""The longest wait for engines while the learner works, so that the end of its work is noticed."""


@dataclass(slots=True)
class _Group:
    """One prompt's completions as they come, each given to the verifiers at once."""

    prompt: Prompt
    size: int
    batch: ScoringBatch
    completions: list[Completion] = field(default_factory=list)

    def add(self, completion: Completion) -> bool:
        """Take one in; whether it was the last."""
        own = dataclasses.replace(completion, prompt_uid=self.prompt.uid)
        self.completions.append(own)
        self.batch.add([score_request(self.prompt, own)])
        return len(self.completions) == self.size

    @property
    def oldest_version(self) -> int:
        return min(completion.oldest_version for completion in self.completions)

    def scored(self, *, mode_gate: bool) -> ScoredGroup:
        """The whole group; waits for verdicts that are still out."""
        scores = self.batch.finish()
        if mode_gate:
            scores = [gate_mode(self.prompt, c, s) for c, s in zip(self.completions, scores, strict=True)]
        scored = map(ScoredCompletion, self.completions, scores)
        return ScoredGroup(self.prompt, tuple(sorted(scored, key=lambda item: item.completion.sample_index)))


class AsyncRollouts:
    """`stages.rollout_collection.RolloutSource` with `config.max_staleness` above 0.

    The learner has made `step` steps, and the engines have its weights under that version. `state` is that of the run
    that is resumed.
    """

    def __init__(self, plan: RolloutPlan, policy: ContinuousPolicy, *, step: int, state: dict[str, Any]) -> None:
        self.plan, self.policy, self.version = plan, policy, step
        size = plan.groups_per_step
        self.buffer: RolloutBuffer[_Group] = RolloutBuffer(
            groups_per_step=size,
            max_staleness=plan.config.max_staleness,
            num_groups=plan.config.num_steps * size,
            num_taken=step * size,
            begun=state.get("begun", ()),
        )
        self._sampling: dict[str, tuple[int, _Group]] = {}  # uid of the requests -> ticket and group
        self._num_dropped = 0
        self._busy_s = {"waiting": 0.0, "beside": 0.0}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learner")

    def collect(self, step: int, clock: StepClock, beside: dict[str, float]) -> list[ScoredGroup]:
        began = clock.now()
        while (taken := self.buffer.take(step)) is None:
            if not self._sample("waiting", timeout_s=1.0):
                raise RuntimeError(f"rollouts: step {step} has too few groups, none is in flight and none may begin")
        waited = clock.now()
        clock.add("wait", began, waited - began)
        groups = [group.scored(mode_gate=self.plan.config.mode_gate) for _, group in taken]
        self._check_errors(groups)
        clock.add("score", waited, clock.now() - waited)
        busy_s = sum(self._busy_s.values())
        beside |= {
            "generate_beside_s": busy_s,
            "rollout_wait_s": waited - began,
            "hidden_share": self._busy_s["beside"] / busy_s if busy_s else 0.0,
        }
        self._busy_s = {"waiting": 0.0, "beside": 0.0}
        return groups

    def beside(self, work: Callable[[], R]) -> R:
        future = self._thread.submit(work)
        while not future.done():
            if not self._sample("beside", timeout_s=_POLL_S):
                wait([future], timeout=_POLL_S)
        return future.result()

    def published(self, version: int) -> None:
        self.version = version
        self._begin_groups()

    def metrics(self, step: int, groups: Sequence[ScoredGroup]) -> dict[str, float]:
        completions = [item.completion for group in groups for item in group.scored]
        staleness = [step - completion.oldest_version for completion in completions]
        spans = [span for c in completions for segment in c.segments for span in segment.weight_versions]
        num_older = sum(span.end - span.start for span in spans if span.version < step)
        dropped, self._num_dropped = self.buffer.num_dropped - self._num_dropped, self.buffer.num_dropped
        return {
            "staleness/mean": sum(staleness) / len(staleness),
            "staleness/max": max(staleness),
            "staleness/dropped_groups": dropped,
            "staleness/older_tokens": num_older,
            "staleness/older_token_share": num_older / max(1, sum(span.end - span.start for span in spans)),
            "staleness/carried_over": sum(_num_versions(completion) > 1 for completion in completions),
        }

    def state(self) -> dict[str, Any]:
        """The groups that have begun and were not trained on: a resumed run begins them anew."""
        return {"begun": self.buffer.begun}

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    # ---- sampling

    def _sample(self, account: str, *, timeout_s: float) -> bool:
        """Begin what may begin and take in what is over; whether anything was in flight."""
        self._begin_groups()
        if not self.policy.num_in_flight:
            return False
        began = time.perf_counter()
        for completion in self.policy.poll(timeout_s):
            ticket, group = self._sampling[completion.prompt_uid]
            if group.add(completion):
                del self._sampling[completion.prompt_uid]
                self.buffer.finish(ticket, group.oldest_version, group)
        self._busy_s[account] += time.perf_counter() - began
        return True

    def _begin_groups(self) -> None:
        """Begin the groups for which bound and engines have room."""
        size = self.plan.config.group_size
        room = max(self.policy.capacity, size) - self.policy.num_in_flight
        requests: list[GenerationRequest] = []
        prompts: list[Prompt] = []
        while len(requests) + size <= room and (ticket := self.buffer.next_ticket(self.version)) is not None:
            prompt, asked = self._begin(ticket)
            prompts.append(prompt)
            requests += asked
        if requests:
            self.policy.submit(requests, episodes=self.plan.services.episode_setups(prompts))

    def _begin(self, ticket: int) -> tuple[Prompt, list[GenerationRequest]]:
        """A group in flight: its prompt, named after the group, and what to ask of the engines."""
        plan = self.plan
        prompt, step = plan.prompt(ticket), ticket // plan.groups_per_step
        # The same prompt of two passes may be in flight at once: requests are named after their group.
        name = f"{prompt.uid}@{ticket}"
        requests = [dataclasses.replace(request, prompt_uid=name) for request in plan.requests([prompt], step)]
        is_rated = get_task(prompt.task).reward_type == "preference_model"
        batch = plan.services.scorer.begin(num_preference=len(requests) if is_rated else None)
        self._sampling[name] = (ticket, _Group(prompt, len(requests), batch))
        return dataclasses.replace(prompt, uid=name), requests

    def _check_errors(self, groups: Sequence[ScoredGroup]) -> None:
        items = [item for group in groups for item in group.scored]
        completions, scores = tuple(item.completion for item in items), tuple(item.score for item in items)
        found = Rollouts(completions, scores, generate_s=0.0, score_s=0.0, overlapped_s=0.0)
        prompts = [group.prompt for group in groups]
        self.plan.services.check_error_share(scores, lambda: error_examples(prompts, found))


def _num_versions(completion: Completion) -> int:
    return len({span.version for segment in completion.segments for span in segment.weight_versions})
