"""Entropy, its bonus in the loss, and its controller: the rule by hand, its limits, its effect, and exact resume."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.records import UserError
from learner.entropy_control import EntropyController, EntropyState
from learner.losses import LossConfig, entropy_from_logits, policy_loss, reduce_metrics


def test_entropy_of_known_distributions() -> None:
    # Uniform over 4: log 4. Probabilities 1/2, 1/4, 1/4, 0: (1/2) log 2 + 2 (1/4) log 4 = 1.5 log 2.
    logits = torch.stack([torch.full((4,), 3.0), torch.tensor([math.log(2.0), 0.0, 0.0, -math.inf])]).double()
    logits = logits.unsqueeze(0).requires_grad_()
    entropy = entropy_from_logits(logits)
    assert entropy.shape == (1, 2)
    assert entropy[0].tolist() == pytest.approx([math.log(4.0), 1.5 * math.log(2.0)], abs=1e-6)
    (grad,) = torch.autograd.grad(entropy.sum(), logits)
    # ∂H/∂z_v = −p_v (log p_v + H): for p = 1/2 −(1/2)(−log 2 + 1.5 log 2) = −0.25 log 2.
    assert grad[0, 1].tolist() == pytest.approx([-0.25 * math.log(2), 0.125 * math.log(2), 0.125 * math.log(2), 0.0])


def test_entropy_bonus_is_subtracted_and_recorded() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    entropy = torch.tensor([[0.5, 1.5]], dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 2, dtype=torch.float64)
    config = LossConfig(importance_cap=None, entropy_coef=0.1)
    loss, metrics = policy_loss(
        logprobs, logprobs.detach(), ones, ones, config=config, num_loss_tokens=2, entropy_BT=entropy
    )
    assert loss.item() == pytest.approx(-1.0 - 0.1 * 1.0)  # mean entropy (0.5 + 1.5) / 2 = 1
    assert torch.autograd.grad(loss, entropy)[0].tolist() == [[-0.05, -0.05]]
    assert reduce_metrics([metrics])["entropy"] == pytest.approx(1.0)


def test_the_coefficient_moves_in_proportion_to_the_gap() -> None:
    controller = EntropyController(target=0.5, gain=0.1, max_coef=1.0, initial_coef=0.02)
    state = controller.update(controller.initial_state(), 0.3)
    assert state == EntropyState(coef=pytest.approx(0.04), num_updates=1)  # 0.02 + 0.1 · (0.5 − 0.3)
    state = controller.update(state, 0.6)
    assert state == EntropyState(coef=pytest.approx(0.03), num_updates=2)  # 0.04 + 0.1 · (0.5 − 0.6)
    assert controller.update(state, 0.5).coef == state.coef


def test_the_coefficient_stays_between_zero_and_its_limit() -> None:
    controller = EntropyController(target=0.5, gain=1.0, max_coef=0.2)
    assert controller.update(controller.initial_state(), 3.0).coef == 0.0
    state = controller.initial_state()
    for _ in range(50):
        state = controller.update(state, 0.0)
    assert state.coef == 0.2
    # It does not wind up: 0.1 nats above the target take effect at once.
    assert controller.update(state, 0.6).coef == pytest.approx(0.1)


def test_a_rising_target_rises_once_an_update() -> None:
    controller = EntropyController(target=0.2, gain=1.0, max_coef=1.0, target_rise=0.1)
    state = controller.update(controller.initial_state(), 0.2)
    assert state.coef == 0.0
    state = controller.update(state, 0.2)
    assert state.coef == pytest.approx(0.1)  # target 0.3
    assert controller.target_at(5) == pytest.approx(0.7)


@given(
    entropies=st.lists(st.floats(0.0, 12.0), min_size=1, max_size=20),
    cut=st.integers(0, 20),
    target=st.floats(0.0, 3.0),
)
def test_resuming_from_json_continues_exactly(entropies: list[float], cut: int, target: float) -> None:
    controller = EntropyController(target=target, gain=0.013, max_coef=0.3, target_rise=0.001)
    straight = resumed = controller.initial_state()
    for step, entropy in enumerate(entropies):
        if step == cut:
            resumed = EntropyState.from_json(json.loads(json.dumps(resumed.to_json())))
        straight, resumed = controller.update(straight, entropy), controller.update(resumed, entropy)
    assert resumed == straight


def test_the_bonus_keeps_a_collapsing_policy_near_its_target() -> None:
    # Plain gradient ascent on the logit of token 0 of eight makes the policy deterministic; the controlled one rests
    # near the target. Entropy of eight equal tokens is 2.08 nats.
    def final_entropy(controller: EntropyController) -> float:
        logits, state = torch.zeros(8, requires_grad=True), controller.initial_state()
        entropy = math.inf
        for _ in range(600):
            bonus = entropy_from_logits(logits)
            objective = 0.3 * logits.log_softmax(dim=0)[0] + state.coef * bonus
            (grad,) = torch.autograd.grad(objective, logits)
            logits = (logits + 0.5 * grad).detach().requires_grad_()
            entropy = bonus.item()
            state = controller.update(state, entropy)
        return entropy

    assert final_entropy(EntropyController(target=0.0, gain=0.0)) < 0.2
    assert final_entropy(EntropyController(target=1.0, gain=0.02, max_coef=2.0)) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("entropy", [math.nan, math.inf, -0.1])
def test_a_broken_entropy_does_not_enter_the_state(entropy: float) -> None:
    controller = EntropyController(target=0.5)
    with pytest.raises(ValueError, match="entropy="):
        controller.update(controller.initial_state(), entropy)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": -0.1}, "entropy.target=-0.1"),
        ({"target": math.nan}, "entropy.target=nan"),
        ({"target": 0.5, "gain": -1.0}, "entropy.gain=-1.0"),
        ({"target": 0.5, "max_coef": math.inf}, "entropy.max_coef=inf"),
        ({"target": 0.5, "initial_coef": 0.5}, "entropy.initial_coef=0.5"),
    ],
)
def test_a_bad_setting_is_refused_by_field_and_value(change: dict[str, float], field: str) -> None:
    with pytest.raises(UserError) as error:
        EntropyController(**change)
    assert str(error.value).startswith(field)


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match="entropy state"):
        EntropyState.from_json({"coef": 0.1})
