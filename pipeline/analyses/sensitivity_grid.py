"""What a sensitivity grid varies: templates, phrases, margin, presence threshold and head of the headline's question.

One factor at a time around the run's own settings, and every wording with every margin where that is few enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet, AttributeSpec, Name, Phrases, Template
from allfour.models.settings import local_path
from allfour.pipeline.config import context_of, read_yaml, typed_path, validate

Factor = Literal["templates", "phrases", "margin", "threshold", "head", "combined"]

FACTORS = {
    "templates": "the templates",
    "phrases": "the phrases",
    "margin": "the abstention margin",
    "threshold": "the presence threshold",
    "head": "the head",
}
"""What is varied one at a time, and its name in a sentence."""
WORDING_FACTORS = ("templates", "phrases")
ZERO_SHOT = "zero-shot"
DEFAULT = "default"
"""In place of a file: the grid that follows from the run's own wording."""
MAX_COMBINED = 400
"""Combinations of wording and margin; beyond that they are not computed, and the result says so."""
MAX_SETTINGS = 2000

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Margin = Annotated[float, Field(ge=0.0, lt=1.0)]
_Head = Annotated[str, AfterValidator(lambda head, info: head if head == ZERO_SHOT else local_path(head, info))]
_Templates = Annotated[tuple[Template, ...], Field(min_length=1)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TemplateVariants(_Block):
    """Other templates around the same phrases."""

    leave_one_out: bool = True
    """The ensemble without each of its templates in turn, where it has three or more."""
    each_alone: bool = True
    """Each template of the ensemble by itself."""
    sets: dict[Name, _Templates] = Field(default_factory=dict)
    """Further ensembles, by the name under which they are shown."""


class PhraseVariants(_Block):
    """Other phrases in the same templates."""

    leave_one_out: bool = True
    """Without the labels' first phrases, their second, and so on, where every label has as many phrases, and three or more."""
    each_alone: bool = True
    """The labels' first phrases alone, their second, and so on, where every label has as many phrases."""
    sets: dict[Name, dict[Name, Phrases]] = Field(default_factory=dict)
    """Further wordings: a name, and under it every label with its phrases."""


class Grid(_Block):
    """What is varied. Everything has a default that follows from the run's own attributes."""

    templates: TemplateVariants = TemplateVariants()
    phrases: PhraseVariants = PhraseVariants()
    margins: tuple[_Margin, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
    """Abstention margins of the headline's attribute; the run's own is always among them."""
    thresholds: tuple[_Share, ...] = (0.0, 0.3, 0.5, 0.7, 0.9)
    """Thresholds of the presence gate; without a gate there is nothing to vary. 0 lets every image through."""
    heads: tuple[_Head, ...] = ()
    """Fitted probes (.safetensors files) and `zero-shot`."""
    combine: bool = True
    """Also every wording with every margin, at most `MAX_COMBINED` of them."""

    @model_validator(mode="after")
    def _check(self) -> Grid:
        if len(set(self.heads)) != len(self.heads):
            raise ValueError("heads: one stands twice")
        return self


def load_grid(given: str) -> Grid:
    """The grid in a YAML file, here or among the packaged ones, or with `default` the one that needs none. Raises ConfigError."""
    if given == DEFAULT and not Path(given).is_file():
        return Grid()
    path = typed_path(given)
    return validate(Grid, read_yaml(path), where=given, context=context_of(path))


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to read the same embeddings."""

    name: str
    """As the report shows it."""
    factor: Factor | None
    """None for the run's own setting."""
    wording: int
    """Place in `Plan.wordings`."""
    head: int
    """Place in `Plan.heads`."""
    margin: float
    threshold: float | None
    """None without a presence gate."""
    changed: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the run's own, as an attributes file or a config would write it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a grid computes; the run's own setting, wording and head come first."""

    wordings: tuple[AttributeSet, ...]
    """The headline's question and the presence gate alone, in different words."""
    names: tuple[str, ...]
    """Of the wordings."""
    heads: tuple[str, ...]
    settings: tuple[Setting, ...]
    notes: tuple[str, ...]
    """What was not varied, and why."""


def headline_alone(attributes: AttributeSet) -> AttributeSet:
    """The headline's attribute and the presence gate: nothing else moves the headline."""
    return attributes.model_copy(
        update={"attributes": {attributes.headline: attributes.attributes[attributes.headline]}}
    )


def make_plan(grid: Grid, attributes: AttributeSet, heads: Sequence[str], *, probed: bool) -> Plan:
    """Settings of a grid around a run's own attributes.

    Parameters
    ----------
    attributes
        See `headline_alone`.
    heads
        Names of the heads, the run's own first.
    probed
        The run's own head is a probe of the headline's attribute, which has no wording.

    Raises
    ------
    ConfigError
        A wording of the grid does not fit the labels, or there are more than `MAX_SETTINGS` settings.
    """
    spec = attributes.attributes[attributes.headline]
    threshold = attributes.presence.threshold if attributes.presence else None
    notes: list[str] = []
    wordings: list[tuple[str, Factor | None, AttributeSpec]] = [("as run", None, spec)]
    if probed:
        notes.append("The run's head is a linear probe, which has no wording: templates and phrases were not varied.")
    else:
        seen = {_texts(spec, attributes)}
        for name, factor, other in (*_templates(grid, attributes), *_phrases(grid, attributes, notes)):
            key = _texts(other, attributes)
            if key not in seen:
                seen.add(key)
                wordings.append((name, factor, other))
    own = Setting("as run", None, 0, 0, spec.margin, threshold)
    settings = [own]
    for place, (name, factor, other) in enumerate(wordings[1:], start=1):
        settings.append(Setting(name, factor, place, 0, spec.margin, threshold, _difference(spec, other)))
    margins = sorted({*grid.margins, spec.margin})
    settings += [
        Setting(f"{margin:g}", "margin", 0, 0, margin, threshold, {"margin": margin})
        for margin in margins
        if margin != spec.margin
    ]
    if threshold is not None:
        settings += [
            Setting("0 (no gate)" if not at else f"{at:g}", "threshold", 0, 0, spec.margin, at, {"threshold": at})
            for at in sorted(set(grid.thresholds))
            if at != threshold
        ]
    settings += [
        Setting(name, "head", 0, place, spec.margin, threshold, {"head": name})
        for place, name in enumerate(heads[1:], start=1)
    ]
    combined = list(_combined(wordings, margins, spec, threshold)) if grid.combine else []
    if len(combined) > MAX_COMBINED:
        notes.append(
            f"{len(wordings)} wordings with {len(margins)} margins are more than {MAX_COMBINED} combinations, which were left out."
        )
        combined = []
    if len(settings) + len(combined) > MAX_SETTINGS:
        raise ConfigError(
            f"the grid has {len(settings) + len(combined)} settings, more than {MAX_SETTINGS}: make it smaller"
        )
    return Plan(
        wordings=tuple(attributes.model_copy(update={"attributes": {attributes.headline: s}}) for _, _, s in wordings),
        names=tuple(name for name, _, _ in wordings),
        heads=tuple(heads),
        settings=(*settings, *combined),
        notes=tuple(notes),
    )


_Wording = tuple[str, Factor | None, AttributeSpec]


def _templates(grid: Grid, attributes: AttributeSet) -> Iterator[_Wording]:
    spec = attributes.attributes[attributes.headline]
    own = spec.templates or attributes.templates

    def other(name: str, templates: Sequence[str]) -> _Wording:
        return name, "templates", spec.model_copy(update={"templates": tuple(templates)})

    if grid.templates.leave_one_out and len(own) > 2:
        for place, template in enumerate(own):
            yield other(f"without “{_shown(template)}”", own[:place] + own[place + 1 :])
    if grid.templates.each_alone:
        for template in own:
            yield other(f"“{_shown(template)}” alone", [template])
    for name, templates in grid.templates.sets.items():
        yield other(name, templates)


def _phrases(grid: Grid, attributes: AttributeSet, notes: list[str]) -> Iterator[_Wording]:
    spec = attributes.attributes[attributes.headline]
    own = spec.labels
    lengths = {len(phrases) for phrases in own.values()}

    def other(name: str, phrases: Mapping[str, Sequence[str]]) -> _Wording:
        labels = {label: tuple(phrases[label]) for label in own}
        return name, "phrases", spec.model_copy(update={"labels": labels})

    if len(lengths) == 1:
        count = lengths.pop()
        for place in range(count if grid.phrases.leave_one_out and count > 2 else 0):
            rest = {label: phrases[:place] + phrases[place + 1 :] for label, phrases in own.items()}
            yield other(f"without {_row(own, place)}", rest)
        for place in range(count if grid.phrases.each_alone else 0):
            yield other(f"{_row(own, place)} alone", {label: [phrases[place]] for label, phrases in own.items()})
    elif grid.phrases.leave_one_out or grid.phrases.each_alone:
        notes.append(
            "The labels have different numbers of phrases, which do not pair: phrases were varied by the grid's sets alone."
        )
    for name, phrases in grid.phrases.sets.items():
        if set(phrases) != set(own):
            raise ConfigError(
                f"phrases.sets.{name}: it words {', '.join(phrases)}; the labels of {attributes.headline} are {', '.join(own)}"
            )
        yield other(name, phrases)


def _row(labels: Mapping[str, Sequence[str]], place: int) -> str:
    """The labels' phrases of one place: `“a woman”, “a man”`; of many labels the first two."""
    text = [f"“{phrases[place]}”" for phrases in labels.values()]
    return ", ".join(text[:2]) + (", ..." if len(text) > 2 else "")


def _shown(template: str) -> str:
    return template.replace("{}", "…")


def _texts(spec: AttributeSpec, attributes: AttributeSet) -> str:
    """The wording as it reaches the text tower."""
    return json.dumps([sorted(spec.templates or attributes.templates), {k: sorted(v) for k, v in spec.labels.items()}])


def _difference(own: AttributeSpec, other: AttributeSpec) -> dict[str, Any]:
    if other.labels != own.labels:
        return {"labels": {label: list(phrases) for label, phrases in other.labels.items()}}
    return {"templates": list(other.templates or ())}


def _combined(
    wordings: Sequence[_Wording], margins: Sequence[float], own: AttributeSpec, threshold: float | None
) -> Iterator[Setting]:
    """Wordings with margins that both differ from the run's own; the rest are settings already."""
    for place, (name, _, other) in enumerate(wordings[1:], start=1):
        for margin in margins:
            if margin != own.margin:
                changed = {**_difference(own, other), "margin": margin}
                yield Setting(f"{name}, margin {margin:g}", "combined", place, 0, margin, threshold, changed)
