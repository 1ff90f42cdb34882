"""The report of finished runs, and the index over many: time to write, size, and time until a browser has it open and answers.

    python scripts/bench_report.py RUN [RUN ...] --rounds 5 --index 500 --out report.json

Runs are taken in turn within a round. A round writes the report, then opens it in a headless Chromium that was just started: `open` is
the time from the address to the end of loading, `answers` the time until the list has also been filtered by a word. `--index N` does the
same with the index over N copies of the first run's documents. `cpu` is processor time of writing, which other work on the machine moves
less than clock time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from allfour.pipeline.commands.view import write_index  # noqa: E402
from allfour.pipeline.report import write_report  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
NAMES = ("write", "cpu", "open", "answers")


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
        # by looking: playwright's own waiting needs an eval that the page's policy forbids
        while not page.evaluate("document.getElementById('shown').textContent.startsWith('0 of')"):
            time.sleep(0.005)
        answered = time.perf_counter() - started
        browser.close()
    return {"open": loaded, "answers": answered}


def measure(write: Callable[[], Path], chromium: str) -> tuple[float, dict[str, float]]:
    """Megabytes of what is written, and the times of one round."""
    started, cpu = time.perf_counter(), time.process_time()
    page = write()
    times = {"write": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    return page.stat().st_size / 1e6, {**times, **open_page(page, chromium)}


def many_runs(run: Path, count: int, folder: Path) -> Path:
    """A folder of runs that are copies of one run's documents."""
    for number in range(count):
        copy = folder / "runs" / f"run-{number:03d}"
        copy.mkdir(parents=True)
        for name in ("run.json", "metrics.json", "report.html"):
            (copy / name).hardlink_to(run.resolve() / name)
    return folder / "runs"


def main() -> None:
    """Measure, print medians and the least, and write every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with a report")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index", type=int, help="also the index over so many copies of the first run")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    chromium = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if chromium is None:
        parser.error("no Chromium on this machine (apt-get install chromium)")
    tasks: dict[str, Callable[[], Path]] = {str(run): partial(write_report, run) for run in arguments.runs}
    results: dict[str, dict[str, Any]] = {}
    # beside the runs, as a hard link stays on its disk
    with tempfile.TemporaryDirectory(dir=arguments.runs[0].resolve().parent) as folder:
        if arguments.index:
            runs = many_runs(arguments.runs[0], arguments.index, Path(folder))
            tasks[f"index over {arguments.index}"] = partial(write_index, runs, Path(folder) / "index.html")
        for _ in range(arguments.rounds):
            for name, write in tasks.items():
                result = results.setdefault(name, {"rounds": []})
                result["megabytes"], times = measure(write, chromium)
                result["rounds"].append(times)
    for name, result in results.items():
        for kind, of in (("medians", statistics.median), ("least", min)):
            result[kind] = {key: of([times[key] for times in result["rounds"]]) for key in NAMES}
            figures = ", ".join(f"{key} {value:.2f} s" for key, value in result[kind].items())
            print(f"{name}: {result['megabytes']:.1f} MB; {kind}: {figures}")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
