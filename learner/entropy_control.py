"""Keeps the policy's entropy from collapsing, by moving the coefficient of the entropy bonus once an optimizer step.

The Qwen3 report (arXiv 2505.09388, sec. 4.2) says of reasoning RL that entropy was controlled to rise steadily or to
stay stable, and not how. This controller is one way: a target, which may rise, and an integral rule towards it. Place
in the flow: the learner reports the mean entropy of a step, the RL loop calls `update`, and the next step's LossConfig
takes the new coefficient as `entropy_coef`. The state is plain JSON, so that a resumed run continues exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.records import UserError


@dataclass(frozen=True, slots=True)
class EntropyState:
    """What the controller carries from step to step: the coefficient of the next step, and the updates made so far."""

    coef: float
    num_updates: int

    def to_json(self) -> dict[str, float | int]:
        """The state as a JSON object; floats survive JSON exactly."""
        return {"coef": self.coef, "num_updates": self.num_updates}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> EntropyState:
        """The state that `to_json` wrote; raises UserError when the object is another one."""
        if set(state) != {"coef", "num_updates"}:
            raise UserError(f"entropy state: keys {sorted(state)}: expected coef and num_updates; resume an older step")
        return cls(coef=float(state["coef"]), num_updates=int(state["num_updates"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyController:
    """α_{t+1} = clip(α_t + gain · (target_t − H_t), 0, max_coef), target_t = target + target_rise · t.

    target: mean entropy in nats a token that the policy is kept at or above. target_rise: nats by which the target
    rises every step (0: stay stable). gain: coefficient for each nat of shortfall. max_coef: upper limit of the
    coefficient. initial_coef: coefficient of the first step.

    Source: adaptive entropy control of Skywork-OR1 (arXiv 2505.22312), where a coefficient moves by a fixed ±Δ and the
    bonus acts only while H is at or below the target. Departures: the move is proportional to the gap, so that it comes
    to rest at the target instead of swinging around it; the bonus fades out through the limit 0 instead of being
    switched off; the coefficient has an upper limit, which also keeps it from winding up while the bonus cannot help;
    the target may rise. Above the target nothing pushes entropy DOWN: the coefficient is never negative.
    """

    target: float
    gain: float = 0.005
    max_coef: float = 0.02
    initial_coef: float = 0.0
    target_rise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("target", "gain", "max_coef", "target_rise"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0.0:
                raise UserError(f"entropy.{name}={value!r}: use a finite number >= 0")
        if not 0.0 <= self.initial_coef <= self.max_coef:
            raise UserError(f"entropy.initial_coef={self.initial_coef!r}: use a number from 0 to max_coef")

    def initial_state(self) -> EntropyState:
        """The state before the first step."""
        return EntropyState(coef=self.initial_coef, num_updates=0)

    def target_at(self, num_updates: int) -> float:
        """The target in nats a token after so many updates."""
        return self.target + self.target_rise * num_updates

    def update(self, state: EntropyState, entropy: float) -> EntropyState:
        """The state for the next step, from the mean entropy (nats a token) measured in this one.

        Raises ValueError for an entropy that is negative or not finite: a broken step must not enter the state.
        """
        if not math.isfinite(entropy) or entropy < 0.0:
            raise ValueError(f"entropy={entropy!r} after {state.num_updates} updates: not an entropy of a distribution")
        coef = state.coef + self.gain * (self.target_at(state.num_updates) - entropy)
        return EntropyState(coef=min(max(coef, 0.0), self.max_coef), num_updates=state.num_updates + 1)
