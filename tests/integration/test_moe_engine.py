"""A mixture of experts in the real engine: the learner's log-probabilities after load and after every sync.

vLLM's CPU kernels keep the experts packed and a reload would leave them stale without a word; the check after a sync
has to see that as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import rollout.weight_transfer
from data.records import UserError
from learner.learner import Learner
from learner.learner_config import LearnerConfig
from learner.lora_settings import LoraSettings
from rollout.engine import Engine
from tests.integration.engine_pairs import ENGINE, Pair, Pairs, forget_parallel_groups
from tests.integration.tiny_policies import request

pytestmark = [pytest.mark.engine, pytest.mark.integration]

TOLERANCE = 1e-3
ROWS = [[(7 * i + start) % 256 for i in range(60)] for start in (1, 2, 3)]


@pytest.fixture(scope="module", autouse=True)
def groups_of_its_own() -> None:
    """Engines of other modules had no experts; those of later ones start afresh too."""
    forget_parallel_groups()


@pytest.fixture(params=["qwen3-moe", "qwen3-moe-padded"])
def any_moe(request: pytest.FixtureRequest, pairs: Pairs) -> Iterator[Pair]:
    """Engine and learner of a mixture; both have their first weights again afterwards."""
    yield from restored(pairs[request.param])


@pytest.fixture
def moe(pairs: Pairs) -> Iterator[Pair]:
    yield from restored(pairs["qwen3-moe"])


def restored(pair: Pair) -> Iterator[Pair]:
    state = {name: tensor.clone() for name, tensor in pair.learner.model.state_dict().items()}
    yield pair
    pair.learner.model.load_state_dict(state)
    pair.engine.update_weights(pair.learner.weights(), version=0)


def move(learner: Learner, *, of: str = "", scale: float = 0.1, seed: int = 1) -> None:
    """A large random step of all parameters whose names hold `of`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            if of in name:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def gap(pair: Pair) -> float:
    found, expected = torch.tensor(pair.engine.score(ROWS)), torch.tensor(pair.learner.logprobs(ROWS))
    return float((found - expected).abs().max())


def test_the_engine_has_the_learners_logprobs_after_load(any_moe: Pair) -> None:
    assert gap(any_moe) < TOLERANCE
    for completion in any_moe.engine.generate([request(any_moe.ids("the sum of"), index=i, seed=i) for i in range(4)]):
        assert any_moe.gap(completion) < TOLERANCE
    assert any_moe.engine.differing_tensors(any_moe.own_weights()) == []


@pytest.mark.parametrize("part", ["", "mlp.experts", "mlp.gate"])
def test_after_a_sync_of_changed_weights_the_engine_has_them(any_moe: Pair, part: str) -> None:
    for version in (1, 2):  # the second reload starts from kernels that the first one rebuilt
        move(any_moe.learner, of=part, seed=version)
        assert gap(any_moe) > 0.3
        any_moe.engine.update_weights(any_moe.own_weights(), version=version)
        assert gap(any_moe) < TOLERANCE
        assert any_moe.engine.differing_tensors(any_moe.own_weights()) == []


def test_a_reload_that_leaves_the_experts_stale_is_seen_and_only_they_are_named(
    moe: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left_out(model: Any) -> None:
        """What the engine does by itself."""

    monkeypatch.setattr(rollout.weight_transfer, "_let_experts_repack", left_out)
    move(moe.learner)
    moe.engine.update_weights(moe.own_weights(), version=1)
    assert gap(moe) > 0.1  # and nothing complained
    experts = sorted(name for name in moe.own_weights() if ".experts." in name)
    assert len(experts) == 2 * 4 * 3
    assert sorted(moe.engine.differing_tensors(moe.own_weights())) == experts


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_one_number_of_one_expert_that_did_not_arrive_names_that_expert(moe: Pair, part: str) -> None:
    weights = moe.own_weights()
    name = f"model.layers.1.mlp.experts.2.{part}.weight"
    weights[name] = weights[name].clone()
    weights[name].view(-1)[5] += 0.2
    found = moe.engine.differing_tensors(weights)
    assert name in found
    assert {one.rsplit(".", 2)[0] for one in found} == {"model.layers.1.mlp.experts.2"}


def test_a_router_that_did_not_arrive_is_named_alone(moe: Pair) -> None:
    weights = moe.own_weights()
    name = "model.layers.0.mlp.gate.weight"
    weights[name] = weights[name].clone()
    weights[name].view(-1)[5] += 0.2
    assert moe.engine.differing_tensors(weights) == [name]


def test_a_tensor_that_no_module_of_the_engine_holds_is_named(moe: Pair) -> None:
    fused = {"model.layers.0.mlp.experts.gate_up_proj": torch.zeros(4, 96, 64)}
    assert moe.engine.differing_tensors(moe.own_weights() | fused) == list(fused)


def test_an_adapter_on_the_attention_of_a_mixture_is_sent_merged(moe: Pair) -> None:
    learner = Learner(moe.folder, LearnerConfig(adapter=LoraSettings(rank=6)))
    pair = replace(moe, learner=learner)
    move(learner, of="lora_")
    assert gap(pair) > 0.2
    moe.engine.update_weights(learner.weights(), version=1)
    assert gap(pair) < TOLERANCE
    assert moe.engine.differing_tensors(learner.weights()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA kernels serve adapters on a mixture of experts")
def test_a_cpu_engine_of_a_mixture_refuses_room_for_adapters_with_the_mend(moe: Pair) -> None:
    with pytest.raises(UserError, match=r"max_lora_rank=8: .* mixture of experts .* set it to 0"):
        Engine(moe.folder, replace(ENGINE, max_lora_rank=8))
