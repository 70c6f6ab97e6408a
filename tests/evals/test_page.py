"""The page says what the rows say, names what is missing, runs nothing of what a run wrote, and asks no network."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from evals.page import document
from evals.page.document import LivePage, page_html, write_page
from evals.page.results import accuracy_tables, full_tables
from evals.page.samples import pack_samples
from evals.page.sections import (
    build_sections,
    error_tasks,
    missing_parts,
    task_panels,
    verifier_errors,
)
from evals.report_inputs import ReportInputs
from tests.evals.test_report import METRICS, PIPELINE, SUMMARY, sample

TASK_ROWS = [
    {"stage": "general_rl", "step": step, "reward": 0.5, "verifier_errors": step, "batch/completions": 20,
     "batch/task/math/mean_reward": 0.1 * step, "batch/task/math/num_completions": 8,
     "batch/task/math/num_errors": step,
     "batch/task/chat/mean_reward": 0.5, "batch/task/chat/num_completions": 12, "batch/task/chat/num_errors": 0}
    for step in (1, 2)
]  # fmt: skip


class Elements(HTMLParser):
    """Every tag of a page with its attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.raw.append((*self.tags[-1], data))


def inputs(**changes: Any) -> ReportInputs:
    return ReportInputs(**{"title": "A run", "pipeline": PIPELINE, "summary": SUMMARY, "metrics": METRICS, **changes})


def page(found: ReportInputs) -> str:
    return page_html(found.title, build_sections(found), pack_samples(found.samples))


def section(found: ReportInputs, name: str) -> str:
    return str(next(part.html for part in build_sections(found) if part.id == name))


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_page_of_nothing_says_in_every_section_that_there_is_nothing() -> None:
    for part in build_sections(ReportInputs(title="A run")):
        assert re.search("Not measured|No |Nothing", words(part.html)), part.id


def test_what_an_unfinished_run_lacks_is_said() -> None:
    pipeline = [
        *PIPELINE,
        {"stage": "general_rl", "state": "running", "step": 7, "key": "k"},
        {"stage": "x", "state": "not started"},
    ]
    assert missing_parts(inputs(pipeline=pipeline, summary={})) == [
        "Stage general_rl is not finished: running after step 7.",
        "Stage x is not finished: not started.",
        "No checkpoint was evaluated, so there is no table of benchmarks.",
        "The thinking-budget curve was not measured.",
        "The steps do not say where their time went.",
        "No rollout was recorded.",
    ]
    assert "The rollouts hold no tokens and no loss mask." in missing_parts(inputs(samples=[sample("correct", "5")]))


def test_the_lineage_names_each_parent_by_its_stage() -> None:
    text = words(section(inputs(), "pipeline"))
    assert re.search(r"cold_start done from nothing before it key aaaabbbbcccc", text)
    assert re.search(r"reasoning_rl done from cold_start key eeeeffff0000 time 2 min tokens 1,200", text)


def test_the_table_of_benchmarks_has_intervals_and_marks_what_surely_changed() -> None:
    (table,) = accuracy_tables(SUMMARY)
    assert (table["mode"], table["stages"]) == ("thinking", ["cold_start", "reasoning_rl"])
    (row,) = table["rows"]
    first, second = row["cells"]
    assert (first["mean"], first["interval"], first["delta"]) == ("40.0", "31.0–49.0", "")
    assert (second["mean"], second["delta"], second["direction"]) == ("55.0", "+15.0", "up")
    results, paired = full_tables(SUMMARY)
    assert [*results[1].values()][3:] == [
        "55.0", "45.0 to 64.0", "+15.0 (+6.0 to +24.0)", "90", "402", "0.0%", "2",
    ]  # fmt: skip
    assert [*paired[0].values()] == [
        "reasoning_rl", "cold_start", "thinking", "arith", "+15.0", "+6.0 to +24.0", "88",
    ]  # fmt: skip


def test_curves_per_stage_and_what_a_stage_did_not_record() -> None:
    text = words(section(inputs(), "curves"))
    assert "cold_start training loss" in text
    assert "reasoning_rl reward mean reward (0 to 1)" in text
    assert "Not measured: truncated completions." in text
    assert "Not measured: largest gap on the batch, largest gap after a weight sync." in words(section(inputs(), "gap"))


def test_tasks_have_a_panel_each_and_failed_scores_are_counted_by_task() -> None:
    rl = {"general_rl": TASK_ROWS}
    (stage,) = task_panels(rl)
    assert [(p["task"], p["first"], p["last"], p["completions"], p["errors"]) for p in stage["panels"]] == [
        ("chat", "0.50", "0.50", "24", "0"),
        ("math", "0.10", "0.20", "16", "3"),
    ]
    (errors,) = verifier_errors(rl)
    assert (errors["errors"], errors["share"]) == ("3", "7.5%")
    assert error_tasks(rl) == [{"stage": "general_rl", "task": "math", "failed scores": "3"}]


def test_no_text_of_a_run_becomes_markup_or_script() -> None:
    hostile = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'"&'
    pipeline = [dict.fromkeys(("stage", "key", "parent", "state", "commit"), hostile)]
    cell = {"mean": 0.5, "interval": [0.4, 0.6], "n": 9, "mean_tokens": 3.0, "truncated": 0.0, "errors": 0}
    rows = [
        {
            **TASK_ROWS[0],
            "stage": hostile,
            f"batch/task/{hostile}/mean_reward": 0.5,
            f"batch/task/{hostile}/num_errors": 3,
        }
    ]
    found = ReportInputs(
        title=hostile, pipeline=pipeline, summary={hostile: {"thinking": {hostile: cell}}}, metrics=rows,
        samples=[sample("correct", hostile, stage=hostile)], filters={hostile: {hostile: 3}},
    )  # fmt: skip
    elements = Elements(page(found))
    assert not [tag for tag, _ in elements.tags if tag == "img"]
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    scripts = [attributes for tag, attributes in elements.tags if tag == "script"]
    assert [one.get("type") for one in scripts] == ["text/plain"] * 2 + [None] * 3
    assert not [text for _, _, text in elements.raw if "alert" in text]
    assert "<script>alert" not in page(found)


def test_the_page_names_no_address_and_allows_its_own_style_and_scripts_alone() -> None:
    text = page(inputs(samples=[sample("correct", "5")]))
    elements = Elements(text)
    assert not [attributes for _, attributes in elements.tags if "src" in attributes or "srcset" in attributes]
    links = [attributes["href"] for tag, attributes in elements.tags if tag in ("a", "link") and "href" in attributes]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert "@import" not in text
    assert "url(" not in text
    policy = next(
        a["content"] for t, a in elements.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes, body in elements.raw:
        if attributes.get("type") is None:
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy, tag


def test_every_link_of_the_navigation_leads_to_a_heading_and_every_field_has_a_label() -> None:
    text = page(inputs(samples=[sample("correct", "5")]))
    elements = Elements(text)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id that is given twice hides the second element from the scripts"
    assert {(attributes["href"] or "")[1:] for tag, attributes in elements.tags if tag == "a"} <= set(ids)
    for field in re.findall(r"<(?:select|input)\b[^>]*>", text):
        assert re.search(r"<label[^>]*>[^<]+" + re.escape(field), text), field


def test_the_same_run_is_the_same_page(tmp_path: Path) -> None:
    found = inputs(samples=[sample("correct", "5 \ud800")])
    first = write_page(tmp_path / "a.html", found).read_bytes()
    assert first == write_page(tmp_path / "b.html", found).read_bytes()


def test_a_live_page_gets_what_is_new_and_nothing_when_nothing_is() -> None:
    live = LivePage(5.0)
    old = inputs(samples=[sample("correct", "5")])
    version = re.search(r'data-version="(\w+)"', live.html(old))
    assert version is not None
    assert set(live.changes(old, version=version[1], blocks=[])) == {"version", "written"}
    held = [block.name for block in pack_samples(old.samples).blocks]
    new = inputs(samples=[*old.samples, sample("incorrect", "6", stage="general_rl")])
    news = live.changes(new, version=version[1], blocks=held)
    assert news["version"] != version[1]
    assert set(news["sections"]) >= {"pipeline", "accuracy", "curves"}
    assert set(news["blocks"]) == {block.name for block in pack_samples(new.samples).blocks} - set(held)
    assert len(news["blocks"]) == 1


def test_a_run_that_did_not_move_is_not_made_into_a_page_again(monkeypatch) -> None:
    made: list[int] = []
    build = document.build_sections
    monkeypatch.setattr(document, "build_sections", lambda found: made.append(1) or build(found))
    live = LivePage(5.0)
    found = inputs(samples=[sample("correct", "5")])
    live.html(found)
    live.changes(inputs(samples=found.samples), version="", blocks=[])
    assert len(made) == 1
    live.changes(inputs(samples=found.samples, metrics=[*METRICS, METRICS[-1] | {"step": 9}]), version="", blocks=[])
    assert len(made) == 2
