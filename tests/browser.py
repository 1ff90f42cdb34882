"""What tests in a real browser share: where Chromium and axe-core are, and what axe-core finds on a page."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
_AXE = [
    Path(os.environ.get("ALLFOUR_AXE", "")),
    Path("build/node_modules/axe-core/axe.min.js"),
    Path("node_modules/axe-core/axe.min.js"),
]
# what is in order fills megabytes, which the browser would write and this process read
_VIOLATIONS = """
async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .map((item) => [item.impact, item.id, item.nodes[0].target])
"""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window; skips the test where playwright is not installed."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


def find_axe() -> Path | None:
    """axe-core's script; None where it is not installed."""
    return next((path for path in _AXE if path.is_file()), None)


def axe_source() -> str:
    """axe-core's script; skips the test where it is not installed."""
    found = find_axe()
    if found is None:
        pytest.skip("axe-core is not there (npm install --prefix build axe-core)")
    return found.read_text(encoding="utf-8")


def violations(page: Any) -> list[tuple[str, str, Any]]:
    """What axe-core, which the page must have loaded, holds against it: impact, rule, first element."""
    found: list[list[Any]] = page.evaluate(_VIOLATIONS)
    return [(impact, rule, element) for impact, rule, element in found]


def wait_until(page: Any, condition: str, *, seconds: float = 30.0) -> None:
    """Wait until an expression is true in a page.

    playwright's own `wait_for_function` looks a second time with `eval`, which the pages' policy forbids: it fails where the first look came
    too early.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        time.sleep(0.02)
