"""Scores hostile texts one at a time in a process of its own, so that a scorer that hangs or dies is seen and survived.

    Trial -> (child: the environment's episode, then the rules that run inline) -> Observation

What needs a worker, a judge or a preference model is left undecided here: `rewards.audit` hands it on. The child is
killed when a text takes too long, and a new one goes on with the next text.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import psutil

from data.episodes import ENVIRONMENT_ERROR, EpisodeLimits
from data.records import FinishReason, Prompt, Score
from rewards.episodes import play
from rewards.registry import all_tasks, get_task, load_user_task, user_file
from rewards.task import ScoreRequest, Task
from rewards.verifier_pool import WORKER_HEADROOM_BYTES

PATIENCE = 4
"""How many times its limit a child may take that gets no processor, or sleeps."""

START_LIMIT_S = 120.0
"""Seconds for the child to import the tasks; only a machine without a free core needs more than a few."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One completion against one prompt; in a task of several turns it is said on every turn."""

    prompt: Prompt
    completion: str
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of a trial: the request as it was scored and the verdict of the inline rules (None: undecided).

    The request is left out on the way from the child when it is that of a single turn.

    `cpu_s` are processor seconds, so that other work on the machine does not count. `failure` is "" or says how the
    scorer failed.
    """

    request: ScoreRequest | None
    score: Score | None
    cpu_s: float
    failure: str = ""

    def given(self, request: ScoreRequest) -> Observation:
        """The observation with this request, unless it has one of its own (an episode that was played)."""
        return self if self.request is not None else dataclasses.replace(self, request=request)


class Probe:
    """A child process that scores texts; use it as a context manager. One probe serves any number of tasks.

    `limit_s` are the seconds for one text after which the child is killed.
    """

    def __init__(self, limit_s: float = 10.0) -> None:
        if limit_s <= 0:
            raise ValueError(f"limit_s must be positive, got {limit_s}")
        self.limit_s = limit_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def observe(self, task: Task, trials: Sequence[Trial]) -> Iterator[Observation]:
        """One observation per trial, in order. RuntimeError when the child cannot start."""
        done = 0
        while done < len(trials):
            connection = self._connected()
            try:
                # All at once, so that prompts that trials share are sent once and the child need not wait for us.
                connection.send((task.name, user_file(task.name), tuple(trials[done:])))
                while done < len(trials) and self._answers(connection):
                    observation = connection.recv()
                    yield observation.given(request_of(task, trials[done]))
                    done += 1
                failure = f"hung: no verdict after {self.limit_s:g} s of work"
            except (EOFError, BrokenPipeError, ConnectionResetError):
                failure = "died: the scorer ended its process"
            if done < len(trials):
                self.close()
                yield Observation(request_of(task, trials[done]), None, self.limit_s, failure)
                done += 1

    def _answers(self, connection: Connection) -> bool:
        """Whether a verdict comes within the limit, in processor seconds of the child: a busy machine is no hang.

        A child that sleeps is given up after `PATIENCE` times the limit.
        """
        assert self._process is not None
        if connection.poll(self.limit_s):
            return True
        times = psutil.Process(self._process.pid).cpu_times()
        began, spent = time.monotonic(), times.user + times.system
        while time.monotonic() - began < (PATIENCE - 1) * self.limit_s:
            if connection.poll(self.limit_s / 4):
                return True
            times = psutil.Process(self._process.pid).cpu_times()
            if times.user + times.system - spent >= self.limit_s:
                return False
        return False

    def close(self) -> None:
        """Kill the child; a later `observe` starts another."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        context = multiprocessing.get_context("spawn")  # the parent may hold threads, which do not survive a fork
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        try:
            started = self._connection.poll(START_LIMIT_S) and self._connection.recv() == "ready"
        except EOFError:
            started = False
        if not started:
            self.close()
            raise RuntimeError("the audit's scoring process cannot start; its error is on stderr")
        return self._connection


def request_of(task: Task, trial: Trial) -> ScoreRequest:
    """The score request of a completion that is the only turn."""
    prompt = trial.prompt
    return ScoreRequest(
        task.name, prompt.messages, prompt.reference, trial.completion, prompt.enable_thinking, trial.finish_reason
    )


def played(task: Task, trial: Trial) -> ScoreRequest:
    """The score request of an episode in which the policy says the same hostile text on every turn.

    Without an environment this is `request_of`.
    """
    if task.environment is None:
        return request_of(task, trial)
    num_turns = EpisodeLimits().max_turns if trial.finish_reason == "stop" else 1
    return play(task, trial.prompt, [trial.completion] * num_turns, finish_reason=trial.finish_reason)


def _serve(connection: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + WORKER_HEADROOM_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    all_tasks()  # imported before any clock runs
    connection.send("ready")
    while True:
        try:
            name, file, trials = connection.recv()
        except EOFError:  # the parent is gone
            return
        task = load_user_task(file) if file is not None else get_task(name)
        for trial in trials:
            connection.send(_observed(task, trial))


def _observed(task: Task, trial: Trial) -> Observation:
    request = request_of(task, trial)
    start = time.process_time()
    try:
        request = played(task, trial)
        score = task.decide_inline(request)
        failure = request.ended if request.ended.startswith(ENVIRONMENT_ERROR) else ""
    except Exception as error:  # what the audit looks for: text of the policy made the scorer fail
        score, failure = None, f"raised {type(error).__name__}: {error}"
    return Observation(request if task.environment else None, score, time.process_time() - start, failure)
