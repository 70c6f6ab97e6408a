"""Small real models and samples for the learner's tests: two layers, hidden size 32, 300 words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from data.records import TrainingSample

VOCAB = 300
EOS = 299


def save_tiny_model(folder: Path, family: str = "qwen3", *, tied: bool = True, seed: int = 0, **overrides: Any) -> Path:
    """A model with random weights large enough for peaked distributions, as a Hugging Face folder."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": tied, "initializer_range": 0.1, "pad_token_id": None, "bos_token_id": None,
        "eos_token_id": EOS, **overrides,
    }  # fmt: skip
    if family == "qwen3_moe":
        shape = {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        } | shape
    configs = {"qwen3": Qwen3Config, "llama": LlamaConfig, "qwen3_moe": Qwen3MoeConfig}
    models = {"qwen3": Qwen3ForCausalLM, "llama": LlamaForCausalLM, "qwen3_moe": Qwen3MoeForCausalLM}
    model = models[family](configs[family](**shape))
    model.save_pretrained(folder)
    return folder


def plain_model(folder: Path) -> PreTrainedModel:
    """The same folder through transformers alone, with its eager attention."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train()


def plain_logprobs(model: PreTrainedModel, sample: TrainingSample) -> torch.Tensor:
    """Brute force: [T-1] log-probabilities of tokens 1.. of one unpacked row, with its graph."""
    ids = torch.tensor([sample.token_ids_T])
    logits = model(input_ids=ids).logits[0, :-1] / sample.temperature
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{index}": index for index in range(VOCAB)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(tokenizer_models.WordLevel(words, unk_token="w0")), eos_token="w299"
    )


def random_samples(
    lengths: Sequence[int], *, seed: int = 0, temperature: float = 1.0, prompt: int = 2
) -> list[TrainingSample]:
    """Rows of random tokens, the first `prompt` without loss, whose behavior log-probabilities are random too."""
    generator = random.Random(seed)
    samples = []
    for index, length in enumerate(lengths):
        samples.append(
            TrainingSample(
                token_ids_T=tuple(generator.randrange(VOCAB) for _ in range(length)),
                loss_mask_T=tuple(int(position >= prompt) for position in range(length)),
                behavior_logprobs_T=tuple(generator.uniform(-7.0, -4.0) for _ in range(length)),
                advantages_T=(generator.uniform(-1.0, 1.0),) * length,
                temperature=temperature,
                uid=str(index),
            )
        )
    return samples
