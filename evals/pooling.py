"""Measurements of several seeds put together: avg@K, pass@k, separate scores, kinds of prompt, all with intervals.

    [Measurement of each seed] -> PooledResult -> document of results -> evals.results_table

Prompts are the same for every seed, so the samples of a prompt are pooled over seeds: K = samples · seeds. Pure
functions; the document is plain JSON.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.measurement import BOOTSTRAP_SEED, Measurement
from evals.statistics import Interval, accuracy_summary, bootstrap_interval, macro_interval, pass_at_k
from evals.summary import EvalMode


@dataclass(frozen=True, slots=True)
class PooledResult:
    """One benchmark in one mode under one thinking budget (tokens; None: unbounded), over all seeds.

    `accuracy` is avg@`samples_per_prompt` over prompts. `pass_at` holds pass@k for the k that the samples allow.
    `seed_means` are the means of each seed alone; they differ by sampling only. `parts` and `domains` are the separate
    scores and the kinds of prompt, empty where there is nothing to tell apart.
    """

    benchmark: str
    mode: EvalMode
    budget: int | None
    samples_per_prompt: int
    accuracy: Interval
    per_prompt: tuple[float, ...]
    pass_at: Mapping[int, Interval]
    seed_means: Mapping[int, float]
    mean_tokens: float
    truncated_share: float
    num_samples: int
    num_errors: int
    parts: Mapping[str, Interval]
    domains: Mapping[str, Interval]

    @property
    def seed_deviation(self) -> float | None:
        """Sample standard deviation of the seeds' means, None for a single seed."""
        return statistics.stdev(self.seed_means.values()) if len(self.seed_means) > 1 else None


def pool(measurements: Sequence[Measurement], *, pass_at: Sequence[int]) -> PooledResult:
    """The result of one benchmark, mode and budget over the seeds of `measurements`.

    A failed score leaves numerator and denominator of avg@K; a prompt with fewer than k scored samples leaves pass@k,
    whose `n` says so. A sample passes with reward 1. Raises ValueError when the measurements do not belong together, a
    seed comes twice, or nothing was scored.
    """
    first = measurements[0]
    if {(m.benchmark, m.mode, m.budget) for m in measurements} != {(first.benchmark, first.mode, first.budget)}:
        raise ValueError("measurements: all must be of one benchmark, mode and budget")
    if len({m.seed for m in measurements}) != len(measurements):
        raise ValueError(f"measurements: a seed comes twice in {[m.seed for m in measurements]}")
    rewards: dict[str, list[float | None]] = {uid: [] for uid in first.rewards}
    for measurement in measurements:
        if measurement.rewards.keys() != rewards.keys():
            raise ValueError(f"measurements: seed {measurement.seed} has other prompts than seed {first.seed}")
        for uid, found in measurement.rewards.items():
            rewards[uid] += found
    summary = accuracy_summary(list(rewards.values()), seed=BOOTSTRAP_SEED)
    uids = list(rewards)
    scored_uids = [uids[index] for index in summary.prompt_indices]
    samples = [sample for measurement in measurements for sample in measurement.samples]
    return PooledResult(
        benchmark=first.benchmark,
        mode=first.mode,
        budget=first.budget,
        samples_per_prompt=max(len(found) for found in rewards.values()),
        accuracy=summary.interval,
        per_prompt=summary.per_prompt,
        pass_at=_passes(summary.num_scored, summary.num_correct, pass_at),
        seed_means={m.seed: accuracy_summary(list(m.rewards.values()), num_resamples=1, seed=0).interval.mean
                    for m in measurements if any(s.reward is not None for s in m.samples)},
        mean_tokens=sum(sample.num_tokens for sample in samples) / len(samples),
        truncated_share=sum(sample.truncated for sample in samples) / len(samples),
        num_samples=len(samples),
        num_errors=summary.num_errors,
        parts=_parts(measurements),
        domains=_domains(first.domains, dict(zip(scored_uids, summary.per_prompt, strict=True))),
    )  # fmt: skip


def _passes(num_scored: Sequence[int], num_correct: Sequence[int], pass_at: Sequence[int]) -> dict[int, Interval]:
    found = {}
    for k in pass_at:
        enough = [(n, c) for n, c in zip(num_scored, num_correct, strict=True) if n >= k]
        if enough:
            values = pass_at_k([n for n, _ in enough], [c for _, c in enough], k)
            found[k] = bootstrap_interval(values, seed=BOOTSTRAP_SEED)
    return found


def _parts(measurements: Iterable[Measurement]) -> dict[str, Interval]:
    """Each separate score: the mean over prompts of the mean over those samples that say something about it."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measurement in measurements:
        for sample in measurement.samples:
            for name, share in sample.parts.items():
                found[name][sample.uid].append(share)
    return {
        name: bootstrap_interval([sum(v) / len(v) for v in by_prompt.values()], seed=BOOTSTRAP_SEED)
        for name, by_prompt in found.items()
    }


def _domains(domains: Mapping[str, str], per_prompt: Mapping[str, float]) -> dict[str, Interval]:
    kinds: dict[str, list[float]] = defaultdict(list)
    for uid, value in per_prompt.items():
        kinds[domains[uid]].append(value)
    if len(kinds) < 2:
        return {}
    return {kind: bootstrap_interval(kinds[kind], seed=BOOTSTRAP_SEED) for kind in sorted(kinds)}


def by_category(results: Sequence[PooledResult], categories: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each category in each mode: the mean over its benchmarks, every benchmark weighing the same.

    `categories` names the category of each benchmark; those it does not name are left out.
    """
    groups: dict[tuple[str, EvalMode], list[PooledResult]] = defaultdict(list)
    for result in results:
        if result.benchmark in categories:
            groups[categories[result.benchmark], result.mode].append(result)
    return [
        {
            "category": category,
            "mode": mode,
            "benchmarks": [result.benchmark for result in members],
            **interval_dict(macro_interval([result.per_prompt for result in members], seed=BOOTSTRAP_SEED)),
        }
        for (category, mode), members in groups.items()
    ]


def interval_dict(interval: Interval) -> dict[str, Any]:
    """{"mean", "interval": [low, high], "n"}, as the summary of a run has it."""
    return {"mean": interval.mean, "interval": [interval.low, interval.high], "n": interval.n}


def result_dict(result: PooledResult) -> dict[str, Any]:
    """One result as JSON."""
    return {
        "benchmark": result.benchmark,
        "mode": result.mode,
        "budget_tokens": result.budget,
        "samples_per_prompt": result.samples_per_prompt,
        **interval_dict(result.accuracy),
        "pass_at": {str(k): interval_dict(interval) for k, interval in result.pass_at.items()},
        "seed_means": {str(seed): mean for seed, mean in result.seed_means.items()},
        "seed_deviation": result.seed_deviation,
        "mean_tokens": result.mean_tokens,
        "truncated": result.truncated_share,
        "samples": result.num_samples,
        "errors": result.num_errors,
        "parts": {name: interval_dict(interval) for name, interval in result.parts.items()},
        "domains": {name: interval_dict(interval) for name, interval in result.domains.items()},
    }
