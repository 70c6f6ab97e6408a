"""A report is made of what a run left so far, finished or not, and a second look reads only what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.files import write_json
from data.records import UserError
from stages.run_report import GrowingRows, RunReader, evaluation_file, report_run
from tests.stages.cli_calls import Call
from tests.stages.run_folders import EVALUATION, KEYS, append, finished_run, metrics, rollout, run_under_way


def test_a_run_under_way_shows_what_it_has(tmp_path: Path) -> None:
    run_under_way(tmp_path)
    found = RunReader(tmp_path).read()
    assert found.title == "fourstage run: small"
    assert [(row["stage"], row["state"], row["step"], row["parent"]) for row in found.pipeline] == [
        ("cold_start", "done", 3, None),
        ("reasoning_rl", "interrupted", 3, KEYS["cold_start"]),
    ]
    assert found.summary["cold_start"]["thinking"]["math"]["mean"] == 0.5
    assert [(row["stage"], row["step"]) for row in found.metrics] == [
        (stage, step) for stage in ("cold_start", "reasoning_rl") for step in (1, 2, 3)
    ]
    assert [row["stage"] for row in found.samples] == ["reasoning_rl"] * 3 + ["evaluation of cold_start"] * 2
    assert found.filters == {
        "cold_start": {
            "query_filters: drawn": 10,
            "query_filters: kept": 8,
            "query_filters: dropped, held out": 2,
        }
    }


def test_a_plan_alone_is_a_run_with_nothing_yet(tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", [{"stage": "base", "key": "b" * 64}])
    found = RunReader(tmp_path).read()
    assert [row["state"] for row in found.pipeline] == ["not started"]
    assert (found.metrics, found.samples, found.summary) == ([], [], {})
    assert report_run(tmp_path)[1].read_text(encoding="utf-8").count("Stage base is not finished: not started.") == 1


def test_the_summary_of_the_run_is_taken_when_it_is_of_these_evaluations(tmp_path: Path) -> None:
    finished_run(tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())
    write_json(tmp_path / "summary.json", {**written, "comparisons": {"x": {}}})
    assert RunReader(tmp_path).read().summary["comparisons"] == {"x": {}}
    written["reasoning_rl"]["thinking"]["math"]["mean"] = 0.9  # an earlier run of the same directory
    write_json(tmp_path / "summary.json", {**written, "comparisons": {"x": {}}})
    found = RunReader(tmp_path).read().summary
    assert found["reasoning_rl"]["thinking"]["math"]["mean"] == 0.7
    assert "comparisons" not in found


def test_an_evaluation_under_other_settings_is_not_shown(tmp_path: Path) -> None:
    run = run_under_way(tmp_path)
    folder = run.stage_dir("cold_start", KEYS["cold_start"])
    evaluation_file(folder, EVALUATION, KEYS["cold_start"], 0).rename(folder / "evaluations" / "0123456789ab.json")
    assert RunReader(tmp_path).read().summary == {}
    (tmp_path / "config.yaml").unlink()  # without settings the newest is taken
    assert RunReader(tmp_path).read().summary["cold_start"]["thinking"]["math"]["mean"] == 0.5


def test_what_is_no_run_directory_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan.json: no such file; is this a run directory\?"):
        RunReader(tmp_path / "nowhere").read()


def test_a_second_look_keeps_the_rows_it_has_and_adds_the_new_ones(tmp_path: Path) -> None:
    run = run_under_way(tmp_path)
    reader = RunReader(tmp_path)
    before = list(reader.read().samples)
    append(run.stage_dir("reasoning_rl", KEYS["reasoning_rl"]) / "samples.jsonl", [rollout("reasoning_rl", 4)])
    after = reader.read().samples
    assert [row["step"] for row in after] == [1, 2, 3, 4, 0, 0]
    assert all(old is new for old, new in zip(before[:3], after[:3], strict=True))


def test_growing_rows_wait_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = GrowingRows(path)
    assert list(rows.read()) == []
    path.write_bytes(b'{"a": 1}\n{"a": ')
    assert list(rows.read()) == [{"a": 1}]
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert list(rows.read()) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("text", ['{"a": 1}\n', '{"a": 1}\n{"a": 9}\n{"a": 3}\n', ""])
def test_rows_of_a_file_that_was_cut_back_are_read_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    rows = GrowingRows(path)
    rows.read()
    with open(path, "r+") as file:  # in place, as a resumed stage does it
        file.truncate(0)
        file.write(text)
    assert list(rows.read()) == [json.loads(line) for line in text.splitlines()]


def test_a_broken_line_is_said_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{broken}\n")
    with pytest.raises(UserError, match=r"rows.jsonl: a line is not JSON"):
        GrowingRows(tmp_path / "rows.jsonl").read()


def test_the_report_command_writes_page_and_text_of_an_unfinished_run(call: Call, tmp_path: Path) -> None:
    run_under_way(tmp_path)
    outcome = call("report", tmp_path)
    assert outcome.code == 0
    assert f"report: {tmp_path / 'report.html'}" in outcome.out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Stage reasoning_rl is not finished: interrupted after step 3." in page
    assert "| reasoning_rl | interrupted |" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert call("report", tmp_path, "--json").document["cold_start"]["thinking"]["math"]["n"] == 2
    assert "is this a run directory?" in call("report", tmp_path / "nowhere").error


def test_metrics_rows_of_the_fixture_are_those_a_stage_writes(tmp_path: Path) -> None:
    run_under_way(tmp_path)
    assert RunReader(tmp_path).read().metrics[-1] == metrics("reasoning_rl", 3)
