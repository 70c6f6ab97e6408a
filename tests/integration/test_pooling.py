"""The preference model in vLLM's pooling runner against transformers, in this process and as a Ray actor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data.files import write_json
from data.preference import PREFERENCE_MANIFEST, conversation, preference_token_ids
from data.records import UserError
from learner.preference_trainer import load_scorer
from rewards.preference import LengthCalibration, PreferenceConfig, preference_rewards
from rollout.config import PoolingConfig
from rollout.pooling import PoolingEngine
from rollout.pooling_workers import PreferencePool
from stages.preference_model import start_preference_model
from tests.integration.local_ray import local_ray
from tests.integration.tiny_policies import save_policy

pytestmark = [pytest.mark.engine, pytest.mark.integration]

MAX_LENGTH = 200
CONFIG = PoolingConfig(max_num_seqs=8, max_num_batched_tokens=512, num_threads=1, start_timeout_s=300)
USER = ({"role": "user", "content": "the sum of two and three is"},)
CONVERSATIONS = [conversation(USER, "five" + " a then b" * count) for count in range(0, 60, 3)]
"""Twenty of them: more than run at a time, and the longest lose their beginning."""
CALIBRATION = LengthCalibration(slope=0.5, fitted_slope=0.5, log_length_ref=4.0, mean=0.0, std=5.0, num_pairs=9)


def save_scorer(folder: Path, family: str, *, tied: bool) -> Path:
    """A random preference model with scores some units apart."""
    policy = save_policy(folder / "policy", family, tied=tied)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    model = load_scorer(policy, tokenizer, seed=0)
    model.score.weight.data.mul_(5.0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    manifest = {"max_length": MAX_LENGTH, "calibration": CALIBRATION.as_json(), "files": {}}
    write_json(folder / "model" / PREFERENCE_MANIFEST, manifest)
    return folder / "model"


def scores_of_transformers(folder: Path) -> list[float]:
    """Raw scores of the conversations through transformers' own forward, one at a time, without padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return [
            model(torch.tensor([preference_token_ids(tokenizer, messages, MAX_LENGTH)])).logits.item()
            for messages in CONVERSATIONS
        ]


@dataclass(frozen=True)
class Served:
    folder: Path
    engine: PoolingEngine


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = save_scorer(tmp_path_factory.mktemp("scorer"), request.param, tied=request.param == "qwen3")
    engine = PoolingEngine(folder, CONFIG)
    yield Served(folder, engine)
    engine.close()


def test_pooled_scores_are_the_raw_scores_of_transformers(served: Served) -> None:
    expected = scores_of_transformers(served.folder)
    assert served.engine.raw_scores(CONVERSATIONS) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1.0
    assert max(map(abs, expected)) > 1.0  # a sigmoid would keep them below 1


def test_scores_repeat_and_do_not_hang_on_the_batch(served: Served) -> None:
    together = served.engine.raw_scores(CONVERSATIONS)
    assert served.engine.raw_scores(CONVERSATIONS) == together
    turned = served.engine.raw_scores(CONVERSATIONS[::-1])[::-1]
    assert turned == pytest.approx(together, abs=1e-5)
    assert served.engine.raw_scores(CONVERSATIONS[3:4]) == pytest.approx(together[3:4], abs=1e-5)
    assert served.engine.raw_scores([]) == []


@pytest.mark.parametrize("served", ["qwen3"], indirect=True)
def test_the_actor_gives_the_same_scores_and_rewards_and_leaves_no_process(served: Served, tmp_path: Path) -> None:
    with local_ray(num_cpus=1):
        settings = PreferenceConfig(folder=str(served.folder), num_threads=1, start_timeout_s=300)
        running = start_preference_model(settings, log_folder=tmp_path)
        assert running.pool.process_id != os.getpid()
        raw = served.engine.raw_scores(CONVERSATIONS)
        assert running.pool.raw_scores(CONVERSATIONS) == pytest.approx(raw, abs=1e-5)
        answers = [messages[-1]["content"] for messages in CONVERSATIONS]
        rewards = [score.reward for score in running.rating.rate_all(CONVERSATIONS)]
        expected = [score.reward for score in preference_rewards(raw, answers, CALIBRATION)]
        assert rewards == pytest.approx(expected, abs=1e-5)
        process = psutil.Process(running.pool.process_id)
        running.close()
        running.close()
        process.wait(timeout=30)
        with pytest.raises(UserError, match=r"preference\.folder: .* is no folder"):
            PreferencePool(tmp_path / "nothing", CONFIG, log_folder=tmp_path)


def test_a_policy_is_no_preference_model(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "policy")
    with pytest.raises(UserError, match=r"is no preference model \(architectures=\['Qwen3ForCausalLM'\]"):
        PoolingEngine(folder, CONFIG)
