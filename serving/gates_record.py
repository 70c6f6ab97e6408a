"""What the gates of an alias found, kept beside the version for those who read numbers: the list of models, a server.

`gates.ALIAS.json` is of the newest gates that let the version to the alias, forced or not, `gates.ALIAS.refused.json`
of the newest that did not: a try that fails takes nothing from what is on record of a version that is served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from data.files import finite
from data.records import UserError
from serving.figures import Figures, Unmeasured
from serving.gates import Verdict, failed
from serving.measured_engine import MeasuredEngine
from serving.registry import Registry, Version

_PREFIX = "gates."


def write_gates_record(
    registry: Registry,
    version: Version,
    figures: Figures,
    verdicts: Sequence[Verdict],
    *,
    alias: str,
    forced: str | None,
) -> None:
    """Keep what the newest gates of an alias found, and in which engine; None where none was started."""
    scores = {} if figures.scores is None or isinstance(figures.scores, Unmeasured) else figures.scores
    is_refused = bool(failed(verdicts)) and forced is None
    engine = figures.engine if isinstance(figures.loads_s, float) else None
    record = {
        "alias": alias,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "refused": is_refused,
        "compared_with": figures.current,
        "engine": asdict(engine) if engine is not None else None,
        "scores": {f"{name}, {mode.replace('_', '-')}": found.mean for (name, mode), found in scores.items()},
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    text = json.dumps(finite(record), indent=2, ensure_ascii=False) + "\n"
    registry.write_beside(version, f"{_PREFIX}{alias}{'.refused' if is_refused else ''}.json", text)


def measured_scores(registry: Registry, version: Version) -> dict[str, Any]:
    """The mean of each benchmark and mode as the newest gates found it; empty when none was measured."""
    records = [record for record in _records(registry, version) if record.get("scores")]
    newest = max(records, key=lambda record: str(record["at"]), default=None)
    return {} if newest is None else dict(newest["scores"])


def engine_of_gates(registry: Registry, version: Version, alias: str) -> MeasuredEngine | None:
    """The engine in which a version was measured by the gates that let it to `alias`, else to any alias.

    None when these asked for no engine, as those of staging do.
    """
    records = [record for record in _records(registry, version) if record.get("engine") and not record["refused"]]
    own = [record for record in records if record["alias"] == alias]
    newest = max(own or records, key=lambda record: str(record["at"]), default=None)
    return None if newest is None else MeasuredEngine(**newest["engine"])


def _records(registry: Registry, version: Version) -> list[dict[str, Any]]:
    found = []
    for name, text in registry.read_beside(version, _PREFIX).items():
        try:
            record = json.loads(text)
        except ValueError as error:
            raise UserError(f"version {version.name}: {name} is not JSON ({error}); promote it again") from error
        if not isinstance(record, dict) or "at" not in record:
            raise UserError(f"version {version.name}: {name} is no record of gates; promote it again")
        found.append(record)
    return found
