"""What every command of `fourstage` prints, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.chat import parse_completion
from evals.summary import write_summary
from rewards.registry import all_tasks
from stages.run_config import STAGES
from stages.run_dir import RunDir
from tests.stages.cli_calls import MICRO, Call, written


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "four-stage recipe"),
        (["run"], "Finished stages are reused"),
        (["status"], "interrupted"),
        (["ablate"], "sharing every stage"),
        (["report"], "results"),
        (["eval"], "an interrupted evaluation goes on"),
        (["watch"], "while it goes on"),
        (["serve"], "follow its alias"),
        (["models"], "aliases that point to them"),
        (["promote"], "A failed gate leaves the alias where it is"),
        (["rollback"], "to the version before"),
        (["import"], "chat tokens"),
        (["rewards"], "score"),
        (["rewards", "list"], "known hack"),
        (["rewards", "preview"], "generated prompts"),
        (["rewards", "score"], "JSON lines"),
        (["data"], "preview"),
        (["data", "preview"], "loss mask"),
    ],
)
def test_every_command_explains_itself(call: Call, arguments: list[str], word: str) -> None:
    outcome = call(*arguments, "--help")
    assert outcome.code == 0
    assert word in " ".join(outcome.out.split())


def test_status_shows_the_stages_of_a_run_as_a_table_and_as_json(call: Call, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write_plan([("base", "k" * 64), ("cold_start", "m" * 64), ("reasoning_rl", "n" * 64)])
    run_dir.record_stage("base", "k" * 64, done=True, seconds=12.5)
    run_dir.record_stage("cold_start", "m" * 64, done=False, seconds=1.0)
    (run_dir.stage_dir("cold_start", "m" * 64) / "metrics.jsonl").write_text('{"step": 3}\n')
    rows = call("status", tmp_path, "--json").document
    assert [(row["stage"], row["state"], row["step"], row["seconds"]) for row in rows] == [
        ("base", "done", None, 12.5),
        ("cold_start", "interrupted", 3, 1.0),
        ("reasoning_rl", "not started", None, None),
    ]
    table = call("status", tmp_path).out
    for row in rows:
        assert row["stage"] in table
    assert "plan.json: no such file; is this a run directory?" in call("status", tmp_path / "nowhere").error


def test_report_prints_the_summary_of_a_run(call: Call, tmp_path: Path) -> None:
    cell = {"mean": 0.5, "interval": [0.25, 0.75], "n": 16, "mean_tokens": 3.0, "truncated": 0.0, "errors": 0}
    summary = {"base": {"thinking": {"math": cell}}}
    write_summary(tmp_path / "summary.json", summary)
    RunDir(tmp_path).write_plan([("base", "k" * 64)])
    assert call("report", tmp_path, "--json").document == summary
    said = call("report", tmp_path).out
    assert f"report: {tmp_path / 'report.html'}" in said
    assert str(tmp_path / "report.md") in said
    assert "is this a run directory?" in call("report", tmp_path / "nowhere").error


def test_rewards_list_has_every_task_with_its_hack_and_guard(call: Call) -> None:
    rows = call("rewards", "list", "--json").document
    assert [row["name"] for row in rows] == [task.name for task in all_tasks()]
    assert all(row["summary"] and row["hack"] and row["guard"] for row in rows)
    short, full = call("rewards", "list").out, call("rewards", "list", "--full").out
    assert all(task.name[:4] in table for task in all_tasks() for table in (short, full))
    assert ("guard" in short, "guard" in full) == (False, True)


def test_rewards_preview_shows_all_turns_of_an_episode(call: Call) -> None:
    (row,) = call("rewards", "preview", "tool_use", "--count", "1", "--json").document
    call_turn, _, answer = row["gold"].partition("</tool_call>")
    assert '{"name": "lookup", "arguments": ' in call_turn
    assert answer.strip().endswith(str(row["reference"]["answer"][0]))


def test_rewards_preview_shows_prompts_with_gold_that_scores_one(call: Call) -> None:
    rows = call("rewards", "preview", "arithmetic", "--count", "3", "--difficulty", "2", "--json").document
    assert len(rows) == 3
    assert rows == call("rewards", "preview", "arithmetic", "--count", "3", "--difficulty", "2", "--json").document
    lines = "".join(
        json.dumps(
            {
                "task": "arithmetic",
                "messages": [{"role": "user", "content": row["prompt"].removeprefix("user: ")}],
                "reference": row["reference"],
                "completion": row["gold"],
            }
        )
        + "\n"
        for row in rows
    )
    scored = call("rewards", "score", stdin=lines)
    assert [json.loads(line)["reward"] for line in scored.out.splitlines()] == [1.0] * 3
    assert "arithmetic" in call("rewards", "preview", "arithmetic").out
    assert call("rewards", "preview", "arithmetc").error.count("arithmetic") >= 1
    assert "level" in call("rewards", "preview", "arithmetic", "--difficulty", "50").error


def test_rewards_score_reads_a_file_or_standard_input_and_keeps_the_rows(call: Call, tmp_path: Path) -> None:
    row = {"task": "math", "messages": [{"role": "user", "content": "1/2+1/4?"}], "reference": {"answer": "3/4"}}
    lines = [json.dumps(row | {"completion": text}) for text in ("\\boxed{0.75}", "\\boxed{2}")]
    outcome = call("rewards", "score", stdin="\n".join(lines))
    scored = [json.loads(line) for line in outcome.out.splitlines()]
    assert [(item["reward"], item["outcome"]) for item in scored] == [(1.0, "correct"), (0.0, "incorrect")]
    assert all(item["task"] == "math" and item["reason"] is not None for item in scored)
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines))
    assert call("rewards", "score", file).out == outcome.out
    assert (
        "line 1: field 'reference' is missing"
        in call("rewards", "score", stdin='{"task": "math", "messages": []}').error
    )
    assert "does not exist; give a JSON lines file" in call("rewards", "score", tmp_path / "none").error


@pytest.mark.parametrize("stage", STAGES)
def test_the_preview_of_a_stage_puts_loss_on_block_answer_and_end_of_turn_alone(
    call: Call, tmp_path: Path, stage: str
) -> None:
    arguments = ["data", "preview", MICRO, "--stage", stage, "--count", "6", f"run_dir={tmp_path}"]
    rows = call(*arguments, "--json").document
    assert len(rows) == 6
    for row in rows:
        assert "".join(piece for piece, _ in row["tokens"]) == row["text"]
        trained = "".join(piece for piece, loss in row["tokens"] if loss)
        if stage == "base":  # whole documents, the first token aside
            assert row["text"].endswith(trained)
            assert [loss for _, loss in row["tokens"]] == [0] + [1] * (len(row["tokens"]) - 1)
            continue
        completion = row["text"].rsplit("<|im_start|>assistant\n", 1)[1]
        assert trained == completion
        assert trained.endswith("<|im_end|>")
        parsed = parse_completion(trained.removesuffix("<|im_end|>"))
        assert parsed.block == ("empty" if "/no_think" in row["text"].rsplit("user\n", 1)[1] else "closed") or (
            stage == "thinking_fusion" and parsed.block == "empty"
        )
        assert parsed.answer
    assert written(tmp_path) == []
    assert "carry loss" in call(*arguments).out


def test_a_preview_of_no_stage_is_one_line(call: Call) -> None:
    assert call("data", "preview", MICRO, "--stage", "cold").error.startswith(
        "--stage: 'cold' is no stage; choose from"
    )
