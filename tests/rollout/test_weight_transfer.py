"""The adapter refuses an incomplete set of weights before it touches the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rollout.weight_transfer import load_into_worker


class Runner:
    """Stands for the engine's model runner: it keeps what it was told to load."""

    def __init__(self) -> None:
        self.loaded: dict[str, torch.Tensor] | None = None

    def reload_weights(self, weights_iterator: Any) -> None:
        self.loaded = dict(weights_iterator)

    def get_model(self) -> torch.nn.Module:
        return torch.nn.Module()


class Worker:
    def __init__(self) -> None:
        self.model_runner = Runner()


def test_weights_without_the_head_are_refused_and_nothing_is_loaded() -> None:
    worker = Worker()
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing"):
        load_into_worker(worker, {"model.embed_tokens.weight": torch.ones(4, 2)})
    assert worker.model_runner.loaded is None


def test_a_whole_set_goes_through_the_engines_own_reload() -> None:
    worker, head = Worker(), torch.ones(4, 2)
    load_into_worker(worker, {"lm_head.weight": head})
    assert worker.model_runner.loaded == {"lm_head.weight": head}
