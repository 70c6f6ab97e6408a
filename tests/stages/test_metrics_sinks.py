"""Metrics reach the tools that a run names, over each stage's own steps, and a missing package is named."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from data.files import read_json, read_rows
from data.records import UserError
from stages.metrics_sinks import (
    MlflowConfig,
    TensorBoardSink,
    TrackingConfig,
    WandbConfig,
    numbers_of,
    open_sinks,
)
from stages.stage_context import StageContext
from tests.stages.stage_fakes import quiet_progress


class Recorder(types.ModuleType):
    """A module whose every function notes its call; what it returns has an id and notes its own calls too."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return types.SimpleNamespace(
                id=kwargs.get("id") or "w1",
                info=types.SimpleNamespace(run_id=kwargs.get("run_id") or "m1"),
                log=lambda values: self.calls.append(("log", (values,), {})),
                define_metric=lambda *a, **k: self.calls.append(("define_metric", a, k)),
                finish=lambda: self.calls.append(("finish", (), {})),
            )

        return noted

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    def fake(name: str) -> Recorder:
        module = Recorder(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return fake


def written(config: TrackingConfig, folder: Path, *, first_step: int = 0) -> None:
    """Two steps of one stage."""
    with open_sinks(config, run_dir=folder, name="small", settings={"seed": 3}) as sinks:
        for sink in sinks:
            sink.begin_stage("reasoning_rl", key="k" * 64, first_step=first_step)
            for step in (first_step + 1, first_step + 2):
                sink.write("reasoning_rl", step, {"reward": step / 10, "episodes/gave up?": 1.0})


def test_the_numbers_of_a_row_are_its_finite_ones() -> None:
    row = {"stage": "s", "step": 3, "loss": 1, "nan": math.nan, "text": "NaN", "flag": True, "timing": {"sync_s": 0.5}}
    assert numbers_of(row) == {"loss": 1.0, "timing/sync_s": 0.5}


def test_tensorboard_reads_back_what_a_stage_recorded(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is in requirements/cpu.txt; run make setup")
    events = events_of(
        tmp_path / "tensorboard" / "reasoning_rl-kkkkkkkkkkkk", lambda: written(TrackingConfig(), tmp_path)
    )
    assert events == {"reward": [(1, 0.1), (2, 0.2)], "episodes/gave up?": [(1, 1.0), (2, 1.0)]}


def test_a_resumed_stage_replaces_the_events_past_its_state(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is in requirements/cpu.txt; run make setup")
    written(TrackingConfig(), tmp_path)
    folder = tmp_path / "tensorboard" / "reasoning_rl-kkkkkkkkkkkk"
    events = events_of(folder, lambda: written(TrackingConfig(), tmp_path, first_step=1))
    assert events["reward"] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def events_of(folder: Path, write: Any) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write()
    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_weights_and_biases_gets_one_run_with_a_step_axis_for_each_stage(fake: Any, tmp_path: Path) -> None:
    wandb = fake("wandb")
    config = TrackingConfig(tensorboard=False, wandb=WandbConfig(project="p", entity="team", mode="offline"))
    written(config, tmp_path)
    ((_, told),) = wandb.named("init")
    assert {name: told[name] for name in ("project", "entity", "mode", "name", "config", "resume", "id")} == {
        "project": "p", "entity": "team", "mode": "offline", "name": "small", "config": {"seed": 3}, "resume": "allow",
        "id": None,
    }  # fmt: skip
    assert wandb.named("define_metric")[1] == (("reasoning_rl/*",), {"step_metric": "reasoning_rl/step"})
    assert wandb.named("log")[1][0][0] == {
        "reasoning_rl/reward": 0.2, "reasoning_rl/episodes/gave up?": 1.0, "reasoning_rl/step": 2,
    }  # fmt: skip
    assert len(wandb.named("finish")) == 1
    written(config, tmp_path, first_step=2)
    assert wandb.named("init")[1][1]["id"] == "w1"


def test_a_run_with_nothing_left_to_make_leaves_nothing_in_the_tools(fake: Any, tmp_path: Path) -> None:
    wandb, mlflow = fake("wandb"), fake("mlflow")
    config = TrackingConfig(tensorboard=False, wandb=WandbConfig(project="p"), mlflow=MlflowConfig(experiment="e"))
    with open_sinks(config, run_dir=tmp_path, name="small", settings={}) as sinks:
        assert len(sinks) == 2
    assert wandb.calls == mlflow.calls == []
    assert list(tmp_path.iterdir()) == []


def test_mlflow_gets_one_run_that_a_resumed_one_goes_on_with(fake: Any, tmp_path: Path) -> None:
    mlflow = fake("mlflow")
    config = TrackingConfig(tensorboard=False, mlflow=MlflowConfig(experiment="e", tracking_uri="http://localhost:1"))
    written(config, tmp_path)
    assert mlflow.named("set_tracking_uri") == [(("http://localhost:1",), {})]
    assert mlflow.named("set_experiment") == [(("e",), {})]
    assert mlflow.named("start_run") == [((), {"run_id": None, "run_name": "small"})]
    assert mlflow.named("log_metrics")[0] == (
        ({"reasoning_rl/reward": 0.1, "reasoning_rl/episodes/gave up_": 1.0},),
        {"step": 1},
    )
    assert len(mlflow.named("end_run")) == 1
    assert read_json(tmp_path / "tracking.json") == {"mlflow": "m1"}
    written(config, tmp_path, first_step=2)
    assert mlflow.named("start_run")[1] == ((), {"run_id": "m1", "run_name": None})


@pytest.mark.parametrize(
    ("module", "config", "message"),
    [
        ("torch.utils.tensorboard", TrackingConfig(), "'tensorboard' is not installed"),
        (
            "wandb",
            TrackingConfig(tensorboard=False, wandb=WandbConfig(project="p")),
            "`pip install wandb`, or set tracking.wandb=null",
        ),
        ("mlflow", TrackingConfig(tensorboard=False, mlflow=MlflowConfig(experiment="e")), "'mlflow' is not installed"),
    ],
)
def test_a_missing_package_is_named_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, config: TrackingConfig, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(UserError, match=message),
        open_sinks(config, run_dir=tmp_path, name="small", settings={}),
    ):
        pass


def test_nothing_is_imported_or_written_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("torch.utils.tensorboard", "wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, module, None)
    written(TrackingConfig(tensorboard=False), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WandbConfig(project=""), "project: '' names no project"),
        (WandbConfig(project="p", mode="on"), "mode: 'on'; use online, offline or disabled"),
        (MlflowConfig(experiment=""), "experiment: '' names no experiment"),
    ],
)
def test_settings_that_cannot_work_are_refused(config: WandbConfig | MlflowConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.validate()


class Listed:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        self.seen.append((stage, key, first_step))

    def write(self, stage: str, step: int, values: Any) -> None:
        self.seen.append((stage, step, dict(values)))

    def close(self) -> None:
        self.seen.append("closed")


def test_a_step_is_recorded_in_the_file_and_in_every_sink(tmp_path: Path) -> None:
    sink = Listed()
    context = StageContext(
        "reasoning_rl", tmp_path / "reasoning_rl-abc", seed=0, progress=quiet_progress()[0], sinks=[sink]
    )
    context.begin_steps(4, 9)
    context.record(5, {"reward": 0.5, "note": "x"}, {"step_s": 2.0})
    context.close()
    (row,) = read_rows(tmp_path / "reasoning_rl-abc" / "metrics.jsonl")
    assert row == {"stage": "reasoning_rl", "step": 5, "reward": 0.5, "note": "x", "timing": {"step_s": 2.0}}
    assert sink.seen == [("reasoning_rl", "abc", 4), ("reasoning_rl", 5, {"reward": 0.5, "timing/step_s": 2.0})]


def test_a_tensorboard_sink_without_a_stage_closes_quietly(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is in requirements/cpu.txt; run make setup")
    TensorBoardSink(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
