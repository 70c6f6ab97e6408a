"""The real vLLM engine against the learner: the same bits, the same log-probabilities, the weights that were sent.

One engine of each architecture serves the module (`conftest.py`). A test that changes weights starts from the model's
own, so the order of tests does not matter.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.chat import END_OF_TEXT, IM_END, THINK_CLOSE
from data.records import Completion, UserError, VersionSpan
from learner.learner import Learner
from rollout.engine import Engine
from tests.integration.engine_pairs import ENGINE, Pair, Pairs
from tests.integration.tiny_policies import MAX_POSITIONS, chain, request, scripted

pytestmark = [pytest.mark.engine, pytest.mark.integration]

TOLERANCE = 1e-3


@pytest.fixture(scope="module", params=["qwen3", "qwen3-tied", "llama"])
def any_pair(request: pytest.FixtureRequest, pairs: Pairs) -> Pair:
    return pairs[request.param]


def moved(weights: dict[str, Tensor], *, tied: bool, scale: float = 0.1) -> dict[str, Tensor]:
    """Weights a large random step away, the head still tied where it was."""
    generator = torch.Generator().manual_seed(1)
    result = {name: w + scale * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    if tied:
        result["lm_head.weight"] = result["model.embed_tokens.weight"]
    return result


def load_into_learner(learner: Learner, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(weights[name])


# ---------------------------------------------------------------------------------------------- sampling


def test_the_same_requests_give_the_same_bits(pair: Pair) -> None:
    prompt = pair.ids("the sum of two and three is")
    requests = [request(prompt, index=index, seed=index) for index in range(6)]
    first, again = pair.engine.generate(requests), pair.engine.generate(requests)
    assert first == again
    assert len({completion.token_ids for completion in first}) == 6


def test_what_else_is_in_the_batch_and_in_which_order_changes_no_token(pair: Pair) -> None:
    requests = [request(pair.ids("abc" * (n + 1)), uid=f"p{n}", seed=n) for n in range(8)]
    together = pair.engine.generate(requests)
    alone = [pair.engine.generate([one])[0] for one in requests[:3]]
    assert [c.token_ids for c in alone] == [c.token_ids for c in together[:3]]
    turned = pair.engine.generate(requests[::-1])[::-1]
    assert [(c.prompt_uid, c.token_ids) for c in turned] == [(c.prompt_uid, c.token_ids) for c in together]


def test_prompts_that_do_not_fit_into_one_step_change_no_token(pair: Pair) -> None:
    assert ENGINE.max_num_batched_tokens == 1024  # three of these prompts, and the fourth has to wait
    requests = [request(pair.ids(f"{n}" + "qz" * 150), uid=f"p{n}", seed=n, max_tokens=6) for n in range(9)]
    assert all(len(one.prompt_token_ids) == 301 for one in requests)
    together = pair.engine.generate(requests)
    assert [pair.engine.generate([one])[0].token_ids for one in requests] == [c.token_ids for c in together]


def test_another_seed_gives_other_tokens(pair: Pair) -> None:
    prompt = pair.ids("the sum of")
    first, second = (pair.engine.generate([request(prompt, seed=seed)])[0] for seed in (1, 2))
    assert first.token_ids != second.token_ids


def test_a_presence_penalty_is_taken_off_tokens_that_the_completion_holds(pair: Pair) -> None:
    a = pair.id("a")
    weights = scripted(pair.own_weights(), {a: a})
    weights["lm_head.weight"] *= 0.03  # a logit of 1.2 against 0
    pair.engine.update_weights(weights, version=1)
    plain, penalised = (
        pair.engine.generate([request([a], temperature=0.0, presence_penalty=penalty, max_tokens=2)])[0].token_ids
        for penalty in (0.0, 1.5)
    )
    assert plain == (a, a)
    assert penalised[0] == a  # the prompt's own tokens do not count
    assert penalised[1] != a


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_of_sampled_tokens_are_the_learners(any_pair: Pair, temperature: float) -> None:
    prompt = any_pair.ids("the sum of two and three is")
    requests = [request(prompt, index=i, seed=i, temperature=temperature, max_tokens=40) for i in range(4)]
    for completion in any_pair.engine.generate(requests):
        assert any_pair.gap(completion, temperature) < TOLERANCE
        # Were the temperature or the position off, these would be the gaps.
        assert any_pair.gap(completion, temperature + 0.4) > 0.05


def test_logprobs_are_left_out_where_nobody_wants_them(pair: Pair) -> None:
    wanted = request(pair.ids("ab"), seed=3)
    unwanted = type(wanted)(wanted.prompt_uid, 0, wanted.prompt_token_ids, wanted.sampling, wanted.seed, False)
    with_logprobs, without = (pair.engine.generate([one])[0] for one in (wanted, unwanted))
    assert with_logprobs.token_ids == without.token_ids
    assert set(without.logprobs) == {0.0}


@pytest.mark.parametrize("length", [1, 2, 17, MAX_POSITIONS])
def test_scored_rows_of_every_length_have_the_learners_logprobs(any_pair: Pair, length: int) -> None:
    rows = [[(7 * i + start) % 256 for i in range(length)] for start in (1, 2)]
    scored, expected = any_pair.engine.score(rows), any_pair.learner.logprobs(rows)
    assert [len(row) for row in scored] == [length, length]
    torch.testing.assert_close(torch.tensor(scored), torch.tensor(expected), rtol=0, atol=TOLERANCE)


# ---------------------------------------------------------------------------------------------- how a completion ends


@pytest.mark.parametrize("end", [IM_END, END_OF_TEXT])
def test_both_end_tokens_finish_a_completion(pair: Pair, end: str) -> None:
    a, b, stop = pair.id("a"), pair.id("b"), pair.id(end)
    pair.engine.update_weights(scripted(pair.own_weights(), {a: b, b: stop}), version=1)
    (completion,) = pair.engine.generate([request([a])])
    assert completion.token_ids == (b, stop)
    assert (completion.finish_reason, completion.truncated) == ("stop", False)
    assert completion.text == f"b{end}"


def test_an_end_that_is_ignored_is_sampled_like_any_token_and_ends_nothing(pair: Pair) -> None:
    a, b, stop = pair.id("a"), pair.id("b"), pair.id(IM_END)
    pair.engine.update_weights(scripted(pair.own_weights(), chain(a, b, stop)), version=1)
    (completion,) = pair.engine.generate([request([a], max_tokens=7, ignore_end=True)])
    assert completion.token_ids == (b, stop, a, b, stop, a, b)
    assert completion.finish_reason == "length"


def test_a_completion_that_runs_out_of_tokens_or_of_context_is_truncated(pair: Pair) -> None:
    a, b = pair.id("a"), pair.id("b")
    pair.engine.update_weights(scripted(pair.own_weights(), chain(a, b)), version=1)
    (short,) = pair.engine.generate([request([a], max_tokens=5)])
    assert short.token_ids == (b, a, b, a, b)
    assert (short.finish_reason, short.truncated) == ("length", True)
    (full,) = pair.engine.generate([request([a] * (MAX_POSITIONS - 3), max_tokens=100)])
    assert (len(full.token_ids), full.finish_reason) == (3, "length")


def test_a_prompt_that_leaves_no_room_is_refused_by_name(pair: Pair) -> None:
    with pytest.raises(UserError, match="512 leaves no room after the prompt long of 512 tokens"):
        pair.engine.generate([request([1] * MAX_POSITIONS, uid="long")])
    assert pair.engine.num_pending == 0
    assert len(pair.engine.generate([request([1])])) == 1


def test_the_same_sample_twice_in_a_batch_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="asked for twice"):
        pair.engine.generate([request([1]), request([1])])


# ---------------------------------------------------------------------------------------------- weights


def test_after_a_large_update_the_engine_computes_what_the_learner_does(any_pair: Pair) -> None:
    engine, learner, own = any_pair.engine, any_pair.learner, any_pair.own_weights()
    prompt = (any_pair.ids("the sum of two and three is ") * 30)[:300]  # longer than a block of the prefix cache
    (before,) = engine.generate([request(prompt, seed=1)])
    assert any_pair.gap(before) < TOLERANCE
    new = moved(own, tied=learner.model.config.tie_word_embeddings)
    try:
        load_into_learner(learner, new)
        assert any_pair.gap(before) > 0.5  # the step is large: old weights anywhere would be seen
        engine.update_weights(learner.weights(), version=1)
        (after,) = engine.generate([request(prompt, seed=1)])
        assert any_pair.gap(after) < TOLERANCE
        assert after.weight_versions == (VersionSpan(1, 0, len(after.token_ids)),)
        assert engine.differing_tensors(learner.weights()) == []
    finally:
        load_into_learner(learner, own)
        engine.update_weights(own, version=0)
    assert engine.generate([request(prompt, seed=1)]) == [before]


def test_a_prefix_cache_that_is_kept_over_an_update_would_be_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, own = pair.engine, pair.own_weights()
    prompt = (pair.ids("the sum of two and three is ") * 30)[:300]
    engine.generate([request(prompt)])
    with monkeypatch.context() as patched:
        patched.setattr(engine, "reset_prefix_cache", lambda: None)
        engine.update_weights(moved(own, tied=False), version=1)
        (stale,) = engine.generate([request(prompt)])
    load_into_learner(pair.learner, moved(own, tied=False))
    try:
        assert pair.gap(stale) > 10 * TOLERANCE
        engine.reset_prefix_cache()
        assert pair.gap(engine.generate([request(prompt)])[0]) < TOLERANCE
    finally:
        load_into_learner(pair.learner, own)


ALTERED = [
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.self_attn.v_proj.weight",
    "model.layers.1.self_attn.o_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.norm.weight",
    "model.layers.1.input_layernorm.weight",
]


@pytest.mark.parametrize("name", ALTERED)
def test_the_tensor_that_did_not_arrive_is_named_and_no_other(any_pair: Pair, name: str) -> None:
    weights = any_pair.own_weights()
    assert any_pair.engine.differing_tensors(weights) == []
    weights[name] = weights[name].clone()
    weights[name].view(-1)[5] += 0.2  # a single number
    assert any_pair.engine.differing_tensors(weights) == [name]


def test_a_tied_head_that_was_not_sent_is_refused(pairs: Pairs) -> None:
    pair = pairs["qwen3-tied"]
    weights = pair.own_weights()
    del weights["lm_head.weight"]
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing"):
        pair.engine.update_weights(weights, version=1)


def test_requests_in_flight_go_on_with_new_weights_and_say_where(pair: Pair) -> None:
    engine, own = pair.engine, pair.own_weights()
    a, b, c = (pair.id(letter) for letter in "abc")
    engine.update_weights(scripted(own, chain(a, b)), version=3)
    engine.submit(request([a], uid="long", max_tokens=12))
    engine.submit(request([a], uid="short", max_tokens=2))
    finished: list[Completion] = []
    for _ in range(20):
        if any(completion.prompt_uid == "short" for completion in finished):
            break
        finished += engine.step()
    engine.update_weights(scripted(own, {a: c, b: c, c: c}), version=4)
    while engine.num_pending:
        finished += engine.step()
    short, long = finished
    assert (short.prompt_uid, short.token_ids, short.weight_versions) == ("short", (b, a), (VersionSpan(3, 0, 2),))
    old, new = long.weight_versions
    assert (old, new) == (VersionSpan(3, 0, old.end), VersionSpan(4, old.end, 12))
    assert 2 <= old.end < 12
    # The tokens themselves tell where the new weights came in.
    assert long.token_ids == ((b, a) * 6)[: old.end] + (c,) * (12 - old.end)
    assert long.oldest_version == 3


def test_generate_refuses_to_mix_with_requests_in_flight(pair: Pair) -> None:
    pair.engine.submit(request(pair.ids("ab"), max_tokens=3))
    with pytest.raises(RuntimeError, match="1 requests are still in flight"):
        pair.engine.generate([])
    while pair.engine.num_pending:
        pair.engine.step()


# ---------------------------------------------------------------------------------------------- broken folders


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_not_whole_is_refused_by_the_name_of_what_is_missing(
    pairs: Pairs, tmp_path: Path, missing: str
) -> None:
    folder = shutil.copytree(pairs["qwen3"].folder, tmp_path / "model")
    (folder / missing).unlink()
    shown = "*.safetensors" if missing.endswith("safetensors") else missing
    with pytest.raises(UserError) as caught:
        Engine(folder, ENGINE)
    assert str(caught.value).startswith(f"model: {folder} holds no {shown}")
    with pytest.raises(UserError, match="is no folder"):
        Engine(tmp_path / "nowhere", ENGINE)


def test_a_tokenizer_without_the_chat_tokens_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    folder = shutil.copytree(pairs["qwen3"].folder, tmp_path / "model")
    text = (folder / "tokenizer.json").read_text().replace(THINK_CLOSE, "</other>")
    (folder / "tokenizer.json").write_text(text)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / name).exists():
            (folder / name).write_text((folder / name).read_text().replace(THINK_CLOSE, "</other>"))
    with pytest.raises(UserError, match=f"lacks {THINK_CLOSE}"):
        Engine(folder, ENGINE)
