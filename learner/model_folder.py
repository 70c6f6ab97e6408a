"""Hugging Face model folders: in, out, and the two views of a model that training and the engine need.

A folder goes in and a folder comes out; both load as they are in transformers and in the engine. Plain decoders alone
are taken, dense ones and Qwen3's mixture of experts (`.model` and `.lm_head`), because the learner runs backbone and
head apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from data.model_folder import require_model_folder
from data.records import UserError
from learner.attention import PACKED_SDPA, check_packing_attention
from learner.checkpoint import atomic_folder
from learner.experts import per_expert_tensors

DENSE_ARCHITECTURES = ("Qwen3ForCausalLM", "LlamaForCausalLM")
ARCHITECTURES = (*DENSE_ARCHITECTURES, "Qwen3MoeForCausalLM")


def load_model(folder: Path | str, dtype: torch.dtype, attention: str = PACKED_SDPA) -> PreTrainedModel:
    """The causal language model of a Hugging Face folder: safetensors only, no remote code, dropout off.

    Dropout is forced to 0 for training as well: with it the log-probabilities before and after a step would belong to
    two different networks, and the importance ratio would be wrong. Raises UserError for a folder, config or weights
    that are missing, another architecture, quantised or sliding-window models, and weights that do not fit the config.
    """
    folder = Path(folder)
    check_packing_attention(attention)
    where = f"model_folder={str(folder)!r}"
    config = load_model_config(folder, where)
    config.attention_dropout = 0.0
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, attn_implementation=attention, use_safetensors=True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:  # all mean: not a sound folder
        raise UserError(f"{where}: weights do not load ({_one_line(error)}); export it again") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info.get(kind, ()))
        if names:  # transformers fills missing weights at random and goes on
            raise UserError(
                f"{where}: {kind.replace('_', ' ')} in the weights, first {names[0]}; "
                "export the model again with its own config"
            )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.Embedding):
            # The padding row would get no gradient. Packed rows hold no padding, and base models pad with an
            # end-of-text token that has to be learned.
            module.padding_idx = None
    return model


def load_model_config(folder: Path, where: str, architectures: Sequence[str] = ARCHITECTURES) -> Any:
    """The config of a folder; UserError, beginning with `where`, unless it is a plain decoder that can train."""
    require_model_folder(folder, field="model_folder", files=("config.json", "*.safetensors"))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{where}: config.json does not load ({_one_line(error)}); mend or export it again") from error
    names = tuple(config.architectures or ())
    if len(names) != 1 or names[0] not in architectures:
        raise UserError(f"{where}: architectures={list(names)} is not supported; use {' or '.join(architectures)}")
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"{where}: quantised weights cannot be trained; save the model without quantization_config")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise UserError(f"{where}: sliding-window layers are not supported; set use_sliding_window to false")
    return config


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def split_model(model: PreTrainedModel) -> tuple[nn.Module, Tensor, Tensor | None]:
    """Backbone (token ids to final hidden states), head weight [V, H] and head bias [V] or None.

    The head weight is the parameter itself, so a tied embedding gets the gradients of both its uses.
    """
    head = model.lm_head
    return model.model, head.weight, head.bias


def engine_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every tensor under the names the engine loads, detached and sharing memory with the model.

    `lm_head.weight` is there even when it is tied to the embedding: an engine that keeps its own packed copy of the
    head is left with a stale one, without an error, if the name is not sent. Experts have the names of a checkpoint
    folder, one by one, whatever stacks transformers holds them in.
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    state["lm_head.weight"] = model.lm_head.weight.detach()
    return per_expert_tensors(state)


def export_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | str) -> Path:
    """Write an ordinary Hugging Face folder (config, safetensors, tokenizer with chat template) atomically.

    Weights keep their type (float32 masters), so that the next stage starts from exactly these numbers.
    """
    with atomic_folder(Path(folder)) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return Path(folder)
