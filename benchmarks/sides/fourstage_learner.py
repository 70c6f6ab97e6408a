"""fourstage's learner in its Ray actors on the rows of a workload: `rl_step`, or `sft_step` on every token."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.sides.fourstage_run import make_config, progress_that_reports, services_of
from benchmarks.sides.learner_rows import training_rows
from benchmarks.sides.protocol import Recorder, settings, versions
from benchmarks.workloads import read_workload
from data.records import StepResult, TrainingSample
from stages.services import Services


def rl_samples(folder: Path) -> list[TrainingSample]:
    """Rows with loss on the completion; advantages of both signs in every group, as a verifier leaves them."""
    facts, _, _ = read_workload(folder)
    behavior = -math.log(facts["vocab_size"])
    samples = []
    for index, (row, start) in enumerate(zip(*training_rows(folder), strict=True)):
        mask = (0,) * start + (1,) * (len(row) - start)
        advantage = 1.0 if index % 2 else -1.0
        samples.append(
            TrainingSample(
                tuple(row),
                mask,
                tuple(behavior * flag for flag in mask),
                tuple(advantage * flag for flag in mask),
                uid=f"{index // facts['group_size']}/{index % facts['group_size']}",
            )
        )
    return samples


def main() -> None:
    given, recorder = settings(), Recorder()
    folder = Path(given["workload"])
    config = make_config(given)
    learner_config = dataclasses.replace(config.reasoning_rl.rl.learner, total_steps=given["num_steps"])
    progress = progress_that_reports(lambda *_, **__: None, lambda: None)
    with services_of(config, Path(given["scratch"]), progress, kind=Services) as services:
        learner = services.learner
        learner.load(folder / "model", learner_config, seed=0)
        recorder.facts(versions=versions("torch", "transformers", "ray"))
        step: Callable[[Sequence[TrainingSample]], StepResult] = learner.rl_step
        samples = rl_samples(folder)
        if given["objective"] == "sft":
            step = learner.sft_step
            rows, _ = training_rows(folder)
            samples = [TrainingSample.supervised(tuple(row), (0,) + (1,) * (len(row) - 1)) for row in rows]
        for _ in range(given["num_steps"]):
            recorder.begin()
            metrics = step(samples).metrics
            recorder.step(
                trained_tokens=sum(len(sample.token_ids_T) for sample in samples),
                padding_share=metrics["padding_share"],
            )


if __name__ == "__main__":
    main()
