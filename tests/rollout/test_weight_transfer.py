"""The adapter refuses an incomplete set of weights before it touches the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rollout.weight_transfer import _apply_expand, _apply_shrink, load_into_worker


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


class Kernels:
    """The part of the engine's wrapper that the kernels read: the slot of each token, -1 for none."""

    def __init__(self, slots: list[int]) -> None:
        self.token_lora_indices = torch.tensor(slots)


@pytest.mark.parametrize("slots", [[0, 1, -1, 0, 1], [1, 1, 1, 1, 1], [-1, -1, -1, -1, -1], [-1, 0, 0, 0, -1]])
def test_adapter_kernels_give_each_row_its_own_adapter_and_none_to_rows_without(slots: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, down, up = (torch.randn(shape, generator=generator) for shape in ((5, 6), (2, 1, 3, 6), (2, 1, 4, 3)))
    buffer, output = torch.zeros(5, 3), torch.ones(5, 10)
    _apply_shrink(Kernels(slots), buffer, x, down, 0.5)
    _apply_expand(Kernels(slots), output, buffer, up, 2, 4)
    expected = torch.ones(5, 10)
    for row, slot in enumerate(slots):
        if slot >= 0:
            expected[row, 2:6] += 0.5 * up[slot, 0] @ (down[slot, 0] @ x[row])
    torch.testing.assert_close(output, expected)
