"""What the model can already do decides which prompts RL gets; the mixture's weights stay what they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rewards.registry import get_task
from rewards.task import item_of
from rollout.policy import SamplingConfig
from stages.pass_rates import is_learnable, pass_rates, prefer_learnable
from stages.prompts import with_flag
from stages.rl_loop import RLConfig
from tests.stages.stage_fakes import FakeServices, prompts_of, stage_context


def test_rates_are_shares_of_right_completions_sampled_as_training_samples(tmp_path: Path) -> None:
    prompts = prompts_of("arithmetic", 3)
    gold = {prompt.uid: get_task("arithmetic").answer(item_of(prompt)) for prompt in prompts}  # type: ignore[misc]
    right_samples = {prompts[0].uid: 4, prompts[1].uid: 1, prompts[2].uid: 0}
    services: Any = FakeServices(
        lambda request: (
            gold[request.prompt_uid] if request.sample_index < right_samples[request.prompt_uid] else "\\boxed{-1}"
        )
    )
    context, _ = stage_context(tmp_path)
    rl = RLConfig(sampling=SamplingConfig(temperature=0.9, max_tokens=77))
    rates = pass_rates(prompts, rl, tmp_path, services, context, num_samples=4)
    assert [rates[prompt.uid] for prompt in prompts] == [1.0, 0.25, 0.0]
    assert [is_learnable(rates[prompt.uid]) for prompt in prompts] == [False, True, False]
    (requests,) = services.pool.calls
    assert {(r.sampling.temperature, r.sampling.max_tokens) for r in requests} == {(0.9, 77)}
    assert len({r.seed for r in requests}) == 12
    assert context.num_tokens == sum(len(services.pool.answer(r)) for r in requests)


def test_learnable_prompts_come_first_and_the_rest_fills_up_in_order() -> None:
    prompts = [*prompts_of("arithmetic", 6), *prompts_of("math", 6)]
    rates: dict[str, float | None] = {prompt.uid: 1.0 for prompt in prompts}
    rates |= {
        prompts[1].uid: 0.5,
        prompts[4].uid: 0.25,
        prompts[5].uid: 0.75,
        prompts[9].uid: 0.5,
        prompts[6].uid: None,
    }
    chosen = prefer_learnable(prompts, rates, one_in=3)
    # arithmetic: two of three learnable ones; math: its only learnable one, then the first in order
    assert chosen == [prompts[1], prompts[4], prompts[6], prompts[9]]


@given(st.integers(1, 4), st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=24, max_size=24))
def test_every_task_and_mode_keeps_its_share(one_in: int, values: list[float | None]) -> None:
    prompts = [with_flag(p, flag) for flag in ("/think", "/no_think") for p in prompts_of("arithmetic", 12)]
    rates = dict(zip([prompt.uid for prompt in prompts], values, strict=True))
    chosen = prefer_learnable(prompts, rates, one_in=one_in)
    assert Counter(prompt.mode for prompt in chosen) == {"thinking": 12 // one_in, "non_thinking": 12 // one_in}
    for mode in ("thinking", "non_thinking"):
        pool = [is_learnable(rates[prompt.uid]) for prompt in prompts if prompt.mode == mode]
        kept = [is_learnable(rates[prompt.uid]) for prompt in chosen if prompt.mode == mode]
        assert sum(kept) == min(sum(pool), len(kept))
    assert chosen == [prompt for prompt in prompts if prompt in chosen]
