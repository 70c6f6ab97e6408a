"""Group-relative advantages, and the training rows made of them.

Place in the flow: `ScoredGroup -> TrainingSample`. A group is all completions of one prompt; it arrives whole, so no
shuffling, packing or sharding later can change an advantage. Everything that leaves the batch here (failed verifiers,
truncated completions, uniform groups) is counted by reason in an AdvantageReport, because what silently vanishes from
training is as harmful as what is silently wrong. Plain Python floats: the numbers are few, and sums by `math.fsum` do
not depend on order.

Suffixes: G completions of one prompt, T tokens of one row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from data.records import Completion, ScoredCompletion, ScoredGroup, Segment, TrainingSample, UserError

Truncated = Literal["mask", "score"]
GroupDrop = Literal["too_few", "zero_variance"]
RowDrop = Literal["error", "aborted", "truncated", "too_few", "zero_variance", "zero_advantage", "no_loss_tokens"]

STD_EPSILON = 1e-6
"""Added to the standard deviation; far below the deviation of any group that passes the variance threshold."""

MAX_TASK_SCALE = 10.0
"""Limit of the factor by which balancing enlarges a task, so that a task of near-ties does not turn into noise."""


@dataclass(frozen=True, slots=True)
class GroupAdvantages:
    """Advantages in the order of the rewards, None where there was no reward; and why the group is dropped, if so."""

    advantages_G: tuple[float | None, ...]
    dropped_reason: GroupDrop | None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What one task brought to the step. `pass_rate` and `mean_reward` are over completions that got a score (NaN if
    none did), whether or not they are trained on; `num_samples` are rows, of which an episode may have several;
    `advantage_variance` is the mean square over the rows trained on, after balancing; `reward_variance` is that within
    groups, which is what a task has to learn from; `mean_length` is in tokens after the prompts, over all completions;
    `error_share` is that of failed verifications.
    """

    num_completions: int
    num_scored: int
    num_errors: int
    num_samples: int
    pass_rate: float
    mean_reward: float
    advantage_variance: float
    mean_length: float
    error_share: float
    reward_variance: float


@dataclass(frozen=True, slots=True)
class AdvantageReport:
    """Everything that went in, what came out, and by which reason the rest was dropped.

    `num_completions` = `num_trained` + the sum of `dropped_rows`, which counts completions too. `num_samples` is the
    number of rows: one for each trained completion, and one more for each earlier segment of an episode.
    `num_loss_tokens` is the denominator of the token mean over the returned rows; `num_zero_advantage_tokens` are those
    of completions of living groups whose advantage happens to be zero: add them for a denominator that counts these
    rows as the papers do.
    """

    num_groups: int
    num_completions: int
    num_trained: int
    num_samples: int
    num_loss_tokens: int
    num_zero_advantage_tokens: int
    dropped_groups: Mapping[str, int]
    dropped_rows: Mapping[str, int]
    tasks: Mapping[str, TaskReport]

    def metrics(self) -> dict[str, float]:
        """The report as one flat record for a metrics line; every reason occurs, with 0 when nothing was dropped."""
        flat: dict[str, float] = {
            "groups": self.num_groups,
            "completions": self.num_completions,
            "trained": self.num_trained,
            "samples": self.num_samples,
            "loss_tokens": self.num_loss_tokens,
            "zero_advantage_tokens": self.num_zero_advantage_tokens,
        }
        flat |= {f"dropped_groups/{reason}": self.dropped_groups.get(reason, 0) for reason in get_args(GroupDrop)}
        flat |= {f"dropped_rows/{reason}": self.dropped_rows.get(reason, 0) for reason in get_args(RowDrop)}
        for name, task in self.tasks.items():
            flat |= {f"task/{name}/{field}": getattr(task, field) for field in TaskReport.__slots__}
        return flat


def group_advantages(
    rewards_G: Sequence[float | None], *, std_normalise: bool = False, zero_variance_threshold: float = 1e-6
) -> GroupAdvantages:
    """A_i = R_i − mean(R), divided by std(R) + 1e-6 when `std_normalise`, over the rewards that exist.

    None (a verifier that failed) leaves both the sum and the count of the mean, and gets no advantage. A group with
    fewer than two rewards has nothing to compare with: its advantage is 0 and the group is dropped (`too_few`), where a
    mean set to 0 would hand out the raw reward. A deviation at or below `zero_variance_threshold` is a tie
    (`zero_variance`): a comparison with 0 exactly would let division blow up rounding noise.
    Source: DeepSeekMath (arXiv 2402.03300, sec. 4.1.2); without the division, Dr.GRPO (arXiv 2503.20783). The deviation
    is the POPULATION one (divide by n), so that A is the z-score of the rewards at hand; libraries that call a tensor's
    default `std` divide by n − 1 and get advantages smaller by √((n−1)/n). Raises ValueError for a reward that is not
    finite.
    """
    valid = [reward for reward in rewards_G if reward is not None]
    if not all(map(math.isfinite, valid)):
        raise ValueError(f"group rewards {list(rewards_G)}: not finite; a failed verifier must give None")
    zeros_G = tuple(None if reward is None else 0.0 for reward in rewards_G)
    if len(valid) < 2:
        return GroupAdvantages(zeros_G, "too_few")
    mean = math.fsum(valid) / len(valid)
    std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in valid) / len(valid))
    if std <= zero_variance_threshold:
        return GroupAdvantages(zeros_G, "zero_variance")
    scale = 1.0 / (std + STD_EPSILON) if std_normalise else 1.0
    return GroupAdvantages(tuple(None if r is None else (r - mean) * scale for r in rewards_G), None)


def balance_by_task(
    advantages: Sequence[float], tasks: Sequence[str], *, max_scale: float = MAX_TASK_SCALE
) -> tuple[float, ...]:
    """Scale each task's advantages so that all tasks have the same root mean square, that of all rows together.

    One entry a row, of equal lengths (ValueError otherwise). Because the common value is the pooled one, Σ A² stays as
    it was, and a batch of one task is unchanged. A task of zeros stays zero; no task is enlarged more than `max_scale`
    times. Signs and the zero mean of each group are kept, since a factor is all that is applied.
    Source: the idea of GDPO (arXiv 2601.05242), which normalises several rewards of ONE prompt apart from each other
    before they are added, then normalises over the batch. Departure: here each prompt has one reward, of its task, so
    the normalisation is between tasks, by a factor and without centring anew.
    """
    if len(advantages) != len(tasks):
        raise ValueError(f"balance_by_task: {len(advantages)} advantages and {len(tasks)} tasks")
    if not advantages:
        return ()
    pooled = _root_mean_square(advantages)
    scales: dict[str, float] = {}
    for task in set(tasks):
        own = _root_mean_square([a for a, name in zip(advantages, tasks, strict=True) if name == task])
        scales[task] = min(pooled / own, max_scale) if own > 0.0 else 1.0
    return tuple(a * scales[task] for a, task in zip(advantages, tasks, strict=True))


def training_samples(
    groups: Sequence[ScoredGroup],
    *,
    temperature: float,
    std_normalise: bool,
    truncated: Truncated = "mask",
    balance_tasks: bool = False,
    zero_variance_threshold: float = 1e-6,
) -> tuple[list[TrainingSample], AdvantageReport]:
    """The rows that one RL step trains on, in the order of the groups, and the report of everything else.

    A row is prompt + completion. Loss mask 1 stands on sampled completion tokens only: the prompt and the tokens that a
    thinking budget or a tool wrote (`forced`) carry 0, no log-probability and no advantage. Index t of the behavior
    log-probabilities belongs to token t. `temperature` is the one the completions were sampled with.

    Each segment of an episode is a row of its own, with the advantage of the whole episode at each of its sampled
    tokens: the sum over rows is the sum over the episode's tokens, so the token mean weighs them as one long row. Its
    uid is that of the completion, an earlier segment's with ".0", ".1", … after it; all rows of a prompt share what
    stands before the last slash.

    truncated: `mask` takes completions that ran out of room out of everything: their reward neither enters the mean and
    deviation of the group nor its count, and none of their tokens is in a loss or a denominator. This is the overlong
    filtering of DAPO (arXiv 2503.14476, sec. 3.4), which masks the loss; the paper leaves open whether the reward still
    counts in the baseline. Here it does not: a missing end says nothing about the answer. `score` keeps them as scored
    (Skywork-OR1, arXiv 2505.22312, found that this saves tokens). Aborted completions, which the system cut off, leave
    under both settings, as do verifier errors.

    Rows whose advantage is zero or whose mask is empty have no policy gradient and are dropped. Departure from the
    papers: dropped rows leave the denominator too, see AdvantageReport. Raises UserError for a bad setting.
    """
    if truncated not in get_args(Truncated):
        raise UserError(f"truncated={truncated!r}: use one of {', '.join(get_args(Truncated))}")
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise UserError(f"temperature={temperature!r}: RL needs a sampling temperature > 0")
    dropped_groups: Counter[str] = Counter()
    dropped_rows: Counter[str] = Counter()
    num_zero_advantage_tokens = num_trained = 0
    samples: list[TrainingSample] = []
    for group in groups:
        reasons_G, outcome = _reasons(group, truncated, std_normalise, zero_variance_threshold)
        if outcome.dropped_reason:
            dropped_groups[outcome.dropped_reason] += 1
        for scored, reason, advantage in zip(group.scored, reasons_G, outcome.advantages_G, strict=True):
            if reason is None and advantage is not None:
                samples += _rows(group, scored.completion, advantage, temperature)
                num_trained += 1
                continue
            dropped_rows[str(reason)] += 1
            if reason == "zero_advantage":
                num_zero_advantage_tokens += _num_sampled_tokens(scored.completion)
    if balance_tasks:
        samples = _balanced(samples)
    report = AdvantageReport(
        num_groups=len(groups),
        num_completions=sum(len(group.scored) for group in groups),
        num_trained=num_trained,
        num_samples=len(samples),
        num_loss_tokens=sum(sum(sample.loss_mask_T) for sample in samples),
        num_zero_advantage_tokens=num_zero_advantage_tokens,
        dropped_groups=dict(dropped_groups),
        dropped_rows=dict(dropped_rows),
        tasks=_task_reports(groups, samples),
    )
    return samples, report


def _reasons(
    group: ScoredGroup, truncated: Truncated, std_normalise: bool, zero_variance_threshold: float
) -> tuple[list[RowDrop | None], GroupAdvantages]:
    """For each completion of a group why it is dropped (None: it is trained on), and the group's advantages."""
    absences_G = [_absence(scored, truncated) for scored in group.scored]
    rewards_G = [
        None if absence else scored.score.reward for scored, absence in zip(group.scored, absences_G, strict=True)
    ]
    outcome = group_advantages(rewards_G, std_normalise=std_normalise, zero_variance_threshold=zero_variance_threshold)
    reasons_G: list[RowDrop | None] = []
    for scored, absence, advantage in zip(group.scored, absences_G, outcome.advantages_G, strict=True):
        reason: RowDrop | None = absence or outcome.dropped_reason
        if reason is None and not _num_sampled_tokens(scored.completion):
            reason = "no_loss_tokens"
        # Compared with the threshold, as the variance is: R − mean of equal decimals need not be 0 in binary.
        if reason is None and abs(advantage or 0.0) <= zero_variance_threshold:
            reason = "zero_advantage"
        reasons_G.append(reason)
    return reasons_G, outcome


def _absence(scored: ScoredCompletion, truncated: Truncated) -> RowDrop | None:
    """Why a completion takes no part in its group, None when it does."""
    if scored.score.outcome == "error":
        return "error"
    if scored.completion.finish_reason == "abort":
        return "aborted"
    if truncated == "mask" and scored.completion.truncated:
        return "truncated"
    return None


def _num_sampled_tokens(completion: Completion) -> int:
    return sum(segment.forced.count(False) for segment in completion.segments)


def _rows(group: ScoredGroup, completion: Completion, advantage: float, temperature: float) -> list[TrainingSample]:
    """One row for each segment in which anything was sampled."""
    name = f"{completion.prompt_uid}/{completion.sample_index}"
    last = len(completion.segments) - 1
    return [
        _row(segment, advantage, temperature, uid=name if index == last else f"{name}.{index}", task=group.prompt.task)
        for index, segment in enumerate(completion.segments)
        if not all(segment.forced)
    ]


def _row(segment: Segment, advantage: float, temperature: float, *, uid: str, task: str) -> TrainingSample:
    mask, logprobs, advantages = _sampled_alone(segment, advantage)
    before = len(segment.prompt_token_ids)
    return TrainingSample(
        token_ids_T=segment.prompt_token_ids + segment.token_ids,
        loss_mask_T=(0,) * before + mask,
        behavior_logprobs_T=(0.0,) * before + logprobs,
        advantages_T=(0.0,) * before + advantages,
        temperature=temperature,
        uid=uid,
        task=task,
    )


def _sampled_alone(segment: Segment, advantage: float) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Mask, log-probabilities and advantages of a segment's own tokens, those that were forced taken out.

    A forced token has no behavior policy: its log-probability is an artefact of the engine, so none is kept.
    """
    if not any(segment.forced):  # nearly all: the controller makes millions of these a step
        count = len(segment.token_ids)
        return (1,) * count, segment.logprobs, (advantage,) * count
    sampled = [not forced for forced in segment.forced]
    return (
        tuple(map(int, sampled)),
        tuple(logprob if own else 0.0 for logprob, own in zip(segment.logprobs, sampled, strict=True)),
        tuple(advantage if own else 0.0 for own in sampled),
    )


def _balanced(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    before = [_advantage(sample) for sample in samples]
    after = balance_by_task(before, [sample.task for sample in samples])
    return [
        replace(sample, advantages_T=tuple(new if kept else 0.0 for kept in sample.loss_mask_T))
        for sample, new in zip(samples, after, strict=True)
    ]


def _advantage(sample: TrainingSample) -> float:
    """The one advantage that all tokens with loss of a row share."""
    return sample.advantages_T[sample.loss_mask_T.index(1)]


def _task_reports(groups: Sequence[ScoredGroup], samples: Sequence[TrainingSample]) -> dict[str, TaskReport]:
    reports: dict[str, TaskReport] = {}
    for task in sorted({group.prompt.task for group in groups}):
        mine = [group for group in groups if group.prompt.task == task]
        scored = [item for group in mine for item in group.scored]
        rewards = [item.score.reward for item in scored if item.score.reward is not None]
        own = [_advantage(sample) for sample in samples if sample.task == task]
        reports[task] = TaskReport(
            num_completions=len(scored),
            num_scored=len(rewards),
            num_errors=len(scored) - len(rewards),
            num_samples=len(own),
            pass_rate=_mean([float(reward == 1.0) for reward in rewards]),
            mean_reward=_mean(rewards),
            advantage_variance=_root_mean_square(own) ** 2 if own else 0.0,
            mean_length=_mean([item.completion.num_tokens for item in scored]),
            error_share=1.0 - len(rewards) / len(scored),
            reward_variance=_variance_within([group.rewards_G for group in mine]),
        )
    return reports


def _variance_within(groups: Sequence[Sequence[float | None]]) -> float:
    """Mean squared distance of the rewards from the mean of their group, over all groups."""
    squares: list[float] = []
    for rewards_G in groups:
        valid = [reward for reward in rewards_G if reward is not None]
        squares += [(reward - _mean(valid)) ** 2 for reward in valid]
    return math.fsum(squares) / len(squares) if squares else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values) / len(values))
