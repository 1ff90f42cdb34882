"""The document of a study, from existing runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from allfour.pipeline.analyses.comparison.asked import all_ask, asked_note, without_asking
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun, load_runs
from allfour.pipeline.analyses.comparison.evidence import copies_of
from allfour.pipeline.analyses.study.boards import AXES, Placed, boards_of
from allfour.pipeline.metrics.asked_for import ASKED_NOTE
from allfour.pipeline.run.folder import utc_now
from allfour.pipeline.run.record import Note
from allfour.pipeline.run.study import StudyCell, StudyResult
from allfour.pipeline.words import clean, told_apart

PairBy = Literal["id", "subject"]


def study_result(
    cells: Sequence[tuple[StudyCell, Path]],
    *,
    name: str,
    pair_by: PairBy,
    axes: Mapping[str, Sequence[str]],
    beside: Path,
    notice: str | None = None,
) -> StudyResult:
    """What was found over the cells that are done.

    Parameters
    ----------
    cells
        Each with its run folder; those that are not done are told of, and in no board.
    pair_by
        `subject` or `id`.
    axes
        Axis -> its levels, in the order in which they are shown.
    beside
        Folder of the document, by which paths are written.

    Raises
    ------
    ComparisonError
        No cell is done.
    """
    done = [(cell, path) for cell, path in cells if cell.state == "done"]
    if not done:
        raise ComparisonError("no cell of the study is done: nothing can be set side by side")
    runs, asked = without_asking(load_runs([path for _, path in done]))
    placed = [
        Placed(
            cell.name,
            {axis: getattr(cell, axis) for axis in AXES},
            run,
            copies_of(run).get(run.metrics.headline, {}),
        )
        for (cell, _), run in zip(done, runs, strict=True)
        if run.metrics.prompts or not asked
    ]
    first = runs[0].metrics
    boards, notes, tests = boards_of(placed, pair_by=pair_by, confidence=first.summary.confidence)
    known = {cell.name: run for (cell, _), run in zip(done, runs, strict=True)}
    full = [_filled(cell, path, known.get(cell.name), beside) for cell, path in cells]
    if asked:
        notes.append(Note(code=ASKED_NOTE, text=asked_note(asked, first.headline), about=first.headline))
    if none_left := [run for run in runs if asked and not run.metrics.prompts]:
        text = f"On no board: {all_ask(none_left, asked, first.headline)}."
        notes.append(Note(code=ASKED_NOTE, text=text, about=first.headline))
    missing = [cell.name for cell in full if cell.state != "done"]
    if missing:
        notes.append(
            Note(code="cells_missing", text=f"Not completed, and left out of every figure: {', '.join(missing)}.")
        )
    return StudyResult(
        name=name,
        created=utc_now(),
        notice=notice,
        headline=first.headline,
        labels=list(first.headline_labels),
        confidence=first.summary.confidence,
        pair_by=pair_by,
        axes={axis: list(levels) for axis, levels in axes.items()},
        cells=full,
        boards=boards,
        tests=tests,
        asked_for=asked,
        notes=notes,
    )


def study_of_runs(paths: Sequence[Path], *, pair_by: PairBy, beside: Path) -> StudyResult:
    """The same for runs that were made apart: each a level of one axis, by the names that tell them apart."""
    runs = load_runs(paths)
    cells = [
        (StudyCell(name=run.name, path=str(path), generator=run.name, state="done"), path)
        for run, path in zip(runs, paths, strict=True)
    ]
    axes = {"generator": [run.name for run in runs]}
    return study_result(
        cells,
        name=", ".join(told_apart(tuple(axes["generator"][:4]), 40).values()),
        pair_by=pair_by,
        axes=axes,
        beside=beside,
    )


def _filled(cell: StudyCell, path: Path, run: LoadedRun | None, beside: Path) -> StudyCell:
    shown = Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix()
    if run is None:
        return cell.model_copy(update={"path": shown})
    return cell.model_copy(
        update={
            "path": shown,
            "title": clean(run.header.name or cell.name, 200),
            "headline": run.metrics.summary.headline,
            "set_size": run.metrics.summary.set_size,
            "accounting": run.metrics.accounting,
            "spent": run.header.spent,
        }
    )
