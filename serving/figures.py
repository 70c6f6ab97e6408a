"""What is measured of a candidate before it is promoted: plain figures, from which `serving.gates` makes verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.measurement import Measurement
from evals.significance import Floats
from serving.measured_engine import MeasuredEngine

Place = tuple[str, str]
"""A benchmark and the mode that it was asked in."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A figure that could not be had, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class FileFigures:
    """The files of a checkpoint against its manifest; `fault` is the first thing that is wrong, if any."""

    num_files: int
    num_bytes: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class ContractFigures:
    """The template and special tokens of the folder against those of the manifest; `fault` names what differs."""

    fault: str | None


@dataclass(frozen=True, slots=True)
class LineageFigures:
    """Where a checkpoint comes from: its manifest's hashes, the chain of stages up to the base, the licence found.

    `chain` begins with the checkpoint's own stage; it ends where a parent's folder is no longer there. `licence` is the
    identifier that the checkpoint's own model card declares, None without one.
    """

    stage: str
    has_parent: bool
    data_hash: str
    config_hash: str
    code_commit: str
    chain: tuple[str, ...]
    licence: str | None


@dataclass(frozen=True, slots=True)
class GapFigures:
    """How far the engine's log-probabilities of sampled tokens lie from transformers', in nats, over `num_tokens`."""

    max_gap: float
    mean_gap: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Scores:
    """One benchmark in one mode: a score [S, P] in [0, 1] of every seed and prompt, NaN where the verifier failed."""

    seeds: tuple[int, ...]
    uids: tuple[str, ...]
    values_SP: Floats

    @property
    def mean(self) -> float:
        """The mean over prompts of each prompt's mean over seeds, prompts without a score left out."""
        kept = self.values_SP[:, ~np.isnan(self.values_SP).all(axis=0)]
        return float(np.nanmean(kept, axis=0).mean()) if kept.size else math.nan


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Requests under a steady load: seconds of each from submission to last token, and what all took together.

    `first_token_s` are the seconds to the first token of requests that came while the load went on.
    """

    latencies_s: tuple[float, ...]
    num_tokens: int
    seconds: float
    first_token_s: tuple[float, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Everything that was measured of a candidate, and of what the alias points to now (None: it points nowhere).

    `engine` is what the figures that need an engine were measured in, None where no gate asked for one.
    """

    files: FileFigures
    contract: ContractFigures | Unmeasured
    lineage: LineageFigures | Unmeasured
    loads_s: float | Unmeasured | None
    parity: GapFigures | Unmeasured | None
    scores: Mapping[Place, Scores] | Unmeasured | None
    current: str | None
    current_scores: Mapping[Place, Scores] | Unmeasured | None
    load: LoadFigures | Unmeasured | None
    engine: MeasuredEngine | None = None


def logprob_gaps(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> GapFigures:
    """The gaps |ours - theirs| over all tokens but the first of each row, which nothing predicts; NaN stays NaN.

    Raises ValueError when rows differ in number or length.
    """
    gaps = [
        abs(a - b) for row, other in zip(ours, theirs, strict=True) for a, b in zip(row[1:], other[1:], strict=True)
    ]
    if not gaps:
        return GapFigures(math.nan, math.nan, 0)
    values = np.asarray(gaps, dtype=np.float64)
    return GapFigures(float(values.max()), float(values.mean()), len(gaps))  # NaN passes through numpy's max


def scores_of(measurements: Sequence[Measurement]) -> dict[Place, Scores]:
    """The scores of each benchmark and mode by seed and prompt; a prompt's score is the mean over its scored samples.

    Measurements under a thinking budget of their own are left to those who ask for them. Raises ValueError when the
    seeds of one benchmark and mode were asked different prompts.
    """
    by_place: dict[Place, dict[int, dict[str, float]]] = defaultdict(dict)
    for measurement in measurements:
        means = {uid: _mean_of_scored(rewards) for uid, rewards in measurement.rewards.items()}
        by_place[measurement.benchmark, measurement.mode][measurement.seed] = means
    found = {}
    for place, by_seed in by_place.items():
        uids = tuple(next(iter(by_seed.values())))
        if any(tuple(means) != uids for means in by_seed.values()):
            raise ValueError(f"scores_of: the seeds of {place} were asked different prompts")
        values_SP = np.array([[means[uid] for uid in uids] for means in by_seed.values()], dtype=np.float64)
        found[place] = Scores(tuple(by_seed), uids, values_SP)
    return found


def _mean_of_scored(rewards: Sequence[float | None]) -> float:
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known) if known else math.nan
