"""Heavy imports without the garbage collector, which looks again and again through what will never be garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports(package: str) -> Iterator[None]:
    """Import `package`, and what comes with it, within the block.

    The collector of cycles rests meanwhile, and what was imported is kept out of its sight afterwards: a fifth of what
    it takes to start an engine (benchmarks/rollout_speed.md). Does nothing when the package is there already, so that
    no garbage of a long life is kept with it.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
