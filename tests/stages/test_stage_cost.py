"""Tokens and FLOPs of a stage, counted by hand."""

from __future__ import annotations

from learner.flops import ModelFlops
from stages.stage_cost import stage_cost

FLOPS = ModelFlops(per_token=10.0, per_squared_length=1.0, per_prediction=2.0)


def test_a_supervised_stage_costs_its_steps_and_what_it_sampled_for_its_data() -> None:
    rows = [
        {"step": 1, "num_tokens": 30.0, "model_flops": 900.0},
        {"step": 2, "num_tokens": 20.0, "model_flops": 600.0},
    ]
    assert stage_cost(rows, num_tokens=57, seconds=3.0, flops=FLOPS) == {
        "tokens": 57.0, "seconds": 3.0, "trained_tokens": 50.0, "generated_tokens": 7.0,
        "train_flops": 1500.0, "generation_flops": 84.0, "flops": 1584.0,
    }  # fmt: skip


def test_an_rl_stage_has_generated_all_that_it_counts_and_trained_on_it_besides() -> None:
    rows = [
        {"step": 1, "completion_tokens": 40, "num_tokens": 48.0, "model_flops": 1000.0},
        {"step": 2, "completion_tokens": 40, "empty_steps": 1.0},  # every group was uniform
    ]
    cost = stage_cost(rows, num_tokens=100, seconds=1.0, flops=FLOPS)
    assert (cost["tokens"], cost["trained_tokens"], cost["generated_tokens"]) == (100.0, 48.0, 100.0)
    assert (cost["train_flops"], cost["generation_flops"], cost["flops"]) == (1000.0, 1200.0, 2200.0)


def test_flops_that_a_step_did_not_record_are_not_made_up() -> None:
    cost = stage_cost([{"num_tokens": 30.0}], num_tokens=30, seconds=1.0, flops=FLOPS)
    assert cost == {"tokens": 30.0, "seconds": 1.0, "trained_tokens": 30.0, "generated_tokens": 0.0}


def test_a_base_that_was_taken_in_cost_nothing() -> None:
    assert stage_cost([], num_tokens=0, seconds=1.0, flops=FLOPS)["flops"] == 0.0
