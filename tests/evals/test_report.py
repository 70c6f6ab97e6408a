"""The page says what the rows say, in full, and nothing that they do not say."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from evals.report import report_figures, report_markdown, write_report
from evals.report_inputs import ReportInputs

PIPELINE = [
    {"stage": "cold_start", "state": "done", "key": "aaaabbbbccccdddd", "parent": None, "seconds": 30.0,
     "tokens": 6000},
    {"stage": "reasoning_rl", "state": "done", "key": "eeeeffff00001111", "parent": "aaaabbbbccccdddd", "seconds": 90.0,
     "tokens": 1200, "cost": {"sampled_tokens": 250_000}},
]  # fmt: skip
SUMMARY: dict[str, Any] = {
    "cold_start": {
        "thinking": {"arith": {"mean": 0.4, "interval": [0.31, 0.49], "n": 90, "mean_tokens": 310.2, "truncated": 0.125,
                               "errors": 0}},
    },
    "reasoning_rl": {
        "thinking": {"arith": {"mean": 0.55, "interval": [0.45, 0.64], "n": 90, "mean_tokens": 402.0, "truncated": 0.0,
                               "errors": 2}},
    },
    "budget_curve": [
        {"budget_share": 0.25, "budget_tokens": 128, "mean": 0.3, "interval": [0.2, 0.41], "n": 90},
        {"budget_share": 1.0, "budget_tokens": 512, "mean": 0.55, "interval": [0.45, 0.64], "n": 90},
    ],
    "comparisons": {
        "x": {"stage": "reasoning_rl", "baseline": "cold_start", "mode": "thinking", "benchmark": "arith", "mean": 0.15,
              "interval": [0.06, 0.24], "n": 88},
    },
}  # fmt: skip
METRICS = [{"stage": "cold_start", "step": step, "loss": 2.0 / step, "entropy": 1.0} for step in range(1, 6)] + [
    {"stage": "reasoning_rl", "step": step, "reward": step / 10, "entropy": 1 / step,
     "mean_length": 100 + step, "engine_gap_mean": 0.001 * step, "loss": 0.0}
    for step in range(1, 9)
]  # fmt: skip


def sample(outcome: str, completion: str, *, stage: str = "reasoning_rl", step: int = 1) -> dict[str, Any]:
    reward = {"correct": 1.0, "incorrect": 0.0}.get(outcome)
    return {"stage": stage, "step": step, "task": "arith", "prompt": "What is 2+3?", "completion": completion,
            "reward": reward, "outcome": outcome, "reason": ""}  # fmt: skip


def page(**inputs: Any) -> str:
    return report_markdown(ReportInputs(title="A run", **inputs))


def section(text: str, heading: str) -> str:
    return text.split(f"## {heading}\n")[1].split("\n## ")[0].strip()


def cells(table_line: str) -> list[str]:
    return [cell.strip() for cell in table_line.strip("|").split(" | ")]


def test_a_page_without_rows_says_not_measured_in_every_section() -> None:
    text = page()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        "Pipeline", "Accuracy", "Thinking budget", "Training curves", "Where the time goes", "Data filters",
        "Rollouts to read", "Cost",
    ]  # fmt: skip
    assert all(section(text, heading) == "not measured" for heading in headings)
    assert report_figures(ReportInputs(title="A run")) == {}


def test_the_pipeline_shows_lineage_and_what_is_missing() -> None:
    lines = section(page(pipeline=[*PIPELINE, {"stage": "thinking_fusion"}]), "Pipeline").splitlines()
    assert cells(lines[0]) == ["stage", "state", "key", "parent", "time", "tokens"]
    assert cells(lines[2]) == ["cold_start", "done", "`aaaabbbbcccc`", "base model", "30.0 s", "6,000"]
    assert cells(lines[3]) == ["reasoning_rl", "done", "`eeeeffff0000`", "`aaaabbbbcccc`", "2 min", "1,200"]
    assert cells(lines[4]) == ["thinking_fusion"] + ["not measured"] * 5


def test_the_accuracy_table_has_intervals_and_paired_deltas_to_the_stage_before() -> None:
    lines = section(page(summary=SUMMARY), "Accuracy").splitlines()
    lines = lines[lines.index("In full:") :]
    table = [cells(line) for line in lines if line.startswith("| ")]
    assert table[2] == ["cold_start", "thinking", "arith", "**40.0**", "31.0 to 49.0", "–", "90", "310", "12.5%", "0"]
    assert table[3][3:6] == ["**55.0**", "45.0 to 64.0", "+15.0 (+6.0 to +24.0)"]
    assert table[6] == ["reasoning_rl", "cold_start", "thinking", "arith", "+15.0", "+6.0 to +24.0", "88"]


def test_stages_stand_side_by_side_in_a_table_for_each_mode() -> None:
    cell = {"mean": 0.2, "interval": [0.1, 0.3], "n": 90}
    later = {"thinking": {**SUMMARY["reasoning_rl"]["thinking"], "late": cell}, "mixed": {"follow": cell}}
    text = section(page(summary={**SUMMARY, "reasoning_rl": later}), "Accuracy").split("In full:")[0]
    thinking, mixed = text.split("**mixed**")
    table = [cells(line) for line in thinking.split("**thinking**")[1].splitlines() if line.startswith("| ")]
    assert table[0] == ["benchmark", "cold_start", "reasoning_rl"]
    assert table[2:] == [["arith", "40.0", "55.0 (+15.0)"], ["late", "", "20.0"]]
    assert "| follow | 20.0 |" in mixed.replace("|  |", "|")


def test_the_budget_curve_is_a_figure_and_a_table() -> None:
    lines = section(page(summary=SUMMARY), "Thinking budget").splitlines()
    assert lines[0] == "![accuracy against thinking budget](figures/budget-curve.png)"
    assert cells(lines[4]) == ["25.0%", "128", "30.0", "20.0 to 41.0", "90"]


def test_an_rl_stage_gets_four_panels_and_an_sft_stage_its_loss() -> None:
    figures = report_figures(ReportInputs(title="A run", metrics=METRICS))
    titles = {name: [axis.get_title() for axis in figure.axes] for name, figure in figures.items()}
    assert titles == {
        "cold_start-curves": ["training loss"],
        "reasoning_rl-curves": ["reward", "policy entropy", "completion length", "engine gap"],
    }
    reward = figures["reasoning_rl-curves"].axes[0].lines[0]
    assert list(reward.get_xdata()) == list(range(1, 9))
    assert list(reward.get_ydata()) == [step / 10 for step in range(1, 9)]
    assert all(axis.get_xlabel() and axis.get_ylabel() for figure in figures.values() for axis in figure.axes)


def test_curves_that_a_stage_did_not_record_are_named_and_not_drawn() -> None:
    metrics = [{"stage": "reasoning_rl", "step": 1, "reward": 0.5, "entropy": None}]
    text = section(page(metrics=metrics, pipeline=PIPELINE), "Training curves")
    assert "### cold_start\n\nNot measured: training loss (`loss`)." in text
    assert "![reasoning_rl: reward](figures/reasoning_rl-curves.png)" in text
    assert (
        "Not measured: policy entropy (`entropy`), completion length (`mean_length`), "
        "engine gap (`engine_gap_mean`)." in text
    )


def test_rows_with_a_non_finite_or_missing_value_leave_a_gap_and_no_point() -> None:
    metrics = [{"stage": "s", "step": step, "loss": loss} for step, loss in ((1, 1.0), (2, "NaN"), (3, 0.5))]
    metrics.append({"stage": "s", "step": 4})
    line = report_figures(ReportInputs(title="A run", metrics=metrics))["s-curves"].axes[0].lines[0]
    assert list(line.get_xdata()) == [1, 2, 3]
    assert [float(value) for value in line.get_ydata()] == pytest.approx([1.0, math.nan, 0.5], nan_ok=True)


def test_the_first_correct_and_the_first_incorrect_rollout_are_shown_with_thinking_folded() -> None:
    samples = [
        sample("incorrect", "<think>\nlong thought\n</think>\n\nThe answer is 6.", step=3),
        sample("correct", "<think>\n2+3=5\n</think>\n\nThe answer is 5."),
        sample("correct", "never shown"),
    ]
    text = section(page(samples=samples), "Rollouts to read")
    assert "Of 3 recorded: 1 incorrect, 2 correct." in text
    assert text.index("**First correct:** step 1; task arith; reward 1.0") < text.index("**First incorrect:** step 3;")
    assert (
        "<details><summary>thinking, 12 characters</summary>\n\n```text\nlong thought\n```\n\n</details>\n\n"
        "```text\nThe answer is 6.\n```" in text
    )
    assert "never shown" not in text


def test_a_stage_without_a_correct_rollout_says_so_and_an_unclosed_thought_has_no_answer() -> None:
    text = section(page(samples=[sample("incorrect", "<think>\nthe answer is 5")]), "Rollouts to read")
    assert "**First correct:** none recorded." in text
    assert "thinking, 15 characters, never closed" in text
    assert text.endswith("No answer.")


@pytest.mark.parametrize("hostile", ["```\n# a heading", "</details><script>", "a ```` b"])
def test_a_completion_cannot_break_out_of_its_block(hostile: str) -> None:
    text = section(page(samples=[sample("correct", hostile)]), "Rollouts to read")
    opening, body = re.findall(r"(?ms)^(`{3,})text\n(.*?)\n\1$", text)[1]
    assert body == hostile
    assert opening not in hostile


def test_a_very_long_completion_loses_its_middle_and_says_how_much() -> None:
    text = section(page(samples=[sample("correct", "a" * 5000 + "b" * 5000)]), "Rollouts to read")
    assert "aaaa\n[… 4,000 characters left out …]\nbbbb" in text


def test_samples_without_some_columns_are_still_shown() -> None:
    text = section(page(samples=[{"stage": "s", "outcome": "correct", "completion": "5"}]), "Rollouts to read")
    assert "step not measured; task not measured; reward not measured" in text


def test_a_prompt_of_messages_is_shown_with_roles() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+3?"}]
    text = section(page(samples=[sample("correct", "5") | {"prompt": messages}]), "Rollouts to read")
    assert "```text\nsystem: Be brief.\n\nuser: 2+3?\n```" in text


def test_filter_counts_keep_their_order() -> None:
    lines = section(page(filters={"cold_start": {"input": 1200, "too long": 30, "kept": 1170}}), "Data filters")
    assert [cells(line) for line in lines.splitlines()[2:]] == [
        ["cold_start", "input", "1,200"], ["cold_start", "too long", "30"], ["cold_start", "kept", "1,170"],
    ]  # fmt: skip


def test_cost_adds_up_and_a_sum_with_a_hole_is_not_given() -> None:
    lines = section(page(pipeline=PIPELINE), "Cost").splitlines()
    assert cells(lines[0]) == ["stage", "time", "share of time", "tokens", "tokens/s", "sampled tokens"]
    assert cells(lines[2]) == ["cold_start", "30.0 s", "25.0%", "6,000", "200", "not measured"]
    assert cells(lines[3]) == ["reasoning_rl", "2 min", "75.0%", "1,200", "13.33", "250,000"]
    assert cells(lines[4]) == ["**all**", "2 min", "", "7,200", "", "not measured"]


def test_text_in_a_table_cannot_add_columns() -> None:
    assert "a\\|b c" in page(filters={"a|b\nc": {"x": 1}})


def test_the_page_and_its_figures_are_written_and_every_link_leads_to_a_picture(tmp_path: Path) -> None:
    inputs = ReportInputs("A run", PIPELINE, SUMMARY, METRICS, [sample("correct", "5 \ud800")])
    path = write_report(tmp_path / "run", inputs)
    assert path == tmp_path / "run" / "report.md"
    links = re.findall(r"\]\((figures/.+?\.png)\)", path.read_text(encoding="utf-8"))
    assert len(links) == 3
    for link in links:
        height, width, _ = imread(tmp_path / "run" / link).shape
        assert width > 600
        assert height > 300
    written = sorted(str(found.relative_to(tmp_path / "run")) for found in (tmp_path / "run").rglob("*.*"))
    assert written == sorted(["report.md", "report.html", *links])
