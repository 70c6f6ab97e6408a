"""Peak memory is that of this process, and can begin again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from data.process_memory import host_memory_share, peak_memory_bytes, reset_peak_memory

MIB = 2**20


def test_the_peak_rises_with_what_is_held_and_begins_again_when_reset() -> None:
    if not reset_peak_memory():
        pytest.skip("this system cannot reset a process's peak")
    before = peak_memory_bytes()
    held = bytearray(64 * MIB)
    for place in range(0, len(held), 4096):
        held[place] = 1  # a page that is never written takes no memory
    peak = peak_memory_bytes()
    assert 60 * MIB < peak - before < 80 * MIB
    del held
    assert abs(peak_memory_bytes() - peak) < 4 * MIB  # a peak, not what is held now; the kernel counts in batches
    assert reset_peak_memory()
    assert peak_memory_bytes() < peak - 50 * MIB


def test_a_process_that_a_large_one_starts_is_not_charged_for_its_parent() -> None:
    """`ru_maxrss` is kept over exec on Linux; the peak must not be."""
    held = bytearray(b"x") * (200 * MIB)
    code = "from data.process_memory import peak_memory_bytes; print(peak_memory_bytes())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 150 * MIB < len(held)


def test_the_hosts_share_is_a_share() -> None:
    assert 0 < host_memory_share() < 1
