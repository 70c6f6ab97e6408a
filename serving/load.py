"""A steady load on an engine: so many requests in flight at every moment, each timed to its last token or its first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rollout.policy import ContinuousPolicy, GenerationRequest, require_distinct
from serving.figures import LoadFigures

_POLL_S = 0.05


def steady_load(
    policy: ContinuousPolicy,
    requests: Sequence[GenerationRequest],
    *,
    concurrency: int,
    first_tokens: Sequence[GenerationRequest] = (),
    clock: Callable[[], float] = time.monotonic,
) -> LoadFigures:
    """Keep `concurrency` of `requests` in flight until all are over (a closed loop).

    A rollout worker hands on whole completions alone. So one of `first_tokens`, requests of a single token, comes with
    each request that takes the place of one that is over: it ends with the first token that a caller who comes at this
    load gets, its wait and its prompt included. They count neither as in flight nor among the tokens.

    Seconds are those that a caller sees: they include the slices in which a rollout worker takes in what is new and
    hands on what has finished (a tenth of a second each), and no HTTP. Tokens are those that were sampled.
    """
    require_distinct([*requests, *first_tokens])
    began = clock()
    submitted: dict[tuple[str, int], float] = {}
    probing: dict[tuple[str, int], float] = {}
    latencies: list[float] = []
    first_token_s: list[float] = []
    num_tokens, upcoming, probes = 0, iter(requests), iter(first_tokens)
    while len(latencies) < len(requests) or probing:
        while len(submitted) < concurrency and (request := next(upcoming, None)) is not None:
            submitted[request.prompt_uid, request.sample_index] = clock()
            policy.submit([request], episodes={})
            if latencies and (probe := next(probes, None)) is not None:
                probing[probe.prompt_uid, probe.sample_index] = clock()
                policy.submit([probe], episodes={})
        for completion in policy.poll(_POLL_S):
            name = (completion.prompt_uid, completion.sample_index)
            if name in probing:
                first_token_s.append(clock() - probing.pop(name))
            else:
                latencies.append(clock() - submitted.pop(name))
                num_tokens += completion.num_tokens
    return LoadFigures(tuple(latencies), num_tokens, clock() - began, tuple(first_token_s))
