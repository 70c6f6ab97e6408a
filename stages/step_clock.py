"""The wall time of a loop's steps, taken apart into phases that add up to it.

A step runs from the record of the one before to its own, so that nothing falls between two steps: the save after a step
counts into the next. The controller times what it does itself; the optimizer steps among it are taken apart further by
the learner's first rank, whose phases are one process's own and therefore add up, which the slowest of each phase would
not. What runs beside the step is no phase of it: only the waiting for it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from data.process_memory import host_memory_share
from evals.time_split import LEARNER_PHASES

_CONTROLLER_PHASES = ("generate", "score", "proximal", "learn", "sync", "check", "save", "wait")


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of a phase: seconds on the controller's clock, and the step that it belongs to."""

    phase: str
    step: int
    began_s: float
    seconds: float


class StepClock:
    """Adds up the seconds of the phases of one step after another; `keep_spans` remembers each piece for a timeline."""

    def __init__(self, now: Callable[[], float] = time.perf_counter, *, keep_spans: bool = False) -> None:
        self._now = now
        self._keep_spans = keep_spans
        self._spans: list[Span] = []
        self._learner: dict[str, float] = {}
        self.spans: list[Span] = []
        self.start(1)

    def start(self, step: int) -> None:
        """Begin with this step now; what came before belongs to no step."""
        self._step = step
        self._began = self._now()
        self._spans.clear()
        self._learner.clear()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block as part of phase `name`; phases may come any number of times and must not nest."""
        began = self._now()
        yield
        self.add(name, began, self._now() - began)

    def add(self, name: str, began_s: float, seconds: float) -> None:
        """A piece of a phase that was timed elsewhere on this clock."""
        assert name in _CONTROLLER_PHASES, name
        self._spans.append(Span(name, self._step, began_s, seconds))

    def now(self) -> float:
        return self._now()

    def add_learner(self, timing: Mapping[str, float]) -> None:
        """What the learner says of one optimizer step: its phases are added up, the rest is kept as it is."""
        for name, value in timing.items():
            is_phase = name.removesuffix("_s") in LEARNER_PHASES
            self._learner[name] = self._learner.get(name, 0.0) + value if is_phase else value

    def lap(self) -> dict[str, float]:
        """End the step and begin the next one; seconds by phase as `<phase>_s`, `step_s`, and the memory in use."""
        ended = self._now()
        seconds: dict[str, float] = {}
        for span in self._spans:
            seconds[span.phase] = seconds.get(span.phase, 0.0) + span.seconds
        step_s = ended - self._began
        other = step_s - sum(seconds.values())
        if "learn" in seconds:
            phases = sum(self._learner.get(f"{name}_s", 0.0) for name in LEARNER_PHASES)
            seconds["wait"] = seconds.get("wait", 0.0) + max(0.0, seconds["learn"] - phases)
        timing = {f"{name}_s": value for name, value in seconds.items()} | self._learner
        timing |= {"other_s": max(0.0, other), "step_s": step_s, "host_memory_share": host_memory_share()}
        if self._keep_spans:
            self.spans += [*self._spans, Span("step", self._step, self._began, step_s)]
        self._spans.clear()
        self._learner.clear()
        self._step, self._began = self._step + 1, ended
        return timing


def with_rates(timing: dict[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
    """The timing of a step with what its learning came to a second.

    Tokens, model FLOPs (`learner.flops`), and MFU where the peak of the devices is known (PaLM, arXiv 2204.02311,
    appendix B, here over the time of learning alone).
    """
    learn_s = timing.get("learn_s", 0.0)
    if learn_s > 0 and "num_tokens" in metrics:
        timing["learn_tokens_per_s"] = metrics["num_tokens"] / learn_s
        if "model_flops" in metrics:
            timing["flops_per_s"] = metrics["model_flops"] / learn_s
            if "peak_flops_per_s" in timing:
                timing["mfu"] = timing["flops_per_s"] / timing["peak_flops_per_s"]
    return timing
