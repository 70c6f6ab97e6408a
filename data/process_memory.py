"""How much memory this process has held at the most, and how full the machine is.

Read once a step, so reading must cost next to nothing: one small file of the kernel's, no walk over mappings.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def peak_memory_bytes() -> int:
    """Largest resident memory of this process in bytes, since it started or since `reset_peak_memory`.

    It counts pages that are shared with other processes, such as weights in the object store. The kernel's VmHWM where
    there is one; `ru_maxrss` elsewhere, which on Linux would also remember the process that started this one.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def reset_peak_memory() -> bool:
    """Let the peak begin again at what the process holds now; False where the system knows no such thing.

    Then the peak goes on from the start of the process.
    """
    try:
        _CLEAR_REFS.write_text("5")  # proc_pid_clear_refs(5): reset VmHWM
    except OSError:
        return False
    return True


def host_memory_share() -> float:
    """Share of the machine's memory that is in use, by whomever."""
    memory = psutil.virtual_memory()
    return 1.0 - memory.available / memory.total
