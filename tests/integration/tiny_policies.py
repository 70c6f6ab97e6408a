"""Tiny real policies for the engine's tests: random ones, and ones whose next token is written down in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from data.tokenizer import train_tokenizer
from learner.model_folder import export_model
from rollout.policy import GenerationRequest, SamplingConfig

HIDDEN = 64
MAX_POSITIONS = 512


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Bytes, chat tokens and a few merges."""
    return train_tokenizer(["the sum of two and three is five", "a then b then c"] * 4, vocab_size=320)


def tiny_model(
    family: str, vocab_size: int, *, tied: bool, seed: int, max_positions: int = MAX_POSITIONS
) -> PreTrainedModel:
    """Two layers of width 64 with random weights, large enough for peaked distributions that hang on the context."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocab_size, "hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": max_positions,
        "tie_word_embeddings": tied, "initializer_range": 0.15, "pad_token_id": None, "bos_token_id": None,
        "eos_token_id": None,
    }  # fmt: skip
    if family in ("qwen3_moe", "qwen3_moe_padded"):
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True}
        if family == "qwen3_moe_padded":
            experts["moe_intermediate_size"] = 48  # no multiple of 32: the engine's CPU kernel pads it
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, **experts))
    return Qwen3ForCausalLM(Qwen3Config(**shape)) if family == "qwen3" else LlamaForCausalLM(LlamaConfig(**shape))


def save_policy(folder: Path, family: str = "qwen3", *, tied: bool = False, seed: int = 0) -> Path:
    """A random policy as a Hugging Face folder."""
    tokenizer = tiny_tokenizer()
    return export_model(tiny_model(family, len(tokenizer), tied=tied, seed=seed), tokenizer, folder)


def scripted(weights: Mapping[str, Tensor], next_token: Mapping[int, int]) -> dict[str, Tensor]:
    """Weights of an untied policy that answers each token of `next_token` with the one it names, all but surely.

    Attention and feed-forward layers write nothing, so the hidden state is the token's own embedding; the head's row of
    a successor points along the embeddings of its predecessors.
    """
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    for name, tensor in changed.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
        elif name == "model.norm.weight":
            tensor.fill_(1.0)
    embeddings_VH, head_VH = changed["model.embed_tokens.weight"], changed["lm_head.weight"]
    directions_VH = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(0)))[0]
    head_VH.zero_()
    for index, (token, successor) in enumerate(next_token.items()):
        embeddings_VH[token] = directions_VH[index]  # the first 64 tokens are orthogonal to each other
        head_VH[successor] += 5.0 * directions_VH[index]  # a logit of 40 against 0
    return changed


def chain(*tokens: int) -> dict[int, int]:
    """Each token is followed by the next one, the last by the first."""
    return dict(zip(tokens, [*tokens[1:], tokens[0]], strict=True))


def request(
    prompt: Sequence[int], *, uid: str = "p", index: int = 0, seed: int = 0, **sampling: Any
) -> GenerationRequest:
    return GenerationRequest(uid, index, tuple(prompt), SamplingConfig(**{"max_tokens": 24, **sampling}), seed)
