"""A steady load on an engine: so many requests in flight at every moment, each timed from submission to last token."""

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
    clock: Callable[[], float] = time.monotonic,
) -> LoadFigures:
    """Keep `concurrency` of `requests` in flight until all are over (a closed loop).

    Seconds are those that a caller sees: they include the slice in which a rollout worker hands on what has finished
    (a tenth of a second), and no HTTP. Tokens are those that were sampled.
    """
    require_distinct(requests)
    began = clock()
    submitted: dict[tuple[str, int], float] = {}
    latencies: list[float] = []
    num_tokens, upcoming = 0, iter(requests)
    while len(latencies) < len(requests):
        while len(submitted) < concurrency and (request := next(upcoming, None)) is not None:
            submitted[request.prompt_uid, request.sample_index] = clock()
            policy.submit([request], episodes={})
        for completion in policy.poll(_POLL_S):
            latencies.append(clock() - submitted.pop((completion.prompt_uid, completion.sample_index)))
            num_tokens += completion.num_tokens
    return LoadFigures(tuple(latencies), num_tokens, clock() - began)
