"""The collector rests during an import that is new, and only then."""

from __future__ import annotations

import gc
import sys

import pytest

from data.quick_imports import quick_imports


def test_the_collector_rests_within_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "not_yet_there", raising=False)
    before = gc.get_freeze_count()
    rests: list[bool] = []

    def import_it() -> None:
        with quick_imports("not_yet_there"):
            rests.append(not gc.isenabled())
            raise ImportError("it is not installed")

    with pytest.raises(ImportError):
        import_it()
    assert rests == [True]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before


def test_a_package_that_is_there_changes_nothing() -> None:
    gc.collect()
    cycle: list[object] = []
    cycle.append(cycle)
    before = gc.get_freeze_count()
    with quick_imports("pytest"):
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
