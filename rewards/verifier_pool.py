"""Runs verifiers, the dangerous ones in killable processes, and keeps "wrong" apart from "the verifier failed".

Most verifiers take microseconds and run in this process. Those that call a computer algebra system can hang in C code
where no signal handler or thread timeout reaches them, so they run in worker processes: past its time a worker is
killed and replaced, and the request becomes `Score.error`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType

from pebble import ProcessExpired, ProcessPool

from data.records import Score
from rewards.registry import all_tasks, benchmark_tasks, get_task, load_user_task, user_file
from rewards.task import ScoreRequest

WORKER_HEADROOM_BYTES = 4 * 2**30
"""Address space a worker may map beyond its imports. Hostile LaTeX was seen to drive sympy to 1 GB resident before its
timeout; four times that leaves room for allocator slack and still fails with MemoryError well before a host swaps."""

CPU_GRACE_S = 30
"""CPU seconds past the timeout after which the kernel ends a worker whose parent is no longer there to kill it."""


class VerifierPool:
    """Lets the rules of tasks decide; starts its worker processes when the first request needs one.

    `timeout_s` counts wall seconds from the moment a worker takes the request up, so that waiting in the queue costs
    nothing; a task may have a limit of its own. Use it as a context manager or call `close`; afterwards no worker
    process is left. Not to be shared between threads.
    """

    def __init__(self, num_workers: int = 1, timeout_s: float = 5.0) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self.num_workers = num_workers
        self.timeout_s = timeout_s
        self._pool: ProcessPool | None = None
        self._has_worked = False

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[Score | None]:
        """What the rules say of each request, in order; None leaves it to a judge or a preference model.

        A verifier that raises, hangs or dies yields `Score.error` with the reason. Raises UserError for a task that
        does not exist, RuntimeError when workers cannot start at all.
        """
        return [verdict() for verdict in self.submit(requests)]

    def submit(self, requests: Sequence[ScoreRequest]) -> list[Callable[[], Score | None]]:
        """Begin to score `requests`: one function each that waits for the verdict. See `score_all`.

        What needs no worker is decided before this returns; the workers are busy with the rest meanwhile.
        """
        verdicts: list[Callable[[], Score | None]] = []
        for request in requests:
            task = get_task(request.task)
            try:
                score, decided = task.decide_inline(request), not task.in_worker
            except Exception as error:
                score, decided = Score.error(_reason(error)), True
            if decided or score is not None:
                verdicts.append(functools.partial(_known, score))
            else:
                limit_s = task.timeout_s or self.timeout_s
                verdicts.append(functools.partial(self._collect, self._submit(request, limit_s), limit_s))
        return verdicts

    def close(self) -> None:
        """End the workers at once and wait until they are gone; a later `score_all` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that exist now; empty before the first request that needs one."""
        if self._pool is None:
            return ()
        return tuple(sorted(self._pool._pool_manager.worker_manager.workers))

    def _submit(self, request: ScoreRequest, limit_s: float) -> Future[Score | None]:
        if self._pool is None or not self._pool.active:
            self.close()
            # spawn: the parent may hold threads, an engine or CUDA, none of which survives a fork.
            self._pool = ProcessPool(
                max_workers=self.num_workers,
                initializer=_prepare_worker,
                context=multiprocessing.get_context("spawn"),
            )
        arguments = (request, user_file(request.task), limit_s)
        return self._pool.schedule(_score_in_worker, args=arguments, timeout=limit_s)

    def _collect(self, future: Future[Score | None], limit_s: float) -> Score | None:
        try:
            score = future.result()
            self._has_worked = True
            return score
        except (TimeoutError, FutureTimeoutError):
            return Score.error(f"verifier timed out after {limit_s:g} s and was killed")
        except ProcessExpired as error:
            return Score.error(f"verifier process died with exit code {error.exitcode}")
        except (BrokenProcessPool, CancelledError) as error:
            # No worker could be kept alive. Once is bad luck and the next call starts a new pool; from the very start
            # it is the set-up (the script cannot be imported again, an import fails), which no later call mends.
            if not self._has_worked:
                self.close()
                raise RuntimeError(
                    "verifier workers cannot start; their error is on stderr (a script needs a file of its own and "
                    "an `if __name__ == '__main__'` guard)"
                ) from error
            return Score.error(f"verifier pool broke: {error}")
        except Exception as error:
            return Score.error(_reason(error))


def _reason(error: BaseException) -> str:
    return f"verifier raised {type(error).__name__}: {error}"


def _known(score: Score | None) -> Score | None:
    return score


def _prepare_worker() -> None:
    """Runs once in each new worker, before it takes requests, so that imports do not count towards a timeout."""
    # A worker stuck in C code never gets to a Python signal handler; the default action ends it at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for task in (*all_tasks(), *benchmark_tasks()):
        if task.prepare_worker is not None:
            task.prepare_worker()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + WORKER_HEADROOM_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _score_in_worker(request: ScoreRequest, task_file: Path | None, timeout_s: float) -> Score | None:
    task = load_user_task(task_file) if task_file is not None else get_task(request.task)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + timeout_s) + CPU_GRACE_S
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    return task.decide(request)
