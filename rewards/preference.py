"""Preference models as a reward: raw scores in, length-controlled rewards strictly between 0 and 1 out.

    rule gate (Task.verify) -> PreferenceModel.raw_scores -> length_controlled_reward -> Score ("graded")

Reward models like long answers, and a policy finds that out before anything else. The taste for length is measured on
held-out pairs and taken out of the score. A preference model only ever decides what the rules of a task let pass.

Sources: the length term of length-controlled AlpacaEval (arXiv 2404.04475), which separates quality from length by
regression; the squashed, standardised score inside a rule gate resembles the combination of instruction checks with
1 + sigmoid(z(RM)) in Nemotron-Cascade (arXiv 2512.13607). Departures are stated where they are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from data.files import read_json
from data.ngrams import ngrams, tokens
from data.preference import PREFERENCE_MANIFEST
from data.records import Message, Score, UserError

_MAX_LOGIT = 20.0
"""Beyond it the logistic function comes so near to 0 and 1 that the sum with other rewards cannot tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceConfig:
    """Which preference model rates what rules leave undecided; `folder` is one that `fourstage preference-model` wrote.

    None: there is none, and tasks of the type preference_model cannot be used. The engine that serves the model has
    `num_threads` CPU threads (0: all) or `num_gpus` accelerators.
    """

    folder: str | None = None
    dtype: str = "float32"
    num_threads: int = 0
    num_gpus: float = 0.0
    start_timeout_s: float = 600.0
    answer_timeout_s: float = 300.0

    def validate(self) -> None:
        """Raise UserError naming the first field that cannot work."""
        if self.folder is not None and not self.folder.strip():
            raise UserError("folder: '' is no folder; give one that `fourstage preference-model` wrote, or null")
        if self.dtype not in ("float32", "bfloat16"):
            raise UserError(f"dtype: {self.dtype!r} is not known; use float32 or bfloat16")
        for name in ("num_threads", "num_gpus"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: {getattr(self, name)} must be 0 or more")
        for name in ("start_timeout_s", "answer_timeout_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0")


class PreferenceModel(Protocol):
    """A model that gives one raw score, any real number, to each conversation that ends with an assistant turn."""

    def raw_scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthCalibration:
    """What turns raw scores into rewards; measured on held-out pairs.

    `slope` is taken out, per unit of log length: `fitted_slope`, or 0 when that is below 0. `log_length_ref` is the
    mean log length; `mean` and `std` are those of the scores after the length term was taken out.
    """

    slope: float
    fitted_slope: float
    log_length_ref: float
    mean: float
    std: float
    num_pairs: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def answer_length(answer: str) -> int:
    """Characters of an answer after runs of white space were made one blank; at least 1.

    AlpacaEval counts characters too. Words and tokens would let marks, symbols or one endless word go uncounted.
    """
    return max(1, len(" ".join(answer.split())))


def fit_length_calibration(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    chosen_answers: Sequence[str],
    rejected_answers: Sequence[str],
) -> LengthCalibration:
    """The calibration from raw scores of held-out pairs.

    Within each pair, hence within one prompt, Δscore = α + β Δlog length is fitted by least squares; β is the slope.
    The intercept α takes up what the better answer is worth, as the model term does in arXiv 2404.04475, so that pairs
    whose better answers happen to be longer do not pass for a taste for length. Departures: log length in place of
    tanh of a standardised difference, raw scores in place of preferences, and a slope below 0 is not used, because
    it would pay for length. Raises UserError for no pairs, scores that are not finite, or scores that are all equal.
    """
    scores = [*chosen_scores, *rejected_scores]
    if not chosen_scores or not all(map(math.isfinite, scores)):
        raise UserError(f"preference model: {len(scores)} held-out scores, of which some are missing or not finite")
    log_lengths = [math.log(answer_length(answer)) for answer in (*chosen_answers, *rejected_answers)]
    num_pairs = len(chosen_scores)
    fitted = _slope(
        [left - right for left, right in zip(log_lengths[:num_pairs], log_lengths[num_pairs:], strict=True)],
        [left - right for left, right in zip(chosen_scores, rejected_scores, strict=True)],
    )
    slope = max(0.0, fitted)
    reference = _mean(log_lengths)
    corrected = [raw - slope * (length - reference) for raw, length in zip(scores, log_lengths, strict=True)]
    mean = _mean(corrected)
    std = math.sqrt(_mean([(value - mean) ** 2 for value in corrected]))
    if not std > 1e-9 * max(1.0, abs(mean)):
        raise UserError("preference model: all held-out answers get the same score; train it longer or on more pairs")
    return LengthCalibration(
        slope=slope, fitted_slope=fitted, log_length_ref=reference, mean=mean, std=std, num_pairs=num_pairs
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line with intercept; 0 when x does not vary."""
    mean_x, mean_y = _mean(x), _mean(y)
    variance = math.fsum((value - mean_x) ** 2 for value in x)
    covariance = math.fsum((left - mean_x) * (right - mean_y) for left, right in zip(x, y, strict=True))
    return covariance / variance if variance > 1e-12 * len(x) else 0.0


def length_controlled_reward(raw: float, length: int, calibration: LengthCalibration) -> float:
    """σ((raw − slope (log length − log_length_ref) − mean) / std), strictly between 0 and 1.

    `length` is `answer_length` of the answer. Rises with `raw`, and never rises with length at an equal score. The
    argument of σ is kept within ±20. Raises ValueError when `raw` is not finite or `length` is below 1.
    """
    if not math.isfinite(raw) or length < 1:
        raise ValueError(f"raw score {raw} of an answer of {length} characters has no reward")
    c = calibration
    logit = (raw - c.slope * (math.log(length) - c.log_length_ref) - c.mean) / c.std
    return 1.0 / (1.0 + math.exp(-max(-_MAX_LOGIT, min(_MAX_LOGIT, logit))))


def preference_rewards(
    raw_scores: Sequence[float], answers: Sequence[str], calibration: LengthCalibration
) -> list[Score]:
    """One score per answer: graded, or an error where the model gave no finite number."""
    return [
        Score.of(length_controlled_reward(raw, answer_length(answer), calibration), "preference model")
        if math.isfinite(raw)
        else Score.error(f"the preference model gave {raw}")
        for raw, answer in zip(raw_scores, answers, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class LengthControlledPreference:
    """A preference model with its calibration: what the scorer asks (`rewards.scorer.RatesConversations`)."""

    model: PreferenceModel
    calibration: LengthCalibration

    def rate_all(self, conversations: Sequence[Sequence[Message]]) -> list[Score]:
        """Rewards of conversations that end with the answer to be rated, in order."""
        answers = [str(conversation[-1].get("content") or "") for conversation in conversations]
        return preference_rewards(self.model.raw_scores(conversations), answers, self.calibration)


def read_calibration(folder: str | Path) -> LengthCalibration:
    """The length calibration of a preference model folder; UserError names what is missing or wrong."""
    path = Path(folder) / PREFERENCE_MANIFEST
    manifest: Any = read_json(path) if path.is_file() else None
    names = {item.name for item in fields(LengthCalibration)}
    found = manifest.get("calibration") if isinstance(manifest, dict) else None
    if not isinstance(found, dict) or found.keys() != names:
        raise UserError(
            f"preference.folder: {folder} has no {PREFERENCE_MANIFEST} with a length calibration; "
            "give a folder that `fourstage preference-model` wrote"
        )
    return LengthCalibration(**found)


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """Shares of pairs whose better answer scored higher, a tie counting half: all, and by which answer is longer.

    A model that likes length does well where the better answer is longer and badly where it is shorter. None: there
    is no such pair.
    """

    all: float
    chosen_longer: float | None
    chosen_shorter: float | None


def pair_accuracy(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    chosen_answers: Sequence[str],
    rejected_answers: Sequence[str],
) -> PairAccuracy:
    """Accuracy of raw scores on pairs, with the length-bias diagnostics."""
    right = [
        0.5 if chosen == rejected else float(chosen > rejected)
        for chosen, rejected in zip(chosen_scores, rejected_scores, strict=True)
    ]
    signs = [
        answer_length(chosen) - answer_length(rejected)
        for chosen, rejected in zip(chosen_answers, rejected_answers, strict=True)
    ]
    longer = [value for value, sign in zip(right, signs, strict=True) if sign > 0]
    shorter = [value for value, sign in zip(right, signs, strict=True) if sign < 0]
    return PairAccuracy(_mean(right), _mean(longer) if longer else None, _mean(shorter) if shorter else None)


def group_diversity(answers: Sequence[str], max_n: int = 4) -> float:
    """1 − mean over answers of the share of their n-grams (n = 1…max_n) that another answer of the group has too.

    1: the answers share nothing; 0: they are one template. A policy that collapses falls towards 0 while its reward
    stays high. After Self-BLEU (arXiv 1802.01886), with two departures: shares of n-grams are averaged over n instead
    of their logarithms, so that one n without a match does not decide, and there is no brevity penalty. A group of
    fewer than two answers has diversity 1.
    """
    if len(answers) < 2:
        return 1.0
    shares = []
    for n in range(1, max_n + 1):
        grams = [set(ngrams(tokens(answer), n)) for answer in answers]
        owners: dict[tuple[str, ...], int] = {}
        for own in grams:
            for gram in own:
                owners[gram] = owners.get(gram, 0) + 1
        shares += [sum(owners[gram] > 1 for gram in own) / len(own) for own in grams if own]
    return 1.0 - _mean(shares) if shares else 0.0
