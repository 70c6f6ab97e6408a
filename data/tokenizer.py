"""Tokenizers: the embedded model's own, the repair of any other, and the contract that stages hold each other to.

Stands between text and token ids. A checkpoint's manifest stores `contract(tokenizer)`; a stage refuses a parent whose
contract differs, because a template or a special token that changes between stages trains one format and serves
another without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from data.chat import END_OF_TEXT, IM_END, SPECIAL_TOKENS, chat_template
from data.records import UserError

# Qwen's splitting rule in our own words: contractions aside, a word with at most one leading non-letter, one digit at a
# time (so a number is read digit by digit), runs of punctuation, line breaks, other white space.
_PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over `texts` with Qwen3's special tokens and template, at most `vocab_size` entries.

    Every byte has a token of its own, so any text can be encoded. Departure from Qwen3: the vocabulary is tiny, and the
    contractions of English are not split off.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise UserError(f"vocab_size: {vocab_size} cannot hold all bytes and special tokens; use {smallest} or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=IM_END, pad_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )
    add_chat_tokens(fast)
    return fast


def add_chat_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give `tokenizer` Qwen3's special tokens and template where they are missing; returns the tokens that were added.

    The caller says so on screen and resizes the embeddings. Think and tool tags are ordinary added tokens (they survive
    `skip_special_tokens`), the turn markers are special, as in Qwen3. The turn's end becomes the end-of-sequence token;
    a padding token of its own is set, so that padding is never taken for an end.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    tokenizer.add_tokens([AddedToken(token, special=SPECIAL_TOKENS[token], normalized=False) for token in missing])
    tokenizer.eos_token = IM_END
    tokenizer.pad_token = END_OF_TEXT
    tokenizer.chat_template = chat_template()
    return missing


def require_chat_tokens(tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Raise a UserError that names the chat tokens that `tokenizer` lacks."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise UserError(
            f"model: the tokenizer in {folder} lacks {', '.join(missing)}; "
            f"import it with `fourstage import {folder} OUT`, which adds them and resizes the embeddings"
        )


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids that end a completion: the turn's end and the end of text (Qwen3 has both; knowing one alone makes finished
    answers look truncated)."""
    return tuple(tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT]))


def contract(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What stages must agree on: hash of the template, special ids, end ids, size and content of the vocabulary."""
    vocabulary = tokenizer.get_vocab()
    listing = "\n".join(f"{index}\t{token}" for token, index in sorted(vocabulary.items(), key=lambda item: item[1]))
    return {
        "chat_template_sha256": hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest(),
        "vocabulary_sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "vocab_size": len(tokenizer),
        "special_token_ids": {token: vocabulary.get(token) for token in SPECIAL_TOKENS},
        "end_token_ids": list(end_token_ids(tokenizer)),
        "loss_mask_rule": "completion only: think block, answer, calls and end of turn; forced tokens excluded",
    }
