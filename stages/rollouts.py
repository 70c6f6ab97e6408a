"""A batch of rollouts: completions sampled in one or several turns, and scored while others are still being sampled.

prompts + requests -> Policy.generate -> completions -> ScoreRequest -> Scorer -> mode gate -> scores
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data.chat import parse_completion
from data.episodes import EpisodeLimits
from data.records import Completion, Prompt, Score, ScoredCompletion
from rewards.registry import environment_factory, get_task
from rewards.scorer import Scorer
from rewards.task import score_request
from rollout.agent_loop import episode_setups
from rollout.policy import EpisodeSetup, GenerationRequest, Policy

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Completions with their scores, both in the order of the requests, and the wall seconds they took.

    `score_s` is what scoring added: the wait after the last completion. `overlapped_s` is the time that the controller
    scored while engines were busy.
    """

    completions: tuple[Completion, ...]
    scores: tuple[Score, ...]
    generate_s: float
    score_s: float
    overlapped_s: float

    def scored(self) -> list[ScoredCompletion]:
        return [ScoredCompletion(c, score) for c, score in zip(self.completions, self.scores, strict=True)]


def roll_out(
    policy: Policy,
    prompts: Sequence[Prompt],
    requests: Sequence[GenerationRequest],
    *,
    scorer: Scorer,
    limits: EpisodeLimits,
    max_model_len: int,
    mode_gate: bool = False,
    on_progress: OnProgress | None = None,
) -> Rollouts:
    """Sample `requests` and score what comes back; prompts of tasks with an environment become episodes.

    With `mode_gate` a completion in the wrong mode earns nothing.
    """
    by_uid = {prompt.uid: prompt for prompt in prompts}
    kinds = [get_task(by_uid[request.prompt_uid].task).reward_type for request in requests]
    batch = scorer.begin(num_preference=kinds.count("preference_model"))
    places: dict[tuple[str, int], int] = {}
    overlapped_s = 0.0

    def begin_scoring(completions: Sequence[Completion]) -> None:
        nonlocal overlapped_s
        began = time.perf_counter()
        for completion in completions:
            places[completion.prompt_uid, completion.sample_index] = len(places)
        batch.add([score_request(by_uid[completion.prompt_uid], completion) for completion in completions])
        overlapped_s += time.perf_counter() - began

    began = time.perf_counter()
    completions = policy.generate(
        requests,
        episodes=setups_of(prompts, limits=limits, max_model_len=max_model_len),
        on_progress=on_progress,
        on_finished=begin_scoring,
    )
    generated = time.perf_counter()
    found = batch.finish()
    scores = [found[places[completion.prompt_uid, completion.sample_index]] for completion in completions]
    if mode_gate:
        scores = [gate_mode(by_uid[c.prompt_uid], c, score) for c, score in zip(completions, scores, strict=True)]
    return Rollouts(tuple(completions), tuple(scores), generated - began, time.perf_counter() - generated, overlapped_s)


def setups_of(prompts: Sequence[Prompt], *, limits: EpisodeLimits, max_model_len: int) -> dict[str, EpisodeSetup]:
    """What makes episodes of the prompts whose task has an environment, by uid."""
    made = {prompt.uid: environment_factory(prompt.task) for prompt in prompts}
    environments = {uid: environment for uid, environment in made.items() if environment is not None}
    return episode_setups(prompts, environments, limits=limits, max_model_len=max_model_len)


def gate_mode(prompt: Prompt, completion: Completion, score: Score) -> Score:
    """Zero reward for a completion of which any turn does not obey the mode its prompt asks for; errors stay errors."""
    if score.outcome == "error":
        return score
    hard = prompt.enable_thinking is False
    for text in completion.turns or (completion.text,):
        block = parse_completion(text, prefilled=hard).block
        obeyed = block in (("closed",) if prompt.mode == "thinking" else ("empty", "none"))
        if prompt.mode == "non_thinking" and not hard and block == "none":
            obeyed = False  # the empty block is part of the format when nobody prefilled it
        if not obeyed:
            return Score.incorrect(f"mode: asked for {prompt.mode}, the think block is {block}")
    return score


def error_examples(prompts: Sequence[Prompt], rollouts: Rollouts, *, most: int = 3) -> list[str]:
    """Failed verifications to show, one for each different reason: task, reason and the start of the answer."""
    by_uid = {prompt.uid: prompt for prompt in prompts}
    shown: dict[str, str] = {}
    for completion, score in zip(rollouts.completions, rollouts.scores, strict=True):
        if score.outcome == "error" and score.reason not in shown:
            answer = " ".join(completion.text.split())
            cut = answer if len(answer) <= 80 else answer[:77] + "..."
            shown[score.reason] = f"{by_uid[completion.prompt_uid].task}: {score.reason}; answer {cut!r}"
    return list(shown.values())[:most]
