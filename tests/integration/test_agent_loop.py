"""Episodes on the real engine: in every turn the engine's log-probabilities are the learner's on the ids of the row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.chat import IM_END, ParsedCompletion
from data.episodes import EpisodeLimits, Reply
from data.records import Completion, Prompt
from rollout.agent_loop import episode_setups
from rollout.groups import build_requests
from rollout.policy import Policy, SamplingConfig
from tests.integration.engine_pairs import Pair, Pairs
from tests.integration.tiny_policies import MAX_POSITIONS

pytestmark = [pytest.mark.engine, pytest.mark.integration]

TOLERANCE = 1e-3
NUM_TURNS = 4


class Talkative:
    """Answers whatever it hears: a tool result, a user message, another tool result, then the end."""

    def __init__(self, reference: Any) -> None:
        self.num_turns = 0

    def step(self, turn: ParsedCompletion) -> Reply:
        self.num_turns += 1
        if self.num_turns == NUM_TURNS:
            return Reply(ended="answered")
        role = "user" if self.num_turns == 2 else "tool"
        return Reply(({"role": role, "content": f"the sum of {self.num_turns}"},))

    def outcome(self) -> Any:
        return {"turns": self.num_turns}


@pytest.fixture(scope="module")
def pair(pairs: Pairs) -> Pair:
    return talkative_pair(pairs)


def talkative_pair(pairs: Pairs) -> Pair:
    """A random policy that ends its turns often: its head is fitted so that `<|im_end|>` has a share everywhere."""
    pair = pairs["qwen3"]
    requests = build_requests(
        [Prompt("p", "t", ({"role": "user", "content": "the sum"},), {})],
        tokenizer=pair.engine.tokenizer, group_size=32, sampling=SamplingConfig(max_tokens=40), run_seed=0, purpose="t",
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(pair.folder)
    hidden: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    with torch.no_grad():
        for completion in pair.engine.generate(requests):
            row = torch.tensor([[*completion.prompt_token_ids, *completion.token_ids]])
            output = model(row, output_hidden_states=True)
            hidden.append(output.hidden_states[-1][0])
            wanted.append(output.logits[0].logsumexp(-1) - 1.5)
    fitted = torch.linalg.lstsq(torch.cat(hidden), torch.cat(wanted)).solution
    weights = {name: tensor.clone() for name, tensor in pair.own_weights().items()}
    weights["lm_head.weight"][pair.id(IM_END)] = fitted
    pair.engine.update_weights(weights, version=7)
    with torch.no_grad():
        for name, parameter in pair.learner.parameters.items():
            parameter.copy_(weights[name])
    return pair


def episodes(
    pair: Pair,
    *,
    max_model_len: int = MAX_POSITIONS,
    temperature: float = 1.0,
    policy: Policy | None = None,
    only: slice = slice(None),
) -> list[Completion]:
    prompts = [Prompt(f"p{n}", "t", ({"role": "user", "content": f"the sum of {n}"},), {}) for n in range(4)]
    requests = build_requests(
        prompts, tokenizer=pair.engine.tokenizer, group_size=8,
        sampling=SamplingConfig(max_tokens=48, temperature=temperature), run_seed=3, purpose="t",
    )  # fmt: skip
    environments = {prompt.uid: Talkative for prompt in prompts}
    setups = episode_setups(prompts, environments, limits=EpisodeLimits(max_turns=8), max_model_len=max_model_len)
    return (policy or pair.engine).generate(requests[only], episodes=setups)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_of_every_turn_are_the_learners_on_the_concatenated_ids(pair: Pair, temperature: float) -> None:
    found = episodes(pair, temperature=temperature)
    whole = [episode for episode in found if episode.ended == "answered"]
    assert len(whole) >= 4, Counter(episode.ended for episode in found)
    assert all(len(episode.turns) == NUM_TURNS and len(episode.segments) == 2 for episode in whole)
    num_compared = num_later = 0
    for episode in found:
        for segment in episode.segments:
            row, first = [*segment.prompt_token_ids, *segment.token_ids], len(segment.prompt_token_ids)
            expected = pair.learner.logprobs([row], temperature=temperature)[0][first:]
            later = False
            for mine, theirs, forced in zip(expected, segment.logprobs, segment.forced, strict=True):
                later = later or forced
                if forced:
                    assert theirs == 0.0
                else:
                    assert abs(mine - theirs) < TOLERANCE
                    num_compared, num_later = num_compared + 1, num_later + later
    assert num_later > 100, (num_compared, num_later)
    assert min(min(episode.logprobs) for episode in found) < -2  # surprises among them: agreement is not by certainty


def test_sampled_ids_of_an_episode_are_those_that_the_engine_gave(pair: Pair) -> None:
    for episode in episodes(pair):
        sampled = [
            token
            for segment in episode.segments
            for token, forced in zip(segment.token_ids, segment.forced, strict=True)
            if not forced
        ]
        assert pair.engine.tokenizer.decode(sampled, skip_special_tokens=False) == "".join(episode.turns)
        assert {span.version for segment in episode.segments for span in segment.weight_versions} == {7}
        for segment in episode.segments:
            spans = [position for span in segment.weight_versions for position in range(span.start, span.end)]
            assert spans == [position for position, forced in enumerate(segment.forced) if not forced]


def test_episodes_repeat_bit_for_bit(pair: Pair) -> None:
    assert episodes(pair) == episodes(pair)


def test_bits_on_one_thread_hang_on_no_batch() -> None:
    """In a process of its own: engines keep the number of threads that the first one of their process had."""
    path = Path(__file__).with_name("one_thread_bits.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "engine", str(path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "3 passed" in done.stdout


def test_a_context_that_fills_up_truncates_and_does_not_crash(pair: Pair) -> None:
    found = episodes(pair, max_model_len=110)
    full = [episode for episode in found if episode.ended == "context window"]
    assert full
    assert all(episode.truncated for episode in full)
    for episode in found:
        assert all(len(segment.prompt_token_ids) + len(segment.token_ids) <= 110 for segment in episode.segments)
