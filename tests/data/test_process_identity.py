"""A process, its end, and the time between its end and its parent's taking note."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from data.process_identity import start_of


def test_a_process_has_one_start_and_another_has_another() -> None:
    first = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert start_of(first.pid) == start_of(first.pid) != start_of(os.getpid())
        assert start_of(first.pid) is not None
    finally:
        first.kill()
        deadline = time.monotonic() + 10
        while start_of(first.pid) is not None:  # a zombie until `wait`
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.wait()
    assert start_of(first.pid) is None


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields(tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "a) b (c")
    os.symlink(sys.executable, script)
    process = subprocess.Popen([script, "-c", "import time; time.sleep(60)"])
    try:
        assert str(start_of(process.pid)).isdigit()
    finally:
        process.kill()
        process.wait()


def test_a_process_that_never_was_has_no_start() -> None:
    assert start_of(999_999_999) is None
