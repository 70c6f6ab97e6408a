"""What the forward pass keeps for the backward pass, and where.

Gradient checkpointing: a layer keeps its input alone and is run again in the backward pass (Chen et al. 2016, arXiv
1604.06174), so that memory grows with tokens x hidden size x layers and not with what a layer holds inside. Offloading:
what is kept waits in CPU memory (`torch.autograd.graph.save_on_cpu`), so that the device holds a layer at a time; both
together move only the layers' inputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Run every decoder layer of the model twice from now on."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


@contextlib.contextmanager
def checkpointed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Checkpoint the forward passes of this block if `wanted`; their backward passes may come after it."""
    if not wanted or model.is_gradient_checkpointing:
        yield
        return
    enable_checkpointing(model)
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()


def offloaded(device: torch.device, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Keep in CPU memory what the forward passes of this block save for their backward passes, if `wanted`."""
    if not wanted:
        return contextlib.nullcontext()
    return torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
