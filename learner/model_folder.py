"""Hugging Face model folders: in, out, and the two views of a model that training and the engine need.

A folder goes in and a folder comes out; both load as they are in transformers and in the engine. Plain decoders alone
are taken, dense ones and Qwen3's mixture of experts (`.model` and `.lm_head`), because the learner runs backbone and
head apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from learner.lora import (
    adapter_weights,
    add_adapter,
    base_options,
    check_device,
    has_adapter,
    merged_model,
    merged_state,
)
from learner.lora_settings import LoraSettings

ADAPTER_FOLDER = "adapter"
"""Where an exported checkpoint keeps the adapter that was merged into it, in PEFT's format."""

DENSE_ARCHITECTURES = ("Qwen3ForCausalLM", "LlamaForCausalLM")
ARCHITECTURES = (*DENSE_ARCHITECTURES, "Qwen3MoeForCausalLM")


def load_for_training(
    folder: Path | str, attention: str, adapter: LoraSettings | None, device: torch.device
) -> PreTrainedModel:
    """The model of a folder on `device`, ready to be trained: in float32, or a frozen base with a fresh adapter."""
    if adapter is not None:
        check_device(adapter, str(device))
    model = load_model(folder, attention=attention, **base_options(adapter, device))
    if adapter is None or adapter.quantize is None:  # 4-bit weights are made on the device
        model = model.to(device)
    if adapter is not None:
        add_adapter(model, adapter)
    return model


def load_model(folder: Path | str, dtype: torch.dtype, attention: str = PACKED_SDPA, **options: Any) -> PreTrainedModel:
    """The causal language model of a Hugging Face folder: safetensors only, no remote code, dropout off.

    Dropout is forced to 0 for training as well: with it the log-probabilities before and after a step would belong to
    two different networks, and the importance ratio would be wrong. Raises UserError for a folder, config or weights
    that are missing, another architecture, quantised or sliding-window models, and weights that do not fit the config.
    `options` go to transformers' `from_pretrained` as they are.
    """
    folder = Path(folder)
    check_packing_attention(attention)
    where = f"model_folder={str(folder)!r}"
    config = load_model_config(folder, where)
    config.attention_dropout = 0.0
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, config=config, attn_implementation=attention, use_safetensors=True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True, dtype=dtype, **options,
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


def plain_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every tensor by its name in the model, detached, with `lm_head.weight` even when it is tied to the embedding.

    An engine that keeps its own packed copy of the head is left with a stale one, without an error, if that name is not
    sent. An adapter is merged into what it adapts; other tensors share memory with the model.
    """
    if has_adapter(model):
        state = merged_state(model)
        state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
        return state
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    state["lm_head.weight"] = model.lm_head.weight.detach()
    return state


def engine_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """`plain_state_dict` under the names the engine loads: experts have those of a checkpoint folder, one by one,
    whatever stacks transformers holds them in."""
    return per_expert_tensors(plain_state_dict(model))


def export_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | str,
    adapter: LoraSettings | None = None,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write an ordinary Hugging Face folder (config, safetensors, tokenizer with chat template) atomically.

    Weights keep their type (float32 masters), so that the next stage starts from exactly these numbers. With an
    adapter the merged model is written, in float32, and with `export_adapter` the adapter's own folder inside it.
    `state` holds the weights of a model that has only parts of them.
    """
    with atomic_folder(Path(folder)) as partial:
        (model if adapter is None else merged_model(model)).save_pretrained(partial, state_dict=state)
        tokenizer.save_pretrained(partial)
        if adapter is not None and adapter.export_adapter:
            (partial / ADAPTER_FOLDER).mkdir()
            adapter_weights(model, adapter).write(partial / ADAPTER_FOLDER)
    return Path(folder)
