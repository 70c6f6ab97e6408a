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

from data.adapter import PREFIX, AdapterWeights

# Engine module -> the checkpoint's tensors that it holds, in the order in which they are stacked.
_STACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_EXPERT = re.compile(r"(?P<experts>.*\.experts)\.(?P<index>\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def load_into_worker(worker: Any, weights: dict[str, torch.Tensor]) -> None:
    """Load checkpoint tensors through the engine's own reload, which undoes and redoes the kernels' repacking.

    `model.load_weights` alone fails on a CPU (linears are repacked after loading), and a tied `lm_head.weight` that is
    left out stays as it was without a word: it must be among `weights`.
    """
    if "lm_head.weight" not in weights:
        raise ValueError(
            "weights: lm_head.weight is missing; a tied head has to be sent too, or the engine keeps the old one"
        )
    _let_experts_repack(worker.model_runner.get_model())
    worker.model_runner.reload_weights(weights_iterator=iter(weights.items()))


def abandon_load(worker: Any) -> None:
    """Take a load that failed half way out of the model, so that another one can begin.

    vLLM 0.32 moves every layer to the meta device when a reload begins and puts it back layer by layer; when a tensor
    does not fit, the layers that are not done stay there, the engine dies of its next step, and the next reload fails
    as well. They get the tensors back that they had. Those that are done have the new weights: load all of the old.
    """
    from vllm.model_executor.model_loader.reload import layerwise

    model = worker.model_runner.get_model()
    for layer in model.modules():
        info = layerwise.get_layerwise_info(layer)
        if info.can_load() and info.kernel_tensors is not None:
            layerwise._place_kernel_tensors(layer, info)
            info.reset()
    layerwise.LOADING_LAYERS.clear()
    if hasattr(model, "_original_do_torchao_reload"):
        model._do_torchao_reload = model._original_do_torchao_reload


def _let_experts_repack(model: Any) -> None:
    """Make the reload rebuild those expert kernels that pack their weights themselves.

    vLLM 0.32 has an expert method repack its weights after loading only while it has no kernel yet (`_setup_kernel` of
    the unquantised method); a reload then leaves plain weights where the CPU kernel reads packed ones, and nothing
    complains. Without its kernel the method packs and builds again. Kernels that pack nothing (CUDA's) are left alone,
    because graphs may have captured them.
    """
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        experts = getattr(getattr(method, "moe_kernel", None), "fused_experts", None)
        if experts is not None and _packs_by_itself(type(experts)):
            method.moe_kernel = None


def _packs_by_itself(experts: type) -> bool:
    name = "process_weights_after_loading"
    owner = next(base for base in experts.__mro__ if name in vars(base))
    return owner.__name__ != "FusedMoEExperts"  # the base class does nothing


def differing_tensors(worker: Any, weights: Mapping[str, torch.Tensor], tolerance: float) -> list[str]:
    """Names of checkpoint tensors with which the engine computes something else, by running each module on a probe.

    Kernels keep packed copies of their own, so that comparing stored parameters proves nothing; what a module computes
    does. A tensor differs when the largest absolute difference of the outputs passes `tolerance` times the largest
    output. The three tensors of an expert are run, and named, together. A tensor that no module can be found for is
    named too.
    """
    model = worker.model_runner.get_model()
    modules = dict(model.named_modules())
    differing: list[str] = []
    seen: set[str] = set()
    with torch.inference_mode():
        for name, tensor in weights.items():
            if name in seen or name.endswith(".bias"):  # a bias is compared with its weight
                continue
            expert = _EXPERT.fullmatch(name)
            if expert is not None:
                layer = modules.get(f"{expert['experts']}.routed_experts")
                found, parts = _compare_experts(layer, expert["experts"], weights, tolerance)
                seen.update(parts)
                differing.extend(found)
                continue
            module_name, parts = _engine_module(name, weights)
            seen.update(parts)
            module = modules.get(f"{module_name}.base_layer", modules.get(module_name))  # wrapped to take adapters
            if module is None:
                differing.extend(parts)
                continue
            differing.extend(_compare(module, module_name, parts, weights, tensor, tolerance))
    return differing


def mend_adapter_kernels(worker: Any) -> None:
    """Have vLLM's CPU kernels for adapters leave rows without one alone, and take one product for each adapter.

    In vLLM 0.32 they read index -1, a row without an adapter, as the last slot, so such a request would be answered
    with whatever adapter lies there; and they gather a copy of the adapter for every token, [tokens, rank, in].
    Kernels of other devices are left as they are.
    """
    manager = worker.model_runner.lora_manager._adapter_manager
    for kernels in {type(module.punica_wrapper) for module in manager.modules.values()}:
        if kernels.__name__ == "PunicaWrapperCPU":
            kernels._apply_shrink = _apply_shrink
            kernels._apply_expand = _apply_expand


def _rows_of_slots(indices_T: torch.Tensor) -> list[tuple[int, Any]]:
    """Each slot in use with its rows: all of them as a slice, which copies nothing, when it is the only one."""
    slots = indices_T.unique().tolist()
    if len(slots) == 1:
        return [(slots[0], slice(None))] if slots[0] >= 0 else []
    return [(slot, (indices_T == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0]


def _apply_shrink(self: Any, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
    """y[rows] = scale x[rows] A^T for each slot: y [T, r], x [T, in], w_t_all [slots, 1, r, in]."""
    for slot, rows in _rows_of_slots(self.token_lora_indices):
        weight = w_t_all[slot].squeeze(0).to(y.dtype)
        y[rows] = scale * (x[rows].to(y.dtype) @ weight.t())


def _apply_expand(
    self: Any, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, y_offset: int, y_slice_size: int,
    add_inputs: bool = True,
) -> None:  # fmt: skip
    """y[rows, slice] += x[rows] B^T for each slot: y [T, out], x [T, r], w_t_all [slots, 1, out, r]."""
    columns = slice(y_offset, y_offset + y_slice_size)
    for slot, rows in _rows_of_slots(self.token_lora_indices):
        product = x[rows].to(y.dtype) @ w_t_all[slot].squeeze(0).to(y.dtype).t()
        y[rows, columns] = y[rows, columns] + product if add_inputs else product


def differing_adapter_tensors(worker: Any, weights: AdapterWeights, number: int, tolerance: float) -> list[str]:
    """Names of an adapter's tensors that the kernels would not multiply by under adapter id `number`.

    Those read the stacked tensors compared here directly; the scaling is in B.
    """
    manager = worker.model_runner.lora_manager._adapter_manager
    if number not in manager.lora_index_to_id:
        return list(weights.tensors)  # not in a slot: nothing is served under this id
    slot = manager.lora_index_to_id.index(number)
    scaling = weights.config["lora_alpha"] / weights.config["r"]
    differing = []
    for name, tensor in weights.tensors.items():
        owner, side = name.removeprefix(PREFIX).removesuffix(".weight").rsplit(".", 1)
        module_name, parts = _engine_module(f"{owner}.weight", {})
        module = manager.modules.get(module_name)
        if module is None:
            differing.append(name)
            continue
        stacked = (module.lora_a_stacked if side == "lora_A" else module.lora_b_stacked)[parts.index(f"{owner}.weight")]
        rows, columns = tensor.shape
        held = stacked[slot, 0, :rows, :columns].float()
        expected = tensor.to(held.device).float() * (1.0 if side == "lora_A" else scaling)
        if not _close(held, expected, max(tolerance, torch.finfo(stacked.dtype).eps)):
            differing.append(name)
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


def _compare_experts(
    layer: Any, prefix: str, weights: Mapping[str, torch.Tensor], tolerance: float
) -> tuple[list[str], list[str]]:
    """The tensors of one layer's experts that differ, and all of them: each expert alone on a probe of its own."""
    names: dict[int, list[str]] = {}
    for name in weights:
        found = _EXPERT.fullmatch(name)
        if found is not None and found["experts"] == prefix:
            names.setdefault(int(found["index"]), []).append(name)
    parts = [name for group in names.values() for name in group]
    if layer is None or any(len(group) != 3 for group in names.values()):
        return parts, parts
    own = next(layer.parameters())
    hidden_size = weights[f"{prefix}.{min(names)}.gate_proj.weight"].shape[1]
    generator = torch.Generator().manual_seed(0)
    rows = 4
    probe = torch.randn(rows * len(names), hidden_size, generator=generator).to(device=own.device, dtype=own.dtype)
    chosen = torch.tensor(sorted(names), device=own.device).repeat_interleave(rows).unsqueeze(1)
    output = layer.quant_method.apply(
        layer,
        probe.clone(),  # a kernel may write into its input
        torch.ones(chosen.shape, device=own.device, dtype=torch.float32),
        chosen.to(layer.quant_method.topk_indices_dtype or torch.int32),
        None,
        None,
    )
    # Kernels keep the inner activation in their own precision: allow the rounding of one more operation.
    tolerance = max(tolerance, 0.0 if own.dtype == torch.float32 else 4 * torch.finfo(own.dtype).eps)
    differing: list[str] = []
    for position, index in enumerate(sorted(names)):
        x = probe[position * rows : (position + 1) * rows].float()
        gate, up, down = (
            weights[f"{prefix}.{index}.{part}.weight"].to(device=own.device, dtype=own.dtype).float()
            for part in ("gate_proj", "up_proj", "down_proj")
        )
        expected = F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
        if not _close(output[position * rows : (position + 1) * rows].float(), expected, tolerance):
            differing.extend(names[index])
    return differing, parts


def _close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    if actual.shape != expected.shape:
        return False
    scale = max(float(expected.abs().max()), 1e-6)
    return bool(float((actual - expected).abs().max()) <= tolerance * scale)
