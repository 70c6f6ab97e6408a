"""What a checkpoint has to show before an alias moves to it: one verdict a gate, from measured figures.

    stages.promotion measures -> Figures -> judge(config, figures) -> [Verdict] -> serving.promote

Pure functions of numbers. A figure that could not be measured fails its gate with the reason: no gate is passed over in
silence, and only one that the configuration turns off says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evals.significance import Floats, crossed_bootstrap
from serving.figures import (
    ContractFigures,
    Figures,
    FileFigures,
    GapFigures,
    LineageFigures,
    LoadFigures,
    Place,
    Scores,
    Unmeasured,
)
from serving.gates_config import BenchmarkGate, GatesConfig, LicenceGate, LoadGate, ParityGate, ThinkFollowGate

Status = Literal["passed", "failed", "off"]

_BOOTSTRAP_SEED = 20260101
_NO_DATA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing: what a stage without data records as its data."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate says: the figure that was measured, and what was asked for."""

    gate: str
    status: Status
    measured: str
    required: str


def judge(config: GatesConfig, figures: Figures) -> list[Verdict]:
    """The verdicts of all gates, in the order in which they are shown; none stops another."""
    found = [judge_files(figures.files), judge_contract(figures.contract)]
    found.append(judge_lineage(config.licence, figures.lineage))
    found += judge_engine(config, figures)
    found += judge_thresholds(config.benchmarks, figures.scores)
    found += judge_against_current(config, figures)
    found.append(judge_think_follow(config.think_follow, figures.scores))
    found += [judge_load(config.load, figures.load), judge_first_token(config.load, figures.load)]
    return found


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that keep an alias from moving."""
    return [verdict for verdict in verdicts if verdict.status == "failed"]


def _verdict(gate: str, passed: bool, measured: str, required: str) -> Verdict:
    return Verdict(gate, "passed" if passed else "failed", measured, required)


def _unmeasured(gate: str, figure: Unmeasured | None, required: str) -> Verdict:
    reason = "nothing was measured" if figure is None else figure.reason
    return Verdict(gate, "failed", f"not measured: {reason}", required)


# ---------------------------------------------------------------------------------------------- what is in the folder


def judge_files(figures: FileFigures) -> Verdict:
    """Every file is as the manifest says, weights are safetensors alone, and no code comes with the model."""
    whole = f"{figures.num_files} files, {figures.num_bytes:,} bytes, all as the manifest says"
    required = "SHA-256 of every file, safetensors alone, no code of its own"
    return _verdict("files", figures.fault is None, figures.fault or whole, required)


def judge_contract(figures: ContractFigures | Unmeasured) -> Verdict:
    """The template and special tokens are those that it was trained with."""
    required = "template, vocabulary and special tokens as in training"
    if isinstance(figures, Unmeasured):
        return _unmeasured("template", figures, required)
    return _verdict("template", figures.fault is None, figures.fault or "the same", required)


def judge_lineage(config: LicenceGate, figures: LineageFigures | Unmeasured) -> Verdict:
    """Licence, data, settings and code of a checkpoint are on record, and the licence is an allowed one."""
    wanted = f"a licence of {', '.join(config.allowed)}" if config.allowed else "a licence"
    clean = ", committed code" if config.require_clean_commit else ""
    required = f"{wanted}; hashes of data and settings, parent{clean}"
    if isinstance(figures, Unmeasured):
        return _unmeasured("lineage", figures, required)
    faults = list(lineage_faults(config, figures))
    whole = f"{config.spdx or figures.licence}; {' < '.join(figures.chain)}; commit {figures.code_commit[:12]}"
    return _verdict("lineage", not faults, "; ".join(faults) or whole, required)


def lineage_faults(config: LicenceGate, figures: LineageFigures) -> Iterator[str]:
    """What is missing of a checkpoint's origin, in words."""
    licence = config.spdx or figures.licence
    if licence is None:
        yield "no licence: neither the checkpoint's card nor licence.spdx names one"
    elif config.spdx and figures.licence and config.spdx.lower() != figures.licence.lower():
        yield f"licence.spdx is {config.spdx}, the checkpoint's own card says {figures.licence}"
    elif config.allowed and licence.lower() not in [name.lower() for name in config.allowed]:
        yield f"licence {licence} is not among those allowed"
    if not figures.config_hash:
        yield "no hash of its settings"
    if figures.stage != "base":
        if not figures.has_parent:
            yield f"stage {figures.stage} has no parent"
        if figures.data_hash in ("", _NO_DATA):
            yield "no data is on record"
    if figures.code_commit in ("", "unknown"):
        yield "the commit of the code is not known"
    elif config.require_clean_commit and figures.code_commit.endswith("-dirty"):
        yield f"made with uncommitted code ({figures.code_commit[:12]})"


# ---------------------------------------------------------------------------------------------- the serving engine


def judge_engine(config: GatesConfig, figures: Figures) -> list[Verdict]:
    """It loads in the serving engine, and the engine computes what transformers computes."""
    if not config.needs_engine:
        return [Verdict("engine", "off", "", ""), Verdict("log-probabilities", "off", "", "")]
    loads = figures.loads_s
    required = "starts with this folder"
    if isinstance(loads, Unmeasured) or loads is None:
        engine = _unmeasured("engine", loads, required)
    else:
        settings = "" if figures.engine is None else f"; {figures.engine}"
        engine = _verdict("engine", True, f"ready after {loads:.1f} s{settings}", required)
    return [engine, judge_parity(config.parity, figures.parity)]


def judge_parity(config: ParityGate | None, figures: GapFigures | Unmeasured | None) -> Verdict:
    """Engine and transformers agree on the log-probability of sampled tokens; a gap that is no number fails."""
    if config is None:
        return Verdict("log-probabilities", "off", "", "")
    required = f"at most {config.max_gap:g} nats on a token, {config.mean_gap:g} on average"
    if isinstance(figures, Unmeasured) or figures is None or figures.num_tokens < 1:
        return _unmeasured("log-probabilities", figures if isinstance(figures, Unmeasured) else None, required)
    passed = figures.max_gap <= config.max_gap and figures.mean_gap <= config.mean_gap
    measured = f"{figures.max_gap:.2g} nats at most, {figures.mean_gap:.2g} on average, {figures.num_tokens:,} tokens"
    return _verdict("log-probabilities", passed, measured, required)


# ---------------------------------------------------------------------------------------------- benchmarks


def judge_thresholds(config: BenchmarkGate | None, scores: Mapping[Place, Scores] | Unmeasured | None) -> list[Verdict]:
    """Each benchmark that has a threshold reaches it."""
    if config is None or not config.at_least:
        return [Verdict("benchmarks", "off", "", "")]
    found = []
    for benchmark, modes in config.at_least.items():
        for mode, threshold in modes.items():
            gate, required = f"{benchmark}, {mode.replace('_', '-')}", f"{threshold:g} or more"
            if isinstance(scores, Unmeasured) or scores is None:
                found.append(_unmeasured(gate, scores, required))
            elif (benchmark, mode) not in scores:
                found.append(_unmeasured(gate, Unmeasured("the suite has no such benchmark and mode"), required))
            else:
                mean = scores[benchmark, mode].mean
                found.append(_verdict(gate, mean >= threshold, f"{mean:.3f}", required))
    return found


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus current on the same prompts: the mean, and a bound that it exceeds with a set confidence."""

    mean: float
    lower_bound: float
    num_prompts: int


def paired_difference(ours: Scores, theirs: Scores, *, confidence: float) -> PairedDifference:
    """How much better `ours` is than `theirs`, on the seeds and prompts that both have a score for.

    The bound is one-sided: the lower end of the crossed bootstrap's interval at 2 c - 1, and no higher than
    mean - (1 - (1 - c)^(1/P)). Departure from the plain bootstrap: of P prompts none of which got worse one has still
    seen only P, and with confidence c the share of those that do may be 1 - (1 - c)^(1/P) (about 3/P at 95 %); without
    that floor a handful of prompts that all came out alike would show equality to any precision.
    Raises ValueError when they share no score.
    """
    shared = [uid for uid in ours.uids if uid in set(theirs.uids)]
    seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
    if not shared or not seeds:
        raise ValueError("paired_difference: the two share no prompt and seed")
    difference_SP = _selected(ours, seeds, shared) - _selected(theirs, seeds, shared)
    (found,) = crossed_bootstrap([difference_SP], confidence=2 * confidence - 1, seed=_BOOTSTRAP_SEED)
    floor = found.mean - resolution(found.num_prompts, confidence)
    return PairedDifference(found.mean, min(found.low, floor), found.num_prompts)


def resolution(num_prompts: int, confidence: float) -> float:
    """The largest share of prompts that may fare worse though none of `num_prompts` did: 1 - (1 - c)^(1/P).

    Source: the exact (Clopper and Pearson, 1934) one-sided bound of a binomial share of which none was seen.
    """
    return 1.0 - (1.0 - confidence) ** (1.0 / num_prompts)


def _selected(scores: Scores, seeds: Sequence[int], uids: Sequence[str]) -> Floats:
    rows = [scores.seeds.index(seed) for seed in seeds]
    place = {uid: index for index, uid in enumerate(scores.uids)}
    return scores.values_SP[np.ix_(rows, [place[uid] for uid in uids])]


def judge_against_current(config: GatesConfig, figures: Figures) -> list[Verdict]:
    """On no benchmark and mode is it worse than the current version by more than the margin.

    A test of non-inferiority: the gate passes when the paired difference is shown to lie above minus the margin, not
    when it merely was not shown to lie below. All benchmarks have to pass, so that no correction for their number is
    needed: a candidate that is worse by more than the margin anywhere passes with a chance of at most 1 - confidence.
    """
    benchmarks = config.benchmarks
    if benchmarks is None:
        return [Verdict("against current", "off", "", "")]
    if figures.current is None:
        return [Verdict("against current", "passed", "the alias points nowhere yet", "not worse than what is served")]
    ours, theirs = figures.scores, figures.current_scores
    for scores in (ours, theirs):
        if isinstance(scores, Unmeasured) or scores is None:
            return [_unmeasured("against current", scores, f"not worse than {figures.current}")]
    assert isinstance(ours, Mapping)
    assert isinstance(theirs, Mapping)
    return [_against(benchmarks, place, ours[place], theirs.get(place)) for place in ours]


def _against(config: BenchmarkGate, place: Place, ours: Scores, theirs: Scores | None) -> Verdict:
    benchmark, mode = place
    gate, margin = f"against current: {benchmark}, {mode.replace('_', '-')}", config.margin_of(benchmark)
    required = f"worse by less than {margin:g} with {config.confidence:.0%} confidence"
    if theirs is None:
        return _unmeasured(gate, Unmeasured("the current version was not measured on it"), required)
    try:
        found = paired_difference(ours, theirs, confidence=config.confidence)
    except ValueError as error:
        return _unmeasured(gate, Unmeasured(str(error)), required)
    measured = f"{found.mean:+.3f}, above {found.lower_bound:+.3f}, {found.num_prompts} prompts"
    if found.lower_bound <= -margin and resolution(found.num_prompts, config.confidence) >= margin:
        measured += "; too few prompts to show it for any model, raise num_prompts or the margin"
    return _verdict(gate, found.lower_bound > -margin, measured, required)


def judge_think_follow(config: ThinkFollowGate | None, scores: Mapping[Place, Scores] | Unmeasured | None) -> Verdict:
    """It obeys `/think` and `/no_think`."""
    if config is None:
        return Verdict("ThinkFollow", "off", "", "")
    required = f"{config.at_least:g} or more"
    if isinstance(scores, Unmeasured) or scores is None:
        return _unmeasured("ThinkFollow", scores, required)
    found = scores.get((config.benchmark, "mixed"))
    if found is None:
        return _unmeasured("ThinkFollow", Unmeasured(f"the suite has no {config.benchmark} in mode mixed"), required)
    return _verdict("ThinkFollow", found.mean >= config.at_least, f"{found.mean:.3f}", required)


# ---------------------------------------------------------------------------------------------- load


def judge_load(config: LoadGate | None, figures: LoadFigures | Unmeasured | None) -> Verdict:
    """Latency and throughput at a set number of requests at once."""
    if config is None:
        return Verdict("load", "off", "", "")
    required = (
        f"median below {config.max_median_s:g} s, 95 % below {config.max_p95_s:g} s, {config.min_tokens_per_s:g} "
        f"tokens/s or more with {config.concurrency} at once"
    )
    if isinstance(figures, Unmeasured) or figures is None or not figures.latencies_s:
        return _unmeasured("load", figures if isinstance(figures, Unmeasured) else None, required)
    median, p95 = percentile(figures.latencies_s, 50), percentile(figures.latencies_s, 95)
    fast = median <= config.max_median_s and p95 <= config.max_p95_s
    measured = f"median {median:.2f} s, 95 % {p95:.2f} s, {figures.tokens_per_s:,.0f} tokens/s"
    return _verdict("load", fast and figures.tokens_per_s >= config.min_tokens_per_s, measured, required)


def judge_first_token(config: LoadGate | None, figures: LoadFigures | Unmeasured | None) -> Verdict:
    """How long a request that comes under the same load waits for its first token."""
    if config is None:
        return Verdict("first token", "off", "", "")
    required = (
        f"median below {config.max_first_token_median_s:g} s, 99 % below {config.max_first_token_p99_s:g} s with "
        f"{config.concurrency} at once"
    )
    if isinstance(figures, Unmeasured) or figures is None or not figures.first_token_s:
        return _unmeasured("first token", figures if isinstance(figures, Unmeasured) else None, required)
    median, p99 = percentile(figures.first_token_s, 50), percentile(figures.first_token_s, 99)
    passed = median <= config.max_first_token_median_s and p99 <= config.max_first_token_p99_s
    measured = f"median {median:.2f} s, 99 % {p99:.2f} s, {len(figures.first_token_s)} requests"
    return _verdict("first token", passed, measured, required)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of all do not exceed (nearest rank), which is a latency that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]
