"""Episodes of several turns: the policy speaks, an environment answers, and the tokens of both become training rows.

    requests -> policy.generate -> Episode.take -> tool results as forced tokens -> the next round's requests -> …

Rounds run in lockstep: the next turns of all episodes that go on are one batch of `policy.generate`, in the order of
the requests, each seeded by its first request and the number of the turn. Nothing depends on which episode is quick, so
a run repeats exactly and a resumed one equals an uninterrupted one; the price is that a round waits for its slowest.

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
from rollout.policy import GenerationRequest, Policy, request_seed

OnProgress = Callable[[int, int], None]
OnFinished = Callable[[Sequence[Completion]], None]


def run_episodes(
    policy: Policy,
    prompts: Sequence[Prompt],
    requests: Sequence[GenerationRequest],
    *,
    environments: Mapping[str, EnvironmentFactory],
    limits: EpisodeLimits,
    tokenizer: Any,
    max_model_len: int,
    on_progress: OnProgress | None = None,
    on_finished: OnFinished | None = None,
) -> list[Completion]:
    """Completions in the order of `requests`, those of episodes with all their turns.

    `environments` maps the uid of a prompt to the maker of its environment; a prompt without one is answered in a
    single turn, exactly as `policy.generate` gives it. `limits` holds for each episode, `sampling.max_tokens` for each
    turn, `max_model_len` tokens for prompt and completion together: an episode that has no room left ends with finish
    reason "length". An environment that raises ends its episode with `ended` "environment error: …".
    `on_progress` hears (requests that are over, tokens sampled so far); `on_finished` gets every completion that is
    over, an episode as a whole, once and in any order.
    """
    by_uid = {prompt.uid: prompt for prompt in prompts}
    running = {
        index: _Rollout(by_uid[request.prompt_uid], request, environments[request.prompt_uid], limits, tokenizer)
        for index, request in enumerate(requests)
        if request.prompt_uid in environments
    }
    batch = {i: running[i].first_request() if i in running else request for i, request in enumerate(requests)}
    results: dict[int, Completion] = {}
    num_sampled = 0
    while batch:
        hears = _later_round(on_progress, len(results), num_sampled)
        completions = policy.generate(
            list(batch.values()), on_progress=hears, on_finished=_single_turns(on_finished, environments)
        )
        num_sampled += sum(len(completion.token_ids) for completion in completions)
        following: dict[int, GenerationRequest] = {}
        for index, completion in zip(batch, completions, strict=True):
            rollout = running.get(index)
            request = rollout.take(completion, max_model_len) if rollout else None
            if request is not None:
                following[index] = request
            elif rollout is None:
                results[index] = completion
            else:
                results[index] = rollout.result()
                if on_finished is not None:
                    on_finished([results[index]])
        batch = following
    return [results[index] for index in range(len(requests))]


def ended_counts(completions: Sequence[Completion]) -> dict[str, int]:
    """How many episodes ended for which reason, by reason; failures of environments are one reason."""
    reasons = (completion.ended for completion in completions if completion.ended)
    counts = Counter(ENVIRONMENT_ERROR if reason.startswith(ENVIRONMENT_ERROR) else reason for reason in reasons)
    return dict(sorted(counts.items()))


def _single_turns(on_finished: OnFinished | None, environments: Mapping[str, EnvironmentFactory]) -> OnFinished | None:
    """Hands on the completions that are over when they are sampled, which a turn of an episode is not."""
    if on_finished is None:
        return None

    def hand_on(completions: Sequence[Completion]) -> None:
        if over := [completion for completion in completions if completion.prompt_uid not in environments]:
            on_finished(over)

    return hand_on


def _later_round(on_progress: OnProgress | None, num_over: int, num_sampled: int) -> OnProgress | None:
    """`on_progress` for a round that begins when some requests are over and some tokens are sampled."""
    if on_progress is None:
        return None
    return lambda finished, tokens: on_progress(num_over + finished, num_sampled + tokens)


class _Rollout:
    """The tokens of one episode under way."""

    def __init__(
        self,
        prompt: Prompt,
        request: GenerationRequest,
        factory: EnvironmentFactory,
        limits: EpisodeLimits,
        tokenizer: Any,
    ) -> None:
        self.prompt, self.request, self.limits, self.tokenizer = prompt, request, limits, tokenizer
        self.episode = Episode(factory, prompt.reference, limits, prefilled=prompt.enable_thinking is False)
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

    def take(self, completion: Completion, max_model_len: int) -> GenerationRequest | None:
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
        return self._append_replies(replies, max_model_len)

    def _append_replies(self, replies: Sequence[Message], max_model_len: int) -> GenerationRequest | None:
        between = self._encode(text_between_turns(replies, enable_thinking=self.prompt.enable_thinking))
        is_query = replies[0]["role"] == "user"
        next_prompt = self._rendered() if is_query else (*self.prompt_token_ids, *self.token_ids, *between)
        self.num_used += len(between)
        room_in_episode, room_in_context = self.limits.max_tokens - self.num_used, max_model_len - len(next_prompt)
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
