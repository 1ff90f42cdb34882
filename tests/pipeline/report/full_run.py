"""A run folder whose report has every section that there is, for looking at the page and for tests in a browser.

    python -m tests.pipeline.report.full_run build/full-look [--hostile]

The figures of its sections come from the real code over tables that mean nothing; sensitivity and second opinion, which need a
classifier's embeddings, are those of a small scored run and are put in beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from allfour.pipeline.analyses.against import AGAINST, write_against
from allfour.pipeline.analyses.review.results import REVIEW
from allfour.pipeline.report import write_report
from allfour.pipeline.run.folder import RunFolder
from tests.pipeline.report.fixture_run import Options
from tests.pipeline.report.test_reviewed import reviewed_run
from tests.pipeline.report.test_scenes import add_scenes

ANALYSES = ("sensitivity", "second_opinion")


def full_run(folder: Path, *, sensitivity: Path | None = None, hostile: bool = False, prompts: int = 6) -> Path:
    """Write the run and its page, and return the page.

    Parameters
    ----------
    sensitivity
        A run folder with a sensitivity grid and a second opinion.
    """
    options = Options(
        prompts=prompts, images=12, hostile=hostile, drawn_world=True, references=True, corrected=True, oddities=True
    )
    run = reviewed_run(folder, raters=("Ada", "Bo"), options=options)
    other = folder / ('other "><script>window.pwned=1<' if hostile else "other run")
    shutil.copytree(run.path, other)
    add_scenes(run)
    add_scenes(RunFolder(other))  # which names the same classifier
    metrics = json.loads(run.metrics_path.read_text())
    if sensitivity is not None:
        given = json.loads((sensitivity / "metrics.json").read_text())
        metrics |= {name: given[name] for name in ANALYSES}
        for name in ANALYSES:
            shutil.copy(sensitivity / f"{name.replace('_', '-')}.json", run.path)
    write_against(run, RunFolder(other))
    for analysis in (REVIEW, AGAINST):
        found, _ = analysis.summary(run)
        metrics[analysis.name] = found and found.document()
    run.metrics_path.write_text(json.dumps(metrics))
    return write_report(run.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sensitivity", type=Path)
    parser.add_argument("--hostile", action="store_true")
    arguments = parser.parse_args()
    print(full_run(arguments.folder, sensitivity=arguments.sensitivity, hostile=arguments.hostile))
