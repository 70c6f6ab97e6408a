"""Peak memory of a process and everything it started: the sum of proportional set sizes, sampled.

The proportional set size divides a shared page by the number of processes that share it, so that Ray's object store and
libraries loaded many times count once. Sampling walks page tables and costs time; a comparison samples in a run of its
own, whose seconds it does not use.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil


def proportional_bytes(pid: int) -> int:
    """The proportional set size of one process in bytes; 0 when it has ended or may not be read."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class PeakMemory:
    """Samples the tree under `pid` until the block ends; then `peak_bytes` and `num_samples` are final.

    A descendant that was seen once stays in the tree when its parent ends before it.
    """

    def __init__(self, pid: int, *, interval_s: float = 0.05) -> None:
        self.peak_bytes = 0
        self.num_samples = 0
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {pid: self._root}
        self._interval_s = interval_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)

    def sample(self) -> int:
        """Bytes of the tree now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._known |= {child.pid: child for child in self._root.children(recursive=True)}
        self._known = {pid: process for pid, process in self._known.items() if process.is_running()}
        total = sum(map(proportional_bytes, self._known))
        self.peak_bytes = max(self.peak_bytes, total)
        self.num_samples += 1
        return total

    def _run(self) -> None:
        while not self._done.wait(self._interval_s):
            self.sample()

    def __enter__(self) -> PeakMemory:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
