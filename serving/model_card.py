"""The card of a version: what it is, where it comes from, and what every gate said of it.

Markdown with the front matter that model hubs read. It lies beside the content of a version and is written anew with
each promotion; the hashes of the content do not cover it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from data.licence import CARD
from learner.checkpoint import Manifest
from serving.figures import LineageFigures
from serving.gates import Verdict, failed
from serving.registry import Version


def card_name(manifest: Manifest) -> str:
    """The file that holds the card; a checkpoint with a README of its own keeps it."""
    return "MODEL_CARD.md" if CARD in manifest.files else CARD


def model_card(
    version: Version,
    verdicts: Sequence[Verdict],
    lineage: LineageFigures | None,
    *,
    alias: str,
    licence: str | None,
    compared_with: str | None,
    forced: str | None,
    at: str,
) -> str:
    """The card of a version as Markdown."""
    manifest = version.manifest
    front = {"license": (licence or "unknown").lower(), "library_name": "transformers", "tags": ["fourstage"]}
    missed = failed(verdicts)
    outcome = "passed" if not missed else f"failed ({', '.join(_text(verdict.gate) for verdict in missed)})"
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {version.name}", ""]
    lines.append(
        f"A checkpoint of stage `{manifest.stage}`, made by fourstage. Its gates for `{alias}` {outcome} at {at}"
        + (f", compared with {compared_with}." if compared_with else ".")
    )
    if forced and missed:
        lines += ["", f"**Promoted in spite of failed gates.** Reason given: {_text(forced)}"]
    lines += ["", "## Gates", "", "| gate | verdict | measured | asked for |", "|---|---|---|---|"]
    lines += [f"| {_text(v.gate)} | {v.status} | {_text(v.measured)} | {_text(v.required)} |" for v in verdicts]
    lines += ["", "## Origin", "", *_table(_origin(version, lineage, licence))]
    if manifest.metrics:
        lines += [
            "",
            "## Metrics of the stage",
            "",
            *_table({name: _number(v) for name, v in manifest.metrics.items()}),
        ]
    if manifest.cost:
        lines += ["", "## Cost", "", *_table({name: _number(value) for name, value in manifest.cost.items()})]
    return "\n".join(lines) + "\n"


def _origin(version: Version, lineage: LineageFigures | None, licence: str | None) -> dict[str, str]:
    manifest = version.manifest
    chain = " < ".join(lineage.chain) if lineage is not None else manifest.stage
    parent = f"{manifest.parent.path} ({manifest.parent.key[:12]})" if manifest.parent is not None else "none"
    return {
        "content": version.content_hash,
        "stages": chain,
        "parent": parent,
        "settings": manifest.config_hash,
        "data": manifest.data_hash,
        "reward tasks": ", ".join(manifest.rewards) or "none",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in manifest.seeds.items()),
        "code": manifest.code_commit,
        "packages": ", ".join(f"{name} {number}" for name, number in manifest.packages.items()),
        "licence": licence or "unknown",
    }


def _table(rows: Mapping[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_text(name)} | {_text(value)} |" for name, value in rows.items())]


def _number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    """A text as one cell of a table."""
    return " ".join(value.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
