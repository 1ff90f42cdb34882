"""`allfour study`: every cell of a study as a run of its own, and one page over all of them.

Cells that differ in nothing but the classifier share the images of the first: the others read its run folder. Everything is resumed where
it was, since every cell is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import yaml

from allfour import resources
from allfour.errors import AllfourError, ConfigError
from allfour.pipeline.analyses.comparison.comparability import ComparisonError
from allfour.pipeline.analyses.study.result import study_result
from allfour.pipeline.commands.audit import audit
from allfour.pipeline.commands.options import default_run_folder
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.rescore import rescore
from allfour.pipeline.commands.study_estimates import CELLS, cell_folder, images_left, makers, price_of
from allfour.pipeline.commands.study_money import Purse, booked
from allfour.pipeline.config import load_attributes
from allfour.pipeline.config.study import CellPlan, Study
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.metrics.asked_for import asked_of
from allfour.pipeline.metrics.calibration import check_calibration
from allfour.pipeline.report.study_page import PAGE, render_study
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.record import STUDY_FILE
from allfour.pipeline.run.study import StudyCell, StudyResult
from allfour.pipeline.run.writing import sweep_beside, write_atomic, write_json
from allfour.process.parent import environment_of_child

ALLFOUR = [sys.executable, "-P", "-m", "allfour"]
"""The command in a process of its own."""


@dataclass(slots=True)
class StudySummary:
    """What a finished study left."""

    out: Path
    result: StudyResult
    failed: dict[str, str] = field(default_factory=dict)
    """Cell -> why it could not be done."""

    @property
    def page(self) -> Path:
        return self.out / PAGE

    @property
    def missing(self) -> int:
        """Images of all cells that were requested and have no score."""
        return sum(cell.accounting.missing for cell in self.result.cells if cell.accounting is not None)


def run_study(study: Study, out: Path, reporter: Reporter, *, overwrite: bool = False) -> StudySummary:
    """Make, read and compare every cell; what already exists is not done again.

    A cell that cannot be done is told of at the end, and the others are done all the same.

    Raises
    ------
    ConfigError
        Prices are in different currencies under one cap, another process works on the study, or no cell could be done.
    """
    purse = _purse(study, out)
    check_cells(study)
    with RunFolder(out).lock(option="--out"):
        failed: dict[str, str] = {}
        _make(study, out, reporter, purse, failed, overwrite=overwrite)
        _read(study, out, reporter, failed, overwrite=overwrite)
        result = write_study(study, out, failed)
    return StudySummary(out, result, failed)


def check_cells(study: Study) -> None:
    """Whatever can be checked of every cell before anything is made.

    Raises
    ------
    ConfigError
        Names the first cell that cannot be run.
    """
    for cell in study.cells:
        try:
            attributes = load_attributes(cell.config.attributes.file)
            check_calibration(cell.calibration, attributes)
            asked_of(cell.config, attributes)
            make_plan(cell.config)
        except AllfourError as error:
            raise ConfigError(f"cell {cell.name}: {error}") from None


def write_study(study: Study, out: Path, failed: dict[str, str]) -> StudyResult:
    """Write study.json and the page from the cells that exist.

    Raises
    ------
    ConfigError
        None does; the message says why of each.
    """
    cells = [(_cell(plan, out, failed.get(plan.name)), out / CELLS / plan.name) for plan in study.cells]
    axes: dict[str, list[str]] = {
        "generator": list(study.config.generators),
        "prompts": list(study.config.prompts),
        "classifier": list(study.config.classifiers),
    }
    try:
        result = study_result(
            cells,
            name=study.config.name,
            notice=study.config.notice,
            pair_by=study.config.pair_by,
            axes={name: levels for name, levels in axes.items() if levels},
            beside=out,
        )
    except ComparisonError as error:
        reasons = [f"{name}: {text}" for name, text in failed.items()] or [str(error)]
        raise ConfigError(
            "\n".join(["no cell of the study could be completed:", *(f"  - {_hanging(r, 4)}" for r in reasons)])
        ) from None
    for name in (STUDY_FILE, PAGE):
        sweep_beside(out / name)
    write_json(out / STUDY_FILE, result.document())
    write_atomic(out / PAGE, render_study(result, out).encode("utf-8", "replace"))
    return result


def _cell(plan: CellPlan, out: Path, error: str | None) -> StudyCell:
    done = error is None and (out / CELLS / plan.name / "metrics.json").is_file()
    return StudyCell(
        name=plan.name,
        path=f"{CELLS}/{plan.name}",
        generator=plan.generator,
        prompts=plan.prompts,
        classifier=plan.classifier,
        state="done" if done else "failed" if error else "not started",
        error=error,
    )


# --- cells -----------------------------------------------------------------------------------------------------------


def _make(
    study: Study, out: Path, reporter: Reporter, purse: Purse, failed: dict[str, str], *, overwrite: bool
) -> None:
    todo = makers(study)
    at_once = [
        c for c in todo if study.config.parallel > 1 and c.config.generator is not None and c.config.generator.hosted
    ]
    # children end before the pool does: otherwise whoever stops a study would wait for all that is ordered, and pay for it
    with ThreadPoolExecutor(study.config.parallel) as pool, _Children(reporter) as children:

        def make(cell: CellPlan) -> None:
            with purse.lent(cell) as limited:
                children.audit(limited, out, overwrite)

        purse.expect(at_once)
        waiting = [(c, pool.submit(make, c)) for c in at_once]
        for number, cell in enumerate((c for c in todo if c not in at_once), 1):
            reporter.note(f"{cell.name} (generating, {number} of {len(todo) - len(at_once)})")
            with _noted(cell, failed), purse.lent(cell) as limited:
                _write_config(limited, out)
                audit(limited.config, cell_folder(out, cell), reporter, cell.calibration, overwrite=overwrite)
        spent = None
        while waiting:
            for cell, made in waiting:
                with _noted(cell, failed):
                    made.result()
            if purse.spent == spent:
                break
            # What some cells did not spend is for those that their part stopped.
            spent = purse.spent
            again = [cell for cell, _ in waiting if cell.name in failed and purse.can_go_on(cell)]
            for cell in again:
                del failed[cell.name]
            purse.expect(again)
            waiting = [(cell, pool.submit(make, cell)) for cell in again]


def _read(study: Study, out: Path, reporter: Reporter, failed: dict[str, str], *, overwrite: bool) -> None:
    """Cells that read what another cell made."""
    made = {(cell.generator, cell.prompts): cell for cell in makers(study)}
    for cell in study.cells:
        source = made[cell.generator, cell.prompts]
        if cell is source:
            continue
        if source.name in failed:
            failed[cell.name] = f"it needs the images of {source.name}, which could not be made"
            continue
        reporter.note(f"{cell.name}: scoring the images of {source.name}")
        with _noted(cell, failed):
            config = cell.config.model_copy(update={"generator": None})
            _write_config(CellPlan(cell.generator, cell.prompts, cell.classifier, config, cell.calibration), out)
            place, run = str(cell_folder(out, source).path), cell_folder(out, cell)
            rescore(
                config, place, run, reporter, cell.calibration, overwrite=overwrite or _read_before_move(run, source)
            )


def _read_before_move(run: RunFolder, source: CellPlan) -> bool:
    """Whether a run was read from this very cell: its result is no other's, though the study's folder lies elsewhere by now."""
    before = (run.header().source or {}).get("location")
    return isinstance(before, str) and Path(before).parts[-2:] == (CELLS, source.name)


@contextlib.contextmanager
def _noted(cell: CellPlan, failed: dict[str, str]) -> Iterator[None]:
    """Keeps why a cell could not be done, so that the others are done all the same."""
    try:
        yield
    except AllfourError as error:
        failed[cell.name] = str(error)


def _write_config(cell: CellPlan, out: Path) -> Path:
    """The cell's config as a file of its own, by which it can be repeated alone, from any directory."""
    path = out / CELLS / f"{cell.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(
        resources.whole_paths(cell.config.model_dump(mode="json", exclude_none=True)),
        sort_keys=False,
        allow_unicode=True,
    )
    sweep_beside(path)
    write_atomic(path, text.encode())
    return path


class _Children:
    """Audits in processes of their own, which end with the study however it ends."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for child in running:
            child.terminate()  # settles what is on the wire, as for Ctrl-C
        for child in running:
            child.wait()

    def audit(self, cell: CellPlan, out: Path, overwrite: bool) -> None:
        """One cell. Raises ConfigError with what it printed where it could not be done."""
        command = [
            *ALLFOUR, "audit", "--config", str(_write_config(cell, out)), "--run", str(cell_folder(out, cell).path),
            *(["--calibration", str(cell.calibration)] if cell.calibration is not None else []), *(["--overwrite"] if overwrite else []),
        ]  # fmt: skip
        with self._guard:
            if self._stopped:
                return
            child = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment_of_child(),
            )
            self._running.add(child)
        text = []
        for line in child.stderr or ():
            text.append(line.rstrip())
            self._reporter.note(f"{cell.name}: {line.rstrip()}")
        code = child.wait()
        with self._guard:
            self._running.discard(child)
        if code not in (0, 3) and not self._stopped:
            raise ConfigError(_last_error(text) or f"exit code {code}")


def _last_error(lines: Sequence[str]) -> str | None:
    """The last error that a command printed, with the indented lines that belong to it; otherwise its last line."""
    begins = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if not begins:
        return lines[-1] if lines else None
    first, *rest = lines[begins[-1] :]
    return "\n".join([first.removeprefix("error: "), *takewhile(lambda line: line.startswith("  "), rest)])


def default_name(name: str) -> str:
    """A study's name, safe as a folder's."""
    return default_run_folder(name).name


def _purse(study: Study, out: Path) -> Purse:
    return Purse(
        study.config.max_cost,
        makers(study),
        spent=lambda cell: booked(cell, cell_folder(out, cell)),
        needed=lambda cell: images_left(cell, out) * price_of(cell),
    )


def study_lines(summary: StudySummary) -> Iterator[str]:
    """What the command prints."""
    from allfour.pipeline.report.study_prose import board_title, finding

    for board in summary.result.boards:
        yield f"{board_title(board)}: {finding(board, summary.result.headline)}"
    for note in summary.result.notes:
        yield f"note: {note.text}"
    for name, reason in summary.failed.items():
        yield f"not done: {name}: {_hanging(reason, 2)}"


def _hanging(text: str, indent: int) -> str:
    """A text whose further lines stand further in than its first."""
    return text.replace("\n", "\n" + " " * indent)
