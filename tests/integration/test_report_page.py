"""The report's page in a real browser: it opens from disk, runs nothing that a model wrote, is read with the keyboard,
fits a phone, keeps its promises of size, and follows a run that goes on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.page.document import LivePage, write_page
from evals.report_inputs import ReportInputs
from stages.run_report import RunReader, report_run
from stages.watch import WatchConfig, WatchServer
from tests.integration.browser import Visit, address_of, chromium
from tests.stages.run_folders import KEYS, append, finished_run, metrics, rollout, run_under_way

pytestmark = pytest.mark.integration

HOSTILE = "<think>\n</script><script>document.title='run'</script>\n</think>\n\n<img src=x onerror=\"alert('run')\">"

UNLABELLED = """
[...document.querySelectorAll('button, a, select, input, [tabindex="0"]')]
  .filter(one => !(one.textContent.trim() || (one.labels || []).length || one.getAttribute('aria-label')))
  .map(one => one.outerHTML)
"""
TOO_SMALL = """
[...document.querySelectorAll('button:not(.link), select')]
  .filter(one => one.offsetHeight && one.offsetHeight < 32).length
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small finished run, with a hostile rollout among its own."""
    folder = tmp_path_factory.mktemp("run")
    run = finished_run(folder)
    rows = [rollout("reasoning_rl", 4, HOSTILE, task="chat", outcome="error", reward=None, reason=HOSTILE)]
    append(run.stage_dir("reasoning_rl", KEYS["reasoning_rl"]) / "samples.jsonl", rows)
    return report_run(folder)[1]


def test_the_page_opens_from_disk_and_asks_for_nothing_else(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        assert visit.requests == [address_of(report)]
        assert visit.errors == []
        assert visit.page.title() == "fourstage run: small"
        assert visit.page.locator("#count").inner_text() == "8 rollouts."
        assert "Nothing: every stage is finished" not in visit.page.locator("[data-section=missing]").inner_text()
        assert visit.page.locator("svg.chart").count() >= 8


def test_what_a_model_wrote_is_shown_and_does_not_run(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        visit.page.select_option("#filter-outcome", "error")
        visit.until("document.querySelector('#rollout .answer').textContent.startsWith('<img')")
        assert visit.page.locator("#count").inner_text() == "1 of 8 rollouts."
        assert visit.page.locator("#rollout .answer").inner_text() == "<img src=x onerror=\"alert('run')\">"
        visit.page.locator("#rollout details.thinking summary").click()
        assert "</script><script>" in visit.page.locator("#rollout details.thinking pre").inner_text()
        assert visit.page.title() == "fourstage run: small"
        assert (visit.errors, visit.page.locator("#rollout img").count()) == ([], 0)


def test_the_thinking_is_folded_and_tokens_show_their_mask(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        rollout = visit.page.locator("#rollout")
        rollout.locator("details.thinking").first.wait_for()
        assert not rollout.locator("details.thinking pre").first.is_visible()
        assert rollout.locator("details.thinking summary").inner_text() == "thinking, 3 characters"
        rollout.locator("details.rendered summary").click()
        assert rollout.locator(".tokens mark").all_inner_texts() == ["2"]
        assert rollout.locator(".tokens span").all_inner_texts() == ["What", " is"]
        assert "1 of 3 tokens shown carry loss." in rollout.inner_text()


def test_filters_narrow_the_list_and_a_task_panel_sets_them(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        count = visit.page.locator("#count")
        visit.page.fill("#step-from", "2")
        visit.page.fill("#step-to", "3")
        assert count.inner_text() == "2 of 8 rollouts."
        visit.page.locator("#filter-form button[type=reset]").click()
        visit.until("document.getElementById('count').textContent === '8 rollouts.'")
        visit.page.select_option("#filter-stage", "evaluation of cold_start")
        assert count.inner_text() == "2 of 8 rollouts."
        visit.page.locator("#tasks ~ div button.link", has_text="math").click()
        assert count.inner_text() == "3 of 8 rollouts."
        visit.page.select_option("#filter-mode", "thinking")
        visit.page.select_option("#filter-outcome", "error")
        assert "No rollout passes these filters." in visit.page.locator("#rollout").inner_text()


def test_everything_is_reached_with_the_keyboard(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        keys, focused = visit.page.keyboard, "document.activeElement"
        keys.press("Tab")
        assert visit.page.evaluate(f"{focused}.textContent") == "Skip to the report"
        assert visit.page.locator(".skip").bounding_box()["x"] >= 0
        keys.press("Enter")
        assert visit.page.evaluate(f"{focused}.id") == "main"
        visit.page.focus("#list")
        for key, chosen in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("End", 7), ("Home", 0), ("j", 1)):
            keys.press(key)
            assert visit.page.locator("#list [aria-selected=true]").get_attribute("id") == f"row-{chosen}", key
        assert visit.page.evaluate(f"{focused}.getAttribute('aria-activedescendant')") == "row-1"
        visit.until("document.getElementById('rollout').textContent.includes('What is 2+1?')")
        keys.press("Enter")
        assert visit.page.evaluate(f"{focused}.id") == "rollout"
        keys.press("j")
        visit.until("document.getElementById('rollout').textContent.includes('What is 3+1?')")
        chart = visit.page.locator("svg.chart").first
        chart.focus()
        keys.press("ArrowRight")
        assert chart.locator("xpath=..").locator(".readout").inner_text() == "optimizer step 1: training loss 1"
        assert visit.page.evaluate(UNLABELLED) == []
        outline = visit.page.evaluate("(chart => getComputedStyle(chart).outlineStyle)(document.activeElement)")
        assert outline == "solid"


def test_two_checkpoints_stand_side_by_side_on_one_prompt(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report)) as visit:
        visit.until("document.getElementById('right').textContent.includes('reasoning_rl says 1')")
        assert "cold_start says 1" in visit.page.locator("#left").inner_text()
        visit.page.locator("#pair-next").click()
        visit.until("document.getElementById('right').textContent.includes('reasoning_rl says 2')")
        visit.page.select_option("#pair-left", "evaluation of reasoning_rl")
        visit.until("document.getElementById('left').textContent.includes('reasoning_rl says 2')")


def test_the_page_fits_a_phone(browser: Any, report: Path) -> None:
    with Visit(browser, address_of(report), viewport={"width": 390, "height": 844}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
        assert visit.page.evaluate(TOO_SMALL) == 0


@pytest.mark.parametrize(
    ("system", "presses", "is_dark"), [("dark", 0, True), ("light", 0, False), ("light", 2, True), ("dark", 1, False)]
)
def test_dark_mode_follows_the_system_and_the_switch(
    browser: Any, report: Path, system: str, presses: int, is_dark: bool
) -> None:
    with Visit(browser, address_of(report), color_scheme=system) as visit:
        for _ in range(presses):
            visit.page.locator("#theme").click()
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if is_dark else "rgb(255, 255, 255)")
        visit.page.reload()
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_an_unfinished_run_still_gives_a_page(browser: Any, tmp_path: Path) -> None:
    write_page(tmp_path / "empty.html", ReportInputs(title="Nothing yet"))
    with Visit(browser, address_of(tmp_path / "empty.html")) as visit:
        assert visit.errors == []
        assert visit.page.locator("#no-rollouts").is_visible()
        assert visit.page.locator("#no-pairs").is_visible()
        assert not visit.page.locator("#reader").is_visible()


def test_fifty_thousand_rollouts_open_in_under_three_seconds(browser: Any, tmp_path: Path) -> None:
    draw = random.Random(0)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(4000)]
    rows = []
    for number in range(50_000):
        words = draw.choices(vocabulary, k=80)
        text = f"<think>\n{' '.join(words)}\n</think>\n\n{number}"
        parts = [{"pieces": [f" {word}" for word in words], "loss_mask": "1" * len(words)}]
        outcome = ("correct", "incorrect")[number % 2]
        told = {"outcome": outcome, "task": f"task_{number % 30}", "rendered": parts}
        rows.append(rollout(f"stage_{number // 10_000}", number % 10_000, text, **told))
    path = write_page(tmp_path / "large.html", ReportInputs(title="Large", samples=rows))
    opened = []
    for _ in range(3):  # the fastest of three: other work on the machine only ever adds
        began = time.monotonic()
        with Visit(browser, address_of(path)) as visit:
            visit.page.locator("#rollout .answer").wait_for()
            opened.append(time.monotonic() - began)
        if opened[-1] < 3:
            break
    with Visit(browser, address_of(path)) as visit:
        assert visit.page.locator("#count").inner_text() == "50,000 rollouts."
        filtering_ms = visit.page.evaluate(
            "(() => { const began = performance.now(); const select = document.getElementById('filter-task');"
            " select.value = 'task_7'; select.dispatchEvent(new Event('input', {bubbles: true}));"
            " return performance.now() - began; })()"
        )
        assert visit.page.locator("#count").inner_text() == "1,667 of 50,000 rollouts."
        assert visit.page.locator("#spacer .item").count() < 60
        visit.page.focus("#list")
        visit.page.keyboard.press("End")
        visit.until("document.querySelector('#rollout .answer').textContent === '49987'")
    print(f"opened {path.stat().st_size / 2**20:.1f} MiB in {min(opened):.2f} s, filtered in {filtering_ms:.0f} ms")
    assert min(opened) < 3
    assert filtering_ms < 200


@pytest.fixture
def served(tmp_path: Path) -> Iterator[WatchServer]:
    run_under_way(tmp_path, steps=40)
    with WatchServer(tmp_path, WatchConfig(port=0, refresh_s=0.3)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


def test_a_served_page_follows_the_run_and_keeps_the_readers_place(browser: Any, served: WatchServer) -> None:
    folder = served.reader.run.stage_dir("reasoning_rl", KEYS["reasoning_rl"])
    with Visit(browser, served.url) as visit:
        visit.page.select_option("#filter-stage", "evaluation of cold_start")
        visit.page.focus("#list")
        visit.page.keyboard.press("j")
        visit.until("document.getElementById('rollout').textContent.includes('cold_start says 2')")
        visit.page.locator("#rollout details.rendered summary").click()
        append(folder / "metrics.jsonl", [metrics("reasoning_rl", 41)])
        append(folder / "samples.jsonl", [rollout("reasoning_rl", 41)] * 300)
        visit.until("document.getElementById('count').textContent === '2 of 342 rollouts.'")
        assert "interrupted after step 41" in visit.page.locator("[data-section=missing]").inner_text()
        assert "cold_start says 2" in visit.page.locator("#rollout").inner_text()
        assert visit.page.locator("#rollout details.rendered").get_attribute("open") is not None
        assert visit.page.locator("#list [aria-selected=true]").get_attribute("id") == "row-1"
        assert visit.errors == []
        served.reader.run.path.joinpath("plan.json").rename(served.reader.run.path / "plan.gone")
        visit.until("document.getElementById('live').textContent.includes('does not answer')")
        served.reader.run.path.joinpath("plan.gone").rename(served.reader.run.path / "plan.json")
        visit.until("document.getElementById('live').textContent === ''")


def test_the_page_on_disk_and_the_served_one_have_the_same_sections(tmp_path: Path) -> None:
    run_under_way(tmp_path)
    found = RunReader(tmp_path).read()
    live = LivePage(5.0).html(found)
    for line in write_page(tmp_path / "x.html", found).read_text(encoding="utf-8").splitlines():
        if line.startswith("<h3>"):
            assert line in live
