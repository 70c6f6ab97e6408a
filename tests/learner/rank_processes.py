"""Real ranks for tests: processes that meet over gloo, run one function each, and hand its results back."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from learner.ranks import Ranks


def run_on_ranks(size: int, function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What `function(ranks, *args)` returns on each of `size` ranks; it has to be a top-level function of a module."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    # Forked from a process that has the imports behind it: they are most of what a rank's life takes here.
    multiprocessing.set_forkserver_preload(["learner.learner", function.__module__])
    torch.multiprocessing.start_processes(
        _run, (size, address, function, folder, args), nprocs=size, start_method="forkserver"
    )
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(size)]


def _run(rank: int, size: int, address: str, function: Callable[..., Any], folder: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    ranks = Ranks.join(rank, size, address=address, device="cpu", timeout_s=120)
    try:
        torch.save(function(ranks, *args), folder / f"rank-{rank}.pt")
    finally:
        ranks.leave()
