"""Rollouts: scored in any order of arrival, gated by mode in every turn, failed verifications shown with examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from data.episodes import EpisodeLimits
from data.records import Completion, Prompt, Score
from rewards.scorer import Scorer
from rewards.verifier_pool import VerifierPool
from rollout.policy import GenerationRequest, SamplingConfig
from stages.rollouts import error_examples, gate_mode, roll_out, score_request
from tests.stages.stage_fakes import FakePolicy, completion, prompts_of

TEXTS = {
    "none": "4",
    "empty": "<think>\n\n</think>\n\n4",
    "closed": "<think>\n2+2=4\n</think>\n\n4",
    "unclosed": "<think>\n2+2=4",
    "malformed": "<think>\na\n</think>\n\n<think>\nb\n</think>\n\n4",
}
"""A completion for each kind of think block."""


def question(flag: str = "", enable_thinking: bool | None = None) -> Prompt:
    (prompt,) = prompts_of("math", 1)
    content = f"{prompt.messages[-1]['content']}{flag}"
    return dataclasses.replace(
        prompt, messages=({"role": "user", "content": content},), enable_thinking=enable_thinking
    )


# ---------------------------------------------------------------------------------------------- the mode gate


@pytest.mark.parametrize(
    ("prompt", "obeyed"),
    [
        (question(), {"closed"}),
        (question(" /think"), {"closed"}),
        (question(" /think", enable_thinking=True), {"closed"}),
        # Under the soft switch the empty block is part of the format; the hard switch has put it into the prompt.
        (question(" /no_think"), {"empty"}),
        (question(" /no_think", enable_thinking=True), {"empty"}),
        (question(enable_thinking=False), {"none"}),
        (question(" /think", enable_thinking=False), {"none"}),  # the hard switch is stronger than a flag
    ],
)
def test_only_the_block_that_the_mode_asks_for_keeps_its_reward(prompt: Prompt, obeyed: set[str]) -> None:
    kept = {
        block for block, text in TEXTS.items() if gate_mode(prompt, completion(prompt, text), Score.correct()).reward
    }
    assert kept == obeyed


def test_the_gate_says_what_it_saw_and_lowers_no_score_to_an_error() -> None:
    prompt = question(" /no_think")
    gated = gate_mode(prompt, completion(prompt, TEXTS["closed"]), Score.of(0.5))
    assert gated == Score.incorrect("mode: asked for non_thinking, the think block is closed")
    obedient = gate_mode(prompt, completion(prompt, TEXTS["empty"]), Score.of(0.5, "half"))
    assert obedient == Score.of(0.5, "half")
    failed = Score.error("timed out")
    assert gate_mode(prompt, completion(prompt, TEXTS["closed"]), failed) == failed


def test_every_turn_of_an_episode_has_to_obey_the_mode() -> None:
    prompt = question(" /no_think")
    turns = (TEXTS["empty"], TEXTS["closed"])
    episode = dataclasses.replace(completion(prompt, TEXTS["closed"]), turns=turns)
    assert gate_mode(prompt, episode, Score.correct()).reward == 0.0
    obedient = dataclasses.replace(episode, turns=(TEXTS["empty"], TEXTS["empty"]))
    assert gate_mode(prompt, obedient, Score.correct()).reward == 1.0


# ---------------------------------------------------------------------------------------------- sampling and scoring


class BackToFront(FakePolicy):
    """Hands on each completion by itself, the last one first."""

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        on_finished: Callable[[Sequence[Completion]], None] | None = None,
        **options: Any,
    ) -> list[Completion]:
        completions = super().generate(requests, **options)
        for item in reversed(completions):
            assert on_finished is not None
            on_finished([item])
        return completions


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    scorer = Scorer(VerifierPool())
    yield scorer
    scorer.close()


def rolled_out(policy: FakePolicy, prompts: list[Prompt], scorer: Scorer, group_size: int = 2) -> Any:
    requests = [
        GenerationRequest(prompt.uid, index, (1, 2), SamplingConfig(), index)
        for prompt in prompts
        for index in range(group_size)
    ]
    return roll_out(
        policy, prompts, requests,
        scorer=scorer, limits=EpisodeLimits(), max_model_len=512,
    )  # fmt: skip


def test_scores_follow_the_requests_in_whatever_order_completions_finish(scorer: Scorer) -> None:
    prompts = prompts_of("arithmetic", 3)
    answers = {prompt.uid: str(prompt.reference["answer"]) for prompt in prompts}
    policy = BackToFront(lambda request: answers[request.prompt_uid] if request.sample_index else "no")
    found = rolled_out(policy, prompts, scorer)
    assert [item.prompt_uid for item in found.completions] == [prompt.uid for prompt in prompts for _ in range(2)]
    assert [score.reward for score in found.scores] == [0.0, 1.0] * 3
    assert [item.score for item in found.scored()] == list(found.scores)


def test_the_scorer_sees_what_an_episode_was() -> None:
    (prompt,) = prompts_of("arithmetic", 1)
    episode = dataclasses.replace(
        completion(prompt, "last"), turns=("first", "last"), ended="turn cap", outcome={"balance": 3}
    )
    request = score_request(prompt, episode)
    assert (request.completion, request.turns, request.ended) == ("last", ("first", "last"), "turn cap")
    assert request.outcome == {"balance": 3}


def test_error_examples_show_each_reason_once_with_its_task_and_a_piece_of_the_answer(scorer: Scorer) -> None:
    prompts = prompts_of("arithmetic", 3)
    broken = [dataclasses.replace(p, reference={"answer": word}) for p, word in zip(prompts, "xxy", strict=True)]
    found = rolled_out(FakePolicy(lambda request: "an\nanswer " + "7" * 100), broken, scorer, group_size=1)
    shown = error_examples(broken, found)
    assert len(shown) == 2
    assert shown[0].startswith("arithmetic: verifier raised ValueError: ")
    assert shown[0].endswith("; answer 'an answer " + "7" * 67 + "...'")
