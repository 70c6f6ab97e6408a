"""Tells a process from a later one with the same id, also when somebody else wrote the id down long ago."""

from __future__ import annotations

from pathlib import Path

import psutil


def start_of(pid: int) -> str | None:
    """When a process started, as text that is equal whoever asks; None when it does not run (any more).

    A process that ended and of which its parent has not taken note does not run. On Linux the kernel's own count since
    the system's start is taken: a time of day shifts with the clock's corrections, by which a live process would seem
    to be another.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # no such process, or it ended while it was read
            return None
        return None if fields[0] in "ZX" else fields[19]
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None
