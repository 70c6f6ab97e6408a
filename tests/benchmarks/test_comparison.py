"""Sides run in turn in processes of their own; lines of a case replace those of an earlier run; failures are lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import comparison
from benchmarks.comparison import Plan, Row, Side, peers_python, read_results, run_case, run_side
from benchmarks.options import parsed_values
from data.records import UserError


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny sides, one of which fails, where the runner looks for them."""
    folder = tmp_path / "benchmarks" / "sides"
    folder.mkdir(parents=True)
    protocol = Path(comparison.__file__).parent / "sides" / "protocol.py"
    (folder / "protocol.py").write_text(protocol.read_text())
    (folder / "counts.py").write_text(
        "from benchmarks.sides.protocol import Recorder, settings\n"
        "given, recorder = settings(), Recorder()\n"
        "for step in range(given['num_steps']):\n"
        "    recorder.step(tokens=given['tokens'])\n"
    )
    (folder / "fails.py").write_text("raise SystemExit('out of luck')\n")
    (folder / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(comparison, "ROOT", tmp_path)
    return tmp_path


def side(name: str, module: str = "counts") -> Side:
    return Side(name=name, module=module, settings={"tokens": 7})


def test_sides_run_in_turn_and_a_case_replaces_its_earlier_lines(sides: Path) -> None:
    plan = Plan(repeats=2, steps=1, warmup=1, memory=True, timeout_s=30)
    for _ in range(2):
        rows = run_case(
            "claim", "A float32", [side("a"), side("b")], plan, results=sides / "results", scratch=sides / "scratch"
        )
    runs = list(dict.fromkeys((row["kind"], row["repeat"], row["side"]) for row in rows if row["event"] == "step"))
    assert runs == [
        ("memory", 0, "a"),
        ("memory", 0, "b"),
        *(("timed", repeat, name) for repeat in (0, 1) for name in "ab"),
    ]
    assert read_results(sides / "results" / "claim.jsonl") == rows
    run_case("claim", "B", [side("a")], plan, results=sides / "results", scratch=sides / "scratch")
    assert {row["case"] for row in read_results(sides / "results" / "claim.jsonl")} == {"A float32", "B"}


def test_a_side_that_fails_is_a_line_and_is_not_run_again(sides: Path) -> None:
    plan = Plan(repeats=3, steps=1, warmup=0, memory=False, timeout_s=30)
    rows = run_case("claim", "A", [side("bad", "fails")], plan, results=sides / "r", scratch=sides / "s")
    failed = [row for row in rows if row["event"] == "failed"]
    assert [(row["code"], row["said"]) for row in failed] == [(1, "out of luck")]


def test_a_comparison_that_is_cut_off_leaves_what_it_has_measured(sides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = comparison.run_side

    def cut_off(which: Side, *args: Any, **kwargs: Any) -> list[Row]:
        if which.name == "b":
            raise KeyboardInterrupt
        return real(which, *args, **kwargs)

    monkeypatch.setattr(comparison, "run_side", cut_off)
    plan = Plan(repeats=1, steps=1, warmup=0, memory=False, timeout_s=30)
    with pytest.raises(KeyboardInterrupt):
        run_case("claim", "A", [side("a"), side("b")], plan, results=sides / "r", scratch=sides / "s")
    rows = read_results(sides / "r" / "claim.jsonl")
    assert [row["side"] for row in rows if row["event"] == "step"] == ["a"]


def test_a_side_that_hangs_is_ended(sides: Path) -> None:
    plan = Plan(timeout_s=0.5)
    (row,) = run_side(
        side("slow", "hangs"), plan, scratch=sides / "s", python=Path(sys.executable), sample_memory=False
    )
    assert row["code"] == "still running after 0.5 s"


def test_a_missing_environment_of_the_peers_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"peers: \.venv-peers does not exist; run `make peers`"):
        peers_python(tmp_path / ".venv-peers")


def test_settings_on_the_command_line_are_json_or_text() -> None:
    assert parsed_values(["a=1", "b=true", "c=eager"]) == {"a": 1, "b": True, "c": "eager"}
    with pytest.raises(UserError, match="setting 'a' is not of the form key=value"):
        parsed_values(["a"])
