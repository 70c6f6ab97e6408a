"""What accelerators can compute at the most, for the share of it that training uses (MFU), and whether in bfloat16.

Dense products in bfloat16, without sparsity, of the makers' data sheets. A device that is not in the table has no MFU
rather than a guessed one.
"""

from __future__ import annotations

import re

import torch

_NVIDIA = "https://www.nvidia.com/en-us/data-center/"

BF16_PEAK_FLOPS: dict[str, tuple[float, str]] = {
    "A10": (125e12, _NVIDIA + "products/a10-gpu"),
    "A30": (165e12, _NVIDIA + "products/a30-gpu"),
    "A100": (312e12, _NVIDIA + "a100"),
    "A800": (312e12, _NVIDIA + "a100"),  # an A100 with slower links
    "L4": (121e12, _NVIDIA + "l4"),  # the sheet has 242 with sparsity
    "L40": (181e12, _NVIDIA + "l40"),
    "L40S": (362e12, _NVIDIA + "l40s"),
    "H20": (148e12, "NVIDIA H20 data sheet"),
    "H100": (989e12, _NVIDIA + "h100"),  # SXM; the sheet has 1,979 with sparsity
    "H100 PCIe": (756e12, _NVIDIA + "h100"),
    "H100 NVL": (835e12, _NVIDIA + "h100"),
    "H800": (989e12, _NVIDIA + "h100"),  # an H100 with slower links
    "H200": (989e12, _NVIDIA + "h200"),
    "GH200": (989e12, _NVIDIA + "grace-hopper-superchip"),
    "B200": (2250e12, _NVIDIA + "dgx-b200"),
    "MI300X": (1307e12, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"),
}
"""Operations a second by a part of the name that the driver gives, with the source."""


def bf16_peak_flops(device_name: str) -> float | None:
    """Peak of the accelerator with this name, operations a second; None when it is not in the table.

    The longest entry that stands in the name as whole words counts: an A100 is no A10. A slice of a device (MIG) has
    no entry.
    """
    if re.search(r"\bMIG\b", device_name):
        return None
    found = [name for name in BF16_PEAK_FLOPS if re.search(rf"\b{re.escape(name)}\b", device_name)]
    return BF16_PEAK_FLOPS[max(found, key=len)][0] if found else None


def peak_flops(device: torch.device, dtype: str) -> float | None:
    """Peak of a rank's device for products in `dtype`; None where it is not known, as on a CPU or in float32."""
    if device.type != "cuda" or dtype != "bfloat16":
        return None
    return bf16_peak_flops(torch.cuda.get_device_name(device))


_CPU_BF16_UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What torch calls the units of x86 and ARM processors that multiply bfloat16."""


def computes_bfloat16() -> bool:
    """Whether this machine has units for bfloat16; without them it is emulated, and slower than float32 by far."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _CPU_BF16_UNITS)


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most memory that tensors took on the device since it was reset; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
