"""An ablation from end to end with fakes that count: how often stages are made, what resumes, and what the tables hold.

The stages themselves are stand-ins that write a row of metrics; keys, reuse, evaluation, folders and tables are the
real ones. The real engine is in `tests/integration/test_ablation.py`.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.chat import STOP_THINKING
from data.records import UserError
from evals.evaluate import BenchmarkConfig
from learner.checkpoint import read_manifest
from rollout.policy import GenerationRequest
from stages.ablation import Outcome, Pace, _area, run_ablation
from stages.ablation_config import AblationConfig, load_ablation, plan_ablation, planned_outputs
from stages.pipeline import Pipeline
from stages.progress import Progress
from stages.run_config import STAGES, RunConfig
from stages.run_dir import RunDir
from tests.data.byte_tokenizer import byte_tokenizer
from tests.learner.tiny_models import plain_model, save_tiny_model
from tests.stages.cli_calls import Call
from tests.stages.stage_fakes import FakeLearner, FakeServices
from tests.stages.test_ablation_config import ablation

EVALUATION = (
    "set.evaluation.budget_benchmarks=[]",
    "set.evaluation.benchmarks.arithmetic.num_prompts=12",
    "set.evaluation.benchmarks.think_follow.num_prompts=4",
    "num_resamples=200",
)

STEP = {"num_tokens": 100.0, "model_flops": 3e6}


class Exporter(FakeLearner):
    """A learner whose export is a copy of one tiny model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def export(self, folder: str, tokenizer: Any) -> None:
        self._model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


class Workshop:
    """Counts what is made over several calls of `run_ablation`, and can be told to break down at a stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = plain_model(save_tiny_model(folder / "weights"))
        self.made: Counter[str] = Counter()
        self.order: list[str] = []
        self.served: list[tuple[str, bool]] = []
        self.started = self.closed = 0
        self.fail_at: dict[str, BaseException] = {}
        self.num_evaluations = 0
        self.answer: Callable[[GenerationRequest], str] = lambda request: "<think>\nx\n</think>\n\n\\boxed{1}"

    def services(self, config: RunConfig, run_dir: Path, progress: Progress) -> Any:
        workshop = self
        workshop.started += 1

        class Counting(FakeServices):
            preference_folder = None

            def serve(self, config: RunConfig, *, same_model: bool) -> None:
                workshop.served.append((config.run_dir.rsplit("/", 1)[1], same_model))

            def policy(self, folder: str | Path) -> Any:
                workshop.num_evaluations += 1
                return self.pool

            def close(self) -> None:
                workshop.closed += 1

        services = Counting(lambda request: workshop.answer(request))
        services.progress = progress  # type: ignore[attr-defined]
        services.learner = Exporter(self.model)
        return services

    def run_stage(self, pipeline: Pipeline, name: str, start: Any, context: Any, plan: Any) -> dict[str, float]:
        """In the place of the stage's module."""
        if error := self.fail_at.pop(name, None):
            raise error
        if not (folder := context.path / "initial").exists() and name == "base":
            pipeline.services.learner.export(str(folder), byte_tokenizer())
        self.made[context.path.name] += 1
        self.order.append(name)
        context.num_tokens += 100
        context.metrics.append({"stage": name, "step": 1, **STEP})
        return {"loss": 1.0}

    def run(self, config: AblationConfig) -> Outcome:
        return run_ablation(config, plain=True, make_services=self.services)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    workshop = Workshop(tmp_path)
    monkeypatch.setattr(Pipeline, "_run_stage", lambda self, *arguments: workshop.run_stage(self, *arguments))
    # Figures of hundreds of reports are what such a test would otherwise spend its time on.
    monkeypatch.setattr(
        "stages.run_report.write_report", lambda folder, inputs: (folder / "report.md").write_text(inputs.title)
    )
    return workshop


VARIANTS = {
    "full": {},
    "no_reasoning_rl": {"leave_out": ["reasoning_rl"]},
    "replay": {"set": {"general_rl.reasoning_replay": 0.5}, "against": "full"},
    "ladder": {"until": "cold_start"},
}

# ---------------------------------------------------------------------------------------------- what is made


def test_each_different_stage_is_made_once_whatever_variants_have_it(workshop: Workshop, tmp_path: Path) -> None:
    config = ablation(tmp_path, VARIANTS, *EVALUATION)
    outcome = workshop.run(config)
    different = {stage.folder.name for run in plan_ablation(config) for stage in run.stages}
    assert workshop.made == dict.fromkeys(different, 1)
    # full: 5; without reasoning RL its fusion and general RL; replay its general RL; the ladder nothing.
    assert Counter(workshop.order) == {
        "base": 1, "cold_start": 1, "reasoning_rl": 1, "thinking_fusion": 2, "general_rl": 3,
    }  # fmt: skip
    assert workshop.started == workshop.closed == 1
    assert workshop.served == [
        ("no_reasoning_rl-seed0", True), ("replay-seed0", True), ("ladder-seed0", True),
    ]  # fmt: skip
    assert outcome.failed == {}
    assert workshop.num_evaluations == 8  # of each different checkpoint, once


def test_another_seed_makes_all_stages_again_and_asks_for_engines_of_its_own(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.run(ablation(tmp_path, {"a": {"until": "cold_start"}, "b": {"until": "base"}}, "seeds=[0,5]", *EVALUATION))
    assert Counter(workshop.order) == {"base": 2, "cold_start": 2}
    assert workshop.served == [("b-seed0", True), ("a-seed5", False), ("b-seed5", True)]


def test_a_finished_ablation_makes_nothing_and_writes_the_same_tables(workshop: Workshop, tmp_path: Path) -> None:
    config = ablation(tmp_path, VARIANTS, *EVALUATION)
    workshop.run(config)
    tables = {path.name: path.read_bytes() for path in (tmp_path / "run/tables").iterdir()}
    num_made, num_evaluations = len(workshop.order), workshop.num_evaluations
    workshop.run(config)
    assert (len(workshop.order), workshop.num_evaluations) == (num_made, num_evaluations)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run/tables").iterdir()} == tables
    assert {output.state for output in planned_outputs(plan_ablation(config))} == {"done"}


def test_an_interrupted_ablation_goes_on_where_it_was(workshop: Workshop, tmp_path: Path) -> None:
    config = ablation(tmp_path, VARIANTS, *EVALUATION)
    workshop.fail_at["thinking_fusion"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        workshop.run(config)
    assert workshop.order == ["base", "cold_start", "reasoning_rl"]
    assert workshop.closed == 1
    states = {output.stage.name: output.state for output in planned_outputs(plan_ablation(config))[:5]}
    assert states == {
        "base": "done", "cold_start": "done", "reasoning_rl": "done", "thinking_fusion": "begun", "general_rl": "to do",
    }  # fmt: skip
    workshop.run(config)
    assert set(workshop.made.values()) == {1}
    assert len(workshop.order) == 8


def test_a_new_variant_of_a_finished_ablation_makes_its_own_stages_alone(workshop: Workshop, tmp_path: Path) -> None:
    workshop.run(ablation(tmp_path, {"full": {}}, *EVALUATION))
    workshop.order.clear()
    workshop.run(ablation(tmp_path, {"full": {}, "no_fusion": {"leave_out": ["thinking_fusion"]}}, *EVALUATION))
    assert workshop.order == ["general_rl"]


def test_variants_that_are_only_measured_otherwise_run_no_stage_again(workshop: Workshop, tmp_path: Path) -> None:
    variants = {
        "full": {},
        "budget": {"set": {"evaluation.benchmarks.arithmetic.thinking_budget": 8}},
        "longer": {"set": {"evaluation.thinking.max_tokens": 128}},
    }
    outcome = workshop.run(ablation(tmp_path, variants, "set.evaluation.stages=[general_rl]", *EVALUATION))
    assert Counter(workshop.order) == dict.fromkeys(STAGES, 1)
    assert workshop.num_evaluations == 3  # the one checkpoint, in each of three ways
    table = outcome.tables["variants"]
    assert [column.name for column in table.columns] == list(variants)
    assert {len(row.cells) for row in table.rows if None not in row.cells} == {3}


def test_an_ablation_with_the_stages_of_another_makes_only_what_that_one_lacks(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.run(ablation(tmp_path, {"full": {}}, *EVALUATION))
    tables = {path.name: path.read_bytes() for path in (tmp_path / "run/tables").iterdir()}
    workshop.order.clear()
    variants = {"full": {}, "no_fusion": {"leave_out": ["thinking_fusion"]}}
    config = ablation(
        tmp_path, variants, f"stages_of={tmp_path / 'run'}", f"run_dir={tmp_path / 'second'}", *EVALUATION
    )
    workshop.run(config)
    assert workshop.order == ["general_rl"]
    assert len(list((tmp_path / "run/stages").iterdir())) == 6
    assert not (tmp_path / "second/stages").exists()
    assert (tmp_path / "second/variants/full-seed0/stages").resolve() == tmp_path / "run/stages"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run/tables").iterdir()} == tables
    assert (tmp_path / "second/tables/variants.md").exists()


def test_the_folder_whose_stages_are_used_is_held_as_well(workshop: Workshop, tmp_path: Path) -> None:
    config = ablation(tmp_path, {"full": {}}, f"stages_of={tmp_path / 'home'}", *EVALUATION)
    with RunDir(tmp_path / "home").lock(), pytest.raises(UserError, match=r"home is in use"):
        workshop.run(config)
    assert workshop.order == []
    workshop.run(ablation(tmp_path, {"full": {"until": "base"}}, f"stages_of={tmp_path / 'run'}", *EVALUATION))
    assert workshop.order == ["base"]  # its own folder, named: one lock is enough


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_a_variant_that_cannot_be_finished_is_named_and_the_others_go_on(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {
        "full": {"until": "reasoning_rl"},
        "longer": {"until": "thinking_fusion"},
        "no_reasoning_rl": {"until": "thinking_fusion", "leave_out": ["reasoning_rl"]},
    }
    workshop.fail_at["reasoning_rl"] = UserError("reasoning_rl: the policy collapsed")
    outcome = workshop.run(ablation(tmp_path, variants, *EVALUATION))
    assert outcome.failed == {
        "full, seed 0": "reasoning_rl: the policy collapsed",
        "longer, seed 0": "needs reasoning_rl of full, seed 0, which was not finished",
    }
    assert workshop.order == ["base", "cold_start", "thinking_fusion"]
    assert workshop.closed == 2  # once after the failure, once at the end
    assert "warning: full, seed 0: not finished: reasoning_rl: the policy collapsed" in capsys.readouterr().err
    table = outcome.tables["variants"]
    assert [(column.name, column.baseline) for column in table.columns] == [("no_reasoning_rl", None)]


def test_a_missing_package_stops_the_ablation_before_it_begins(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    config = ablation(tmp_path, {"full": {}}, "set.tracking.wandb.project=mine", *EVALUATION)
    with pytest.raises(UserError, match=r"tracking\.wandb: the package 'wandb' is not installed"):
        workshop.run(config)
    assert workshop.started == 0


def test_what_is_no_fault_of_a_variant_stops_the_ablation(workshop: Workshop, tmp_path: Path) -> None:
    workshop.fail_at["cold_start"] = RuntimeError("learner: its process died")
    with pytest.raises(RuntimeError, match="its process died"):
        workshop.run(ablation(tmp_path, VARIANTS, *EVALUATION))
    assert workshop.closed == 1
    with RunDir(tmp_path / "run").lock():  # and it left no lock behind
        pass


# ---------------------------------------------------------------------------------------------- what it leaves


def test_progress_says_which_variant_of_how_many_and_what_is_left(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.run(ablation(tmp_path, VARIANTS, *EVALUATION))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("variant ", "ablation "))]
    assert lines[0] == "ablation mine: 4 runs with 16 stages, of which 8 are different: 0 done, 8 to do, 8 shared"
    assert lines[1] == "variant 1 of 4: full, seed 0, 5 of 5 stages to make; 8 in all runs, time left not known yet"
    assert lines[2].startswith("variant 2 of 4: no_reasoning_rl, seed 0, 2 of 4 stages to make; 3 in all runs, about ")
    assert lines[4] == "variant 4 of 4: ladder, seed 0, 0 of 2 stages to make; 0 in all runs, about 0s left"


def test_each_run_has_its_report_and_status_and_finds_the_shared_stages(
    workshop: Workshop, tmp_path: Path, call: Call
) -> None:
    workshop.run(ablation(tmp_path, VARIANTS, *EVALUATION))
    folder = tmp_path / "run/variants/no_reasoning_rl-seed0"
    assert (folder / "report.md").read_text() == "fourstage run: mine-no_reasoning_rl"
    assert list(json.loads((folder / "summary.json").read_text()))[:3] == ["base", "cold_start", "thinking_fusion"]
    rows = call("status", folder, "--json").document
    assert [(row["stage"], row["state"]) for row in rows] == [
        (stage, "done") for stage in ("base", "cold_start", "thinking_fusion", "general_rl")
    ]
    assert (folder / "stages").resolve() == tmp_path / "run/stages"
    manifest = read_manifest(RunDir(folder).stage_dir("cold_start", rows[1]["key"]) / "checkpoint")
    assert manifest.parent is not None
    assert Path(manifest.parent.path).parents[1] == tmp_path / "run/stages"


def test_the_tables_have_variants_and_stages_with_their_cost(workshop: Workshop, tmp_path: Path) -> None:
    outcome = workshop.run(ablation(tmp_path, VARIANTS, "seeds=[0,1]", *EVALUATION))
    assert set(outcome.tables) == {"variants", *(f"stages-{name}" for name in VARIANTS)}
    written = sorted(path.name for path in (tmp_path / "run/tables").iterdir())
    tables = [f"{name}.{ending}" for name in outcome.tables for ending in ("md", "csv", "json", "tex")]
    assert written == sorted(["variants.png", *tables])
    variants = outcome.tables["variants"]
    assert [(column.name, column.baseline) for column in variants.columns] == [
        ("full", None), ("no_reasoning_rl", "full"), ("replay", "full"), ("ladder", "replay"),
    ]  # fmt: skip
    # Each stage trained on 100 tokens; the base is not counted.
    assert [column.cost.tokens for column in variants.columns] == [400.0, 300.0, 400.0, 100.0]
    assert [column.cost.flops for column in variants.columns] == [12e6, 9e6, 12e6, 3e6]
    assert [(row.area, row.benchmark, row.mode) for row in variants.rows] == [
        ("format_following", "think_follow", "mixed"),
        ("reasoning", "arithmetic", "thinking"),
        ("reasoning", "arithmetic", "non_thinking"),
    ]
    cell = variants.rows[1].cells[1]
    assert cell is not None
    assert (cell.estimate.num_seeds, cell.estimate.num_prompts) == (2, 12)
    assert cell.delta is not None
    assert (cell.delta.estimate.mean, cell.delta.significant) == (0.0, False)  # the fake policy answers alike
    stages = outcome.tables["stages-no_reasoning_rl"]
    assert [(column.name, column.baseline, column.cost.tokens) for column in stages.columns] == [
        ("base", None, 100.0), ("cold_start", "base", 100.0), ("thinking_fusion", "cold_start", 100.0),
        ("general_rl", "thinking_fusion", 100.0),
    ]  # fmt: skip


def test_separate_scores_have_lines_of_their_own_when_they_are_asked_for(workshop: Workshop, tmp_path: Path) -> None:
    workshop.answer = stopped_after_one_step
    variants = {"base": {"until": "base"}}
    plain = workshop.run(ablation(tmp_path, variants, *EVALUATION)).tables["variants"]
    table = workshop.run(ablation(tmp_path, variants, "separate_scores=true", *EVALUATION)).tables["variants"]
    assert workshop.num_evaluations == 1  # they were measured the first time, too
    assert not any(":" in row.benchmark for row in plain.rows)
    cells = {(row.area, row.benchmark, row.mode): row.cells[0] for row in table.rows if ":" in row.benchmark}
    found = {place: (c.estimate.mean, c.estimate.num_prompts) for place, c in cells.items() if c is not None}
    assert found == {
        ("reasoning", "arithmetic: coherent", "thinking"): (1.0, 12),
        ("reasoning", "arithmetic: read_off", "thinking"): (0.0, 12),
    }


def stopped_after_one_step(request: GenerationRequest) -> str:
    """The right sum; in thinking mode after thinking that was stopped in its second step."""
    question = byte_tokenizer().decode(request.prompt_token_ids)
    terms = [int(term) for term in re.findall(r"Compute ([0-9 +]+)\.", question)[-1].split(" + ")]
    if question.endswith("</think>\n\n"):
        return str(sum(terms))
    return f"<think>\n{terms[0]}+{terms[1]}={terms[0] + terms[1]}\n{terms[0]}{STOP_THINKING}{sum(terms)}"


def test_a_benchmark_stands_under_its_category_else_under_the_area_of_what_scores_it() -> None:
    assert _area(BenchmarkConfig(task="arithmetic", category="numbers")) == "numbers"
    assert _area(BenchmarkConfig(task="arithmetic")) == "reasoning"
    assert _area(BenchmarkConfig(file="test.jsonl", standard="gsm8k")) == "reasoning"
    assert _area(BenchmarkConfig(file="ifeval.jsonl", standard="ifeval")) == "instruction_following"


def test_a_dry_run_prints_the_plan_and_leaves_nothing(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    ablation(tmp_path, VARIANTS)
    rows = call("ablate", path, "--dry-run", "--json").document
    assert [(row["variant"], row["stage"], row["state"]) for row in rows[4:7]] == [
        ("full", "general_rl", "to do"), ("no_reasoning_rl", "base", "shared"),
        ("no_reasoning_rl", "cold_start", "shared"),
    ]  # fmt: skip
    text = call("ablate", path, "--dry-run").out
    assert "4 runs with 16 stages, of which 8 are different: 0 done, 8 to do, 8 shared" in text
    assert not (tmp_path / "run").exists()
    assert "ablation: no ablation and no YAML file 'stage'; did you mean 'stages'?" in call("ablate", "stage").error
    assert yaml.safe_load(path.read_text())["name"] == load_ablation(path, []).name == "mine"


# ---------------------------------------------------------------------------------------------- the estimate


def test_the_estimate_is_the_mean_of_each_stage_and_what_runs_spend_besides() -> None:
    pace = Pace()
    assert pace.seconds_for([]) == 0.0
    assert pace.seconds_for(["base"]) is None
    pace.took({"base": 10.0, "cold_start": 20.0}, wall_s=40.0)  # 10 s besides, 5 a stage
    pace.took({"cold_start": 40.0}, wall_s=45.0)  # 15 s besides over three stages
    assert pace.seconds_for(["cold_start", "base"]) == pytest.approx(30.0 + 10.0 + 2 * 5.0)
    assert pace.seconds_for(["base", "general_rl"]) is None
    pace.took({}, wall_s=1.0)
    assert pace.seconds_for(["base"]) == pytest.approx(10.0 + 16.0 / 3)
