"""Which versions of an adapter an engine keeps, and that no number is used twice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file

from data.adapter import ADAPTER_FILE, AdapterWeights
from rollout.adapters import AdapterShelf, adapter_arguments


def weights(value: float) -> AdapterWeights:
    return AdapterWeights({"r": 2}, {"a.lora_A.weight": torch.full((2, 3), value)})


@pytest.fixture
def shelf() -> Iterator[AdapterShelf]:
    shelf = AdapterShelf(lambda name, number, path: (name, number, path))
    yield shelf
    shelf.close()


def test_every_version_gets_a_folder_and_a_number_of_its_own(shelf: AdapterShelf) -> None:
    first, second = shelf.put(weights(1.0), 7), shelf.put(weights(2.0), 7)
    assert (first.version, first.number, second.number) == (7, 1, 2)
    assert second.request == ("adapter-2", 2, str(second.folder))
    assert float(load_file(first.folder / ADAPTER_FILE)["a.lora_A.weight"][0, 0]) == 1.0
    assert json.loads((second.folder / "adapter_config.json").read_text()) == {"r": 2}
    assert shelf.current is second


def test_a_version_goes_when_neither_new_requests_nor_those_in_flight_need_it(shelf: AdapterShelf) -> None:
    first, second, third = (shelf.put(weights(float(n)), n) for n in range(3))
    assert shelf.drop_unused([first, None, first]) == [second]
    assert [served.folder.exists() for served in (first, second, third)] == [True, False, True]
    assert shelf.drop_unused([]) == [first]
    shelf.current = None
    assert shelf.drop_unused([]) == [third]
    assert shelf.put(weights(0.0), 9).number == 4


def test_closing_removes_all_folders(shelf: AdapterShelf) -> None:
    folder = shelf.put(weights(1.0), 0).folder
    shelf.close()
    assert not folder.parent.exists()


def test_an_engine_without_adapters_is_started_as_before() -> None:
    assert adapter_arguments(0) == {}
    assert adapter_arguments(8)["max_lora_rank"] == 8
