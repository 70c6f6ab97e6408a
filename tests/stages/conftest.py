"""What the tests of several stages share."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from stages import cli
from tests.stages.cli_calls import Call, Outcome


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`fourstage ARGUMENTS` through `stages.cli.main`, as the installed command calls it."""

    def call(*arguments: str | Path, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fourstage", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call
