"""How the fourstage sides start: the recipe with overrides, services that end, a progress that tells of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from configs.load import load_config
from stages.progress import Progress
from stages.run_config import RunConfig
from stages.services import Services

RECIPE = Path(__file__).resolve().parents[1] / "recipe.yaml"

ServicesT = TypeVar("ServicesT", bound=Services)


def make_config(given: dict[str, Any]) -> RunConfig:
    """The recipe with the precision of the comparison and with `key=value` settings, which come last."""
    dtype = given.get("dtype", "float32")
    precision = [f"rollout.engine.dtype={dtype}", f"reasoning_rl.rl.learner.dtype={dtype}"]
    if dtype == "bfloat16":
        precision.append("rollout.max_logprob_gap=1.0")
    return load_config(RunConfig, [RECIPE], [*precision, *given.get("fourstage", [])])


class _ReportingProgress(Progress):
    """A progress that hands every update on, and says when the first step begins."""

    def __init__(self, after_step: Callable[..., None], begin: Callable[[], None]) -> None:
        super().__init__(1, True, quiet=True)
        self._after_step, self._begin = after_step, begin

    def stage(self, name: str, total_steps: int, *, first_step: int = 0) -> None:
        super().stage(name, total_steps, first_step=first_step)
        self._begin()

    def update(self, step: int, **figures: Any) -> None:
        super().update(step, **figures)
        self._after_step(step, **figures)


def progress_that_reports(after_step: Callable[..., None], begin: Callable[[], None]) -> Progress:
    """A quiet progress display that calls `begin` when a stage starts and `after_step` when a step has ended."""
    return _ReportingProgress(after_step, begin)


@contextmanager
def services_of(config: RunConfig, scratch: Path, progress: Progress, *, kind: type[ServicesT]) -> Iterator[ServicesT]:
    """The services of a run, closed at the end whatever happens."""
    services = kind(config, scratch, progress)
    try:
        yield services
    finally:
        services.close()
