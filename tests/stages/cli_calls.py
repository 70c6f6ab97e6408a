"""`fourstage ARGUMENTS` in this process, for the tests of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MICRO = str(ROOT / "tests" / "integration" / "micro.yaml")


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and its two streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of bad input; the test fails when there is more, or less, or another exit code."""
        assert self.code == 2, self
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        assert self.code == 0, self
        return json.loads(self.out)


Call = Callable[..., Outcome]


def written(folder: Path) -> list[str]:
    """Files of a run folder, the lock aside."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
