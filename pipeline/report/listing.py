"""The section that lists prompts, a row of one height for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline.report import prose
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.view import RowView


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
    even: float


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
        even=material.even,
    )
