"""Ray on this machine: its daemons start with the settings that the work needs, and have ended when we say so."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

_END_TIMEOUT_S = 10.0
"""How long Ray's processes may take to end by themselves before they are killed."""


def start_ray(*, address: str | None = None, **options: Any) -> list[psutil.Process]:
    """Connect to the cluster at `address`, or start one of our own, whose daemons are returned for `end_ray`.

    `options` are those of `ray.init`.
    """
    prepare_environment()
    import ray

    is_ours = address is None
    others = set(psutil.Process().children())
    with _kept_terminate_handler():
        ray.init(
            address=address,
            include_dashboard=False if is_ours else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **options,
        )
    return [child for child in psutil.Process().children() if is_ours and child not in others]


def end_ray(daemons: Sequence[psutil.Process]) -> None:
    """Disconnect; return when the daemons, and all that they started, have ended.

    `ray.shutdown` returns earlier: Ray only asks its workers to end, and its agents look now and then whether their
    daemon is still there.
    """
    import ray

    started = [process for daemon in daemons for process in with_descendants(daemon)]
    ray.shutdown()
    await_end(started)


def prepare_environment() -> None:
    """Settings that Ray's daemons read from the environment when they are started."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # actors without a GPU keep the environment
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # the work is in the actors; Ray would have them yield to all
    # Workers that Ray starts ahead, one a core, would idle: an actor with an environment of its own takes none.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")


@contextlib.contextmanager
def _kept_terminate_handler() -> Iterator[None]:
    """Keep this process's answer to SIGTERM: Ray puts its own in place, which aborts in the middle of a step."""
    mine = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if mine is not None and threading.current_thread() is threading.main_thread():  # None: not set from Python
            signal.signal(signal.SIGTERM, mine)


def with_descendants(daemon: psutil.Process) -> list[psutil.Process]:
    """One of Ray's daemons and the workers below it; no other child of this process is Ray's to end."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended before, and its workers with it
        return [daemon, *daemon.children(recursive=True)]
    return []


def await_end(processes: Sequence[psutil.Process]) -> None:
    """Return when all have ended; those that take too long, as an engine on a busy machine may, are killed."""
    _, alive = psutil.wait_procs(processes, timeout=_END_TIMEOUT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile, which is what is wanted
            process.kill()
    psutil.wait_procs(alive, timeout=_END_TIMEOUT_S)
