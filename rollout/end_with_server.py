"""Ends the processes of an engine with the server that started them, `kill -9` of the server and its start included.

Importing this module in a process whose environment names a server (`SERVER_VARIABLE`) starts the watch over it. So it
gets in early enough: vLLM spawns its engine, a spawned process imports the main module of its parent first, and
`stages.serve_command` imports this. The worker's module does so too, for engines that are started otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

from data.process_identity import start_of

SERVER_VARIABLE = "FOURSTAGE_SERVER_PROCESS"
"""Environment variable with process id and start of the server to end with, as `server_mark` writes it."""

_POLL_S = 1.0


def server_mark() -> str:
    """What names this process as the server in `SERVER_VARIABLE`."""
    return f"{os.getpid()}:{start_of(os.getpid())}"


def end_with_server(mark: str) -> None:
    """Wait until the server of that mark is gone, then end the engine's process, where it is another, and this one."""
    pid, _, started = mark.partition(":")
    while start_of(int(pid)) == started:
        time.sleep(_POLL_S)
    engine = multiprocessing.parent_process()  # or the server itself, where the worker is in the engine's process
    if engine is not None and engine.pid not in (None, int(pid)) and engine.is_alive():
        os.kill(engine.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if SERVER_VARIABLE in os.environ and not os.environ[SERVER_VARIABLE].startswith(f"{os.getpid()}:"):
    threading.Thread(
        target=end_with_server, args=(os.environ[SERVER_VARIABLE],), name="end-with-server", daemon=True
    ).start()
