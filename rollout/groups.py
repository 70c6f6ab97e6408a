"""From prompts to requests and from completions back to groups: the two ends of a rollout.

Each request is seeded by (run seed, purpose, step, prompt, sample), so a synchronous run repeats exactly and a resumed
one equals an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.chat import render
from data.records import Completion, Prompt, Score, ScoredCompletion, ScoredGroup
from rollout.policy import GenerationRequest, SamplingConfig, request_seed


def prompt_token_ids(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Ids of the rendered prompt up to and including the generation prompt."""
    text = render(
        prompt.messages, tools=prompt.tools, add_generation_prompt=True, enable_thinking=prompt.enable_thinking
    )
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def build_requests(
    prompts: Sequence[Prompt],
    *,
    tokenizer: Any,
    group_size: int,
    sampling: SamplingConfig,
    run_seed: int,
    purpose: str,
    step: int = 0,
    want_logprobs: bool = True,
) -> list[GenerationRequest]:
    """`group_size` requests a prompt, the requests of one prompt next to each other (they share its cached prefix)."""
    requests = []
    for prompt in prompts:
        ids = prompt_token_ids(tokenizer, prompt)
        requests += [
            GenerationRequest(
                prompt_uid=prompt.uid,
                sample_index=index,
                prompt_token_ids=ids,
                sampling=sampling,
                seed=request_seed(run_seed, purpose, step, prompt.uid, index),
                want_logprobs=want_logprobs,
            )
            for index in range(group_size)
        ]
    return requests


def assemble_groups(
    prompts: Sequence[Prompt], completions: Sequence[Completion], scores: Sequence[Score]
) -> list[ScoredGroup]:
    """Groups in the order of `prompts`; completions and scores run in parallel, in any order of prompts."""
    by_prompt: dict[str, list[ScoredCompletion]] = {prompt.uid: [] for prompt in prompts}
    if len(by_prompt) != len(prompts):
        raise ValueError("groups: two prompts of one batch share a uid; their completions could not be told apart")
    for completion, score in zip(completions, scores, strict=True):
        by_prompt[completion.prompt_uid].append(ScoredCompletion(completion, score))
    return [
        ScoredGroup(prompt, tuple(sorted(by_prompt[prompt.uid], key=lambda item: item.completion.sample_index)))
        for prompt in prompts
    ]
