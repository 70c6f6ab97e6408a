"""Engines that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.engine_pairs import Pair, Pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairs]:
    pairs = Pairs(tmp_path_factory.mktemp)
    yield pairs
    pairs.close()


@pytest.fixture
def pair(pairs: Pairs) -> Iterator[Pair]:
    """The untied Qwen3; it has its own weights again afterwards, whatever the test did."""
    pair = pairs["qwen3"]
    yield pair
    pair.engine.update_weights(pair.own_weights(), version=0)
