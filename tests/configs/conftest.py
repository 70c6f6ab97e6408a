"""Fixtures of the config tests: writing a file, and the one-line message of a refused config."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.load import load_config
from data.records import UserError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refusal():
    def refusal(cls: type, files: list[Path], overrides: list[str]) -> str:
        with pytest.raises(UserError) as caught:
            load_config(cls, files, overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refusal
