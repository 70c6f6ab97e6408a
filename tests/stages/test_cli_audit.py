"""`fourstage rewards audit` and `fourstage rewards docs` as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.catalogue import catalogue
from tests.rewards.leaky_task import leaky_task, registry_as_it_was
from tests.stages.cli_calls import Call


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    with registry_as_it_was():
        yield


def test_a_sound_task_passes_with_a_row_of_figures(call: Call) -> None:
    (report,) = call("rewards", "audit", "length", "--texts", "30", "--prompts", "1", "--json").document
    assert (report["task"], report["passed"], report["paid"], report["errors"]) == ("length", True, 0, 0)
    assert report["fuzz_texts"] == 30
    assert report["attacks"] > 300


def test_a_leaky_file_of_the_user_fails_with_its_texts(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(leaky_task("substring"))
    outcome = call("rewards", "audit", str(file), "--texts", "0", "--prompts", "1")
    assert outcome.code == 1
    assert "leaky_substring: paid: several answers: list of guesses" in outcome.out
    assert "Traceback" not in outcome.err
    outcome = call("rewards", "audit", "--file", str(file), "--texts", "0", "--prompts", "1", "--json")
    assert outcome.code == 1
    (report,) = json.loads(outcome.out)
    assert report["paid"] > 10
    assert {"kind", "name", "count", "detail", "prompt", "text"} == report["findings"][0].keys()


def test_an_unknown_task_is_one_line(call: Call) -> None:
    assert "did you mean 'arithmetic'" in call("rewards", "audit", "arithmetik").error


def test_docs_are_written_from_the_tasks(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "rewards.md"
    assert call("rewards", "docs", str(out)).code == 0
    assert out.read_text(encoding="utf-8") == catalogue()
