"""The sandbox against programs that try to leave it, as whoever runs the tests and, for root, as an ordinary user."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from data.records import UserError
from rewards import sandbox, sandbox_probe
from rewards.sandbox import MIB, SandboxError, SandboxLimits, SandboxResult, _run, require_sandbox, run_python
from rewards.sandbox_files import SandboxFiles
from rewards.sandbox_probe import find_working_sandbox, probe, remedies
from rewards.sandbox_syscalls import syscall_filter

ROOT = Path(__file__).parents[2]
QUICK = SandboxLimits(wall_s=1.0, cpu_s=1, memory_bytes=128 * MIB)

ESCAPES = {
    "read the password file": "open('/etc/passwd')",
    "read a home folder": "import os; os.listdir('/ro' + 'ot')",
    "read any home folder": "import os; os.listdir('/home')",
    "read the repository": f"import os; os.listdir({str(ROOT)!r})",
    "read the host's processes": "import os; os.listdir('/proc')",
    "read installed packages": "import sys; sys.path += [p + '/site-packages' for p in sys.path]; import pytest",
    "climb out of the root folder": "open('/tmp/../../../etc/passwd')",
    "reach a server of this machine": "import socket; socket.create_connection(('127.0.0.1', PORT), 1)",
    "reach the net": "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
    "talk to the hypervisor": "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "become root": "import os; os.setuid(0); assert os.getuid() == 0",
    "fork": "import os; os.fork()",
    "start a thread": "import threading; threading.Thread(target=print).start()",
    "start a program": "import subprocess; subprocess.run(['/usr/bin/env'])",
    "use an open file of the parent": "import os; [os.fstat(n) for n in range(3, 64)]",
    "write to the system": "open('/usr/lib/x', 'w')",
    "write beside the interpreter": "import os; open(os.__file__, 'a')",
    "write to the root folder": "import os; os.mkdir('/x')",
    "write to the device folder": "open('/dev/shm/x', 'w')",
    "fill the temporary folder": "[open(f'/tmp/{n}', 'wb').write(bytes(2**20)) for n in range(16)]",
    "write a large file": "open('/tmp/x', 'wb').write(bytes(3 * 2**20))",
    "raise a limit": "import resource as r; r.setrlimit(r.RLIMIT_NPROC, (99, 99))",
    "use memory past the limit": "bytearray(200 * 2**20)",
    "hide memory in a file": "import os; os.memfd_create('x')",
    "make a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
    "be traced": "import ctypes; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0",
    "see its parent": "import os; assert os.getppid() != 0",
    "outlive its parent": "import ctypes; assert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
    "share memory that outlives it": "import ctypes; assert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
}  # fmt: skip


def _escape(name: str, port: int = 9) -> SandboxResult:
    return run_python(f"PORT = {port}\n{ESCAPES[name]}\nprint('escaped')", limits=QUICK)


@pytest.mark.parametrize("name", ESCAPES)
def test_a_program_cannot(name: str) -> None:
    result = _escape(name)
    assert b"escaped" not in result.stdout
    assert result.status in ("failed", "memory"), result


def test_programs_that_try_nothing_run_with_their_input() -> None:
    program = "import sys, re, heapq, math, collections, itertools\nprint('escaped', sys.stdin.read(), end='')"
    result = run_python(program, stdin="größer".encode())
    assert (result.status, result.exit_code, result.stdout.decode(), result.stderr) == ("ok", 0, "escaped größer", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
def test_an_ordinary_user_has_the_same_sandbox(tmp_path: Path) -> None:
    files = require_sandbox()
    python = next(option for option in files.mounts if option.endswith(f"bin/{Path(files.python).name}"))
    program = (
        "import json, os, sys\n"
        "from rewards.sandbox import MIB, SandboxLimits, require_sandbox, run_python\n"
        "limits = SandboxLimits(wall_s=1.0, cpu_s=1, memory_bytes=128 * MIB)\n"
        "found = {'uid': os.getuid()}\n"
        "for name, text in json.load(sys.stdin).items():\n"
        "    result = run_python(text, limits=limits)\n"
        "    found[name] = [result.status, result.stdout.decode()]\n"
        "print(json.dumps(found))\n"
    )
    programs = {name: f"PORT = 9\n{text}\nprint('escaped')" for name, text in ESCAPES.items()}
    programs |= {"nothing": "print('fine')", "loop": "while True: pass", "flood": "while True: print('x' * 1000)"}
    done = subprocess.run(
        [python, "-s", "-S", "-c", program], input=json.dumps(programs), text=True, capture_output=True, timeout=120,
        env={"PATH": str(files.bwrap.parent), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
             "LD_LIBRARY_PATH": str(Path(python).parent.parent / "lib")},
        user=23456, group=23456, extra_groups=[], cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("uid") == 23456
    assert found.pop("nothing") == ["ok", "fine\n"]
    assert found.pop("loop") == ["timeout", ""]
    assert found.pop("flood")[0] == "output"
    assert {name: result for name, result in found.items() if "escaped" in result[1]} == {}
    assert {status for status, _ in found.values()} <= {"failed", "memory"}
    assert len(found) == len(ESCAPES)


@pytest.mark.parametrize(
    ("program", "status", "exit_code"),
    [
        ("import sys; sys.exit(3)", "failed", 3),
        ("import os; os._exit(0)", "ok", 0),
        ("1 / 0", "failed", 1),
        ("def f(:", "failed", 1),
        ("x = 1\x00", "failed", 1),
        ("import os; os.abort()", "crashed", None),
        ("import ctypes; ctypes.string_at(0)", "crashed", -11),
        ("x = [0] * 10**9", "memory", 86),
        ("while True: pass", "timeout", None),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "timeout", None),
        ("import time; time.sleep(60)", "timeout", None),
        ("import os\nwhile True: os.write(2, b'x' * 4096)", "output", None),
        ("print('x' * 2**21)", "output", None),
        ("import os\nfor n in (0, 1, 2): os.close(n)\nwhile True: pass", "timeout", None),
    ],
)
def test_how_a_program_ended_is_told(program: str, status: str, exit_code: int | None) -> None:
    started = time.monotonic()
    result = run_python(program, limits=QUICK)
    assert result.status == status, result
    assert exit_code is None or result.exit_code == exit_code
    assert time.monotonic() - started < 10
    assert len(result.stdout) + len(result.stderr) < QUICK.output_bytes + 2 * 65536


def test_a_fork_bomb_ends_at_the_number_of_processes() -> None:
    bomb = "while True:\n        if os.fork() == 0: time.sleep(9)\n        print('x', flush=True)"
    program = f"import os, time\ntry:\n    {bomb}\nexcept OSError: pass"
    result = run_python(program, limits=SandboxLimits(num_processes=4, wall_s=2.0))
    assert result.stdout.count(b"x") == 3


def test_sandboxes_side_by_side_do_not_share_their_number_of_processes() -> None:
    program = "import os, time\nif os.fork(): os.wait()\nelse: time.sleep(0.5)\n"
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(run_python(program, limits=SandboxLimits(num_processes=2)).status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ok"] * 4


DAEMON = """
import os, signal, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                if number not in (9, 19): signal.signal(number, signal.SIG_IGN)
            for number in range(3): os.close(number)
            time.sleep(600)
        os._exit(0)
time.sleep(0.5)
"""


@pytest.mark.parametrize("end", ["pass", "while True: pass", "time.sleep(600)", "while True: print('x' * 9999)"])
def test_no_process_outlives_the_call(end: str) -> None:
    seen: set[psutil.Process] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.update(psutil.Process().children(recursive=True))

    before = set(psutil.Process().children(recursive=True))
    watcher = threading.Thread(target=look)
    watcher.start()
    run_python(DAEMON + end, limits=SandboxLimits(num_processes=12, wall_s=1.5, cpu_s=1))
    over.set()
    watcher.join()
    assert len(seen - before) >= 5  # bubblewrap, the program, and daemons
    assert [process for process in seen - before if process.is_running()] == []


def test_a_sandbox_ends_with_the_process_that_started_it() -> None:
    sleeper = DAEMON + "time.sleep(600)"
    program = f"from rewards.sandbox import *\nrun_python({sleeper!r}, limits=SandboxLimits(num_processes=9))"
    caller = psutil.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 30
    while len(inside := caller.children(recursive=True)) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(inside) >= 5  # bubblewrap, the program and daemons
    caller.kill()
    caller.wait()
    _, left = psutil.wait_procs(inside, timeout=10)
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def test_nothing_is_left_open_after_runs() -> None:
    run_python("pass")
    before = len(os.listdir("/proc/self/fd"))
    for program in ("pass", "1 / 0", "while True: print('x' * 9999)"):
        run_python(program, limits=QUICK)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_that_cannot_start_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    works = require_sandbox()
    broken = [
        SandboxFiles(Path("/bin/false"), works.mounts, works.python),
        SandboxFiles(works.bwrap, (*works.mounts, "--ro-bind", str(tmp_path / "missing"), "/x"), works.python),
        SandboxFiles(works.bwrap, works.mounts, "/python/bin/missing"),
        SandboxFiles(tmp_path / "missing", works.mounts, works.python),
    ]
    for files in broken:
        with pytest.raises(SandboxError, match=r"did not start|cannot be started"):
            _run(files, "print('escaped')", b"", QUICK)


def test_without_a_working_sandbox_the_user_is_told_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    works = require_sandbox()
    monkeypatch.setattr(sandbox_probe, "files_of_candidates", list)
    with pytest.raises(UserError, match="no bubblewrap on this machine: install it"):
        find_working_sandbox()
    broken = SandboxFiles(Path("/bin/false"), works.mounts, works.python)
    monkeypatch.setattr(sandbox_probe, "files_of_candidates", lambda: [broken])
    with pytest.raises(UserError, match=r"cannot be isolated here \(false of /bin: the sandbox did not start"):
        find_working_sandbox()
    monkeypatch.setattr(sandbox_probe, "files_of_candidates", lambda: [broken, works])
    assert find_working_sandbox() == works


@pytest.mark.parametrize("folder", ["/etc", "/usr/bin"])
def test_the_probe_notices_files_of_the_host(folder: str) -> None:
    works = require_sandbox()
    assert probe(works) is None
    leaky = SandboxFiles(works.bwrap, (*works.mounts, "--ro-bind", folder, folder), works.python)
    assert probe(leaky) == f"a program inside sees {folder[1:]}"


def test_the_probe_notices_memory_and_namespaces_without_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    works = require_sandbox()
    monkeypatch.setattr(sandbox, "syscall_filter", lambda: struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
    assert probe(works) == "a program inside can share memory"


def test_each_finding_of_the_probe_is_named() -> None:
    good = {
        "did": {"fork": False}, "root": ["tmp", "usr"], "usr": ["lib", "lib64"], "ids": [65534, 65534],
        "capabilities": 0, "open_files": 3, "no_new_privileges": 1, "filter": 2,
    }  # fmt: skip
    assert sandbox_probe._leak(good) is None
    bad = {
        "can fork": {"did": {"fork": True}},
        "sees etc": {"root": ["etc"]},
        "sees usr/bin": {"usr": ["bin"]},
        "has privileges": {"ids": [0, 0]},
        "privileges": {"capabilities": 1},
        "'open_files': 4": {"open_files": 4},
        "'no_new_privileges': 0": {"no_new_privileges": 0},
        "'filter': 0": {"filter": 0},
    }
    for text, change in bad.items():
        assert text in (sandbox_probe._leak(good | change) or ""), text


def test_remedies_come_from_what_the_kernel_says(tmp_path: Path) -> None:
    assert "unprivileged user namespaces" in remedies(tmp_path)[0]
    settings = {"user/max_user_namespaces": "0", "kernel/unprivileged_userns_clone": "0",
                "kernel/apparmor_restrict_unprivileged_userns": "1"}  # fmt: skip
    for name, value in settings.items():
        file = tmp_path / "proc/sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
    (tmp_path / ".dockerenv").touch()
    assert remedies(tmp_path)[:3] == [
        "`sysctl -w user.max_user_namespaces=15000`",
        "`sysctl -w kernel.unprivileged_userns_clone=1`",
        "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    ]
    assert "--security-opt seccomp=unconfined" in remedies(tmp_path)[3]


def test_limits_under_which_nothing_starts_are_refused() -> None:
    for change in ({"memory_bytes": MIB}, {"cpu_s": 0}, {"num_processes": 0}, {"open_files": 2}, {"wall_s": 0.0}):
        with pytest.raises(UserError, match=f"sandbox.{next(iter(change))}"):
            run_python("pass", limits=SandboxLimits(**change))  # type: ignore[arg-type]


def test_a_machine_whose_calls_are_not_known_is_refused() -> None:
    assert len(syscall_filter("x86_64")) % 8 == 0
    assert syscall_filter("x86_64") != syscall_filter("aarch64")
    with pytest.raises(UserError, match="'riscv64' is not supported"):
        syscall_filter("riscv64")
