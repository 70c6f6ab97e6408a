"""fourstage's supervised loop, `run_sft`, on the rows of a workload, as cold start and fusion run it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.sides.fourstage_run import make_config, progress_that_reports, services_of
from benchmarks.sides.protocol import Recorder, settings, versions
from benchmarks.workloads import read_workload
from data.files import read_rows
from data.records import TrainingSample
from stages.services import Services
from stages.sft_loop import SFTConfig, run_sft
from stages.stage_context import StageContext


def main() -> None:
    given, recorder = settings(), Recorder()
    folder, scratch = Path(given["workload"]), Path(given["scratch"])
    _, _, rows = read_workload(folder)
    config = make_config(given)
    samples = [TrainingSample.supervised(tuple(row), (0,) + (1,) * (len(row) - 1)) for row in rows]

    def after_step(step: int, **_: Any) -> None:
        line = list(read_rows(scratch / "metrics.jsonl"))[-1]
        assert line["step"] == step
        recorder.step(trained_tokens=line["num_tokens"], padding_share=line["padding_share"])

    progress = progress_that_reports(after_step, recorder.begin)
    with services_of(config, scratch, progress, kind=Services) as services:
        recorder.facts(versions=versions("torch", "transformers", "ray"))
        context = StageContext("cold_start", scratch, seed=0, progress=progress)
        sft = SFTConfig(
            learner=dataclasses.replace(config.reasoning_rl.rl.learner, lr=1e-5),
            num_epochs=100,
            batch_tokens=given["batch_tokens"],
            max_steps=given["num_steps"],
            save_every=1_000_000,
        )
        run_sft(samples, sft, folder / "model", services, context)
        context.close()


if __name__ == "__main__":
    main()
