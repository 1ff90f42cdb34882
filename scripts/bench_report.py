"""The report of finished runs: time to write it, its size, and time until a browser has it open and answers.

    python scripts/bench_report.py RUN [RUN ...] --rounds 5 --out report.json

Runs are taken in turn within a round. A round writes the report, then opens it in a headless Chromium that was just started: `open` is
the time from the address to the end of loading, `answers` the time until the list has also been filtered by a word.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.pipeline.report import write_report  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def open_page(page_path: Path, chromium: str) -> dict[str, float]:
    """Seconds until the page is loaded, and until it has answered a filter."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        started = time.perf_counter()
        page.goto(page_path.resolve().as_uri(), wait_until="load")
        loaded = time.perf_counter() - started
        page.fill("#find", "no prompt has these words")
        page.wait_for_function("document.getElementById('shown').textContent.startsWith('0 of')")
        answered = time.perf_counter() - started
        browser.close()
    return {"open": loaded, "answers": answered}


def main() -> None:
    """Measure, print medians, and write every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with a report")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    chromium = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if chromium is None:
        parser.error("no Chromium on this machine (apt-get install chromium)")
    results: dict[str, dict[str, Any]] = {str(run): {"rounds": []} for run in arguments.runs}
    for _ in range(arguments.rounds):
        for run in arguments.runs:
            started = time.perf_counter()
            page = write_report(run)
            written = time.perf_counter() - started
            results[str(run)]["megabytes"] = page.stat().st_size / 1e6
            results[str(run)]["rounds"].append({"write": written, **open_page(page, chromium)})
    for run, result in results.items():
        medians = {name: statistics.median(r[name] for r in result["rounds"]) for name in ("write", "open", "answers")}
        result["medians"] = medians
        print(
            f"{run}: {result['megabytes']:.1f} MB; "
            + ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
