"""From prompts to requests and back to groups."""

from __future__ import annotations

import pytest

from data.records import Completion, Prompt, Score
from rollout.groups import assemble_groups, build_requests, prompt_token_ids
from rollout.policy import GenerationRequest, SamplingConfig, request_seed
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()


def prompt(uid: str, question: str = "1+1?", *, enable_thinking: bool | None = None) -> Prompt:
    return Prompt(uid, "arithmetic", ({"role": "user", "content": question},), {"answer": "2"}, enable_thinking)


def completion(uid: str, index: int) -> Completion:
    return Completion(uid, index, (1,), (2,), (0.0,), (False,), "stop", (), f"{uid}{index}")


def requests_of(*prompts: Prompt, run_seed: int = 0, purpose: str = "train", step: int = 0) -> list[GenerationRequest]:
    return build_requests(
        prompts,
        tokenizer=TOKENIZER,
        group_size=3,
        sampling=SamplingConfig(),
        run_seed=run_seed,
        purpose=purpose,
        step=step,
    )


def test_a_group_is_requested_side_by_side_with_one_prompt_and_a_seed_for_each_sample() -> None:
    requests = requests_of(prompt("a"), prompt("b", "2+2?"), run_seed=7, step=5)
    assert [(r.prompt_uid, r.sample_index) for r in requests] == [(u, i) for u in "ab" for i in range(3)]
    assert [r.seed for r in requests] == [request_seed(7, "train", 5, u, i) for u in "ab" for i in range(3)]
    assert len({r.seed for r in requests}) == 6
    assert {r.prompt_token_ids for r in requests[:3]} == {prompt_token_ids(TOKENIZER, prompt("a"))}


def test_seeds_hang_on_run_purpose_and_step_and_on_nothing_else_in_the_batch() -> None:
    alone = [r.seed for r in requests_of(prompt("b"))]
    assert [r.seed for r in requests_of(prompt("a"), prompt("b"))[3:]] == alone
    for other in (requests_of(prompt("b"), run_seed=1), requests_of(prompt("b"), step=1)):
        assert not set(alone) & {r.seed for r in other}
    assert not set(alone) & {r.seed for r in requests_of(prompt("b"), purpose="eval")}


def test_the_prompt_ends_where_the_answer_begins_and_the_hard_switch_prefills_the_empty_block() -> None:
    rendered = TOKENIZER.decode(prompt_token_ids(TOKENIZER, prompt("a")))
    assert rendered == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    switched = TOKENIZER.decode(prompt_token_ids(TOKENIZER, prompt("a", enable_thinking=False)))
    assert switched == rendered + "<think>\n\n</think>\n\n"


def test_groups_come_in_the_order_of_prompts_and_samples_whatever_order_completions_have() -> None:
    prompts = [prompt("a"), prompt("b")]
    completions = [completion("b", 1), completion("a", 1), completion("b", 0), completion("a", 0)]
    scores = [Score.of(reward) for reward in (0.1, 0.2, 0.3, 0.4)]
    groups = assemble_groups(prompts, completions, scores)
    assert [group.prompt.uid for group in groups] == ["a", "b"]
    assert [[item.completion.text for item in group.scored] for group in groups] == [["a0", "a1"], ["b0", "b1"]]
    assert [group.rewards_G for group in groups] == [(0.4, 0.2), (0.3, 0.1)]


def test_two_prompts_with_one_uid_are_refused() -> None:
    with pytest.raises(ValueError, match="share a uid"):
        assemble_groups([prompt("a"), prompt("a")], [], [])


def test_a_missing_score_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        assemble_groups([prompt("a")], [completion("a", 0), completion("a", 1)], [Score.correct()])
