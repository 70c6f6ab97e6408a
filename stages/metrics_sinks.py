"""Where a run's metrics go besides `metrics.jsonl`: TensorBoard by default, Weights & Biases and MLflow when named.

`metrics.jsonl` is the record; what is written here is a copy for the tools that people watch runs with. Each library is
imported when a run that names it starts, and a missing one is said before anything else happens. A stage that resumes
begins at the step after its trainer state, and what it had written past that is replaced where the tool can do so.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.files import read_json, write_json
from data.records import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbConfig:
    """Weights & Biases: the project, the team (null: your default), and `mode` online, offline or disabled."""

    project: str
    entity: str | None = None
    mode: str = "online"

    def validate(self) -> None:
        if not self.project:
            raise UserError("project: '' names no project; give its name")
        if self.mode not in ("online", "offline", "disabled"):
            raise UserError(f"mode: {self.mode!r}; use online, offline or disabled")


@dataclass(frozen=True, kw_only=True, slots=True)
class MlflowConfig:
    """MLflow: the experiment, and the tracking server's address (null: what the environment says)."""

    experiment: str
    tracking_uri: str | None = None

    def validate(self) -> None:
        if not self.experiment:
            raise UserError("experiment: '' names no experiment; give its name")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """The tools that get a copy of each step's metrics. None of this is part of a stage's key."""

    tensorboard: bool = True
    wandb: WandbConfig | None = None
    mlflow: MlflowConfig | None = None


def require_trackers(config: TrackingConfig) -> None:
    """Raise UserError naming the package that a tracker of this configuration lacks; nothing is opened."""
    for wanted, tool in ((config.tensorboard, "tensorboard"), (config.wandb, "wandb"), (config.mlflow, "mlflow")):
        if wanted:
            _library(tool)


class MetricsSink(Protocol):
    """Takes the metrics of one run, stage after stage."""

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        """A stage begins, or goes on after `first_step` steps that it made before."""
        ...

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """The finite numbers of one step, by name; steps count from 1 within the stage."""
        ...

    def close(self) -> None:
        """The run is over or was stopped; what was written is kept."""
        ...


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a metrics row by name, those of nested parts as `part/name`; the step is left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and name != "step":
            found[name] = float(value)
    return found


@contextlib.contextmanager
def open_sinks(
    config: TrackingConfig, *, run_dir: Path, name: str, settings: Mapping[str, Any]
) -> Iterator[Sequence[MetricsSink]]:
    """The sinks that the configuration names, closed at the end. UserError names the package that one lacks.

    `name` is the run's, `settings` its resolved configuration, which the tools show beside the curves. A tool is opened
    with the first stage that begins: a run that has nothing left to make leaves nothing in it.
    """
    require_trackers(config)
    with contextlib.ExitStack() as stack:
        sinks: list[MetricsSink] = []
        choices: Sequence[tuple[Any, Callable[[], MetricsSink]]] = (
            (config.tensorboard, lambda: TensorBoardSink(run_dir / "tensorboard")),
            (config.wandb, lambda: WandbSink(config.wandb, run_dir=run_dir, name=name, settings=settings)),
            (config.mlflow, lambda: MlflowSink(config.mlflow, run_dir=run_dir, name=name, settings=settings)),
        )
        for wanted, make in choices:
            if wanted:
                sinks.append(_LateSink(make))
                stack.callback(sinks[-1].close)
        yield sinks


class _LateSink:
    """A sink that is made when its first stage begins."""

    def __init__(self, make: Callable[[], MetricsSink]) -> None:
        self._make = make
        self._sink: MetricsSink | None = None

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        if self._sink is None:
            self._sink = self._make()
        self._sink.begin_stage(stage, key=key, first_step=first_step)

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        if self._sink is None:
            raise RuntimeError(f"metrics of {stage} were written before the stage began")
        self._sink.write(stage, step, values)

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()


class TensorBoardSink:
    """Event files under `tensorboard/<stage>-<key>/`, which `tensorboard --logdir RUN/tensorboard` shows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers = _library("tensorboard")
        self._writer: Any = None

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        self.close()
        # Events of an earlier session past the restored step are hidden by the purge.
        purge = first_step + 1 if (self._folder / f"{stage}-{key[:12]}").exists() else None
        self._writer = self._writers.SummaryWriter(
            str(self._folder / f"{stage}-{key[:12]}"), purge_step=purge, flush_secs=10
        )

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        del stage
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandbSink:
    """One Weights & Biases run for all stages; each stage's metrics lie under its name, over its own step."""

    def __init__(self, config: WandbConfig | None, *, run_dir: Path, name: str, settings: Mapping[str, Any]) -> None:
        assert config is not None
        wandb = _library("wandb")
        ids = _RunIds(run_dir)
        self._run = wandb.init(
            project=config.project, entity=config.entity, mode=config.mode, name=name, dir=str(run_dir),
            config=dict(settings), id=ids.get("wandb"), resume="allow",
        )  # fmt: skip
        ids.set("wandb", self._run.id)

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        del key, first_step
        self._run.define_metric(f"{stage}/step")
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**{f"{stage}/{name}": value for name, value in values.items()}, f"{stage}/step": step})

    def close(self) -> None:
        self._run.finish()


class MlflowSink:
    """One MLflow run for all stages; each stage's metrics lie under its name, over its own step."""

    def __init__(self, config: MlflowConfig | None, *, run_dir: Path, name: str, settings: Mapping[str, Any]) -> None:
        assert config is not None
        self._mlflow = _library("mlflow")
        if config.tracking_uri is not None:
            self._mlflow.set_tracking_uri(config.tracking_uri)
        self._mlflow.set_experiment(config.experiment)
        ids = _RunIds(run_dir)
        known = ids.get("mlflow")
        started = self._mlflow.start_run(run_id=known, run_name=None if known else name)
        ids.set("mlflow", started.info.run_id)
        self._mlflow.log_dict(dict(settings), "config.json")

    def begin_stage(self, stage: str, *, key: str, first_step: int) -> None:
        del stage, key, first_step

    def write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        # Names may hold letters, digits, "_", "-", ".", " " and "/" alone.
        named = {re.sub(r"[^\w\-. /]", "_", f"{stage}/{name}", flags=re.ASCII): v for name, v in values.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _RunIds:
    """The names that the tools gave this run, kept so that a resumed run goes on in the same place."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / "tracking.json"

    def get(self, tool: str) -> str | None:
        return read_json(self._file).get(tool) if self._file.exists() else None

    def set(self, tool: str, run_id: str) -> None:
        known = read_json(self._file) if self._file.exists() else {}
        if known.get(tool) != run_id:
            write_json(self._file, {**known, tool: run_id})


_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""What is imported for each tool; the tool, its setting and its package have one name."""


def _library(tool: str) -> Any:
    try:
        return importlib.import_module(_MODULES[tool])
    except ImportError as error:
        off = "false" if tool == "tensorboard" else "null"
        raise UserError(
            f"tracking.{tool}: the package {tool!r} is not installed ({error}); run `pip install {tool}`, or "
            f"set tracking.{tool}={off}"
        ) from error
