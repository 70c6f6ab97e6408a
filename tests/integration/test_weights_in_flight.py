"""New weights while requests are in flight: through Ray, with kept keys and values, and scored beside them.

What a token that was sampled after an update is compared with is exact: the new weights over the keys and values that
the old ones left, which is what the engine has. Against the new weights alone its log-probability is off by the effect
of the kept keys and values; that is measured too, so that the comparison could fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import ray
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from data.records import Completion, TrainingSample, VersionSpan
from data.weight_arrays import to_tensors
from learner.learner_config import LearnerConfig
from learner.placement import LearnerPlacement
from learner.workers import RemoteLearner
from rollout.config import EngineConfig, RolloutConfig
from rollout.workers import RolloutPool
from tests.integration.engine_pairs import Pair
from tests.integration.local_ray import local_ray
from tests.integration.test_engine import load_into_learner, moved
from tests.integration.tiny_policies import MAX_POSITIONS, request, save_policy

pytestmark = [pytest.mark.engine, pytest.mark.integration]

TOLERANCE = 1e-3
ENGINE = EngineConfig(max_model_len=MAX_POSITIONS, max_num_seqs=32, max_num_batched_tokens=1024)
PROMPT = tuple(range(97, 117))
ROWS = [list(range(40, 90)), list(range(10, 60, 2))]


def model_with(folder: Path, weights: dict[str, Tensor]) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def logprobs_over_kept_keys(completion: Completion, models: dict[int, PreTrainedModel]) -> list[float]:
    """Each token under the weights of its span, over the keys and values that earlier spans left."""
    row = torch.tensor([[*completion.prompt_token_ids, *completion.token_ids]])
    first = len(completion.prompt_token_ids)
    cache = DynamicCache()
    found: list[float] = []
    begin = 0
    for span in completion.weight_versions:
        # The token before a span's first one is fed to the span's weights: they predict what follows it.
        end = first + span.end - 1
        logits = models[span.version](row[:, begin:end], past_key_values=cache, use_cache=True).logits[0]
        scored = torch.log_softmax(logits[-(span.end - span.start) :], dim=-1)
        targets = row[0, first + span.start : first + span.end]
        found += scored.gather(1, targets[:, None])[:, 0].tolist()
        begin = end
    return found


def gap(expected: list[float], completion: Completion) -> float:
    return max(abs(a - b) for a, b in zip(expected, completion.logprobs, strict=True))


# ---------------------------------------------------------------------------------------------- through Ray


@dataclass(frozen=True)
class Cluster:
    folder: Path
    pool: RolloutPool
    learner: RemoteLearner


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = save_policy(tmp_path_factory.mktemp("policy") / "model")
    settings = RolloutConfig(num_threads=1, engine=ENGINE, start_timeout_s=300, answer_timeout_s=60)
    with local_ray():
        pool = RolloutPool(folder, settings, log_folder=tmp_path_factory.mktemp("logs"))
        learner = RemoteLearner(LearnerPlacement(num_threads=1, timeout_s=120))
        learner.load(folder, LearnerConfig(lr=0.01), seed=0)
        yield Cluster(folder, pool, learner)
        pool.close()
        learner.close()


def test_every_token_has_the_logprob_of_the_weights_that_its_span_names(cluster: Cluster) -> None:
    pool, learner = cluster.pool, cluster.learner
    weights = {0: to_tensors(ray.get(learner.weights_reference()))}
    pool.update_weights(learner.weights_reference(), version=0)
    requests = [request(PROMPT, index=i, seed=i, max_tokens=30 if i == 0 else 490) for i in range(8)]
    pool.submit(requests, episodes={})
    assert pool.num_in_flight == 8
    with pytest.raises(RuntimeError, match="8 requests are in flight"):
        pool.generate(requests)
    completions: list[Completion] = []
    while not completions:  # the short one: the others are on their way by now
        completions += pool.poll(1.0)
    samples = [TrainingSample.supervised(tuple(row), (0, *[1] * (len(row) - 1))) for row in ROWS]
    learner.sft_step(samples)
    weights[1] = to_tensors(ray.get(learner.weights_reference()))
    pool.update_weights(learner.weights_reference(), version=1)
    # The check after a sync works beside requests in flight, and sees the new weights.
    (scored,) = pool.score(ROWS)
    for mine, theirs in zip(scored, learner.logprobs(ROWS), strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), rtol=0, atol=TOLERANCE)
    assert pool.num_in_flight > 0
    while pool.num_in_flight:
        completions += pool.poll(1.0)
    assert sorted(completion.sample_index for completion in completions) == list(range(8))

    models = {version: model_with(cluster.folder, tensors) for version, tensors in weights.items()}
    mixed = [completion for completion in completions if len(completion.weight_versions) == 2]
    assert len(mixed) >= 3
    for completion in completions:
        assert gap(logprobs_over_kept_keys(completion, models), completion) < TOLERANCE
    for completion in mixed:
        old, new = completion.weight_versions
        assert (old.version, new.version, completion.oldest_version) == (0, 1, 0)
        assert (old.start, old.end, new.end) == (0, new.start, len(completion.token_ids))
        row, first = [*completion.prompt_token_ids, *completion.token_ids], len(completion.prompt_token_ids)
        learners = learner.logprobs([row])[0][first:]
        # The old tokens are not those of the learner's new weights; the new ones are but for the kept keys and values.
        off = [abs(a - b) for a, b in zip(learners, completion.logprobs, strict=True)]
        kept_effect = max(off[new.start :])
        assert kept_effect > TOLERANCE
        assert sum(off[new.start :]) / (new.end - new.start) < sum(off[: old.end]) / old.end


def poll_for_ever(pool: RolloutPool) -> NoReturn:
    while True:
        pool.poll(0.2)


def test_an_engine_that_falls_silent_while_it_is_polled_is_given_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test with this engine: what it was asked for stays with it."""
    engine = psutil.Process(cluster.pool.process_ids[0])
    monkeypatch.setattr(cluster.pool, "config", RolloutConfig(answer_timeout_s=1.5, engine=ENGINE))
    engine.suspend()
    try:
        cluster.pool.submit([request(PROMPT)], episodes={})
        began = time.monotonic()
        with pytest.raises(RuntimeError, match=r"engine 0 did not answer within answer_timeout_s=1\.5"):
            poll_for_ever(cluster.pool)
        assert 1.5 < time.monotonic() - began < 10
    finally:
        engine.resume()


# ---------------------------------------------------------------------------------------------- one engine


def test_a_request_after_an_update_in_flight_reuses_no_old_keys(pair: Pair) -> None:
    engine, own = pair.engine, pair.own_weights()
    prompt = (pair.ids("the sum of two and three is ") * 30)[:300]  # longer than a block of the prefix cache
    engine.submit(request(prompt, uid="early", seed=1, max_tokens=60))
    for _ in range(4):
        engine.step()
    new = moved(own, tied=False)
    engine.update_weights(new, version=1)
    engine.submit(request(prompt, uid="late", seed=1, max_tokens=20))
    found: list[Completion] = []
    while engine.num_pending:
        found += engine.step()
    late, early = sorted(found, key=lambda completion: completion.prompt_uid, reverse=True)
    assert late.weight_versions == (VersionSpan(1, 0, len(late.token_ids)),)
    assert len(early.weight_versions) == 2
    load_into_learner(pair.learner, new)
    try:
        assert pair.gap(late) < TOLERANCE
        assert pair.gap(early) > 10 * TOLERANCE
    finally:
        load_into_learner(pair.learner, own)


def test_scoring_beside_requests_in_flight_changes_neither(pair: Pair) -> None:
    requests = [request(pair.ids("abc" * (n + 1)), uid=f"p{n}", seed=n, max_tokens=4 * n + 1) for n in range(6)]
    alone, scored_alone = pair.engine.generate(requests), pair.engine.score(ROWS)
    for one in requests:
        pair.engine.submit(one)
    found = pair.engine.step()
    scored = pair.engine.score(ROWS)
    while pair.engine.num_pending:
        found += pair.engine.step()
    assert [c.token_ids for c in sorted(found, key=lambda c: c.prompt_uid)] == [c.token_ids for c in alone]
    for beside, idle in zip(scored, scored_alone, strict=True):
        torch.testing.assert_close(torch.tensor(beside), torch.tensor(idle), rtol=0, atol=1e-5)
