"""Every noun that flows through fourstage, in the order in which it flows, each frozen.

    Prompt -> Completion -> ScoredCompletion (+ Score) -> ScoredGroup -> TrainingSample -> StepResult

One type per arrow: a later stage of the flow is a new object that holds the earlier one; no field is filled in
afterwards. Sampled token ids are what is trained on; text is never tokenised a second time.

Shape suffixes used all over the project: P prompts, G completions of one prompt (the group), B rows, T tokens,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Message = Mapping[str, Any]
"""One chat message as Hugging Face templates take it: `role`, `content`, and optionally `reasoning_content` and
`tool_calls`."""

Mode = Literal["thinking", "non_thinking"]
Outcome = Literal["correct", "graded", "incorrect", "error"]
FinishReason = Literal["stop", "length", "abort"]


class UserError(ValueError):
    """Something the user can mend. The text is one line that names the field, the value and the mend; exit code 2."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One query with what is needed to render it and to verify an answer to it.

    `enable_thinking` is what the chat template gets: None or True leaves the choice of mode to the flags and the
    policy, False prefills the empty think block (the hard switch). `reference` is JSON, its shape is the task's own.
    """

    uid: str
    task: str
    messages: tuple[Message, ...]
    reference: Any
    enable_thinking: bool | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    domain: str = ""
    difficulty: int = 0

    @property
    def mode(self) -> Mode:
        """The mode that is asked for: the hard switch first, else the last flag, else thinking (the default)."""
        if self.enable_thinking is False:
            return "non_thinking"
        from data.chat import last_flag

        return "non_thinking" if last_flag(self.messages) == "no_think" else "thinking"


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Tokens [start, end) of a completion were sampled with the weights of `version`."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One prompt and what followed it: the unit that becomes one training row. Fields as in `Completion`."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    forced: tuple[bool, ...]
    weight_versions: tuple[VersionSpan, ...]

    def __post_init__(self) -> None:
        if lengths := _differing_lengths(self):
            raise ValueError(f"segment: ids, logprobs, forced differ: {lengths}")


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled for one prompt, token ids and log-probabilities kept as they came.

    `logprobs` are nats under the distribution that was sampled from (temperature applied). `forced` marks tokens that
    the thinking budget or an environment wrote instead of the policy: they carry loss mask 0. `text` is for people and
    verifiers.

    Of an episode of several turns (`rollout.agent_loop`) `text` is the last turn, `turns` are all of them, `ended` says
    why it was over ("answered", "turn cap", …) and `outcome` is what its environment saw, as JSON. The ids are those of
    the last part of the episode, tool results included; `earlier` holds the parts before it, when a new user message
    made the history be rendered anew. A single turn leaves all four empty.
    """

    prompt_uid: str
    sample_index: int
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    forced: tuple[bool, ...]
    finish_reason: FinishReason
    weight_versions: tuple[VersionSpan, ...]
    text: str
    turns: tuple[str, ...] = ()
    ended: str = ""
    outcome: Any = None
    earlier: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        if lengths := _differing_lengths(self):
            raise ValueError(
                f"completion {self.prompt_uid}/{self.sample_index}: ids, logprobs, forced differ: {lengths}"
            )

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All parts in order, the last one this completion's own; one unless the history was rendered anew."""
        last = Segment(self.prompt_token_ids, self.token_ids, self.logprobs, self.forced, self.weight_versions)
        return (*self.earlier, last)

    @property
    def num_tokens(self) -> int:
        """Tokens after the prompts, over all parts, those that an environment or the thinking budget wrote included."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def truncated(self) -> bool:
        """Whether the completion ended for want of room, so that it says nothing about the answer."""
        return self.finish_reason != "stop"

    @property
    def oldest_version(self) -> int:
        """The oldest weights that any token of this completion was sampled with."""
        return min((span.version for segment in self.segments for span in segment.weight_versions), default=0)


def _differing_lengths(part: Segment | Completion) -> set[int]:
    """The lengths of ids, log-probabilities and marks where they are not one and the same."""
    lengths = {len(part.token_ids), len(part.logprobs), len(part.forced)}
    return lengths if len(lengths) != 1 else set()


@dataclass(frozen=True, slots=True)
class Score:
    """What a verifier, judge or preference model says of one completion.

    correct: reward 1. graded: strictly between 0 and 1. incorrect: reward 0. error: the verifier itself failed or timed
    out; there is no reward (None), and the completion leaves its group. An error is never a wrong answer.
    """

    reward: float | None
    outcome: Outcome
    reason: str = ""

    def __post_init__(self) -> None:
        reward, outcome = self.reward, self.outcome
        if outcome == "error":
            if reward is not None:
                raise ValueError(f"score: an error carries no reward, got {reward!r}")
            return
        if reward is None or not math.isfinite(reward) or not 0.0 <= reward <= 1.0:
            raise ValueError(f"score: reward must lie in [0, 1], got {reward!r} with outcome {outcome!r}")
        expected = "correct" if reward == 1.0 else "incorrect" if reward == 0.0 else "graded"
        if outcome != expected:
            raise ValueError(f"score: reward {reward} means outcome {expected!r}, got {outcome!r}")

    @classmethod
    def of(cls, reward: float, reason: str = "") -> Score:
        """A score with the outcome that follows from the reward."""
        return cls(float(reward), "correct" if reward == 1 else "incorrect" if reward == 0 else "graded", reason)

    @classmethod
    def correct(cls, reason: str = "") -> Score:
        return cls(1.0, "correct", reason)

    @classmethod
    def incorrect(cls, reason: str = "") -> Score:
        return cls(0.0, "incorrect", reason)

    @classmethod
    def error(cls, reason: str) -> Score:
        return cls(None, "error", reason)


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    completion: Completion
    score: Score


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """All completions of one prompt with their scores: the unit of group-relative advantages; never split."""

    prompt: Prompt
    scored: tuple[ScoredCompletion, ...]

    @property
    def rewards_G(self) -> tuple[float | None, ...]:
        return tuple(item.score.reward for item in self.scored)


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One row for the learner: prompt and completion ids with what the loss needs, all of length T.

    `loss_mask_T` is 1 where a token is trained on. SFT rows have zero logprobs and unit advantages.
    """

    token_ids_T: tuple[int, ...]
    loss_mask_T: tuple[int, ...]
    behavior_logprobs_T: tuple[float, ...]
    advantages_T: tuple[float, ...]
    temperature: float = 1.0
    uid: str = ""
    task: str = ""

    def __post_init__(self) -> None:
        lengths = {
            len(self.token_ids_T), len(self.loss_mask_T), len(self.behavior_logprobs_T), len(self.advantages_T)
        }  # fmt: skip
        if len(lengths) != 1:
            raise ValueError(f"training sample {self.uid!r}: fields differ in length: {sorted(lengths)}")
        if self.loss_mask_T and self.loss_mask_T[0]:
            raise ValueError(f"training sample {self.uid!r}: the first token has no logits and cannot carry loss")

    @classmethod
    def supervised(
        cls, token_ids: tuple[int, ...], loss_mask: tuple[int, ...], *, uid: str = "", task: str = ""
    ) -> TrainingSample:
        """A row for SFT: no behavior policy, unit advantages."""
        num_tokens = len(token_ids)
        return cls(token_ids, loss_mask, (0.0,) * num_tokens, (1.0,) * num_tokens, uid=uid, task=task)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step reports: plain floats, ready for a metrics line.

    `timing` holds what the clock says, seconds by phase: it differs from run to run, so it is no part of equality.
    """

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict, compare=False)
