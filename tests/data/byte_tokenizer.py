"""A tokenizer with one token per byte and the Qwen3 chat tokens: the fake that tests of every package share.

Ids 0 to 255 are the bytes in the order of the byte-level alphabet; the chat tokens follow. Padding is `<|endoftext|>`,
the end of a turn is `<|im_end|>`, as in Qwen3's instruction models.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data.chat import END_OF_TEXT, IM_END, SPECIAL_TOKENS, chat_template


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A fresh tokenizer of 256 bytes and the nine chat tokens, with the chat template set; every text round-trips."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken(name, special=special, normalized=False) for name, special in SPECIAL_TOKENS.items()]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=END_OF_TEXT, eos_token=IM_END)
    fast.chat_template = chat_template()
    return fast
