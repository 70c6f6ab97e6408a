"""What is on record of a version's gates, and which engine a server learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from serving.figures import LineageFigures, Unmeasured
from serving.gates import judge
from serving.gates_record import engine_of_gates, measured_scores, write_gates_record
from serving.measured_engine import MeasuredEngine
from serving.registry import Registry, Version
from tests.serving.checkpoints import small_checkpoint
from tests.serving.gate_figures import gates, good_figures, lineage

FLOAT32 = MeasuredEngine("float32", 512, 1, on_gpu=False)
BFLOAT16 = MeasuredEngine("bfloat16", 4096, 2, on_gpu=True)
NO_PARENT: LineageFigures = lineage(has_parent=False)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    return registry.add(small_checkpoint(tmp_path / "checkpoint"))


def write(registry: Registry, version: Version, alias: str, *, forced: str | None = None, **changes: Any) -> None:
    figures = good_figures(**changes)
    write_gates_record(registry, version, figures, judge(gates(), figures), alias=alias, forced=forced)


def test_a_server_learns_the_engine_of_the_gates_that_let_the_version_to_its_alias(
    registry: Registry, version: Version
) -> None:
    assert engine_of_gates(registry, version, "production") is None
    write(registry, version, "other", engine=BFLOAT16)
    assert engine_of_gates(registry, version, "production") == BFLOAT16
    write(registry, version, "production", engine=FLOAT32)
    assert engine_of_gates(registry, version, "production") == FLOAT32
    assert engine_of_gates(registry, version, "other") == BFLOAT16


def test_gates_that_refuse_a_version_take_nothing_from_what_let_it_in(registry: Registry, version: Version) -> None:
    write(registry, version, "production", engine=FLOAT32)
    write(registry, version, "production", engine=BFLOAT16, lineage=NO_PARENT)
    assert engine_of_gates(registry, version, "production") == FLOAT32
    write(registry, version, "production", engine=BFLOAT16, lineage=NO_PARENT, forced="demo on Friday")
    assert engine_of_gates(registry, version, "production") == BFLOAT16


def test_gates_without_an_engine_and_an_engine_that_did_not_start_say_nothing_of_one(
    registry: Registry, version: Version
) -> None:
    write(registry, version, "staging", loads_s=None, forced="no engine here")
    write(registry, version, "production", engine=FLOAT32, loads_s=Unmeasured("died"), forced="so be it")
    assert engine_of_gates(registry, version, "production") is None


def test_scores_are_those_of_the_newest_gates(registry: Registry, version: Version) -> None:
    assert measured_scores(registry, version) == {}
    write(registry, version, "production")
    assert measured_scores(registry, version) == pytest.approx({"sums, thinking": 0.9, "think_follow, mixed": 1.0})


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[]", "is no record of gates")])
def test_a_record_that_cannot_be_read_is_named(registry: Registry, version: Version, text: str, words: str) -> None:
    registry.write_beside(version, "gates.production.json", text)
    with pytest.raises(UserError, match=rf"gates\.production\.json {words}"):
        engine_of_gates(registry, version, "production")
