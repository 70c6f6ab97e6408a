"""Runs one untrusted Python program in bubblewrap, and says how it ended.

    program, stdin, SandboxLimits -> run_python -> SandboxResult        (SandboxError: the sandbox itself failed)

Inside there is the interpreter, the system's shared libraries, an empty small /tmp and nothing else: no file of the
host, no /proc, no network, no privileges and none to be had, no second process or thread, and bounds on memory, CPU,
files and output. A process that is root gives root up first, because the kernel does not count root's processes.
Nothing here ever runs a program outside the sandbox: where it does not work, `require_sandbox` says what to enable.

Kernel and bubblewrap are trusted. What a program prints is data of the program; see `rewards.code_runner`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from data.records import UserError
from rewards.sandbox_files import SandboxFiles, bwrap_candidates, sandbox_files
from rewards.sandbox_syscalls import syscall_filter

KIB, MIB = 2**10, 2**20
UNPRIVILEGED_ID = 65534
"""User and group of the sandbox when it is started by root: nobody."""

SandboxStatus = Literal["ok", "failed", "crashed", "timeout", "memory", "output"]

_START_S = 20.0
"""Wall seconds that a busy machine may take from the call to the program's first instruction."""

_END_S = 10.0
_MEMORY_EXIT = 86
_STARTED = b"S"

# The first code inside: sets the limits (none of which can be raised again), reads the program, drops every open file
# but the three standard ones, and says that it has started, before the first line of the program is read.
_BOOTSTRAP = f"""
import os, resource, sys
program, status = int(sys.argv[1]), int(sys.argv[2])
for limit in sys.argv[3:]:
    name, value = limit.split("=")
    name, value = getattr(resource, name), int(value)
    hard = resource.getrlimit(name)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(name, (value, value))
with open(program, "rb", closefd=False) as file:
    text = file.read()
os.write(status, {_STARTED!r})
os.closerange(3, 65536)
sys.argv[:] = ["program"]
del file, hard, limit, name, program, resource, status, value
try:
    exec(compile(text, "<program>", "exec"), {{"__name__": "__main__", "__builtins__": __builtins__}})
except MemoryError:
    os._exit({_MEMORY_EXIT})
"""


class SandboxError(RuntimeError):
    """The sandbox failed, which says nothing about the program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """What one program may use. Sizes in bytes; `cpu_s` whole CPU seconds; `wall_s` wall seconds from its first line.

    `num_processes` counts processes and threads of the program, itself included. `memory_bytes` is address space per
    process, about 13 MiB of it the interpreter's. `output_bytes` bounds stdout and stderr together.
    """

    wall_s: float = 10.0
    cpu_s: int = 2
    memory_bytes: int = 512 * MIB
    num_processes: int = 1
    file_bytes: int = 1 * MIB
    tmp_bytes: int = 4 * MIB
    open_files: int = 32
    output_bytes: int = 1 * MIB

    def validate(self) -> None:
        """Raise UserError for a limit that no program could start under."""
        least = {"wall_s": 0.1, "cpu_s": 1, "memory_bytes": 64 * MIB, "num_processes": 1, "file_bytes": 0,
                 "tmp_bytes": 4096, "open_files": 8, "output_bytes": 1}  # fmt: skip
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(f"sandbox.{name}: {getattr(self, name)} must be {smallest} or more")

    def arguments(self) -> list[str]:
        """The limits as the code inside reads them, names of `resource` and values."""
        return [
            f"RLIMIT_AS={self.memory_bytes}",
            f"RLIMIT_NPROC={self.num_processes}",
            f"RLIMIT_CPU={self.cpu_s}",
            f"RLIMIT_FSIZE={self.file_bytes}",
            f"RLIMIT_NOFILE={self.open_files}",
            "RLIMIT_CORE=0",
            "RLIMIT_MEMLOCK=0",
        ]


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How a program ended. ok: exit code 0. failed: another exit code. crashed: a signal. timeout, memory, output: a
    limit, as far as it can be told; a program may pretend. `exit_code` is negative for a signal, None when killed here.
    """

    status: SandboxStatus
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    seconds: float


def run_python(program: str, *, stdin: bytes = b"", limits: SandboxLimits | None = None) -> SandboxResult:
    """Run a Python program as `__main__` with `stdin`; when this returns or raises, no process of it is left.

    Raises SandboxError when the sandbox itself fails, UserError when this machine cannot isolate programs at all.
    """
    return _run(require_sandbox(), program, stdin, limits or SandboxLimits())


@functools.cache
def require_sandbox() -> SandboxFiles:
    """Check once per process that sandboxes really isolate (`rewards.sandbox_probe`); UserError says what to enable."""
    from rewards.sandbox_probe import find_working_sandbox

    return find_working_sandbox()


def files_of_candidates() -> Iterator[SandboxFiles]:
    """The files for each bubblewrap that this machine has; whether it works is not known yet."""
    for bwrap in bwrap_candidates():
        yield sandbox_files(bwrap, gives_up_root=os.geteuid() == 0)


def _command(files: SandboxFiles, limits: SandboxLimits, info: int, syscalls: int, program: int, status: int) -> list:
    return [
        str(files.bwrap), "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
        # The program is the first process of its namespace: with it all others end, and bubblewrap waits for it. An
        # init between the two would be left as a zombie after each run, and few containers collect zombies.
        "--as-pid-1", "--hostname", "sandbox", *files.mounts, "--dev", "/dev", "--remount-ro", "/dev",
        "--perms", "0700", "--size", str(limits.tmp_bytes), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp",
        "--clearenv", "--setenv", "LD_LIBRARY_PATH", f"{files.python.partition('/bin/')[0]}/lib",
        "--setenv", "LC_ALL", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0",  # the same verdict each time
        "--info-fd", str(info), "--seccomp", str(syscalls), "--",
        files.python, "-s", "-S", "-P", "-c", _BOOTSTRAP, str(program), str(status), *limits.arguments(),
    ]  # fmt: skip


def _run(files: SandboxFiles, program: str, stdin: bytes, limits: SandboxLimits) -> SandboxResult:
    limits.validate()
    with contextlib.ExitStack() as stack:
        sealed = [_sealed_file(data) for data in (stdin, program.encode(errors="replace"), syscall_filter())]
        for descriptor in sealed:
            stack.callback(os.close, descriptor)
        (info_r, info_w), (status_r, status_w) = (stack.enter_context(_pipe()) for _ in range(2))
        command = _command(files, limits, info_w.fileno(), sealed[2], sealed[1], status_w.fileno())
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                command, stdin=sealed[0], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={},
                pass_fds=(info_w.fileno(), status_w.fileno(), *sealed[1:]), start_new_session=True, **_unprivileged(),
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:  # no such file, no right, or root cannot be given up
            raise SandboxError(f"bubblewrap cannot be started: {error}") from error
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stack.callback(stream.close)
        run = _Running(process, info_r.fileno(), status_r.fileno(), started)
        try:
            info_w.close()
            status_w.close()
            overrun = _watch(run, limits)
        finally:
            _end(run)
        _drain(run, limits)
        return _result(run, overrun, limits)


def _unprivileged() -> dict:
    return {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []} if os.geteuid() == 0 else {}


def _sealed_file(data: bytes) -> int:
    """A file in memory that nobody can change any more, read from its beginning."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


@contextlib.contextmanager
def _pipe() -> Iterator[tuple]:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader, open(write, "wb", buffering=0) as writer:
        yield reader, writer


# ------------------------------------------------------------------------------------ a program that runs


@dataclass(slots=True)
class _Running:
    """One sandbox while it lives: bubblewrap's outer process, and what has been read of its pipes."""

    process: subprocess.Popen
    info: int
    status: int
    started: float
    began: float | None = None  # when the program's first line was reached
    ended: float = 0.0
    init: int | None = None  # pidfd of the first process inside, with which all others end
    received: dict[int, bytearray] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for pipe in (self.process.stdout.fileno(), self.process.stderr.fileno(), self.info, self.status):
            os.set_blocking(pipe, False)
            self.received[pipe] = bytearray()
            self.open.add(pipe)

    @property
    def stdout(self) -> bytes:
        return bytes(self.received[self.process.stdout.fileno()])  # type: ignore[union-attr]

    @property
    def stderr(self) -> bytes:
        return bytes(self.received[self.process.stderr.fileno()])  # type: ignore[union-attr]

    def num_printed(self) -> int:
        return sum(len(data) for pipe, data in self.received.items() if pipe not in (self.info, self.status))

    def read(self, pipe: int) -> None:
        """Take what a pipe holds now, at most 64 KiB, and act on news of bubblewrap and of the program's start."""
        try:
            data = os.read(pipe, 65536)
        except BlockingIOError:
            return
        if not data:
            self.open.discard(pipe)
        self.received[pipe] += data
        if pipe == self.status and data and self.began is None:
            self.began = time.monotonic()
        if pipe == self.info and self.init is None and self.received[pipe].rstrip().endswith(b"}"):
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self.init = os.pidfd_open(json.loads(self.received[pipe])["child-pid"])


def _watch(run: _Running, limits: SandboxLimits) -> Literal["", "timeout", "output"]:
    """Read until the program ends ("") or goes over the limit of wall time or output."""
    poller = select.poll()
    exited = os.pidfd_open(run.process.pid)
    try:
        for pipe in (exited, *run.open):
            poller.register(pipe, select.POLLIN)
        while True:
            begun_by = run.started + _START_S if run.began is None else run.began + limits.wall_s
            left = begun_by - time.monotonic()
            if left <= 0:
                return "timeout"
            ready = [pipe for pipe, _ in poller.poll(left * 1000)]
            for pipe in ready:
                if pipe != exited:
                    run.read(pipe)
                    if pipe not in run.open:
                        poller.unregister(pipe)
            if run.num_printed() > limits.output_bytes:
                return "output"
            if exited in ready:
                return ""
    finally:
        os.close(exited)


def _end(run: _Running) -> None:
    """Kill whatever is left and wait until it is gone; SandboxError when it does not go."""
    run.ended = time.monotonic()
    if run.init is None:
        run.process.kill()  # before its first child, or after it has waited for that child
    else:
        # Then bubblewrap collects the child, and ends; the child itself ends after all others in its namespace.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(run.init, signal.SIGKILL)
    try:
        run.process.wait(_END_S)
        if run.init is None:
            run.read(run.info)  # bubblewrap was killed between its first child and our reading of it
        if run.init is not None and not _readable_within(run.init, _END_S):
            raise SandboxError(f"a sandbox does not end within {_END_S:g} s of being killed")
    except subprocess.TimeoutExpired:
        run.process.kill()
        raise SandboxError(f"bubblewrap does not end within {_END_S:g} s of its program's end") from None
    finally:
        if run.init is not None:
            os.close(run.init)


def _readable_within(descriptor: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _drain(run: _Running, limits: SandboxLimits) -> None:
    """Take what was written before the end; no waiting for the pipes' end, which a fork of this process may hold up."""
    for pipe in tuple(run.open):
        before = -1
        while pipe in run.open and len(run.received[pipe]) != before and run.num_printed() <= limits.output_bytes:
            before = len(run.received[pipe])
            run.read(pipe)


def _result(run: _Running, overrun: Literal["", "timeout", "output"], limits: SandboxLimits) -> SandboxResult:
    stdout, stderr = run.stdout, run.stderr
    if not run.received[run.status].startswith(_STARTED):
        reason = stderr.decode(errors="replace").strip()[-500:] or f"exit code {run.process.returncode}"
        raise SandboxError(f"the sandbox did not start: {overrun or reason}")
    assert run.began is not None
    seconds = run.ended - run.began
    code = run.process.returncode
    if code > 128:  # bubblewrap reports the signal that ended the program as a shell does
        code = 128 - code
    status: SandboxStatus
    if overrun or run.num_printed() > limits.output_bytes:
        return SandboxResult(overrun or "output", stdout, stderr, None, seconds)
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and seconds >= limits.cpu_s * 0.9:
        status = "timeout"
    elif code == _MEMORY_EXIT:
        status = "memory"
    else:
        status = "ok" if code == 0 else "failed" if code > 0 else "crashed"
    return SandboxResult(status, stdout[: limits.output_bytes], stderr[: limits.output_bytes], code, seconds)
