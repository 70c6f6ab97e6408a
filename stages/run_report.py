"""What a run has left on disk so far, as the inputs of its report: at its end, in between, and while it goes on.

Everything is read from the run directory alone (plan, manifests, per-stage logs, cached evaluations), so the report of
a finished run, of an interrupted one and the page that `fourstage watch` serves come from the same place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from configs.load import config_hash
from data.files import read_json
from data.records import UserError
from evals.report import write_report
from evals.report_inputs import ReportInputs
from evals.statistics import Interval
from evals.summary import BenchmarkResult, BudgetPoint, read_summary, summary_dict
from stages.run_dir import RunDir, StageStatus


@dataclass(slots=True)
class GrowingRows:
    """The rows of a JSON Lines file that grows: a second reading parses what is new.

    A file that became shorter, or another one, as when a stage is resumed or run again, is read from its beginning.
    """

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    _read_bytes: int = 0
    _inode: int = 0
    _last_line: bytes = b""

    def read(self) -> Sequence[dict[str, Any]]:
        """All whole rows so far, none while there is no file; those of an earlier reading are the same objects."""
        if not self.path.exists():
            self._forget()
            return self.rows
        with open(self.path, "rb") as file:
            inode = self.path.stat().st_ino
            file.seek(max(0, self._read_bytes - len(self._last_line)))
            if inode != self._inode or file.read(len(self._last_line)) != self._last_line:
                self._forget()
                self._inode = inode
                file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half written; the next reading sees it whole
                self.rows.append(self._parsed(line))
                self._read_bytes += len(line)
                self._last_line = line
        return self.rows

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{self.path}: a line is not JSON ({error}); restore the line or delete it") from error
        if not isinstance(row, dict):
            raise UserError(f"{self.path}: a line is no JSON object; restore the line or delete it")
        return row

    def _forget(self) -> None:
        self.rows, self._read_bytes, self._last_line = [], 0, b""


class RunReader:
    """Reads one run again and again; what has not changed is not parsed a second time."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        self._logs: dict[Path, GrowingRows] = {}
        self._documents: dict[Path, tuple[int, Any]] = {}

    def read(self) -> ReportInputs:
        """Everything the report shows. UserError when this is no run directory."""
        statuses = self.run.status()
        settings = _settings(self.run.path)
        folders = [self.run.stage_dir(status.stage, status.key) for status in statuses]
        records = [
            record
            for status, folder in zip(statuses, folders, strict=True)
            if (record := self._document(_evaluation(folder, settings, status.key))) is not None
        ]
        curve = None
        if folders:
            curve = self._document(_evaluation(folders[-1], settings, statuses[-1].key, prefix="budget-"))
        return ReportInputs(
            title=f"fourstage run: {settings.get('name') or self.run.path.resolve().name}",
            pipeline=_pipeline(statuses, folders),
            summary=_summary(self.run.path, records, curve or ()),
            metrics=[row for folder in folders for row in self._log(folder / "metrics.jsonl")],
            samples=[
                *(row for folder in folders for row in self._log(folder / "samples.jsonl")),
                *(row for record in records for row in record["rollouts"]),
            ],
            filters={status.stage: c for status, f in zip(statuses, folders, strict=True) if (c := _filter_counts(f))},
        )

    def _log(self, path: Path) -> Sequence[dict[str, Any]]:
        return self._logs.setdefault(path, GrowingRows(path)).read()

    def _document(self, path: Path | None) -> Any:
        """A JSON file that is replaced as a whole, parsed once; None for no file."""
        if path is None:
            return None
        changed = path.stat().st_mtime_ns
        if path not in self._documents or self._documents[path][0] != changed:
            self._documents[path] = (changed, read_json(path))
        return self._documents[path][1]


def report_run(run_dir: Path) -> tuple[dict[str, Any], Path]:
    """Write the report of a run as it stands; returns its results so far and the page for a browser."""
    inputs = RunReader(run_dir).read()
    write_report(run_dir, inputs)
    return dict(inputs.summary), run_dir / "report.html"


def result_of_record(row: dict[str, Any]) -> BenchmarkResult:
    """A result as it was written."""
    return BenchmarkResult(**{**row, "per_prompt": tuple(row["per_prompt"]), "prompt_uids": tuple(row["prompt_uids"])})


def budget_points(curve: Sequence[dict[str, Any]]) -> list[BudgetPoint]:
    """Points of the budget curve as they were written."""
    return [
        BudgetPoint(
            p["budget_share"], p["budget_tokens"], Interval(p["mean"], p["interval"][0], p["interval"][1], p["n"])
        )
        for p in curve
    ]


def _settings(path: Path) -> dict[str, Any]:
    """The resolved configuration as plain values; empty where the run has none."""
    file = path / "config.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file.exists() else {}


def _pipeline(statuses: Sequence[StageStatus], folders: Sequence[Path]) -> list[dict[str, Any]]:
    rows = []
    before: str | None = None
    for status, folder in zip(statuses, folders, strict=True):
        file = folder / "checkpoint" / "manifest.json"
        manifest = read_json(file) if file.exists() else {}
        cost = manifest.get("cost", {})
        parent = manifest["parent"]["key"] if manifest.get("parent") else before
        rows.append(
            {
                "stage": status.stage,
                "key": status.key,
                "parent": parent,
                "state": status.state,
                "step": status.step,
                "seconds": cost.get("seconds", status.seconds),
                "tokens": cost.get("tokens"),
                "commit": manifest.get("code_commit"),
            }
        )
        before = status.key
    return rows


def _filter_counts(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path in sorted((folder / "data").glob("*.json")):
        facts = read_json(path)
        counts |= {f"{path.stem}: {name}": value for name, value in facts.items() if isinstance(value, int)}
        counts |= {f"{path.stem}: dropped, {reason}": n for reason, n in facts.get("dropped", {}).items()}
    return counts


def evaluation_file(folder: Path, evaluation: Any, key: str, seed: Any, *, prefix: str = "") -> Path:
    """Where the evaluation of checkpoint `key` under these settings is kept, addressed by content.

    `folder` is the stage's, `prefix` "budget-" names its thinking-budget curve.
    """
    return folder / "evaluations" / f"{prefix}{config_hash([evaluation, key, seed])[:12]}.json"


def _evaluation(folder: Path, settings: dict[str, Any], key: str, *, prefix: str = "") -> Path | None:
    """The file of the cached evaluation that belongs to the run's settings, None before there is one.

    Of a run without its settings it is the newest that the folder holds.
    """
    if settings:
        file = evaluation_file(folder, settings.get("evaluation"), key, settings.get("seed"), prefix=prefix)
        return file if file.exists() else None
    found = [
        path
        for path in (folder / "evaluations").glob(f"{prefix}*.json")
        if path.name.startswith("budget-") == bool(prefix)
    ]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def _summary(path: Path, records: Sequence[dict[str, Any]], curve: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run's summary when it is of these very evaluations, else what the evaluations themselves say.

    The second has no paired comparisons: a run writes those when it is over.
    """
    written = read_summary(path / "summary.json") if (path / "summary.json").exists() else {}
    results = [result_of_record(row) for record in records for row in record["results"]]
    found = summary_dict(results, budget_curve=budget_points(curve))
    return written if all(written.get(stage) == modes for stage, modes in found.items()) else found
