"""`fourstage serve` as it is called: the key, the address and settings that are refused before an engine starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import UserError
from stages.serve_command import API_KEY_VARIABLE, read_key
from tests.stages.cli_calls import Call

KEY = "0123456789abcdef"


def test_the_key_comes_out_of_the_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert read_key(tmp_path / "key") == KEY


def test_the_key_comes_out_of_the_environment_and_is_not_left_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    assert read_key(None) == KEY
    assert read_key(None) is None


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "")
    assert read_key(None) is None


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    with pytest.raises(UserError, match=r"--api-key-file: .* is empty"):
        read_key(tmp_path / "key")
    with pytest.raises(UserError, match=r"--api-key-file: .* cannot be read"):
        read_key(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "--host: 0.0.0.0 can be reached from other machines and there is no API key"),
        (["host=0.0.0.0"], "host: is an option of its own"),
        (["api_key=0123456789abcdef"], "api_key: is an option of its own"),
        (["max_request=3"], "did you mean 'max_requests'"),
        (["engine.max_num_seqs=0"], "engine.max_num_seqs: 0 must be 1 or more"),
        (["--port", "70000"], "--port: 70000 is no port"),
        ([], "'production' is neither a version nor an alias of the registry"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    error = call("serve", "production", "--registry", str(tmp_path), *arguments).error
    assert reason in error


def test_a_registry_that_is_not_there_is_one_line(call: Call, tmp_path: Path) -> None:
    error = call("serve", "production", "--registry", str(tmp_path / "nowhere")).error
    assert error.startswith(f"--registry: {tmp_path / 'nowhere'} is no folder")
