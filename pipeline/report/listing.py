"""The section that lists prompts, a row of one height for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline import words
from allfour.pipeline.report import prose, svg
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.view import RowView


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort a list of prompts in a browser."""

    value: str
    """Its name in addresses; `rank` is the order of the page."""
    name: str
    by: str = ""
    """The number of a row that it goes by."""
    nearest: float | None = None
    """Rows whose number is nearest to this one come first; None: those whose number is smallest."""
    down: bool = False
    """The largest first."""


TEXT_ORDER = Order("text", "by prompt, A to Z")


@dataclass(frozen=True, slots=True)
class PromptsView:
    """The whole section."""

    rows: Sequence[RowView]
    total: int
    pages: int
    frame: str
    """The words that all prompts share."""
    without_picture: str
    against: str | None
    other: str
    """Name of the other run that is marked beside."""
    reference: str | None
    """Name and year of the reference; None where no prompt has one."""
    shows: Sequence[tuple[str, str]]
    """What can be shown alone: mark of a row -> words."""
    orders: Sequence[Order]


def prompts_view(material: Material) -> PromptsView:
    """The section of a run."""
    metrics = material.metrics
    known = metrics.reference
    reference = None
    if any(prompt.reference for prompt in metrics.prompts):
        reference = "" if known is None else f"{known.name}{f', {known.year}' if known.year else ''}"
    return PromptsView(
        rows=material.rows,
        total=len(material.order),
        pages=material.pages,
        frame=material.builder.frame.text,
        without_picture=material.without_picture,
        against=prose.against(metrics),
        other="" if metrics.against is None else metrics.against.name,
        reference=reference,
        shows=_shows(metrics.headline_labels),
        orders=[
            Order("rank", "by share"),
            TEXT_ORDER,
            Order("confidence", "least sure first", by="sure"),
            Order("balance", "nearest to an even split first", by="share", nearest=material.even),
            *([Order("away", "furthest from the other run first", by="away", down=True)] if metrics.against else []),
        ],
    )


def _shows(labels: Sequence[str]) -> list[tuple[str, str]]:
    names = [(svg.series_class(place), words.plural(label)) for place, label in enumerate(labels)]
    return [
        ("unanimous", "unanimous"),
        *((f"all-{kind}", f"all {name}") for kind, name in names),
        ("mixed", "not unanimous"),
        *((f"has-label-{place}", f"with {name}") for place, (_, name) in enumerate(names)),
        ("has-ambiguous", "with unclear images"),
        ("has-no_person", f"with {words.label_text('no_person')}"),
        ("has-missing", "with missing or unreadable images"),
    ]
