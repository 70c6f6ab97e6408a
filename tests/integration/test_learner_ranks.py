"""Learner ranks as real Ray actors: the same step as one learner in this process, and an end to all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
import torch

from data.records import UserError
from data.weight_arrays import to_tensors
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from learner.placement import LearnerPlacement
from learner.workers import RemoteLearner
from tests.integration.local_ray import local_ray
from tests.learner.tiny_models import random_samples, save_tiny_model, tiny_tokenizer

pytestmark = pytest.mark.integration

CONFIG = LearnerConfig(lr=1e-2, eps=1e-2, microbatch_tokens=64)
SAMPLES = random_samples([20, 31, 12, 25, 18, 9])
ROWS = [sample.token_ids_T for sample in SAMPLES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with local_ray():
        yield save_tiny_model(tmp_path_factory.mktemp("models") / "qwen3")


@pytest.mark.parametrize("sharding", ["replicate", "full"])
def test_two_ranks_take_the_step_of_one_save_and_export_it(folder: Path, tmp_path: Path, sharding: str) -> None:
    alone = Learner(folder, CONFIG)
    placement = LearnerPlacement(num_workers=2, num_threads=1, sharding=sharding, timeout_s=120)  # type: ignore[arg-type]
    ranks = RemoteLearner(placement)
    try:
        ranks.load(folder, CONFIG, seed=0)
        for _ in range(2):
            expected, found = alone.rl_step(SAMPLES), ranks.rl_step(SAMPLES)
            for name in ("loss", "grad_norm", "num_tokens", "num_loss_tokens"):
                assert found.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-5), name
        weights = to_tensors(ray.get(ranks.weights_reference()))
        torch.testing.assert_close(weights, alone.weights(), rtol=1e-5, atol=2e-6)
        scores = ranks.logprobs(ROWS)
        for row, expected_row in zip(scores, alone.logprobs(ROWS), strict=True):
            torch.testing.assert_close(torch.tensor(row), torch.tensor(expected_row), rtol=0, atol=1e-5)
        ranks.save_state(tmp_path / "state")
        ranks.export(tmp_path / "export", tiny_tokenizer())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "state"]
        ranks.rl_step(SAMPLES)
        assert "optimizer" in ranks.load_state(tmp_path / "state")
        assert ranks.logprobs(ROWS) == scores
        exported = Learner(tmp_path / "export", CONFIG)
        torch.testing.assert_close(exported.weights(), weights, rtol=0, atol=0)
    finally:
        ranks.close()
        processes = [psutil.Process(number) for number in ranks.process_ids if psutil.pid_exists(number)]
        alive = psutil.wait_procs(processes, timeout=20)[1]
    assert not alive


def test_a_rank_that_dies_ends_the_step_with_its_name_and_a_users_mistake_stays_one(folder: Path) -> None:
    ranks = RemoteLearner(LearnerPlacement(num_workers=2, num_threads=1, timeout_s=120))
    try:
        ranks.load(folder, CONFIG, seed=0)
        with pytest.raises(UserError, match="microbatch_tokens: 64 is less than the 70 tokens of sample 0"):
            ranks.sft_step(random_samples([70]))
        ranks.sft_step(SAMPLES)  # both ranks are still in step
        os.kill(ranks.process_ids[1], signal.SIGKILL)
        with pytest.raises(RuntimeError, match="learner: its process died"):
            ranks.sft_step(SAMPLES)
    finally:
        ranks.close()


def test_ranks_that_shard_can_keep_their_optimizer_in_cpu_memory(folder: Path) -> None:
    placement = LearnerPlacement(num_workers=2, num_threads=1, sharding="full", timeout_s=120)
    found = []
    for offload in (False, True):
        ranks = RemoteLearner(replace(placement, offload_optimizer=offload))
        try:
            ranks.load(folder, CONFIG, seed=0)
            ranks.sft_step(SAMPLES)
            found.append(ranks.logprobs(ROWS))
        finally:
            ranks.close()
    assert found[0] == found[1]
