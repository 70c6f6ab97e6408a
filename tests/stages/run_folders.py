"""Small run directories as a run would leave them, written by hand: finished, or under way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.files import write_json
from evals.summary import BenchmarkResult, summary_dict, write_summary
from stages.run_dir import RunDir
from stages.run_report import evaluation_file

STAGES = ("cold_start", "reasoning_rl")
KEYS = {stage: stage[0] * 64 for stage in STAGES}
EVALUATION = {"stages": list(STAGES), "seed": 5}


def rollout(
    stage: str, step: int, completion: str = "<think>\n1+1\n</think>\n\n2<|im_end|>", **more: Any
) -> dict[str, Any]:
    return {
        "stage": stage, "step": step, "task": "math", "uid": f"math/{step}", "mode": "thinking",
        "prompt": [{"role": "user", "content": f"What is {step}+1?"}], "completion": completion,
        "reference": {"answer": "2"}, "reward": 1.0, "outcome": "correct", "reason": "", "turns": [], "ended": "",
        "tokens": 3, "finish_reason": "stop",
        "rendered": [{"pieces": ["What", " is", "2"], "loss_mask": "001"}], **more,
    }  # fmt: skip


def metrics(stage: str, step: int) -> dict[str, Any]:
    values: dict[str, Any] = {"loss": 1 / step, "entropy": 0.5}
    if stage == "reasoning_rl":
        values |= {
            "reward": step / 10, "mean_length": 40.0 + step, "truncated_share": 0.0, "engine_gap_mean": 1e-6,
            "engine_gap_max": 1e-5, "sync_gap_max": 1e-5, "verifier_errors": 1, "batch/completions": 8,
            "batch/task/math/mean_reward": step / 10, "batch/task/math/num_completions": 8,
            "batch/task/math/num_errors": 1,
        }  # fmt: skip
    timing = {"generate_s": 2.0, "learn_s": 1.0, "forward_s": 1.0, "other_s": 1.0, "step_s": 4.0}
    return {"stage": stage, "step": step, **values, "timing": timing}


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def result(stage: str, mean: float) -> BenchmarkResult:
    return BenchmarkResult(
        stage=stage, mode="thinking", benchmark="math", mean=mean, low=mean - 0.1, high=mean + 0.1, n=2, num_samples=2,
        mean_tokens=9.0, truncated_share=0.0, error_count=0, per_prompt=(mean, mean), prompt_uids=("eval/1", "eval/2"),
    )  # fmt: skip


def write_evaluation(folder: Path, stage: str, mean: float) -> None:
    rollouts = [
        rollout(f"evaluation of {stage}", 0, f"{stage} says {n}", benchmark="math", uid=f"eval/{n}") for n in (1, 2)
    ]
    record = {"results": [vars_of(result(stage, mean))], "rollouts": rollouts}
    write_json(evaluation_file(folder, EVALUATION, KEYS[stage], 0), record)


def vars_of(found: BenchmarkResult) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def run_under_way(path: Path, *, steps: int = 3) -> RunDir:
    """Stage 1 is done and measured, stage 2 was cut off after `steps` steps."""
    run = RunDir(path)
    path.mkdir(parents=True, exist_ok=True)
    settings = {"name": "small", "seed": 0, "evaluation": EVALUATION}
    (path / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
    run.write_plan([(stage, KEYS[stage]) for stage in STAGES])
    for stage in STAGES:
        run.record_stage(stage, KEYS[stage], done=stage == "cold_start", seconds=12.0)
        folder = run.stage_dir(stage, KEYS[stage])
        append(folder / "metrics.jsonl", [metrics(stage, step) for step in range(1, steps + 1)])
    first, second = (run.stage_dir(stage, KEYS[stage]) for stage in STAGES)
    cost = {"cost": {"seconds": 12.0, "tokens": 99.0}, "parent": None, "code_commit": "abc"}
    write_json(first / "checkpoint" / "manifest.json", cost)
    write_json(first / "data" / "query_filters.json", {"drawn": 10, "kept": 8, "dropped": {"held out": 2}})
    append(second / "samples.jsonl", [rollout("reasoning_rl", step) for step in range(1, steps + 1)])
    write_evaluation(first, "cold_start", 0.5)
    return run


def finished_run(path: Path) -> RunDir:
    """Both stages are done and measured."""
    run = run_under_way(path)
    folder = run.stage_dir("reasoning_rl", KEYS["reasoning_rl"])
    run.record_stage("reasoning_rl", KEYS["reasoning_rl"], done=True, seconds=20.0)
    parent = {"path": "x", "key": KEYS["cold_start"]}
    manifest = {"cost": {"seconds": 20.0, "tokens": 100.0}, "parent": parent, "code_commit": "abc"}
    write_json(folder / "checkpoint" / "manifest.json", manifest)
    write_evaluation(folder, "reasoning_rl", 0.7)
    write_summary(path / "summary.json", summary_dict([result("cold_start", 0.5), result("reasoning_rl", 0.7)]))
    return run
