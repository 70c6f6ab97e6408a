"""Tensors as arrays, for a way between processes that shares memory.

Ray writes an array straight into its object store, and every reader on the machine maps the same pages; a torch tensor
is pickled instead, which copies it once when it is written and once for each reader. NumPy has no bfloat16, so a tensor
travels as its bytes with the name of its type.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

WeightArrays = Mapping[str, tuple[str, tuple[int, ...], np.ndarray]]
"""Type, shape and bytes of each tensor by its name."""


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...], np.ndarray]]:
    """Tensors on the CPU as arrays that share their memory (a copy is made of one that is not contiguous)."""
    return {
        name: (
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
            tensor.contiguous().reshape(-1).view(torch.uint8).numpy(),
        )
        for name, tensor in tensors.items()
    }


def to_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors back, sharing the memory of the arrays: they must not be written to. Tensors stay as they are."""
    tensors = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        for name, value in arrays.items():
            if isinstance(value, Tensor):
                tensors[name] = value
                continue
            dtype, shape, data = value
            tensors[name] = torch.from_numpy(data).view(getattr(torch, dtype)).reshape(shape)
    return tensors
