"""Finding tasks: the project's own and a user's file."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from data.records import UserError
from rewards.registry import all_tasks, environment_factory, get_task, load_user_task, register, user_file
from tests.rewards.test_verifier_pool import USER_TASK


def test_a_user_file_is_registered_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(USER_TASK.replace("pool_probe", "registry_probe"))
    task = load_user_task(file)
    assert load_user_task(str(file)) is task is get_task("registry_probe")
    assert user_file("registry_probe") == file
    assert user_file("arithmetic") is None


def test_the_makers_of_environments_reach_another_process(tmp_path: Path) -> None:
    """A user's file is no module that another process could import: it has to be loaded there."""
    file = tmp_path / "world.py"
    file.write_text(
        USER_TASK.replace("pool_probe", "world_probe")
        + "\nimport dataclasses\n\nclass World:\n    def __init__(self, reference):\n        self.seen = reference\n"
        + "    def outcome(self):\n        return self.seen\n\nTASK = dataclasses.replace(TASK, environment=World)\n"
    )
    load_user_task(file)
    made = {name: environment_factory(name) for name in ("world_probe", "text_game")}
    script = (
        "import pickle, sys; made = pickle.load(sys.stdin.buffer); "
        "print(made['world_probe']({'a': 1}).outcome(), made['text_game'].__module__)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(made), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "{'a': 1} rewards.tasks.text_game"
    assert environment_factory("arithmetic") is None


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
