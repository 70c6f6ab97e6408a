"""The one adapter to the engine's update API: the learner's tensors into a running engine, and the proof of arrival.

Every assumption about how vLLM loads and repacks weights stands here, so that a new release is one file to read.
Transport is the caller's (the Ray object store); this module runs inside the engine's worker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

# Engine module -> the checkpoint's tensors that it holds, in the order in which they are stacked.
_STACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def load_into_worker(worker: Any, weights: dict[str, torch.Tensor]) -> None:
    """Load checkpoint tensors through the engine's own reload, which undoes and redoes the kernels' repacking.

    `model.load_weights` alone fails on a CPU (linears are repacked after loading), and a tied `lm_head.weight` that is
    left out stays as it was without a word: it must be among `weights`.
    """
    if "lm_head.weight" not in weights:
        raise ValueError(
            "weights: lm_head.weight is missing; a tied head has to be sent too, or the engine keeps the old one"
        )
    worker.model_runner.reload_weights(weights_iterator=iter(weights.items()))


def differing_tensors(worker: Any, weights: Mapping[str, torch.Tensor], tolerance: float) -> list[str]:
    """Names of checkpoint tensors with which the engine computes something else, by running each module on a probe.

    Kernels keep packed copies of their own, so that comparing stored parameters proves nothing; what a module computes
    does. A tensor differs when the largest absolute difference of the outputs passes `tolerance` times the largest
    output.
    """
    model = worker.model_runner.get_model()
    modules = dict(model.named_modules())
    differing: list[str] = []
    seen: set[str] = set()
    with torch.inference_mode():
        for name, tensor in weights.items():
            if name in seen or not name.endswith(".weight"):
                continue
            module_name, parts = _engine_module(name, weights)
            seen.update(parts)
            module = modules.get(module_name)
            if module is None:
                differing.extend(parts)
                continue
            differing.extend(_compare(module, module_name, parts, weights, tensor, tolerance))
    return differing


def _engine_module(name: str, weights: Mapping[str, torch.Tensor]) -> tuple[str, list[str]]:
    """The engine's module that holds checkpoint tensor `name`, and all tensors stacked in it."""
    module = name.removesuffix(".weight")
    for stacked, members in _STACKED.items():
        for member in members:
            if re.search(rf"\.{member}$", module):
                prefix = module.removesuffix(member)
                return prefix + stacked, [f"{prefix}{other}.weight" for other in members]
    return module, [name]


def _compare(
    module: Any,
    module_name: str,
    parts: list[str],
    weights: Mapping[str, torch.Tensor],
    tensor: torch.Tensor,
    tolerance: float,
) -> list[str]:
    if tensor.dim() == 1:  # a norm: its weight is stored as it is
        stored = module.weight
        return [] if _close(stored.float(), tensor.float().to(stored.device), tolerance) else parts
    generator = torch.Generator().manual_seed(0)
    own = next(module.parameters(), None)
    dtype = own.dtype if own is not None else tensor.dtype
    device = own.device if own is not None else tensor.device
    if module_name.endswith("embed_tokens"):
        ids = torch.arange(tensor.shape[0], device=device)
        return [] if _close(module(ids).float(), tensor.float().to(device), tolerance) else parts
    probe = torch.randn(4, tensor.shape[1], generator=generator).to(device=device, dtype=dtype)
    if module_name.endswith("lm_head"):
        output = module.quant_method.apply(module, probe)[:, : tensor.shape[0]]
    else:
        output = module(probe)
        output = output[0] if isinstance(output, tuple) else output
    differing = []
    column = 0
    for part in parts:
        weight = weights[part].to(device=device, dtype=dtype)
        bias = weights.get(part.removesuffix(".weight") + ".bias")
        expected = F.linear(probe, weight, None if bias is None else bias.to(device=device, dtype=dtype))
        if not _close(output[:, column : column + weight.shape[0]].float(), expected.float(), tolerance):
            differing.append(part)
        column += weight.shape[0]
    return differing


def _close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    if actual.shape != expected.shape:
        return False
    scale = max(float(expected.abs().max()), 1e-6)
    return bool(float((actual - expected).abs().max()) <= tolerance * scale)
