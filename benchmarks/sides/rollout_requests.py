"""The requests of one step of a workload: the same ids, seeds and forced lengths for fourstage and for raw vLLM."""

from __future__ import annotations

from pathlib import Path

from benchmarks.workloads import read_workload
from rollout.policy import GenerationRequest, SamplingConfig, request_seed


def requests_of_step(folder: Path, step: int) -> list[GenerationRequest]:
    """One request for each completion, the group of a prompt next to each other."""
    _, prompts, _ = read_workload(folder)
    return [
        GenerationRequest(
            prompt_uid=row["uid"],
            sample_index=index,
            prompt_token_ids=tuple(row["token_ids"]),
            sampling=SamplingConfig(max_tokens=length, ignore_end=True),
            seed=request_seed(0, "speed", step, row["uid"], index),
        )
        for row in prompts
        for index, length in enumerate(row["lengths"])
    ]
