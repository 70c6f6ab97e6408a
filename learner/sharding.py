"""Sharding of the model over ranks with FSDP2: each rank keeps a part of every weight, gradient and moment.

A layer's weights are gathered when it runs and dropped after it; gradients are summed over ranks and scattered. The sum
is left undivided, because losses divide by the tokens of the whole step already. (Zhao et al. 2023, "PyTorch FSDP",
arXiv 2304.11277; `torch.distributed.fsdp.fully_shard`.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from learner.policy_network import PolicyNetwork


def shard_network(network: PolicyNetwork, device: torch.device, *, num_ranks: int, offload_optimizer: bool) -> None:
    """Turn the parameters of `network` into parts over `num_ranks` ranks, in place: every decoder layer by itself, and
    embedding, last norm and head together, because a tied head is the embedding.

    `offload_optimizer` keeps the parts, their gradients and the moments in CPU memory and updates them there.
    """
    mesh = init_device_mesh(device.type, (num_ranks,))
    policy = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload_optimizer else OffloadPolicy()
    modules = [*network.model.model.layers, network]
    for module in modules:
        fully_shard(module, mesh=mesh, offload_policy=policy)
    for module in modules:
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other way to leave a sum undivided


def whole(tensor: Tensor) -> Tensor:
    """The tensor with all its parts; every rank has to ask for it. One that is whole already comes back as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_on_first(tensors: Mapping[str, Tensor], *, is_first: bool, copy: bool = True) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the first rank, nothing on the others; one after the other, to hold few at a time.

    Without `copy` those that are whole and on the CPU already are handed out as they are.
    """
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor.detach())
        if is_first:
            gathered[name] = complete.to("cpu", copy=copy and not isinstance(tensor, DTensor))
    return gathered
