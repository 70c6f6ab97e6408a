"""The peak of a device comes from its name, and an unknown device has none."""

from __future__ import annotations

import pytest
import torch

from learner.accelerators import BF16_PEAK_FLOPS, bf16_peak_flops, computes_bfloat16, peak_flops
from learner.step_work import DeviceUse


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("AMD Instinct MI300X", 1307e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),  # a seventh of one
        ("NVIDIA A10G", None),
        ("Tesla V100-SXM2-16GB", None),
        ("", None),
    ],
)
def test_the_longest_entry_that_stands_in_the_name_counts(name: str, peak: float | None) -> None:
    assert bf16_peak_flops(name) == peak


def test_every_entry_has_a_source() -> None:
    assert all(peak > 1e13 and source for peak, source in BF16_PEAK_FLOPS.values())


def test_a_cpu_has_no_peak_and_no_memory_of_its_own() -> None:
    assert peak_flops(torch.device("cpu"), "bfloat16") is None
    use = DeviceUse.now(torch.device("cpu"), "bfloat16")
    assert (use.device_bytes, use.peak_flops) == (None, None)


def test_ranks_report_the_one_that_took_most_and_what_all_could_compute() -> None:
    ranks = [DeviceUse(3, 30, 100.0), DeviceUse(5, 20, 100.0)]
    assert DeviceUse.timing(ranks) == {
        "learner_peak_bytes": 5.0, "learner_device_peak_bytes": 30.0, "peak_flops_per_s": 200.0,
    }  # fmt: skip
    assert DeviceUse.timing([*ranks, DeviceUse(1, None, None)]) == {
        "learner_peak_bytes": 5.0, "learner_device_peak_bytes": 30.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": False, "avx512_bf16": False}, False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),  # it widens each number first
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
        ({"architecture": "riscv64"}, False),
    ],
)
def test_a_processor_computes_bfloat16_when_it_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool | str], expected: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert computes_bfloat16() is expected


def test_what_is_asked_of_torch_is_what_it_says_of_this_processor() -> None:
    known = torch.cpu.get_capabilities()
    assert {"avx512_bf16", "amx_bf16"} <= known.keys() or "bf16" in known or known["architecture"] not in (
        "x86_64", "aarch64", "arm64",
    )  # fmt: skip
