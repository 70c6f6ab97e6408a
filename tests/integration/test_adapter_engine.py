"""A low-rank adapter in the real engine: served on the base or merged, it has the learner's log-probabilities, and no
request gets another version than it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.adapter import AdapterWeights
from data.records import Completion, UserError, VersionSpan
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from learner.lora_settings import LoraSettings
from rollout.engine import Engine
from tests.integration.engine_pairs import ENGINE, Pairs
from tests.integration.tiny_policies import request, save_policy

pytestmark = [pytest.mark.engine, pytest.mark.integration]

TOLERANCE = 1e-3
RANK = 6
ROWS = [[(7 * i + start) % 256 for i in range(60)] for start in (1, 2, 3)]
PROMPT = [5, 17, 40, 99, 12]


@dataclass(frozen=True)
class Served:
    """An engine with room for adapters beside the learner that trains one on the same base."""

    engine: Engine
    learner: Learner
    base: dict[str, Tensor]

    def move(self, seed: int, scale: float = 0.05) -> None:
        """A large random step of the adapter."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.learner.parameters.values():
                parameter += scale * torch.randn(parameter.shape, generator=generator)

    def publish(self, version: int) -> None:
        self.engine.update_weights(self.learner.weights(max_lora_rank=8), version=version)

    def gap(self) -> float:
        return float((torch.tensor(self.engine.score(ROWS)) - torch.tensor(self.learner.logprobs(ROWS))).abs().max())

    def gap_of(self, completion: Completion) -> float:
        row = [*completion.prompt_token_ids, *completion.token_ids]
        expected = self.learner.logprobs([row])[0][len(completion.prompt_token_ids) :]
        return max(abs(a - b) for a, b in zip(expected, completion.logprobs, strict=True))


@pytest.fixture(scope="module", params=[("qwen3", False), ("qwen3", True)], ids=["qwen3", "qwen3-tied"])
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    family, tied = request.param
    folder = save_policy(tmp_path_factory.mktemp("policy") / "model", family, tied=tied)
    learner = Learner(folder, LearnerConfig(adapter=LoraSettings(rank=RANK, alpha=9.0)))
    engine = Engine(folder, replace(ENGINE, max_lora_rank=8))
    base = Learner(folder, LearnerConfig()).weights()
    assert isinstance(base, dict)
    yield Served(engine, learner, base)
    engine.close()


@pytest.fixture
def served(started: Served) -> Iterator[Served]:
    """Afterwards the engine has its base alone and the adapter is what it was."""
    first = {name: p.detach().clone() for name, p in started.learner.parameters.items()}
    yield started
    with torch.no_grad():
        for name, parameter in started.learner.parameters.items():
            parameter.copy_(first[name])
    started.engine.update_weights(started.base, version=0)


def test_each_version_of_the_adapter_is_served_without_a_merge_and_never_an_older_one(served: Served) -> None:
    assert served.gap() < TOLERANCE  # a fresh adapter is the base
    for version in (1, 2, 3, 4):
        served.move(version)
        assert served.gap() > 0.2  # what the engine still serves is another one
        served.publish(version)
        assert isinstance(served.learner.weights(max_lora_rank=8), AdapterWeights)
        assert served.gap() < TOLERANCE
        assert served.engine.differing_tensors(served.learner.weights(max_lora_rank=8)) == []
        (completion,) = served.engine.generate([request(PROMPT, seed=version)])
        assert served.gap_of(completion) < TOLERANCE
        assert completion.weight_versions == (VersionSpan(version, 0, len(completion.token_ids)),)
    assert len(list(served.engine._adapters._root.iterdir())) == 1  # older folders are gone


def test_merged_weights_have_the_same_logprobs_and_end_the_serving_of_the_adapter(served: Served) -> None:
    served.move(1)
    served.publish(1)
    apart = torch.tensor(served.engine.score(ROWS))
    merged = served.learner.weights()
    assert isinstance(merged, dict)
    served.engine.update_weights(merged, version=2)
    assert served.gap() < TOLERANCE
    torch.testing.assert_close(torch.tensor(served.engine.score(ROWS)), apart, rtol=0, atol=TOLERANCE)
    assert served.engine.differing_tensors(merged) == []
    (completion,) = served.engine.generate([request(PROMPT)])
    assert completion.weight_versions == (VersionSpan(2, 0, len(completion.token_ids)),)
    assert served.gap_of(completion) < TOLERANCE  # no stale adapter on top of the merged weights


def test_another_base_under_the_adapter_is_served_too(served: Served) -> None:
    served.move(1)
    served.publish(1)
    served.engine.update_weights(served.base, version=5)  # as at the start of a stage
    served.publish(6)
    assert served.gap() < TOLERANCE


def test_requests_in_flight_keep_their_adapter_and_say_so(served: Served) -> None:
    engine = served.engine
    served.move(1)
    served.publish(3)
    engine.submit(request(PROMPT, uid="old", max_tokens=20))
    for _ in range(4):
        engine.step()
    before = {name: p.detach().clone() for name, p in served.learner.parameters.items()}
    served.move(2)
    served.publish(4)
    engine.submit(request(PROMPT, uid="new", max_tokens=20))
    finished: list[Completion] = []
    while engine.num_pending:
        finished += engine.step()
    by_uid = {completion.prompt_uid: completion for completion in finished}
    assert by_uid["old"].weight_versions == (VersionSpan(3, 0, 20),)
    assert by_uid["new"].weight_versions == (VersionSpan(4, 0, 20),)
    assert served.gap_of(by_uid["new"]) < TOLERANCE
    assert served.gap_of(by_uid["old"]) > 0.1
    with torch.no_grad():
        for name, parameter in served.learner.parameters.items():
            parameter.copy_(before[name])
    assert served.gap_of(by_uid["old"]) < TOLERANCE


def test_a_base_cannot_change_under_requests_with_an_adapter(served: Served) -> None:
    served.publish(1)
    served.engine.submit(request(PROMPT, max_tokens=6))
    with pytest.raises(RuntimeError, match="requests with an adapter are in flight"):
        served.engine.update_weights(served.base, version=2)
    while served.engine.num_pending:
        served.engine.step()


@pytest.mark.parametrize("module", ["self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"])
@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
def test_the_adapter_tensor_that_did_not_arrive_is_named_and_no_other(served: Served, module: str, side: str) -> None:
    served.move(1)
    served.publish(1)
    served.engine.score(ROWS)
    weights = served.learner.weights(max_lora_rank=8)
    assert isinstance(weights, AdapterWeights)
    name = f"base_model.model.model.layers.1.{module}.{side}.weight"
    changed = weights.tensors[name].clone()
    changed.view(-1)[5] += 0.2
    assert served.engine.differing_tensors(replace(weights, tensors={**weights.tensors, name: changed})) == [name]


def test_an_adapter_that_nothing_serves_differs_in_every_tensor(served: Served) -> None:
    weights = served.learner.weights(max_lora_rank=8)
    assert isinstance(weights, AdapterWeights)
    assert served.engine.differing_tensors(weights) == list(weights.tensors)


def test_an_engine_without_room_for_adapters_says_which_setting_to_change(pairs: Pairs, tmp_path: Path) -> None:
    pair = pairs["qwen3"]
    learner = Learner(pair.folder, LearnerConfig(adapter=LoraSettings(rank=RANK)))
    with pytest.raises(UserError, match=r"rollout\.engine\.max_lora_rank=0: the engine was started without room"):
        pair.engine.update_weights(learner.weights(max_lora_rank=8), version=1)
