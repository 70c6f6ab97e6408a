"""Trains a preference model: a policy's backbone with one score at the end of the answer, on pairs of answers.

    PreferencePair* -> token ids (data.preference) -> micro-batches of pairs -> score at the last token
    -> Bradley-Terry (preference_loss) -> AdamW -> scores of the held-out pairs

The score is read at the last token of each row by its index. transformers' own forward looks for the last token that is
not the padding id, which is another one wherever padding and end are one token; here padding is never looked at.
The same inputs give the same bits.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from data.preference import PreferencePair, conversation, preference_token_ids
from data.records import UserError
from data.tokenizer import require_chat_tokens
from learner.model_folder import DENSE_ARCHITECTURES, load_model_config
from learner.preference_loss import bradley_terry_loss

_BATCHES_PER_WINDOW = 16
"""Pairs are sorted by length within so many batches: little padding, and the order stays random beyond that."""

IdPair = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of the chosen and of the rejected conversation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceTrainingConfig:
    """How a preference model is trained.

    The learning rate rises over `warmup_share` of the steps and then falls linearly to 0. `dtype` is what products run
    in; weights and moments are float32 always. `max_length` in tokens of a conversation; `microbatch_tokens` bounds the
    padded tokens that are held at a time and never changes the gradient. `margin` and `centring_coef` are those of
    `learner.preference_loss`.
    """

    lr: float = 5e-4
    num_epochs: int = 2
    batch_pairs: int = 32
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    margin: float = 0.0
    centring_coef: float = 0.01
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_length: int = 1024
    microbatch_tokens: int = 8192
    held_out_share: float = 0.1

    def validate(self) -> None:
        """Raise UserError naming the first field that cannot work."""
        for name, holds, mend in (
            ("lr", math.isfinite(self.lr) and self.lr > 0, "use a number above 0"),
            ("num_epochs", self.num_epochs >= 1, "use 1 or more"),
            ("batch_pairs", self.batch_pairs >= 1, "use 1 or more"),
            ("weight_decay", self.weight_decay >= 0, "use 0 or more"),
            ("warmup_share", 0 <= self.warmup_share < 1, "use a share from 0 to below 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "use a number above 0"),
            ("margin", 0 <= self.margin < math.inf, "use 0 or more"),
            ("centring_coef", 0 <= self.centring_coef < math.inf, "use 0 or more"),
            ("dtype", self.dtype in ("float32", "bfloat16"), "use float32 or bfloat16"),
            ("max_length", self.max_length >= 8, "use 8 tokens or more"),
            ("microbatch_tokens", self.microbatch_tokens >= 1, "use 1 or more"),
            ("held_out_share", 0 < self.held_out_share < 1, "use a share above 0 and below 1"),
        ):
            if not holds:
                raise UserError(f"{name}: {getattr(self, name)!r} cannot work; {mend}")


@dataclass(frozen=True, slots=True)
class FittedPreferenceModel:
    """A trained model with its raw scores of the held-out pairs, in their order, and its losses in nats a pair.

    `max_length` is the longest conversation in tokens: that of the settings, or the model's own when that is shorter.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chosen_scores: tuple[float, ...]
    rejected_scores: tuple[float, ...]
    held_out_loss: float
    train_loss: float
    num_steps: int
    max_length: int

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder (config, safetensors, tokenizer) into `folder`, which exists."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def fit_preference_model(
    folder: Path | str,
    train: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    config: PreferenceTrainingConfig,
    *,
    seed: int,
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
) -> FittedPreferenceModel:
    """Train on `train` from the policy in `folder`, then score `held_out`.

    `on_step` gets the step, their number, and loss, accuracy and learning rate of the step. Raises UserError for
    settings, a folder or pairs that cannot be used, and RuntimeError for a loss or gradient that is not finite.
    """
    config.validate()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    require_chat_tokens(tokenizer, str(folder))
    model = load_scorer(folder, tokenizer, seed=seed).to(device)
    max_length = min(config.max_length, model.config.max_position_embeddings)
    rows = [_ids(tokenizer, pair, max_length) for pair in train]
    num_steps = config.num_epochs * math.ceil(len(rows) / config.batch_pairs)
    optimizer = _optimizer(model, config)
    loss = math.nan
    for step, batch in enumerate(_batches(rows, config, seed), start=1):
        lr = _learning_rate(config, step, num_steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss, accuracy = _step(model, optimizer, batch, config)
        if on_step is not None:
            on_step(step, num_steps, {"loss": loss, "accuracy": accuracy, "lr": lr})
    model.eval()
    scores = score_rows(model, [row for pair in held_out for row in _ids(tokenizer, pair, max_length)], config)
    chosen, rejected = torch.tensor(scores[::2]), torch.tensor(scores[1::2])
    _, metrics = bradley_terry_loss(chosen, rejected, num_pairs=len(held_out))
    return FittedPreferenceModel(
        model, tokenizer, tuple(scores[::2]), tuple(scores[1::2]), float(metrics["loss_sum"]) / len(held_out), loss,
        num_steps, max_length,
    )  # fmt: skip


def load_scorer(folder: Path | str, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreTrainedModel:
    """The backbone of a policy folder with a new score head, drawn from N(0, 1/(H+1)) with `seed`.

    That deviation is the one of the reward head in arXiv 2009.01325 (appendix): scores of a new model are small.
    """
    where = f"model_folder={str(folder)!r}"
    config = load_model_config(Path(folder), where, DENSE_ARCHITECTURES)
    config.attention_dropout = 0.0
    config.num_labels = 1
    config.pad_token_id = tokenizer.pad_token_id  # for those who pad: it must not be the token the score is read at
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:  # all mean: not a sound folder
        raise UserError(f"{where}: weights do not load ({' '.join(str(error).split())[:200]})") from error
    wrong = sorted(
        str(name)
        for kind, allowed in (("missing_keys", "score.weight"), ("unexpected_keys", "lm_head.weight"))
        for name in {*info.get(kind, ())} - {allowed}
    ) + sorted(str(name) for name in info.get("mismatched_keys", ()))
    if wrong:
        raise UserError(f"{where}: weights do not fit the config, first {wrong[0]}; export the model again")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    generator = torch.Generator().manual_seed(seed)
    head = model.score.weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=generator) / math.sqrt(head.shape[1] + 1))
    return model.train()


def last_token_scores(model: Any, rows: Sequence[Sequence[int]], config: PreferenceTrainingConfig) -> Tensor:
    """Raw scores [B] of `rows`, each read at its own last token; rows are padded on the right with id 0 and masked."""
    device = model.score.weight.device
    lengths_B = torch.tensor([len(row) for row in rows], device=device)
    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask_BT = torch.arange(width, device=device)[None, :] < lengths_B[:, None]
    autocast = config.dtype == "bfloat16"
    with torch.autocast(device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
        hidden_BTH = model.model(input_ids=ids_BT, attention_mask=mask_BT.long(), use_cache=False).last_hidden_state
    last_BH = hidden_BTH[torch.arange(len(rows), device=device), lengths_B - 1]
    return torch.nn.functional.linear(last_BH.float(), model.score.weight.float()).squeeze(-1)


@torch.no_grad()
def score_rows(model: Any, rows: Sequence[Sequence[int]], config: PreferenceTrainingConfig) -> list[float]:
    """Raw scores in the order of `rows`, computed in batches of like lengths."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    scores = [math.nan] * len(rows)
    position = 0
    while position < len(order):
        size = 1
        while position + size < len(order):
            if (size + 1) * len(rows[order[position + size]]) > config.microbatch_tokens:
                break
            size += 1
        indices = order[position : position + size]
        found = last_token_scores(model, [rows[index] for index in indices], config).tolist()
        for index, score in zip(indices, found, strict=True):
            scores[index] = score
        position += size
    return scores


def _ids(tokenizer: PreTrainedTokenizerBase, pair: PreferencePair, max_length: int) -> IdPair:
    chosen, rejected = (
        preference_token_ids(tokenizer, conversation(pair.messages, answer), max_length)
        for answer in (pair.chosen, pair.rejected)
    )
    return chosen, rejected


def _longer(pair: IdPair) -> int:
    return max(len(pair[0]), len(pair[1]))


def _batches(rows: Sequence[IdPair], config: PreferenceTrainingConfig, seed: int) -> Iterator[list[IdPair]]:
    """The batches of all epochs: each epoch sees every pair once, in an order that `seed` and the epoch decide."""
    for epoch in range(config.num_epochs):
        rng = random.Random(f"preference/{seed}/{epoch}")
        order = rng.sample(range(len(rows)), len(rows))
        batches: list[list[int]] = []
        for start in range(0, len(order), _BATCHES_PER_WINDOW * config.batch_pairs):
            window = order[start : start + _BATCHES_PER_WINDOW * config.batch_pairs]
            window.sort(key=lambda index: _longer(rows[index]))
            batches += [window[at : at + config.batch_pairs] for at in range(0, len(window), config.batch_pairs)]
        rng.shuffle(batches)
        for batch in batches:
            yield [rows[index] for index in batch]


def _microbatches(batch: Sequence[IdPair], max_tokens: int) -> Iterator[list[IdPair]]:
    """Pairs in order, as many at a time as fit `max_tokens` padded tokens; at least one."""
    held: list[IdPair] = []
    for pair in batch:
        if held and 2 * (len(held) + 1) * max(map(_longer, [*held, pair])) > max_tokens:
            yield held
            held = []
        held.append(pair)
    yield held


def _step(
    model: Any, optimizer: torch.optim.Optimizer, batch: Sequence[IdPair], config: PreferenceTrainingConfig
) -> tuple[float, float]:
    """One optimizer step; returns the mean loss of the pairs and the share that was ordered rightly before it."""
    optimizer.zero_grad(set_to_none=True)
    loss_sum = num_correct = 0.0
    for pairs in _microbatches(batch, config.microbatch_tokens):
        scores_2B = last_token_scores(
            model, [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs], config
        )
        chosen_B, rejected_B = scores_2B.chunk(2)
        margin_B = torch.full_like(chosen_B, config.margin) if config.margin else None
        loss, metrics = bradley_terry_loss(
            chosen_B, rejected_B, num_pairs=len(batch), margin_B=margin_B, centring_coef=config.centring_coef
        )
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        loss_sum += float(metrics["loss_sum"])
        num_correct += float(metrics["num_correct"])
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    if not bool(torch.isfinite(norm)):
        raise RuntimeError(f"preference model: the gradient norm is {float(norm)}; lower lr, or use dtype float32")
    optimizer.step()
    return loss_sum / len(batch), num_correct / len(batch)


def _optimizer(model: PreTrainedModel, config: PreferenceTrainingConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only, as the learner's."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)


def _learning_rate(config: PreferenceTrainingConfig, step: int, num_steps: int) -> float:
    """The rate of step 1 to `num_steps`: a linear rise, then a linear fall that ends one step before 0."""
    warmup = config.warmup_share * num_steps
    rising = step / warmup if warmup >= 1 else 1.0
    return config.lr * min(rising, (num_steps - step + 1) / max(1.0, num_steps - warmup), 1.0)
