"""Low-rank adapters through PEFT: put in place, given to the engine, merged for export.

    folder -> frozen base (float32, bfloat16 or 4 bit) -> adapter tensors on its linear layers -> training
    -> the adapter alone (adapter_weights) or plain merged weights (merged_state)

The adapter is injected into the transformers model itself, so that the learner runs backbone and head as ever. Merged
weights are sums in float32, whatever the base is kept in: what is exported computes what was trained.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from data.adapter import PREFIX, AdapterWeights
from data.records import UserError
from learner.lora_settings import LoraSettings

_NAME = "default"  # PEFT's name of the adapter within a model
_BASE = ".base_layer"


def check_device(settings: LoraSettings, device: str) -> None:
    """Raise UserError where 4 bit cannot work: not on CUDA, or without bitsandbytes."""
    settings.check_device(device)
    if settings.quantize is None:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"learner.adapter.quantize={settings.quantize!r}: the package bitsandbytes is not installed; "
            "install requirements/gpu.txt"
        )


def base_options(settings: LoraSettings | None, device: torch.device) -> dict[str, Any]:
    """Options of `load_model` for the base: its type, and for 4 bit the quantisation of QLoRA, section 3.

    NF4 with the scales quantised a second time, products in bfloat16.
    """
    if settings is None:
        return {"dtype": torch.float32}
    dtype = getattr(torch, settings.base_dtype)
    if settings.quantize is None:
        return {"dtype": dtype}
    from transformers import BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    return {"dtype": dtype, "quantization_config": quantisation, "device_map": {"": device}}


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Last parts of the names of all linear layers except the head, sorted; a router is none."""
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    return sorted({name.rpartition(".")[2] for name in names})


def add_adapter(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Inject a fresh adapter, in float32, and freeze everything else. Draws from torch's generator."""
    from peft import LoraConfig, inject_adapter_in_model

    known = linear_layers(model)
    unknown = sorted(set(settings.target_modules or ()) - set(known))
    if unknown:
        raise UserError(
            f"learner.adapter.target_modules: {unknown[0]!r} is no linear layer of the model; use {', '.join(known)}"
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scaling * settings.rank,  # type: ignore[arg-type]  # PEFT divides it by r again
        lora_dropout=settings.dropout,
        target_modules=list(settings.target_modules or known),
        bias="none",
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, model, adapter_name=_NAME)
    for name, parameter in model.named_parameters():
        is_adapter = _is_adapter(name)
        parameter.requires_grad_(is_adapter)
        if is_adapter:
            parameter.data = parameter.data.float()  # PEFT takes the base's type; small updates would be rounded away


def _is_adapter(name: str) -> bool:
    return f".lora_A.{_NAME}." in name or f".lora_B.{_NAME}." in name


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether `add_adapter` was called on the model."""
    return any(_is_adapter(name) for name, _ in model.named_parameters())


def adapter_weights(model: PreTrainedModel, settings: LoraSettings) -> AdapterWeights:
    """Copies on the CPU of the adapter's tensors under PEFT's names, with its settings."""
    tensors = {
        PREFIX + name.replace(f".{_NAME}.", "."): parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if _is_adapter(name)
    }
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True, "bias": "none",
        "base_model_name_or_path": None, "r": settings.rank, "lora_alpha": settings.scaling * settings.rank,
        "lora_dropout": settings.dropout, "fan_in_fan_out": False, "modules_to_save": None,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
    }  # fmt: skip
    return AdapterWeights(config, tensors)


@torch.no_grad()
def merged_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict of the plain model with W + (alpha / rank) B A, in float32: its names, no trace of the adapter.

    Source: LoRA [2106.09685], section 4.1. The sum is taken here and not in PEFT's layers, which would round it to the
    base's type and leave the base changed.
    """
    state: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if _in_adapter(name):
            continue
        plain_name = name.removesuffix(_BASE)
        if name.endswith(_BASE):
            continue  # its adapter's layer, which comes first, has it
        base = getattr(module, "base_layer", module)
        for part, parameter in base.named_parameters(recurse=False):
            tensor = _plain(parameter)
            if part == "weight" and base is not module:
                tensor = tensor + module.get_delta_weight(_NAME).float()
            state[f"{plain_name}.{part}"] = tensor
    return state


def _in_adapter(name: str) -> bool:
    return any(part.startswith("lora_") for part in name.split("."))


def _plain(parameter: Tensor) -> Tensor:
    """A parameter's numbers in float32, out of 4 bit where it is kept in that."""
    quantised = getattr(parameter, "quant_state", None)
    if quantised is None:
        return parameter.detach().float()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(parameter.data, quantised).float()


def merged_model(model: PreTrainedModel) -> PreTrainedModel:
    """An ordinary model of the same architecture in float32 that holds `merged_state`."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(merged_state(model), strict=True)
    plain.generation_config = model.generation_config
    return plain


def trained_parameters(model: PreTrainedModel, settings: LoraSettings | None) -> dict[str, Tensor]:
    """What a learner owns and saves by name: all parameters (a tied head once), or the adapter's alone."""
    return {name: p for name, p in model.named_parameters() if settings is None or p.requires_grad}
