"""How many answers a second each reward task scores here: rules inline, algebra and code in worker processes.

    python -m benchmarks.rewards_speed [--workers 2] [--seconds 2]

Prints a Markdown table. Rules are timed in one process, one answer after the other, half of them right and half of them
another prompt's answer; tasks whose verifier runs in worker processes are timed through a pool that is warm, with
answers that no quick check decides. Episodes are timed by their verifier alone, after the environment has run.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Iterator

from rewards.episodes import gold_episode
from rewards.registry import all_tasks, get_task
from rewards.task import ScoreRequest, Task, gold_completion, make_prompt
from rewards.verifier_pool import VerifierPool

NUM_PROMPTS = 200
NUM_WARM = 24
RULES_PER_S, MATH_PER_S, CODE_PER_S = 2000, 300, 25
"""The targets: rule scorers, the algebra system, and programs in the sandbox, in answers a second."""


def requests_of(task: Task) -> list[ScoreRequest]:
    """Right answers and answers to another prompt, in turn, over all levels."""
    levels = itertools.cycle(range(task.max_difficulty + 1))
    prompts = [make_prompt(task, seed=11, index=i, difficulty=next(levels)) for i in range(NUM_PROMPTS)]
    if task.environment is not None:
        return [gold_episode(task, prompt) for prompt in prompts]
    right = [
        ScoreRequest(task.name, p.messages, p.reference, gold_completion(task, p), p.enable_thinking) for p in prompts
    ]
    wrong = [
        dataclasses.replace(request, completion=other.completion)
        for request, other in zip(right, right[task.max_difficulty + 1 :], strict=False)
    ]
    return [request for pair in zip(right, wrong, strict=False) for request in pair]


def math_requests(group_size: int) -> list[ScoreRequest]:
    """600 answers that only the algebra system can compare, no two the same, `group_size` to a reference."""
    return [
        ScoreRequest("math", (), {"answer": f"\\frac{{{n}}}{{{n + 1}}}"}, f"\\boxed{{{factor * n}/{factor * (n + 1)}}}")
        for n in range(1, 600 // group_size + 1)
        for factor in range(2, group_size + 2)
    ]


def inline_rate(task: Task, requests: list[ScoreRequest], seconds: float) -> float:
    """Answers a second of rules in this process."""
    for request in requests:  # what is loaded lazily is loaded before the clock starts
        task.decide(request)
    began = time.perf_counter()
    for done, request in enumerate(itertools.cycle(requests), start=1):
        task.decide(request)
        elapsed = time.perf_counter() - began
        if elapsed > seconds:
            return done / elapsed
    raise AssertionError("no requests")


def pooled_rate(pool: VerifierPool, requests: list[ScoreRequest]) -> float:
    """Answers a second through warm worker processes."""
    pool.score_all(requests[:NUM_WARM])
    timed = requests[NUM_WARM:]  # others, since a reading is kept
    began = time.perf_counter()
    scores = pool.score_all(timed)
    elapsed = time.perf_counter() - began
    errors = [score.reason for score in scores if score is not None and score.outcome == "error"]
    assert not errors, errors[0]
    return len(timed) / elapsed


def rows(num_workers: int, seconds: float) -> Iterator[tuple[str, str, float, float]]:
    """Task, where it runs, answers a second, and the target."""
    for task in all_tasks():
        if not task.in_worker:
            yield task.name, "inline", inline_rate(task, requests_of(task), seconds), RULES_PER_S
    with VerifierPool(num_workers=num_workers, timeout_s=30.0) as pool:
        for name, size in (("math, in groups of 8", 8), ("math, no two of a prompt", 1)):
            yield name, f"{num_workers} workers", pooled_rate(pool, math_requests(size)), MATH_PER_S
        for task in all_tasks():
            if task.in_worker and task.name != "math":
                needing = [request for request in requests_of(task) if get_task(task.name).needs_worker(request)]
                target = CODE_PER_S if task.sandboxed else MATH_PER_S
                yield task.name, f"{num_workers} workers", pooled_rate(pool, needing[: 200 + NUM_WARM]), target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="verifier processes")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each inline task is timed")
    arguments = parser.parse_args()
    print("| task | where | answers a second | target | |\n|---|---|---:|---:|---|")
    for name, where, rate, target in rows(arguments.workers, arguments.seconds):
        print(f"| {name} | {where} | {rate:,.0f} | {target:,} | {'met' if rate >= target else 'NOT MET'} |", flush=True)


if __name__ == "__main__":
    main()
