"""Where the sandbox's files come from: reachable ones in place, others from a checked copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from data.records import UserError
from rewards import sandbox_files as files_module
from rewards.sandbox_files import _copy, _reachable, _Source, bwrap_candidates, sandbox_files


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "lib"
    for name in (
        "os.py",
        "test/t.py",
        "site-packages/p.py",
        "json/__init__.py",
        "config-3/a.o",
        "x.opt-1.pyc",
        "x.pyc",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        os.utime(root / name, (1, 1))
    return root


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    monkeypatch.setattr(files_module, "_public_folder", lambda: folder)
    return folder


def test_a_copy_holds_what_programs_need_with_its_times(library: Path, place: Path) -> None:
    root = _copy([_Source(library, "lib/python3")])
    copied = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert copied == ["lib/python3/json/__init__.py", "lib/python3/os.py", "lib/python3/x.pyc"]
    assert (root / "lib/python3/os.py").stat().st_mtime == 1
    assert root.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in place.iterdir()] == [root.name]


def test_a_copy_is_used_again_and_mended_when_files_were_cleaned_away_or_changed(library: Path, place: Path) -> None:
    root = _copy([_Source(library, "lib")])
    identity = root.stat().st_ino
    assert _copy([_Source(library, "lib")]).stat().st_ino == identity
    (root / "lib/os.py").unlink()
    (root / "lib/x.pyc").write_text("longer than before")
    assert _copy([_Source(library, "lib")]) == root
    assert (root / "lib/os.py").read_text() == "os.py"
    assert (root / "lib/x.pyc").read_text() == "x.pyc"
    (library / "os.py").write_text("another release")
    assert _copy([_Source(library, "lib")]) != root
    assert len(list(place.iterdir())) == 2


def test_a_folder_that_others_can_write_to_is_not_trusted(library: Path, place: Path, tmp_path: Path) -> None:
    root = _copy([_Source(library, "lib")])
    root.chmod(0o777)
    with pytest.raises(UserError, match="is not a folder of this user alone: remove it"):
        _copy([_Source(library, "lib")])
    moved = root.rename(tmp_path / "moved")
    root.symlink_to(moved)
    with pytest.raises(UserError, match="is not a folder of this user alone"):
        _copy([_Source(library, "lib")])


def test_reach_depends_on_every_folder_above(tmp_path: Path) -> None:
    file = tmp_path / "open/file"
    file.parent.mkdir()
    file.write_text("")
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    above = all(parent.stat().st_mode & 1 for parent in tmp_path.parents)
    assert _reachable(file) == above
    tmp_path.chmod(0o700)
    assert not _reachable(file)
    assert _reachable(Path("/usr/lib"))
    assert _reachable(Path("/bin/sh"))


def test_nothing_is_copied_for_a_user_who_stays_who_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sources: list[_Source]) -> Path:
        raise AssertionError(sources)

    monkeypatch.setattr(files_module, "_copy", refuse)
    files = sandbox_files(Path("/opt/bwrap"), gives_up_root=False)
    assert files.bwrap == Path("/opt/bwrap")
    assert files.python.startswith("/python/bin/python3")


def test_only_libraries_are_mounted_and_installed_packages_are_covered() -> None:
    files = sandbox_files(Path("/opt/bwrap"), gives_up_root=False)
    targets = [files.mounts[i + 2] for i, option in enumerate(files.mounts) if option == "--ro-bind"]
    assert all(target.startswith(("/usr/lib", "/lib", "/python/")) for target in targets)
    assert "--bind" not in files.mounts
    library = Path(os.__file__).resolve().parent
    if (library / "site-packages").is_dir():
        covered = [files.mounts[i + 1] for i, option in enumerate(files.mounts) if option == "--tmpfs"]
        assert any(folder.startswith("/python/") and folder.endswith("/site-packages") for folder in covered)


def test_the_systems_bwrap_comes_before_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "bwrap"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bwrap_candidates()[0] == own
    monkeypatch.setenv("PATH", "")
    assert own not in bwrap_candidates()
    assert shutil.which("bwrap") is None
    assert [path.name for path in bwrap_candidates()] == ["bwrap"]
