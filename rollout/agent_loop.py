"""Episodes of several turns: the policy speaks, an environment answers, and the tokens of both become training rows.

    request -> Sampler.submit … step -> Episode.take -> tool results as forced tokens -> the next turn's request -> …

No episode waits for another: `EpisodeLoop` lives beside the engine and submits an episode's next turn between the step
in which its turn ended and the next one, so that the engine's batch stays full. A turn is seeded by its episode's first
request and its number, and which turns share a step is a function of the requests alone, never of the clock: a run
repeats exactly and a resumed one equals an uninterrupted one. Environments run in the engine's process; one that takes
long holds up the next step.

Sampled ids are kept as they came. Tool results are encoded apart and appended as `forced` tokens: no loss, no
log-probability. A user message is a new query, before which the chat format drops all reasoning, so the history is
rendered anew as it will be at inference, and what was sampled under the old rendering is an earlier `Segment`, a
training row of its own. Departure from the format: within one query the empty think block of a turn stays in the
history, because it was sampled there (rendering a finished conversation would drop it).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.chat import IM_END, render
from data.episodes import (
    CONTEXT_WINDOW,
    END_OF_DOCUMENT,
    ENVIRONMENT_ERROR,
    TOKEN_CAP,
    EnvironmentFactory,
    Episode,
    EpisodeLimits,
    text_between_turns,
)
from data.records import Completion, FinishReason, Message, Prompt, Segment, VersionSpan
from rollout.policy import EpisodeSetup, GenerationRequest, Sampler, request_seed, require_distinct

OnProgress = Callable[[int, int], None]
OnFinished = Callable[[Sequence[Completion]], None]


def episode_setups(
    prompts: Sequence[Prompt],
    environments: Mapping[str, EnvironmentFactory],
    *,
    limits: EpisodeLimits,
    max_model_len: int,
) -> dict[str, EpisodeSetup]:
    """What makes an episode of each prompt that has an environment, by the prompt's uid (`Policy.generate`).

    `environments` maps the uid of a prompt to the maker of its environment; a prompt without one is answered in a
    single turn. `limits` holds for each episode, `sampling.max_tokens` for each turn, `max_model_len` tokens for prompt
    and completion together: an episode that has no room left ends with finish reason "length". An environment that
    raises ends its own episode, with `ended` "environment error: …".
    """
    return {
        prompt.uid: EpisodeSetup(prompt, environments[prompt.uid], limits, max_model_len)
        for prompt in prompts
        if prompt.uid in environments
    }


def run_to_end(
    sampler: Sampler,
    requests: Sequence[GenerationRequest],
    *,
    tokenizer: Any,
    episodes: Mapping[str, EpisodeSetup] | None = None,
    on_progress: OnProgress | None = None,
    on_finished: OnFinished | None = None,
) -> list[Completion]:
    """`Policy.generate` for a sampler in this process."""
    require_distinct(requests)
    loop = EpisodeLoop(sampler, tokenizer)
    for request in requests:
        loop.submit(request, (episodes or {}).get(request.prompt_uid))
    done: dict[tuple[str, int], Completion] = {}
    while loop.num_pending:
        finished = loop.step()
        done |= {(completion.prompt_uid, completion.sample_index): completion for completion in finished}
        if finished and on_finished:
            on_finished(finished)
        if finished and on_progress:
            on_progress(len(done), loop.num_sampled)
    return [done[request.prompt_uid, request.sample_index] for request in requests]


def ended_counts(completions: Sequence[Completion]) -> dict[str, int]:
    """How many episodes ended for which reason, by reason; failures of environments are one reason."""
    reasons = (completion.ended for completion in completions if completion.ended)
    counts = Counter(ENVIRONMENT_ERROR if reason.startswith(ENVIRONMENT_ERROR) else reason for reason in reasons)
    return dict(sorted(counts.items()))


class EpisodeLoop:
    """Requests over a sampler of single turns: those of episodes come back when the whole episode is over.

    `num_sampled` counts the tokens of all turns that are over. Two requests in flight must differ in (prompt, sample).
    """

    def __init__(self, sampler: Sampler, tokenizer: Any) -> None:
        self.sampler, self.tokenizer = sampler, tokenizer
        self.num_sampled = 0
        self._running: dict[tuple[str, int], _Rollout] = {}

    @property
    def num_pending(self) -> int:
        """Requests that are not over; each has exactly one turn with the sampler."""
        return self.sampler.num_pending

    def submit(self, request: GenerationRequest, setup: EpisodeSetup | None = None) -> None:
        """Queue one request; with `setup` it is the first turn of an episode."""
        if setup is None:
            self.sampler.submit(request)
            return
        rollout = _Rollout(setup, request, self.tokenizer)
        self.sampler.submit(rollout.first_request())
        self._running[request.prompt_uid, request.sample_index] = rollout

    def step(self) -> list[Completion]:
        """One step of the sampler, and the next turn of every episode whose turn it ended; returns what is over."""
        over = []
        for completion in self.sampler.step():
            self.num_sampled += len(completion.token_ids)
            name = (completion.prompt_uid, completion.sample_index)
            rollout = self._running.get(name)
            following = rollout.take(completion) if rollout else None
            if following is not None:
                self.sampler.submit(following)
            elif rollout is not None:
                del self._running[name]
                over.append(rollout.result())
            else:
                over.append(completion)
        return over


class _Rollout:
    """The tokens of one episode under way."""

    def __init__(self, setup: EpisodeSetup, request: GenerationRequest, tokenizer: Any) -> None:
        self.setup, self.request, self.tokenizer = setup, request, tokenizer
        self.prompt, self.limits = setup.prompt, setup.limits
        self.episode = Episode(
            setup.factory, self.prompt.reference, self.limits, prefilled=self.prompt.enable_thinking is False
        )
        self.end_id = tokenizer.convert_tokens_to_ids(IM_END)
        self.num_used = 0  # tokens sampled and come back so far, over all segments
        self.finish_reason: FinishReason = "stop"
        self.earlier: list[Segment] = []
        self._begin_segment(request.prompt_token_ids)

    def _begin_segment(self, prompt_token_ids: Sequence[int]) -> None:
        self.prompt_token_ids = tuple(prompt_token_ids)
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.forced: list[bool] = []
        self.spans: list[VersionSpan] = []

    def first_request(self) -> GenerationRequest:
        return self._next_request(self.request.prompt_token_ids, self.limits.max_tokens, self.request.seed)

    def take(self, completion: Completion) -> GenerationRequest | None:
        """Add a sampled turn, carry it out and append what comes back; the next turn's request, None at the end."""
        offset = len(self.token_ids)
        self.spans += [
            VersionSpan(span.version, span.start + offset, span.end + offset) for span in completion.weight_versions
        ]
        self._append(completion.token_ids, completion.logprobs, completion.forced)
        self.finish_reason = completion.finish_reason
        replies = self.episode.take(completion.text, completion.finish_reason)
        if not replies:
            return None
        if not self.token_ids or self.token_ids[-1] != self.end_id:
            self.episode.end(END_OF_DOCUMENT)  # the policy closed the text, not its turn: nothing can follow
            return None
        return self._append_replies(replies)

    def _append_replies(self, replies: Sequence[Message]) -> GenerationRequest | None:
        between = self._encode(text_between_turns(replies, enable_thinking=self.prompt.enable_thinking))
        is_query = replies[0]["role"] == "user"
        next_prompt = self._rendered() if is_query else (*self.prompt_token_ids, *self.token_ids, *between)
        self.num_used += len(between)
        room_in_episode = self.limits.max_tokens - self.num_used
        room_in_context = self.setup.max_model_len - len(next_prompt)
        if room_in_episode < 1 or room_in_context < 1:
            self.finish_reason = "length"
            self.episode.end(TOKEN_CAP if room_in_episode < 1 else CONTEXT_WINDOW)
            return None
        if is_query:
            self.earlier.append(self._segment())
            self._begin_segment(next_prompt)
        else:
            self.token_ids += between
            self.logprobs += [0.0] * len(between)
            self.forced += [True] * len(between)
        room = min(room_in_episode, room_in_context)
        return self._next_request(next_prompt, room, request_seed(self.request.seed, "turn", len(self.episode.turns)))

    def _append(self, token_ids: Sequence[int], logprobs: Sequence[float], forced: Sequence[bool]) -> None:
        self.token_ids += token_ids
        self.logprobs += logprobs
        self.forced += forced
        self.num_used += len(token_ids)

    def _next_request(self, prompt_token_ids: Sequence[int], room: int, seed: int) -> GenerationRequest:
        sampling = self.request.sampling
        if room < sampling.max_tokens:
            sampling = dataclasses.replace(sampling, max_tokens=room)
        return dataclasses.replace(self.request, prompt_token_ids=tuple(prompt_token_ids), sampling=sampling, seed=seed)

    def _rendered(self) -> tuple[int, ...]:
        """The whole conversation as the format renders it for a new query, without earlier reasoning."""
        history = [*self.prompt.messages, *self.episode.messages]
        text = render(
            history, tools=self.prompt.tools, add_generation_prompt=True, enable_thinking=self.prompt.enable_thinking
        )
        return tuple(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _segment(self) -> Segment:
        return Segment(
            self.prompt_token_ids,
            tuple(self.token_ids),
            tuple(self.logprobs),
            tuple(self.forced),
            tuple(self.spans),
        )

    def result(self) -> Completion:
        """The whole episode; the environment is asked for its outcome here."""
        last = self._segment()
        outcome = self.episode.outcome()  # may find that the environment failed, so it comes before `ended`
        return Completion(
            prompt_uid=self.request.prompt_uid,
            sample_index=self.request.sample_index,
            prompt_token_ids=last.prompt_token_ids,
            token_ids=last.token_ids,
            logprobs=last.logprobs,
            forced=last.forced,
            finish_reason=self.finish_reason,
            weight_versions=last.weight_versions,
            text=self.episode.turns[-1],
            turns=tuple(self.episode.turns),
            ended=self.episode.ended,
            outcome=outcome,
            earlier=tuple(self.earlier),
        )
