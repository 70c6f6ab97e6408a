"""The Chromium of the system, driven by Playwright, for tests of pages; says why when there is none."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where Playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in requirements/cpu.txt")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine; install it (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One open page with what went wrong on it: errors of scripts, texts of its console, requests it made."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)

    def until(self, expression: str, *, timeout_s: float = 15.0) -> None:
        """Wait until a JavaScript expression is true; Playwright's own waiting would need the page to allow eval."""
        end = time.monotonic() + timeout_s
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            self.page.wait_for_timeout(30)

    def close(self) -> None:
        self._context.close()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def address_of(path: Path) -> str:
    """The address of a file on disk."""
    return path.resolve().as_uri()
