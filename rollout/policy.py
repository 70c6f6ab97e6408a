"""What the rest of the project asks of something that samples: requests in, completions out.

The controller, the evaluation and the data stages see only the protocol `Policy`; whether it is an engine in this
process, Ray actors over many machines or a fake in a test is decided where a run is assembled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.episodes import EnvironmentFactory, EpisodeLimits
from data.records import Completion, Prompt, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How completions are sampled. The defaults are plain sampling from the policy, as on-policy RL needs.

    `thinking_budget` is in tokens after `<think>`; None leaves the thinking unbounded. Report §4.6 evaluates thinking
    with temperature 0.6, top-p 0.95, top-k 20 and non-thinking with 0.7, 0.8, 20 and `presence_penalty` 1.5, which is
    taken off the logit of every token that the completion already holds. `ignore_end` samples on to `max_tokens`
    whatever the policy says: for measuring speed with a set number of tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    max_tokens: int = 256
    thinking_budget: int | None = None
    ignore_end: bool = False

    def validate(self) -> None:
        if not self.temperature >= 0:
            raise UserError(f"temperature: {self.temperature} must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p: {self.top_p} must lie in (0, 1]")
        if self.top_k < 0:
            raise UserError(f"top_k: {self.top_k} must be 0 (off) or more")
        if not -2 <= self.presence_penalty <= 2:
            raise UserError(f"presence_penalty: {self.presence_penalty} must lie in [-2, 2]; 0 is none")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens: {self.max_tokens} must be 1 or more")
        if self.thinking_budget is not None and self.thinking_budget < 0:
            raise UserError(f"thinking_budget: {self.thinking_budget} must be 0 or more, or null for no bound")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion to sample: ids in, a seed of its own, so that the batch it runs in does not change it."""

    prompt_uid: str
    sample_index: int
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingConfig
    seed: int
    want_logprobs: bool = True


@dataclass(frozen=True, slots=True)
class EpisodeSetup:
    """What makes the completions of a prompt episodes of several turns; travels to the process of the engine.

    `max_model_len` tokens are room for prompt and completion together.
    """

    prompt: Prompt
    factory: EnvironmentFactory
    limits: EpisodeLimits
    max_model_len: int


class Policy(Protocol):
    """A source of completions."""

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        episodes: Mapping[str, EpisodeSetup] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_finished: Callable[[Sequence[Completion]], None] | None = None,
    ) -> list[Completion]:
        """Completions in the order of `requests`; `on_progress` hears (requests that are over, tokens sampled so far).

        Requests of a prompt whose uid is in `episodes` are played to their end (`rollout.agent_loop`). `on_finished`
        gets every completion once, in any order, while others are still being sampled: what is done with it there costs
        no time of its own.
        """
        ...


class ContinuousPolicy(Protocol):
    """A policy that samples on while its caller does something else: `rollout.workers.RolloutPool`."""

    @property
    def capacity(self) -> int:
        """Requests that can run at once; more than these only wait."""

    @property
    def num_in_flight(self) -> int:
        """Requests whose completions `poll` has not returned yet."""

    def submit(self, requests: Sequence[GenerationRequest], *, episodes: Mapping[str, EpisodeSetup]) -> None:
        """Begin requests, each prompt's one after another, beside those in flight; no (prompt, sample) occurs twice."""

    def poll(self, timeout_s: float) -> list[Completion]:
        """Completions that are over by now, waited for no longer than `timeout_s`; call it often."""


class Sampler(Protocol):
    """A source of single turns, step by step: `rollout.engine.Engine`."""

    @property
    def num_pending(self) -> int: ...

    def submit(self, request: GenerationRequest) -> None:
        """Queue one request; it takes part from the next step on."""

    def step(self) -> list[Completion]:
        """Go one token on with every request that runs; returns the completions that finished."""
        ...


def require_distinct(requests: Sequence[GenerationRequest]) -> None:
    """Refuse two requests of one batch with the same (prompt, sample): one completion would stand for both."""
    seen: set[tuple[str, int]] = set()
    for request in requests:
        name = (request.prompt_uid, request.sample_index)
        if name in seen:
            raise ValueError(f"requests: sample {name[1]} of prompt {name[0]!r} is asked for twice in one batch")
        seen.add(name)


def request_seed(run_seed: int, *parts: object) -> int:
    """A 63-bit seed from the run seed and what names the request (step, prompt, sample), the same on every machine."""
    text = "/".join([str(run_seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sampling_for_training(sampling: SamplingConfig) -> None:
    """Refuse settings under which the engine's log-probabilities are of another distribution than the learner's.

    Top-p and top-k renormalise over a subset that the learner does not know, so that every importance ratio would be
    biased downwards.
    """
    if sampling.top_p < 1 or sampling.top_k > 0:
        raise UserError(
            f"sampling: top_p={sampling.top_p}, top_k={sampling.top_k} renormalise the engine's log-probabilities and "
            "bias every importance ratio; train with top_p=1 and top_k=0"
        )
    if sampling.presence_penalty:
        raise UserError(
            f"sampling: presence_penalty={sampling.presence_penalty} changes the distribution that is sampled from and "
            "not the learner's; train without it"
        )
    if sampling.temperature == 0:
        raise UserError(
            "sampling.temperature: 0 (greedy) gives no distribution to train on; use a value above 0, such as 1"
        )
