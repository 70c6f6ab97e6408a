"""Finding tasks: the project's own and a user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import UserError
from rewards.registry import all_tasks, get_task, load_user_task, register, user_file
from tests.rewards.test_verifier_pool import USER_TASK


def test_a_user_file_is_registered_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(USER_TASK.replace("pool_probe", "registry_probe"))
    task = load_user_task(file)
    assert load_user_task(str(file)) is task is get_task("registry_probe")
    assert user_file("registry_probe") == file
    assert user_file("arithmetic") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no TASK"),
        ("raise KeyError('k')", "failed to import: KeyError: 'k'"),
        (USER_TASK.replace("pool_probe", "arithmetic"), "'arithmetic', which is taken"),
    ],
)
def test_a_bad_user_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_user_task(file)
    assert "\n" not in str(caught.value)


def test_a_missing_user_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_user_task(tmp_path / "none.py")


def test_two_tasks_of_one_name_are_refused() -> None:
    from dataclasses import replace

    task = all_tasks()[0]
    assert register(task) is task
    with pytest.raises(ValueError, match="registered twice"):
        register(replace(task, summary="another"))
