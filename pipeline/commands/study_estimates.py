"""What the cells of a study have still to do, and what that takes: images, money and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from allfour.errors import AllfourError
from allfour.pipeline.config.study import CellPlan, Study
from allfour.pipeline.generation.existing import read_outcomes
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.words import grouped, quantity, seconds_text

CELLS = "cells"


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


def makers(study: Study) -> list[CellPlan]:
    """The cells that make images: the first of every generator and prompt set."""
    first: dict[tuple[str, str], CellPlan] = {}
    for cell in study.cells:
        first.setdefault((cell.generator, cell.prompts), cell)
    return list(first.values())


def cell_folder(out: Path, cell: CellPlan) -> RunFolder:
    """The run folder of a cell."""
    return RunFolder(out / CELLS / cell.name)


def images_left(cell: CellPlan, out: Path) -> int:
    """How many images of a cell are not on record."""
    return max(0, len(make_plan(cell.config).requests) - _images_on_record(out / CELLS / cell.name))


def price_of(cell: CellPlan) -> float:
    """Of an image; 0 where none is known."""
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
