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
from allfour.pipeline.commands.study_money import Purse, booked
from allfour.pipeline.config import load_attributes
from allfour.pipeline.config.study import CellPlan, Study
from allfour.pipeline.generation.existing import read_outcomes
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.metrics.asked_for import asked_of
from allfour.pipeline.metrics.calibration import check_calibration
from allfour.pipeline.report.study_page import PAGE, render_study
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.record import STUDY_FILE
from allfour.pipeline.run.study import StudyCell, StudyResult
from allfour.pipeline.run.writing import sweep_beside, write_atomic, write_json
from allfour.pipeline.words import grouped, quantity, seconds_text

CELLS = "cells"
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


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """What a cell has still to do."""

    cell: CellPlan
    makes: bool
    """Whether it makes images; else it reads those of another cell."""
    images: int
    existing: int
    cost: float | None
    """None where no price is known, or nothing costs."""
    currency: str | None
    seconds: float | None
    """By what earlier cells of the generator took; None before there are any."""


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


def makers(study: Study) -> list[CellPlan]:
    """The cells that make images: the first of every generator and prompt set."""
    first: dict[tuple[str, str], CellPlan] = {}
    for cell in study.cells:
        first.setdefault((cell.generator, cell.prompts), cell)
    return list(first.values())


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
                audit(limited.config, _folder(out, cell), reporter, cell.calibration, overwrite=overwrite)
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
            place, run = str(_folder(out, source).path), _folder(out, cell)
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


def _folder(out: Path, cell: CellPlan) -> RunFolder:
    return RunFolder(out / CELLS / cell.name)


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
            *ALLFOUR, "audit", "--config", str(_write_config(cell, out)), "--run", str(_folder(out, cell).path),
            *(["--calibration", str(cell.calibration)] if cell.calibration is not None else []), *(["--overwrite"] if overwrite else []),
        ]  # fmt: skip
        with self._guard:
            if self._stopped:
                return
            child = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
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


# --- money and time --------------------------------------------------------------------------------------------------


def _purse(study: Study, out: Path) -> Purse:
    return Purse(
        study.config.max_cost,
        makers(study),
        spent=lambda cell: booked(cell, _folder(out, cell)),
        needed=lambda cell: _images_left(cell, out) * _price(cell),
    )


def _images_left(cell: CellPlan, out: Path) -> int:
    return max(0, len(make_plan(cell.config).requests) - _images_on_record(out / CELLS / cell.name))


def _price(cell: CellPlan) -> float:
    price = cell.config.generator.price() if cell.config.generator is not None else None
    return price[0] if price is not None else 0.0


def estimates(study: Study, out: Path) -> list[CellEstimate]:
    """What every cell has still to do; nothing is made, and nothing asked."""
    made = {(cell.generator, cell.prompts): cell for cell in makers(study)}
    paces = _paces(study, out)
    found = []
    for cell in study.cells:
        images = len(make_plan(cell.config).requests)
        makes = made[cell.generator, cell.prompts] is cell
        done = _images_on_record(out / CELLS / cell.name) if makes else 0
        left = max(0, images - done) if makes else 0
        price = cell.config.generator.price() if cell.config.generator is not None else None
        pace = paces.get(cell.generator)
        found.append(
            CellEstimate(
                cell, makes, images, done,
                cost=None if price is None else left * price[0],
                currency=price[1] if price is not None else None,
                seconds=None if pace is None else left * pace,
            )
        )  # fmt: skip
    return found


def _images_on_record(folder: Path) -> int:
    """Images and refusals on record."""
    if not folder.is_dir():
        return 0
    lines, _ = read_outcomes(RunFolder(folder))
    return len({line.key for line in lines})


def _paces(study: Study, out: Path) -> dict[str, float]:
    """Generator -> seconds per image, by the cells that it has made."""
    found: dict[str, list[tuple[float, int]]] = {}
    for cell in makers(study):
        try:
            header = read_header(out / CELLS / cell.name)
        except AllfourError:
            continue
        stage = header.stages.get("images")
        images = header.counts.get("generated")
        if stage is not None and stage.seconds and isinstance(images, int) and images:
            found.setdefault(cell.generator, []).append((stage.seconds, images))
    return {name: sum(s for s, _ in rows) / sum(n for _, n in rows) for name, rows in found.items()}


def estimate_entry(entry: CellEstimate) -> dict[str, object]:
    """One line of `--dry-run --json`."""
    return {
        "cell": entry.cell.name, "makes": entry.makes, "images": entry.images, "existing": entry.existing,
        "cost": entry.cost, "currency": entry.currency, "seconds": entry.seconds,
    }  # fmt: skip


def default_name(name: str) -> str:
    """A study's name, safe as a folder's."""
    return default_run_folder(name).name


def estimate_lines(study: Study, found: Sequence[CellEstimate]) -> Iterator[str]:
    """What `--dry-run` prints."""
    width = max(len(e.cell.name) for e in found)
    yield f"{study.config.name}: {quantity(len(found), 'cell')}"
    for entry in found:
        if entry.makes:
            left = entry.images - min(entry.existing, entry.images)
            what = f"{grouped(left)} of {quantity(entry.images, 'image')} to make"
            what += f", about {entry.cost:.2f}{_currency(entry)}" if entry.cost else ""
            what += f", about {seconds_text(entry.seconds)}" if entry.seconds else ""
        else:
            what = f"{quantity(entry.images, 'image')} to score, made by another cell"
        yield f"  {entry.cell.name:<{width}}  {what}"
    total = sum(max(0, e.images - e.existing) for e in found if e.makes)
    costs = [e.cost for e in found if e.makes and e.cost is not None]
    times = [e.seconds for e in found if e.makes]
    line = f"in all: {quantity(total, 'image')} to make, {quantity(sum(e.images for e in found), 'image')} to score"
    if costs:
        line += f", about {sum(costs):.2f}{_currency(next(e for e in found if e.cost is not None))}"
        line += f" of at most {study.config.max_cost:g}" if study.config.max_cost is not None else ""
    known = [t for t in times if t is not None]
    if known and len(known) == len(times):
        line += f", about {seconds_text(sum(known))} if made one after the other"
    else:
        line += "; the time is not known until each generator has made the images of one cell"
    yield line


def _currency(entry: CellEstimate) -> str:
    return f" {entry.currency}" if entry.currency else ""


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
