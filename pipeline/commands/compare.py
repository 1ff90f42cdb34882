"""`allfour compare`: compare runs and write what was found, as JSON and as a page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allfour.errors import UsageError
from allfour.pipeline.analyses.comparison.compare import compare_paths
from allfour.pipeline.analyses.study.result import PairBy, study_of_runs
from allfour.pipeline.report.compare_page import render_comparison
from allfour.pipeline.report.study_page import render_study
from allfour.pipeline.run.writing import json_bytes, write_together
from allfour.pipeline.words import quantity

_NAME = 40
"""Characters of a run's name in the name of a comparison."""


@dataclass(frozen=True, slots=True)
class WrittenComparison:
    """What a finished comparison left."""

    comparison: Mapping[str, Any]
    """What comparison.json holds."""
    json_path: Path
    page_path: Path


def run_comparison(
    runs: Sequence[Path],
    *,
    out: Path | None = None,
    reference: str | None = None,
    shared_only: bool = False,
    calibrations: Sequence[Path | None] = (),
    equivalent: float | None = None,
    pair_by: PairBy = "id",
) -> WrittenComparison:
    """Compare run folders; they are only read.

    Parameters
    ----------
    out
        An .html file, beside which a .json file of the same name is written, or a folder for compare.html and
        comparison.json. By default runs/compare-NAMES.
    reference
        A file of reference shares, or `uniform`.
    shared_only
        Leave out prompts that one run lacks.
    calibrations, equivalent, pair_by
        See `allfour.pipeline.analyses.comparison.compare.compare`.

    Raises
    ------
    UsageError
        The runs cannot be compared, or the result cannot be written there.
    """
    found = compare_paths(
        runs,
        reference=reference,
        shared_only=shared_only,
        calibrations=calibrations,
        equivalent=equivalent,
        pair_by=pair_by,
    )
    comparison = found.document()
    target = out or Path("runs") / default_name([run["name"] for run in comparison["runs"]], reference)
    if target.suffix.lower() in {".html", ".htm"}:
        page_path, json_path = target, target.with_suffix(".json")
    elif target.suffix.lower() == ".json":
        raise UsageError(f"--out {target}: name the page (an .html file; the JSON goes beside it) or a folder")
    else:
        page_path, json_path = target / "compare.html", target / "comparison.json"
    try:
        page = render_comparison(comparison, runs)
        files = {}
        if len(runs) > 2 and reference is None:
            # one page over all of them, and every further run against the first on a page of its own
            pairs = page_path.with_name(f"{page_path.stem}-pairs.html")
            page_path.parent.mkdir(parents=True, exist_ok=True)  # the board reads the runs by their paths from there
            board = study_of_runs(runs, pair_by=pair_by, beside=page_path.parent)
            comparison = {**comparison, "study": board.document()}
            files[pairs.name] = page.encode("utf-8", "replace")
            page = render_study(board, page_path.parent, pairs=pairs.name)
        files = {json_path.name: json_bytes(comparison), **files, page_path.name: page.encode("utf-8", "replace")}
        write_together(page_path.parent, files)
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise UsageError(f"--out {target}: cannot be written: {error.strerror}. Name another file or folder") from None
    return WrittenComparison(comparison, json_path, page_path)


def calibrations_of(runs: int, first: Path | None, further: Sequence[Path]) -> list[Path | None]:
    """One calibration per run: that of the first, and one for each further run, or one for all of them.

    Raises
    ------
    UsageError
        There are neither one nor as many as further runs.
    """
    if len(further) not in (0, 1, runs - 1):
        raise UsageError(
            f"--calibration-b: {len(further)} files for {quantity(runs - 1, 'further run')}. Give one for all of them, or one for each in the "
            "order of the runs"
        )
    others: list[Path | None] = list(further) if len(further) == runs - 1 else [*further, None][:1] * (runs - 1)
    return [first, *others]


def default_name(names: Sequence[str], reference: str | None) -> str:
    """`compare-A-B`, safe as a folder name."""
    parts = [*names[:3], *([Path(reference).stem] if reference and len(names) == 1 else [])]
    whole = [re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.") for part in parts]
    safe = [part[:_NAME] for part in whole if part]
    if any(len(part) > _NAME for part in whole):  # what was cut may be all that tells two comparisons apart
        safe.append(hashlib.sha256("\n".join(names).encode("utf-8", "replace")).hexdigest()[:8])
    return "-".join(["compare", *safe])


def summary_lines(comparison: Mapping[str, Any]) -> list[str]:
    """What the command prints."""
    from allfour.pipeline.words import naming

    with naming(run["name"] for run in comparison["runs"]):
        return _lines(comparison)


def _lines(comparison: Mapping[str, Any]) -> list[str]:
    from allfour.pipeline.report import compare_prose
    from allfour.pipeline.words import run_name

    lines = []
    several = len(comparison["comparisons"]) > 1
    for pair in comparison["comparisons"]:
        which = f" ({run_name(pair['second'])} against {run_name(pair['first'])})" if several else ""
        lines.append(
            f"{run_name(pair['second'])} against {run_name(pair['first'])}: {compare_prose.found(pair, comparison)}. "
            + compare_prose.standfirst(pair, comparison["confidence"])
        )
        if (doubt := compare_prose.because(pair)) is not None:
            lines.append(f"  {doubt}")
        lines.append(f"  {compare_prose.change(pair)}" if compare_prose.change(pair) else "")
        lines += [f"note{which}: {warning}" for warning in pair["warnings"]]
    lines += [compare_prose.reference_sentence(entry) for entry in comparison["references"]]
    return [line.replace("\u00a0", " ") for line in lines if line]
