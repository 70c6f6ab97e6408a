"""The reward of the speed comparisons, as a user's task file: the share of letters a to m among the letters.

Every side computes it with the same function, it costs next to nothing, and it differs within every group of sampled
text, so that no group is dropped and every token is trained on.
"""

from __future__ import annotations

import random

from benchmarks.letter_share import letter_share
from data.chat import ParsedCompletion
from data.records import Score
from rewards.task import Example, ScoreRequest, Task, TaskItem


class _ScoresTruncated(Task):
    """A task that scores cut completions as well: lengths are forced here, so that every completion is one.

    The checks that all tasks share would call them incorrect, every group would be uniform, and no step would learn.
    """

    def decide(self, request: ScoreRequest) -> Score:
        return Score.of(letter_share(request.completion))

    def decide_inline(self, request: ScoreRequest) -> Score:
        return self.decide(request)


def _generate(rng: random.Random, difficulty: int) -> TaskItem:
    del difficulty
    return TaskItem(({"role": "user", "content": f"Write about the number {rng.randrange(1000)}."},), {})


def _verify(request: ScoreRequest, parsed: ParsedCompletion) -> Score:
    del parsed
    return Score.of(letter_share(request.completion))


TASK = _ScoresTruncated(
    name="letter_share",
    area="format_following",
    reward_type="rule",
    summary="the share of letters a to m",
    hack="none: it measures speed and rewards nothing",
    guard="none",
    generate=_generate,
    max_difficulty=0,
    verify=_verify,
    reference_keys=(),
    known_good=(Example("abc", {}),),
    known_bad=(Example("xyz", {}),),
)
