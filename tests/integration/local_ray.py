"""Ray on this machine for a test or a module of tests, started and ended as a run does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stages.ray_daemons import end_ray, start_ray


@contextmanager
def local_ray(*, num_cpus: int = 2, object_store_mib: int = 200) -> Iterator[None]:
    """Ray within the block; after it, every process that Ray started has ended."""
    daemons = start_ray(num_cpus=num_cpus, object_store_memory=object_store_mib * 2**20)
    try:
        yield
    finally:
        end_ray(daemons)
