"""The preference trainer: where the score is read, what the gradient is, that it learns, and that it repeats."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data.chat import END_OF_TEXT, IM_END
from data.preference import PreferencePair, conversation, preference_token_ids
from data.records import UserError
from data.tokenizer import train_tokenizer
from learner.preference_trainer import (
    PreferenceTrainingConfig,
    _batches,
    _learning_rate,
    _microbatches,
    fit_preference_model,
    last_token_scores,
    load_scorer,
    score_rows,
)
from tests.learner.tiny_models import save_tiny_model

CONFIG = PreferenceTrainingConfig(lr=3e-3, num_epochs=3, batch_pairs=16, max_length=128)
WORDS = ("tea", "rain", "song", "road", "lamp", "fish", "snow", "moon")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Such small products are slower on two threads than on one when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = train_tokenizer([f"please {word} fool {word}" for word in WORDS] * 4, vocab_size=320)
    save_tiny_model(folder, vocab_size=len(tokenizer), eos_token_id=None)
    tokenizer.save_pretrained(folder)
    return folder


def _pairs(count: int, seed: int) -> list[PreferencePair]:
    """A polite answer is better than a rude one; either may be the longer one."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        word = rng.choice(WORDS)
        texts = [f"{mark} {' '.join(rng.choices(WORDS, k=rng.randint(1, 5)))}" for mark in ("please", "fool")]
        pairs.append(PreferencePair(({"role": "user", "content": word},), *texts))
    return pairs


def _rows(policy: Path, answers: list[str]) -> list[tuple[int, ...]]:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    user = ({"role": "user", "content": "tea"},)
    return [preference_token_ids(tokenizer, conversation(user, answer), 128) for answer in answers]


@pytest.fixture(scope="module")
def scorer(policy: Path) -> Any:
    return load_scorer(policy, AutoTokenizer.from_pretrained(policy), seed=1).eval()


def test_padding_changes_no_score(policy: Path, scorer: Any) -> None:
    rows = _rows(policy, ["rain", "rain song road lamp fish", "snow moon"])
    with torch.no_grad():
        together = last_token_scores(scorer, rows, CONFIG).tolist()
        alone = [last_token_scores(scorer, [row], CONFIG).item() for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(score, 4) for score in alone}) == 3


def test_the_score_is_read_at_the_end_of_turn_even_when_that_is_the_padding_token(policy: Path, scorer: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    end = tokenizer.convert_tokens_to_ids(IM_END)
    rows = _rows(policy, ["rain", "rain song road lamp fish"])
    assert all(row[-1] == end for row in rows)
    with torch.no_grad():
        expected = last_token_scores(scorer, rows, CONFIG).tolist()
        width = max(map(len, rows))
        for pad_token_id, agrees in ((tokenizer.convert_tokens_to_ids(END_OF_TEXT), True), (end, False)):
            scorer.config.pad_token_id = pad_token_id
            ids = torch.tensor([[*row, *[pad_token_id] * (width - len(row))] for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            theirs = scorer(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
            # With pad == eos transformers reads one token too early; the trainer does not.
            assert (theirs == pytest.approx(expected, abs=1e-5)) is agrees
    scorer.config.pad_token_id = tokenizer.pad_token_id


def test_a_long_conversation_loses_its_beginning_and_keeps_the_end(policy: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy)
    messages = conversation(({"role": "user", "content": "tea " * 100},), "snow moon")
    whole, cut = (preference_token_ids(tokenizer, messages, length) for length in (10_000, 20))
    assert len(cut) == 20
    assert cut == whole[-20:]


def test_text_without_a_utf8_form_is_read_with_question_marks(policy: Path) -> None:
    assert _rows(policy, ["snow \ud800"]) == _rows(policy, ["snow ?"])


def test_it_learns_the_order_and_repeats_bit_for_bit(policy: Path) -> None:
    def fit(seed: int, **changes: Any) -> Any:
        config = dataclasses.replace(CONFIG, **changes)
        return fit_preference_model(policy, _pairs(128, 1), _pairs(60, 2), config, seed=seed)

    first, again, other, halved = fit(0), fit(0), fit(1), fit(0, microbatch_tokens=200)
    right = [chosen > rejected for chosen, rejected in zip(first.chosen_scores, first.rejected_scores, strict=True)]
    assert sum(right) >= 57
    assert first.held_out_loss < 0.3
    assert first.num_steps == 3 * 8
    assert (first.chosen_scores, first.rejected_scores) == (again.chosen_scores, again.rejected_scores)
    assert first.chosen_scores != other.chosen_scores
    # Smaller micro-batches give the same model up to rounding.
    assert halved.chosen_scores == pytest.approx(first.chosen_scores, abs=0.05)


def test_what_is_saved_gives_the_same_scores_in_transformers(policy: Path, tmp_path: Path) -> None:
    fitted = fit_preference_model(policy, _pairs(40, 1), _pairs(10, 2), CONFIG, seed=0)
    fitted.save(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert model.config.architectures == ["Qwen3ForSequenceClassification"]
    assert model.config.num_labels == 1
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    pair = _pairs(10, 2)[3]
    ids = preference_token_ids(tokenizer, conversation(pair.messages, pair.chosen), CONFIG.max_length)
    with torch.no_grad():
        score = model(torch.tensor([ids])).logits.item()
    assert score == pytest.approx(fitted.chosen_scores[3], abs=1e-5)


def test_bfloat16_learns_the_order_too(policy: Path) -> None:
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    fitted = fit_preference_model(policy, _pairs(200, 1), _pairs(40, 2), config, seed=0)
    right = sum(c > r for c, r in zip(fitted.chosen_scores, fitted.rejected_scores, strict=True))
    assert right >= 36
    assert fitted.model.score.weight.dtype == torch.float32


def test_an_epoch_holds_every_pair_once_and_batches_hold_like_lengths() -> None:
    rows = [((0,) * (1 + 7 * index % 50), (0, index)) for index in range(100)]
    config = dataclasses.replace(CONFIG, num_epochs=2, batch_pairs=8)
    batches = list(_batches(rows, config, seed=3))
    for epoch in (batches[:13], batches[13:]):
        assert sorted(pair[1][1] for batch in epoch for pair in batch) == list(range(100))
    spread = [max(len(pair[0]) for pair in batch) - min(len(pair[0]) for pair in batch) for batch in batches]
    assert max(spread) < 15  # of 50
    assert batches[:13] != batches[13:]
    assert batches == list(_batches(rows, config, seed=3))


def test_micro_batches_keep_to_the_cap_and_never_drop_a_pair() -> None:
    batch = [((0,) * size, (0,)) for size in (3, 5, 40, 4, 4)]
    held = list(_microbatches(batch, 30))
    assert [len(pairs) for pairs in held] == [2, 1, 2]
    assert [pair for pairs in held for pair in pairs] == batch


def test_scores_come_in_the_order_of_the_rows(policy: Path, scorer: Any) -> None:
    rows = _rows(policy, ["rain song road lamp fish", "rain", "snow moon", "tea tea tea"])
    config = dataclasses.replace(CONFIG, microbatch_tokens=60)
    alone = [score_rows(scorer, [row], CONFIG)[0] for row in rows]
    assert score_rows(scorer, rows, config) == pytest.approx(alone, abs=1e-5)


def test_the_rate_rises_to_its_top_and_falls_to_the_last_step() -> None:
    config = dataclasses.replace(CONFIG, lr=1.0, warmup_share=0.2)
    rates = [_learning_rate(config, step, 10) for step in range(1, 11)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.0), ("num_epochs", 0), ("batch_pairs", 0), ("warmup_share", 1.0), ("held_out_share", 0.0),
     ("dtype", "float16"), ("max_length", 2), ("margin", -1.0)],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{field}: "):
        dataclasses.replace(CONFIG, **{field: value}).validate()
