"""The whole page: sections, packed rollouts, style and scripts in one file that asks nothing of a network.

The content security policy names the hashes of the page's own style and scripts and allows nothing else, so that a text
of a run which slipped through unescaped could still not run.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data.files import atomic_write
from evals.markdown import Row
from evals.page.samples import BlockCache, PackedSamples, pack_samples, packed_index
from evals.page.sections import TEMPLATES, Section, build_sections, templates
from evals.report_inputs import ReportInputs


def write_page(path: str | os.PathLike[str], inputs: ReportInputs) -> Path:
    """Write the page of a run to `path`, atomically, and return it."""
    html = page_html(inputs.title, build_sections(inputs), pack_samples(inputs.samples))
    atomic_write(path, html.encode("utf-8", "replace"))
    return Path(path)


def page_html(
    title: str,
    sections: Sequence[Section],
    packed: PackedSamples,
    *,
    written: str = "",
    refresh_s: float | None = None,
    version: str = "",
) -> str:
    """The page as text. With `refresh_s` it asks its server that often for what is newer than `version`.

    Only such a page says when it was `written`: that of a run is the same text whenever it is made.
    """
    style = _asset("report.css")
    scripts = [_asset(name) for name in ("samples.js", "reader.js", "page.js")]
    policy = "; ".join(
        [
            "default-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            f"style-src '{_hash(style)}'",
            "script-src " + " ".join(f"'{_hash(script)}'" for script in scripts),
            "connect-src 'none'" if refresh_s is None else "connect-src 'self'",
        ]
    )
    return (
        templates()
        .get_template("report.html.jinja")
        .render(
            title=title,
            sections=sections,
            packed=packed,
            index=packed_index(packed),
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            policy=policy,
            written=written,
            refresh_s=refresh_s,
            version=version,
        )
    )


class LivePage:
    """The page of a run that goes on: what `fourstage watch` sends, packed anew only where something changed."""

    def __init__(self, refresh_s: float) -> None:
        self.refresh_s = refresh_s
        self._cache = BlockCache()
        self._made: tuple[ReportInputs, list[Section], PackedSamples, str] | None = None

    def html(self, inputs: ReportInputs) -> str:
        """The whole page."""
        sections, packed, version = self._parts(inputs)
        return page_html(inputs.title, sections, packed, written=_now(), refresh_s=self.refresh_s, version=version)

    def changes(self, inputs: ReportInputs, *, version: str, blocks: Sequence[str]) -> Mapping[str, Any]:
        """What a page of `version` that holds `blocks` lacks, as JSON: sections, index, and blocks it has not got."""
        sections, packed, now = self._parts(inputs)
        if now == version:
            return {"version": now, "written": _now()}
        held = set(blocks)
        return {
            "version": now,
            "written": _now(),
            "sections": {section.id: str(section.html) for section in sections},
            "index": packed_index(packed),
            "blocks": {block.name: block.data for block in packed.blocks if block.name not in held},
            "left_out": packed.num_left_out,
        }

    def _parts(self, inputs: ReportInputs) -> tuple[list[Section], PackedSamples, str]:
        if self._made is None or not _same(self._made[0], inputs):
            sections, packed = build_sections(inputs), pack_samples(inputs.samples, self._cache)
            self._made = (inputs, sections, packed, _version(sections, packed))
        return self._made[1:]


def _same(before: ReportInputs, now: ReportInputs) -> bool:
    """Whether nothing happened between two readings of a run; rows that were read once stay the same objects."""

    def unchanged(old: Sequence[Row], new: Sequence[Row]) -> bool:
        return len(old) == len(new) and (not old or (old[0] is new[0] and old[-1] is new[-1]))

    return (
        unchanged(before.metrics, now.metrics)
        and unchanged(before.samples, now.samples)
        and (before.pipeline, before.summary, before.filters) == (now.pipeline, now.summary, now.filters)
    )


def _version(sections: Sequence[Section], packed: PackedSamples) -> str:
    digest = hashlib.sha256()
    for section in sections:
        digest.update(str(section.html).encode("utf-8", "replace"))
    for block in packed.blocks:
        digest.update(block.name.encode())
    return digest.hexdigest()[:16]


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
