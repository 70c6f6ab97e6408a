"""The card: front matter that a hub reads, every verdict, the origin, and no cell that breaks its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from serving.gates import Verdict, judge
from serving.model_card import card_name, model_card
from serving.registry import Version
from tests.serving.checkpoints import small_manifest
from tests.serving.gate_figures import gates, good_figures, lineage

VERSION = Version("v3-general_rl-01234567", Path("unused"), small_manifest(), "0123456789abcdef" * 4)


def card(verdicts: list[Verdict], *, forced: str | None = None, licence: str | None = "Apache-2.0") -> str:
    return model_card(
        VERSION, verdicts, lineage(), alias="production", licence=licence,
        compared_with="v2-general_rl-00000000", forced=forced, at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def test_a_card_says_what_it_is_what_passed_and_where_it_comes_from() -> None:
    text = card(judge(gates(), good_figures()))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {"license": "apache-2.0", "library_name": "transformers", "tags": ["fourstage"]}
    assert "# v3-general_rl-01234567" in body
    assert (
        "Its gates for `production` passed at 2026-01-01T00:00:00+00:00, compared with v2-general_rl-00000000." in body
    )
    assert "| files | passed | 5 files, 1,000 bytes, all as the manifest says |" in body
    assert f"| data | {'d' * 64} |" in body
    assert "| stages | general_rl &lt; base |" in body
    assert "| reward | 0.5 |" in body


def test_a_forced_promotion_stands_in_the_card_with_what_failed() -> None:
    verdicts = [Verdict("sums, thinking", "failed", "0.200", "0.5 or more")]
    text = card(verdicts, forced="demo on Friday")
    assert "failed (sums, thinking)" in text
    assert "**Promoted in spite of failed gates.** Reason given: demo on Friday" in text
    assert "in spite of" not in card([], forced="needless")


@pytest.mark.parametrize("hostile", ["a | b", "a\nb", "<script>", "a\\|b"])
def test_no_text_breaks_a_table_or_adds_markup(hostile: str) -> None:
    rows = [line for line in card([Verdict(hostile, "failed", hostile, hostile)]).splitlines() if "failed |" in line]
    (row,) = rows
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 5
    assert "<script>" not in row


def test_a_checkpoint_with_a_readme_of_its_own_keeps_it(tmp_path: Path) -> None:
    assert card_name(small_manifest()) == "README.md"
    assert card_name(replace(small_manifest(), files={"README.md": None})) == "MODEL_CARD.md"  # type: ignore[dict-item]
