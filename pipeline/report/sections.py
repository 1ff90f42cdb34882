"""The sections of a report, in the order of the page. This list is the only place that knows all of them.

A section is a view, a function of the run's material, and a template of the same name that prints what it returns. To add one, write the
two and list it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allfour.pipeline.report import evidence, folded
from allfour.pipeline.report.asked import asked_view
from allfour.pipeline.report.consensus_view import consensus_gist, consensus_view
from allfour.pipeline.report.each_view import each_view
from allfour.pipeline.report.listing import prompts_view
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.reviewed import reviewed_view
from allfour.pipeline.report.scenes import scenes_view
from allfour.pipeline.report.sensitivity_view import sensitivity_view
from allfour.pipeline.report.withheld import withheld_view


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Its template, TEMPLATES/section-ID.html.j2, finds under `view` what `view` returned. A view that returns None leaves the section out.
    """

    id: str
    """Its anchor in addresses, and the name of its template."""
    title: str
    view: Callable[[Material], Any]
    nav: str = ""
    """Its name in the navigation; empty for what only belongs to the section before."""
    gist: Callable[[Any], str] | None = None
    """One line about what `view` returned: such a section is folded under its title and that line until it is opened."""
    copies: str = ""
    """What the section's figure can be copied as: `svg`, `csv` or both. The figure's id is `figure-ID`."""


SECTIONS: tuple[Section, ...] = (
    Section("prompts", "Prompts, ranked", prompts_view, nav="Prompts", copies="svg csv"),
    Section("each", "Each prompt's own question", each_view, nav="Each prompt", copies="csv"),
    Section("sure", "How sure is this?", evidence.sure_view, nav="How sure", copies="svg csv"),
    Section("groups", "By list", evidence.groups_view, nav="Lists", copies="svg csv"),
    Section("reviewed", "What people said", lambda m: reviewed_view(m.metrics), nav="Review"),
    Section("scenes", "Group scenes", lambda m: scenes_view(m.run_dir, m.metrics), nav="Scenes"),
    Section("attributes", "What the images show", evidence.attributes_view, nav="Attributes"),
    Section("asked", "What prompts asked for", lambda m: asked_view(m.metrics), nav="Asked for"),
    Section("withheld", "Refused, failed, rewritten", lambda m: withheld_view(m.metrics) or None, nav="Refused"),
    Section("left-out", "What was counted, and what was left out", evidence.left_out_view, nav="Left out"),
    Section("crossed", "In combination", folded.crossed_view, nav="Combined", gist=folded.crossed_gist),
    Section(
        "planted",
        "Measured against planted",
        folded.planted_view,
        nav="Planted",
        gist=folded.planted_gist,
        copies="svg",
    ),
    Section("classifier", "The classifier", folded.classifier_view, nav="Classifier", gist=folded.classifier_gist),
    Section(
        "sensitivity",
        "Sensitivity",
        lambda m: sensitivity_view(m.run_dir, m.metrics, classifier=m.header.classifier),
        nav="Sensitivity",
        gist=folded.sensitivity_gist,
    ),
    Section(
        "consensus",
        "Several readers",
        lambda m: consensus_view(m.metrics),
        nav="Readers",
        gist=consensus_gist,
    ),
    Section("method", "Method and limits", folded.method_view, nav="Method", gist=folded.method_gist),
    Section("provenance", "Repeat this run", folded.repeat_view, nav="Repeat", gist=folded.repeat_gist),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A section with what its template prints."""

    section: Section
    view: Any
    gist: str

    @property
    def template(self) -> str:
        """The name of its template."""
        return f"section-{self.section.id}.html.j2"


def parts_of(material: Material) -> list[Part]:
    """The sections that this run has something for."""
    found = []
    for section in SECTIONS:
        view = section.view(material)
        if view is not None:
            found.append(Part(section, view, section.gist(view) if section.gist is not None else ""))
    return found
