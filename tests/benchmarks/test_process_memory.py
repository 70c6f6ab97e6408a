"""The sampler of a process tree's memory, on processes that hold a known amount."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.process_memory import PeakMemory, proportional_bytes

MIB = 2**20

HOLDS = """
import sys, time
block = bytearray(b"x" * ({mib} * 2**20))
print("ready", flush=True)
sys.stdin.readline()
"""

HAS_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print("ready", flush=True)
sys.stdin.readline()
child.communicate("end\\n")
"""


def started(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def peak_of(code: str) -> PeakMemory:
    process = started(code)
    with PeakMemory(process.pid, interval_s=0.02) as memory:
        time.sleep(0.3)
        process.communicate("end\n")
    return memory


def test_the_peak_is_what_a_process_holds_beyond_an_empty_one() -> None:
    empty, full = peak_of(HOLDS.format(mib=0)), peak_of(HOLDS.format(mib=200))
    assert abs((full.peak_bytes - empty.peak_bytes) / MIB - 200) < 8
    assert full.num_samples >= 5


def test_the_memory_of_a_child_counts() -> None:
    alone = peak_of(HOLDS.format(mib=100))
    family = peak_of(HAS_CHILD.format(child=HOLDS.format(mib=100)))
    assert family.peak_bytes > alone.peak_bytes
    assert family.peak_bytes < alone.peak_bytes + 60 * MIB


def test_a_process_that_has_ended_holds_nothing() -> None:
    process = started(HOLDS.format(mib=0))
    process.communicate("end\n")
    assert proportional_bytes(process.pid) == 0
    assert proportional_bytes(os.getpid()) > MIB
