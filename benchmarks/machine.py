"""What a table says of the machine, and the libraries that vLLM's documentation recommends to preload on a CPU."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from data.records import UserError

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Which of these a processor has decides whether bfloat16 is a comparison at all."""

_ALLOCATORS = ("/usr/lib/*/libtcmalloc_minimal.so.4", "/usr/lib/*/libtcmalloc.so.4", "/usr/lib64/libtcmalloc*.so.4")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, instructions, memory and the commit, for the head of a table."""
    model, flags = "unknown", set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            flags = set(value.split())
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on; one in memory says so, since no disk is waited for there."""
    found, longest, target = "unknown", -1, folder.resolve()
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mounted_at, kind, *_ = line.split()
        place = mounted_at.replace("\\040", " ")
        if target.is_relative_to(place) and len(place) >= longest:  # of two at one place the later hides the earlier
            found, longest = kind, len(place)
    return f"{found} (in memory)" if found in ("tmpfs", "ramfs") else found


def _commit() -> str:
    """The short commit, marked when files differ from it."""
    folder = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        return result.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def preload_libraries(python: Path) -> list[Path]:
    """Intel's OpenMP out of the environment of `python` and tcmalloc out of the system (or TCMALLOC=path).

    Raises UserError when either is missing: a peer must not be measured without what is said to help it.
    """
    openmp = python.parent.parent / "lib" / "libiomp5.so"
    if not openmp.exists():
        raise UserError(f"preload: {openmp.name} is not in the environment of {python.parent.parent.name}")
    named = os.environ.get("TCMALLOC")
    found = [Path(named)] if named else [p for pattern in _ALLOCATORS for p in sorted(Path("/").glob(pattern[1:]))]
    if not found or not found[0].exists():
        raise UserError(
            "preload: tcmalloc is not installed; on Debian `apt-get install libtcmalloc-minimal4`, or name the "
            "library in TCMALLOC=/path/to/libtcmalloc_minimal.so.4, or measure without with --no-preload"
        )
    return [openmp, found[0]]
