"""Engine and learner as real Ray actors: the bits of one process, weights through the object store, loud deaths.

One Ray, one engine actor and one learner actor serve the module. The tests run in the order of the file: the last two
kill the engine and then everything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray
import torch

from data.records import Completion, TrainingSample, UserError
from learner.learner_config import LearnerConfig
from learner.placement import LearnerPlacement
from learner.workers import RemoteLearner
from rollout.config import EngineConfig, RolloutConfig
from rollout.engine import Engine
from rollout.policy import GenerationRequest
from rollout.workers import RolloutPool
from tests.integration.local_ray import local_ray
from tests.integration.tiny_policies import MAX_POSITIONS, request, save_policy

pytestmark = [pytest.mark.engine, pytest.mark.integration]

NUM_THREADS = 1  # of each engine: the same number gives the same bits
ENGINE = EngineConfig(max_model_len=MAX_POSITIONS, max_num_seqs=32, max_num_batched_tokens=1024)
ROLLOUT = RolloutConfig(num_threads=NUM_THREADS, engine=ENGINE, start_timeout_s=300, answer_timeout_s=60)
PROMPT = tuple(range(97, 117))
ROWS = [list(range(40, 90)), list(range(10, 60, 2))]


@dataclass(frozen=True)
class Cluster:
    folder: Path
    logs: Path
    pool: RolloutPool
    learner: RemoteLearner
    others: frozenset[psutil.Process]  # processes that were there before, such as those of other tests


def children() -> list[psutil.Process]:
    """Living processes that this one started, with all of theirs."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    others = frozenset(children())
    folder = save_policy(tmp_path_factory.mktemp("policy") / "model", tied=True)
    logs = tmp_path_factory.mktemp("logs")
    with local_ray():
        pool = RolloutPool(folder, ROLLOUT, log_folder=logs)
        learner = RemoteLearner(LearnerPlacement(num_threads=NUM_THREADS, timeout_s=120))
        learner.load(folder, LearnerConfig(lr=0.05), seed=0)
        yield Cluster(folder, logs, pool, learner, others)
        pool.close()
        learner.close()


def test_a_pool_gives_the_bits_of_an_engine_in_this_process(cluster: Cluster) -> None:
    requests = [request(PROMPT[:n], uid=f"p{n}", index=i, seed=10 * n + i) for n in (5, 12) for i in range(4)]
    heard: list[tuple[int, int]] = []
    pooled = cluster.pool.generate(requests, on_progress=lambda done, tokens: heard.append((done, tokens)))
    threads = torch.get_num_threads()
    torch.set_num_threads(NUM_THREADS)
    engine = Engine(cluster.folder, ENGINE)
    try:
        assert pooled == engine.generate(requests)
    finally:
        engine.close()
        torch.set_num_threads(threads)
    assert heard[-1] == (8, sum(len(completion.token_ids) for completion in pooled))
    assert [(c.prompt_uid, c.sample_index) for c in pooled] == [(r.prompt_uid, r.sample_index) for r in requests]


def test_weights_travel_from_learner_to_engine_through_the_object_store(cluster: Cluster) -> None:
    pool, learner = cluster.pool, cluster.learner
    before = learner.logprobs(ROWS)
    samples = [TrainingSample.supervised(tuple(row), (0, *[1] * (len(row) - 1))) for row in ROWS]
    result = learner.sft_step(samples)
    assert result.metrics["grad_norm"] > 0
    after = learner.logprobs(ROWS)
    assert max(abs(a - b) for x, y in zip(after, before, strict=True) for a, b in zip(x, y, strict=True)) > 0.5
    weights = learner.weights_reference()
    assert "model.layers.1.mlp.up_proj.weight" in pool.differing_tensors(weights)  # the engine has the old ones
    pool.update_weights(weights, version=1)
    assert pool.differing_tensors(weights) == []
    (scored,) = pool.score(ROWS)
    for mine, theirs in zip(after, scored, strict=True):
        torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), rtol=0, atol=1e-3)
    (completion,) = pool.generate([request(PROMPT)])
    assert [span.version for span in completion.weight_versions] == [1]


def test_bad_input_to_a_worker_comes_back_as_the_same_one_line(cluster: Cluster) -> None:
    with pytest.raises(UserError, match="leaves no room after the prompt long of 512 tokens") as caught:
        cluster.pool.generate([request([1] * MAX_POSITIONS, uid="long")])
    assert "\n" not in str(caught.value)
    assert len(cluster.pool.generate([request(PROMPT)])) == 1
    with pytest.raises(UserError, match="no folder") as caught:
        cluster.learner.load(cluster.folder / "nowhere", LearnerConfig(), seed=0)
    assert "\n" not in str(caught.value)


def test_an_engine_that_dies_at_start_shows_its_last_lines(cluster: Cluster, tmp_path: Path) -> None:
    folder = shutil.copytree(cluster.folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F99"'))
    with pytest.raises(UserError) as caught:
        RolloutPool(folder, ROLLOUT, log_folder=tmp_path / "logs")
    text = str(caught.value)
    assert text.startswith(f"rollout: engine 0 died at start; its last lines ({tmp_path / 'logs' / 'engine-0.log'}): ")
    assert "F99" in text  # what the reader of the weights said
    assert "\n" not in text


def test_a_folder_that_is_missing_is_named_and_nothing_else_is_said(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^rollout: engine 0 died at start; model: .*nowhere is no folder; give [^|]*$"
    ):
        RolloutPool(tmp_path / "nowhere", ROLLOUT, log_folder=tmp_path / "logs")


def poll_to_the_end(pool: RolloutPool, *requests: GenerationRequest) -> list[Completion]:
    pool.submit(requests, episodes={})
    completions: list[Completion] = []
    while pool.num_in_flight:
        completions += pool.poll(0.2)
    return completions


def test_polled_completions_have_the_bits_of_generated_ones_and_bad_input_is_raised(cluster: Cluster) -> None:
    one = request(PROMPT, uid="one", seed=5)
    assert poll_to_the_end(cluster.pool, one) == cluster.pool.generate([one])
    with pytest.raises(UserError, match="leaves no room after the prompt long"):
        poll_to_the_end(cluster.pool, request([1] * MAX_POSITIONS, uid="long"))
    assert cluster.pool.num_in_flight == 0


def test_an_engine_that_does_not_answer_is_given_up_after_the_timeout(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = psutil.Process(cluster.pool.process_ids[0])
    monkeypatch.setattr(cluster.pool, "config", RolloutConfig(answer_timeout_s=1.5, engine=ENGINE))
    engine.suspend()
    try:
        for call in (lambda: cluster.pool.score(ROWS), lambda: cluster.pool.generate([request(PROMPT)])):
            began = time.monotonic()
            with pytest.raises(RuntimeError, match=r"engine 0 did not answer within answer_timeout_s=1\.5; .*engine-0"):
                call()
            assert time.monotonic() - began < 10
    finally:
        engine.resume()


def test_an_engine_killed_in_generation_or_before_a_sync_is_an_error_that_names_its_log(cluster: Cluster) -> None:
    engine = psutil.Process(cluster.pool.process_ids[0])
    assert engine in children()
    requests = [request(PROMPT, index=i, seed=i, max_tokens=450) for i in range(2000)]  # minutes of work
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"engine 0 died; its last lines \(.*engine-0\.log\)"):
        cluster.pool.generate(requests, on_progress=lambda done, tokens: engine.kill())
    with pytest.raises(RuntimeError, match="engine 0 died"):
        cluster.pool.update_weights(cluster.learner.weights_reference(), version=2)
    assert time.monotonic() - began < ROLLOUT.answer_timeout_s


def test_after_closing_no_process_is_left(cluster: Cluster) -> None:
    assert any("raylet" in process.name() for process in children())
    cluster.pool.close()
    cluster.learner.close()
    ray.shutdown()
    deadline = time.monotonic() + 30
    while set(children()) - cluster.others and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [process.name() for process in set(children()) - cluster.others] == []
