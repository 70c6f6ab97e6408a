"""Weights out of a folder in the real engine: those that fit, those that do not, and what comes after a failed load.

The worker's calls are made in the engine of this process, where the learner can say what is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout.serving_worker import ServingWorker, folder_tensors
from tests.integration.engine_pairs import Pair
from tests.integration.serving_scene import narrow, not_a_number
from tests.integration.tiny_policies import request, save_policy

pytestmark = [pytest.mark.engine, pytest.mark.integration]


def load(pair: Pair, folder: Path) -> Any:
    (fault,) = pair.engine._collective_rpc(ServingWorker.fourstage_reload, str(folder), True)
    pair.engine.reset_prefix_cache()
    return fault


def gap(pair: Pair) -> float:
    """How far engine and learner are apart on what the engine samples now."""
    completions = pair.engine.generate([request(pair.ids("the sum"), index=seed, seed=seed) for seed in range(3)])
    return max(pair.gap(completion) for completion in completions)


@pytest.fixture
def own(pair: Pair) -> Iterator[Pair]:
    yield pair
    assert load(pair, pair.folder) is None


def test_weights_of_another_folder_are_what_the_engine_computes_with(own: Pair, tmp_path: Path) -> None:
    assert load(own, save_policy(tmp_path / "other", seed=9)) is None
    assert gap(own) > 0.1
    assert load(own, own.folder) is None
    assert gap(own) < 1e-4


def test_a_load_that_fails_half_way_can_be_followed_by_the_old_weights(own: Pair, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "narrow", seed=9)
    narrow(folder)
    for _ in range(2):
        assert load(own, folder).startswith("AssertionError")
        assert load(own, own.folder) is None
        assert gap(own) < 1e-4


def test_weights_that_are_no_numbers_are_told(own: Pair, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "nan", seed=9)
    not_a_number(folder)
    assert load(own, folder) == ("the engine computes with other weights than model.layers.1.self_attn.o_proj.weight")


def test_a_folder_without_weights_is_told(own: Pair, tmp_path: Path) -> None:
    assert load(own, tmp_path).startswith("ValueError: weights: lm_head.weight is missing")


def test_a_tied_head_comes_under_its_own_name(tmp_path: Path) -> None:
    tensors = folder_tensors(save_policy(tmp_path / "tied", tied=True))
    assert tensors["lm_head.weight"] is tensors["model.embed_tokens.weight"]
