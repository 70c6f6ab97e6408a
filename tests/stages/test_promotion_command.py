"""`fourstage models`, `promote` and `rollback` as they are called, with the gates that need no engine."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.records import UserError
from learner.checkpoint import MANIFEST, read_manifest, verify_checkpoint, write_checkpoint
from serving.figures import Figures
from serving.gates import Verdict, judge
from serving.gates_config import GatesConfig, PromotionConfig
from serving.registry import AliasChange, Registry, content_hash
from stages.cli import load_recipe
from stages.pipeline import plan_stages
from stages.promotion import promote_run
from stages.promotion_command import score_lines
from stages.run import Selection, promote_finished, run_pipeline
from stages.run_dir import RunDir
from stages.run_lock import is_locked
from tests.serving.served_models import save_checkpoint
from tests.stages.cli_calls import MICRO, Call

GATES = """
name: folder alone
licence: {spdx: Apache-2.0}
parity: null
benchmarks: null
think_follow: null
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints of one shape and other weights."""
    folder = tmp_path_factory.mktemp("models")
    return [save_checkpoint(folder / f"model-{seed}", seed=seed, stage="base") for seed in range(2)]


class Commands:
    """The three commands on one registry."""

    def __init__(self, call: Call, folder: Path) -> None:
        self.call, self.place = call, folder / "registry"
        self.gates = folder / "gates.yaml"
        self.gates.write_text(GATES)

    def promote(self, checkpoint: str | Path, *options: str) -> Any:
        return self.call("promote", checkpoint, "--registry", self.place, "--gates", self.gates, "--plain", *options)

    def rollback(self, *options: str) -> Any:
        return self.call("rollback", "production", "--registry", self.place, *options)

    def models(self, *options: str) -> Any:
        return self.call("models", "--registry", self.place, *options)

    def now(self, alias: str = "production") -> str | None:
        change = Registry(self.place).alias(alias)
        return change.version if change is not None else None

    def standing(self, alias: str = "production") -> tuple[AliasChange, str]:
        """The newest move of an alias, and the hash of what lies there, every file compared with its own."""
        registry = Registry(self.place)
        version = registry.resolve(alias)
        registry.verify(version)
        change = registry.alias(alias)
        assert change is not None
        return change, content_hash(read_manifest(version.folder))


@pytest.fixture
def commands(call: Call, tmp_path: Path) -> Commands:
    return Commands(call, tmp_path)


def without_data(model: Path, folder: Path) -> Path:
    """The same model as a later stage that has no parent, which the lineage gate refuses."""

    def copy(partial: Path) -> None:
        shutil.copytree(model, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    write_checkpoint(folder, replace(read_manifest(model), stage="general_rl"), copy)
    return folder


def test_a_checkpoint_that_passes_becomes_production_with_a_card(commands: Commands, models: list[Path]) -> None:
    found = commands.promote(models[0], "--json").document
    assert found["passed"]
    assert found["move"]["done"]
    assert [(v["gate"], v["status"]) for v in found["verdicts"]][:3] == [
        ("files", "passed"), ("template", "passed"), ("lineage", "passed"),
    ]  # fmt: skip
    assert {v["status"] for v in found["verdicts"][3:]} == {"off"}
    assert commands.now() == found["version"]
    card = Path(found["card"])
    assert card.name == "README.md"
    assert "| files | passed |" in card.read_text()
    registry = Registry(commands.place)
    version = registry.resolve("production")
    registry.verify(version)
    (record,) = registry.read_beside(version, "gates.").values()
    assert json.loads(record)["verdicts"] == found["verdicts"]


def test_the_list_shows_what_the_newest_gates_measured_and_the_metrics_of_the_stage(
    commands: Commands, models: list[Path]
) -> None:
    commands.promote(models[0])
    registry = Registry(commands.place)
    version = registry.resolve("production")
    for alias, at, scores in (("a", "2026-01-02", {"sums, thinking": 0.75}), ("b", "2026-01-01", {"sums": 0.5})):
        registry.write_beside(version, f"gates.{alias}.json", json.dumps({"at": at, "scores": scores}))
    (row,) = commands.models("--json").document
    assert row["scores"] == {"sums, thinking": 0.75}
    assert row["metrics"] == {}
    assert "sums 0.75" in " ".join(commands.models().out.split())


def test_names_of_versions_are_in_one_piece_and_a_benchmark_is_one_line(
    commands: Commands, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert score_lines({"math, thinking": 0.7734, "math, non-thinking": 0.0859, "obey, mixed": 1.0}) == (
        "math 0.77 0.09\nobey 1.00"
    )
    commands.promote(models[0], "--force", "a reason " * 30)
    name = commands.now()
    assert name is not None
    for shown in (commands.models().out, commands.models("--history", "production").out):
        assert name in shown
        assert max(map(len, shown.splitlines())) <= 80


def test_every_verdict_is_shown_and_a_failed_gate_exits_1_and_leaves_production(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    assert commands.promote(models[0]).code == 0
    before = commands.standing()
    refused = commands.promote(without_data(models[1], tmp_path / "orphan"))
    assert refused.code == 1
    assert all(word in refused.out for word in ("files", "template", "lineage", "failed", "no parent", "load", "off"))
    assert "was not promoted: 1 of 3 gates failed: lineage" in " ".join(refused.out.split())
    assert commands.standing() == before


def test_a_forced_promotion_is_in_the_history_and_in_the_card(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    orphan = without_data(models[1], tmp_path / "orphan")
    found = commands.promote(orphan, "--force", "demo on Friday", "--json").document
    assert found["move"]["change"]["forced"] == "demo on Friday"
    assert "Reason given: demo on Friday" in Path(found["card"]).read_text()
    (row,) = commands.models("--history", "production", "--json").document
    assert (row["version"], row["forced"]) == (commands.now(), "demo on Friday")
    assert "the reason is empty" in commands.promote(orphan, "--force", " ").error


def test_a_dry_run_shows_the_verdicts_and_writes_nothing(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    good = commands.promote(models[0], "--dry-run")
    assert good.code == 0
    assert "would pass for production; nothing was changed" in good.out
    assert commands.promote(without_data(models[1], tmp_path / "orphan"), "--dry-run").code == 1
    assert not commands.place.exists()


def test_a_damaged_checkpoint_goes_through_all_gates_and_cannot_be_forced(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(models[0], tmp_path / "damaged"))
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    found = json.loads(commands.promote(damaged, "--force", "please", "--json").out)
    assert [v["status"] for v in found["verdicts"][:3]] == ["failed", "passed", "passed"]
    assert "model.safetensors" in found["move"]["reason"]
    assert not found["move"]["done"]
    assert commands.now() is None
    assert commands.models().out.startswith("the registry")


def test_what_is_in_staging_goes_to_production_by_its_alias_or_name(commands: Commands, models: list[Path]) -> None:
    version = commands.promote(models[0], "--to", "staging", "--json").document["version"]
    assert commands.promote("staging").code == 0
    assert commands.now() == version
    again = commands.promote(version)
    assert again.code == 0
    assert f"production: is at {version} already" in again.out
    assert "neither a version nor an alias" in commands.promote("stagin").error
    assert "is no folder" in commands.promote("some/where").error


def test_a_name_that_is_a_folder_too_is_refused(
    commands: Commands, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.promote(models[0], "--to", "staging")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "staging").mkdir()
    assert "write ./staging for the folder" in commands.promote("staging").error


def test_a_rollback_returns_and_the_list_shows_where_each_alias_is(commands: Commands, models: list[Path]) -> None:
    first, second = (commands.promote(model, "--json").document["version"] for model in models)
    back = commands.rollback("--reason", "tool calls break")
    assert back.code == 0
    assert f"production: is at {first}, {second} before (generation 3)" in back.out
    rows = {row["version"]: row for row in commands.models("--json").document}
    assert {name: row["aliases"] for name, row in rows.items()} == {first: ["production"], second: []}
    assert rows[first]["stage"] == "base"
    moves = commands.models("--history", "production", "--json").document
    assert [(row["move"], row["version"]) for row in moves] == [
        ("promote", first), ("promote", second), ("rollback", first),
    ]  # fmt: skip
    assert "nothing came before it" in commands.rollback().error


def test_a_version_that_was_damaged_since_is_named_by_the_list_and_not_returned_to(
    commands: Commands, models: list[Path]
) -> None:
    first, second = (commands.promote(model, "--json").document["version"] for model in models)
    registry = Registry(commands.place)
    (registry.version(first).folder / "model.safetensors").write_bytes(b"short")
    before = commands.standing()
    assert "model.safetensors is truncated" in commands.rollback().error
    assert "model.safetensors is truncated" in commands.models("--verify").error
    assert commands.standing() == before
    assert before[0].version == second


def test_an_empty_registry_says_how_to_fill_it(commands: Commands) -> None:
    assert "is empty; `fourstage promote CHECKPOINT --to production` fills it" in commands.models().out
    assert commands.models("--json").document == []
    assert "points nowhere" in commands.rollback().error


def test_unknown_gates_are_refused_by_name(commands: Commands, models: list[Path]) -> None:
    error = commands.call("promote", models[0], "--registry", commands.place, "--gates", "embeded").error
    assert "did you mean 'embedded'" in error


# ---------------------------------------------------------------------------------------------- the end of a run


def at_the_end(commands: Commands, *settings: str) -> PromotionConfig:
    return PromotionConfig(gates=str(commands.gates), gate_settings=settings, registry=str(commands.place))


def test_a_run_ends_in_staging_and_in_production_when_its_gates_pass(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    lines, refused = promote_run(at_the_end(commands), models[0], tmp_path, plain=True)
    version = commands.now()
    assert not refused
    assert version is not None
    assert commands.now("staging") == version
    assert lines == [f"{alias}: is at {version} (generation 1)" for alias in ("staging", "production")]
    written = json.loads((tmp_path / "promotion.json").read_text())
    assert [(row["alias"], row["passed"]) for row in written] == [("staging", True), ("production", True)]


def test_a_run_whose_gates_fail_says_so_and_is_promoted_when_they_pass(
    commands: Commands, models: list[Path], tmp_path: Path
) -> None:
    lines, refused = promote_run(at_the_end(commands, "licence.allowed=[MIT]"), models[0], tmp_path, plain=True)
    assert lines == []
    assert ["1 of 3 gates failed: lineage" in line for line in refused] == [True, False, True, False]
    assert all(line.startswith("lineage: licence Apache-2.0 is not among") for line in refused[1::2])
    assert (commands.now("staging"), commands.now("production")) == (None, None)
    lines, refused = promote_run(at_the_end(commands), models[0], tmp_path, plain=True)
    assert not refused
    assert commands.now("staging") == commands.now("production") is not None
    written = json.loads((tmp_path / "promotion.json").read_text())
    assert [(row["alias"], row["passed"]) for row in written] == [("staging", True), ("production", True)]


def test_gates_of_production_that_fail_leave_the_checkpoint_in_staging_alone(
    commands: Commands, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge_badly(config: GatesConfig, figures: Figures) -> list[Verdict]:
        bad = [] if config.name == "staging" else [Verdict("sums, thinking", "failed", "0.2", "0.5 or more")]
        return judge(config, figures) + bad

    commands.promote(models[1])
    before = commands.standing()
    monkeypatch.setattr("stages.promotion.judge", judge_badly)
    lines, refused = promote_run(at_the_end(commands), models[0], tmp_path, plain=True)
    assert commands.standing() == before
    version = commands.now("staging")
    assert version is not None
    assert lines == [f"staging: is at {version} (generation 1)"]
    assert refused == [
        f"production: {version} was not promoted: 1 of 4 gates failed: sums, thinking",
        "sums, thinking: 0.2; asked for: 0.5 or more",
    ]
    written = json.loads((tmp_path / "promotion.json").read_text())
    assert [(row["alias"], row["passed"]) for row in written] == [("staging", True), ("production", False)]
    verify_checkpoint(models[0])  # the run's own copy


def test_gates_that_could_not_judge_a_run_stop_it_before_it_begins(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    settings = ["promotion.gates=embedded", "promotion.gate_settings=[think_follow.benchmark=math]"]
    config = load_recipe(MICRO, [f"run_dir={run_dir}", *settings])
    with pytest.raises(UserError, match="has no 'math' in mode mixed"):
        run_pipeline(config, Selection(), plain=True)
    assert not run_dir.exists()


@pytest.mark.parametrize("moved_on_by", ["a rollback", "a newer model"])
def test_a_finished_run_that_is_called_again_does_not_promote_again(
    commands: Commands, models: list[Path], tmp_path: Path, moved_on_by: str
) -> None:
    config = at_the_end(commands)
    commands.promote(models[1])
    promote_run(config, models[0], tmp_path, plain=True)
    ours = commands.now()
    if moved_on_by == "a rollback":
        assert commands.rollback().code == 0
    else:
        assert commands.promote(models[1]).code == 0
    registry = Registry(commands.place)
    histories = [registry.history(alias) for alias in ("staging", "production")]
    written = (tmp_path / "promotion.json").read_text()
    lines, refused = promote_run(config, models[0], tmp_path, plain=True)
    assert not refused
    assert [registry.history(alias) for alias in ("staging", "production")] == histories
    assert lines[1].startswith(f"production: {ours} was promoted before (generation 2), which is not done again")
    assert (tmp_path / "promotion.json").read_text() == written


@pytest.mark.parametrize(
    ("selection", "is_promoted"),
    [(Selection(), True), (Selection(rerun_from="general_rl"), True), (Selection(until="cold_start"), False)],
)
def test_only_a_run_that_goes_to_its_last_stage_is_promoted(
    selection: Selection, is_promoted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[tuple[PromotionConfig, Path, Path]] = []

    def promote_run(
        config: PromotionConfig, checkpoint: Path, run_dir: Path, *, plain: bool | None
    ) -> tuple[list[str], list[str]]:
        assert is_locked(tmp_path)
        promoted.append((config, checkpoint, run_dir))
        return [], ["production: was not promoted"]

    monkeypatch.setattr("stages.promotion.promote_run", promote_run)
    config = load_recipe(MICRO, [f"run_dir={tmp_path}", "promotion.gates=embedded", "promotion.staging=null"])
    assert promote_finished(config, selection, plain=True) is not is_promoted
    if not is_promoted:
        assert promoted == []
        return
    ((settings, checkpoint, run_dir),) = promoted
    assert settings == PromotionConfig(gates="embedded", staging=None)
    assert run_dir == tmp_path
    assert checkpoint.parent.name.startswith("general_rl-")
    assert checkpoint == plan_stages(config, RunDir(tmp_path), config.stages)[-1].checkpoint_folder


def test_a_run_without_a_promotion_has_nothing_to_promote(tmp_path: Path) -> None:
    assert promote_finished(load_recipe(MICRO, [f"run_dir={tmp_path}"]), Selection())


@pytest.mark.parametrize(("is_promoted", "code"), [(True, 0), (False, 1)])
def test_a_run_whose_promotion_is_refused_shows_its_results_and_exits_1(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_promoted: bool, code: int
) -> None:
    monkeypatch.setattr("stages.run.run_pipeline", lambda *_, **__: {})
    monkeypatch.setattr("stages.run.promote_finished", lambda *_, **__: is_promoted)
    found = call("run", MICRO, f"run_dir={tmp_path}", "--json")
    assert (found.code, found.out) == (code, "{}\n")
