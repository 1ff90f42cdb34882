"""Sections that are folded under one line each: what a referee opens and a vice president need not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from markupsafe import Markup

from allfour.models.attributes import AttributeSet
from allfour.models.margins import least_lead, margin_meaning
from allfour.pipeline import words
from allfour.pipeline.report import svg
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.panels import (
    Heatmap,
    JointTable,
    QualityTable,
    by_prompt,
    intersections,
    joint_tables,
    planted_points,
    qualities,
)
from allfour.pipeline.report.sensitivity_view import SensitivityView
from allfour.pipeline.report.view import flatten
from allfour.pipeline.run.header import Header, Stage

MAX_CONFIG_LINES = 400

Facts = Sequence[tuple[str, str]]


# --- two attributes at once ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CrossedView:
    """Intersections with their figures, joint counts of two attributes, and of the further attributes by prompt."""

    tables: Sequence[JointTable]
    maps: Sequence[Heatmap]
    by_prompt: Sequence[Heatmap]


def crossed_view(material: Material) -> CrossedView | None:
    """The section of a run; None where one attribute alone was read."""
    view = CrossedView(
        joint_tables(material.metrics), intersections(material.metrics), by_prompt(material.metrics, material.order)
    )
    return view if view.tables or view.maps or view.by_prompt else None


def crossed_gist(view: CrossedView) -> str:
    """Which tables it holds."""
    captions = [table.caption for table in view.tables] + [table.caption for table in (*view.maps, *view.by_prompt)]
    return words.join_words([caption.removeprefix("Perceived ") for caption in captions]).capitalize()


# --- what was planted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlantedView:
    """Measured shares over those that a drawn world was made with."""

    figure: Markup
    sentence: str
    total: int
    expected_misses: float
    label: str
    learned: bool
    """Whether a generator learned that world from examples, and may have learned other shares."""
    missed: Sequence[svg.Point]


def planted_view(material: Material) -> PlantedView | None:
    """The section of a run; None where no shares were planted."""
    metrics = material.metrics
    points = planted_points(metrics) if metrics.reference is not None and metrics.reference.planted else []
    if not points:
        return None
    covered = sum(point.covered for point in points)
    label = words.plural(material.first)
    sentence = f"{covered} of {words.quantity(len(points), 'interval')} hold the planted share."
    described = f"Measured against planted share of {label} per prompt. {sentence}"
    return PlantedView(
        figure=svg.planted_chart(points, described, label),
        sentence=sentence,
        total=len(points),
        expected_misses=(1 - metrics.summary.confidence) * len(points),
        label=label,
        learned=not material.header.drawn_world,
        missed=[point for point in points if not point.covered],
    )


def planted_gist(view: PlantedView) -> str:
    """How many intervals hold what was planted."""
    return view.sentence


# --- the classifier --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClassifierView:
    """What read the images, and how often it is right."""

    name: str
    identity: Facts
    qualities: Sequence[QualityTable]
    dataset: Mapping[str, Any]
    level: str
    """Confidence of the calibration's intervals."""
    margins: Sequence[str] = ()
    """What each attribute's margin means for this model, and how many images it left unclear."""


def classifier_view(material: Material) -> ClassifierView:
    """The section of a run."""
    known, found = material.metrics.calibration, material.header.classifier
    return ClassifierView(
        name=_classifier_name(found),
        identity=flatten(found) if found else [],
        qualities=qualities(material.metrics),
        dataset=known.dataset if known is not None else {},
        level=words.level((known and known.confidence) or 0.95),
        margins=_margins(material),
    )


def _margins(material: Material) -> list[str]:
    """A sentence per attribute; none where the header does not say by what images were decided."""
    try:
        asked = AttributeSet.model_validate(material.header.attributes)
    except ValueError:
        return []
    found = material.header.classifier
    encoder = found.get("encoder") if isinstance(found, Mapping) and found.get("head") == "zero-shot" else None
    scale = encoder.get("logit_scale") if isinstance(encoder, Mapping) else None
    sentences = []
    for name, spec in asked.attributes.items():
        counts = material.metrics.attributes[name].counts if name in material.metrics.attributes else {}
        unclear, labelled = counts.get("ambiguous", 0), sum(counts.get(label, 0) for label in spec.labels)
        meaning = margin_meaning(name, spec, logit_scale=scale if isinstance(scale, float) else None)
        if unclear and not least_lead(spec):  # a record that is silent, a judge who could not tell, views that differ
            meaning = f"{name}: no margin, yet some images were left open by what read them"
        share = f": {words.percent(unclear / (unclear + labelled), 1)} of images unclear" if unclear + labelled else ""
        sentences.append(f"{words.clean(meaning[:1].upper() + meaning[1:], 300)}{share}.")
    return sentences


def _classifier_name(identity: Any) -> str:
    if not isinstance(identity, Mapping):
        return "not named by the run's header"
    encoder = identity.get("encoder")
    architecture = encoder.get("architecture") if isinstance(encoder, Mapping) else identity.get("model")
    parts = [identity.get("backend"), identity.get("head"), architecture]
    return words.clean(", ".join(dict.fromkeys(str(part) for part in parts if part)), 120)


def classifier_gist(view: ClassifierView) -> str:
    """What it is, and how often it was right."""
    lines = [table.lines[0] for table in view.qualities if table.lines]
    right = f"correct on {words.percent(lines[0].accuracy.value)} of a labelled set" if lines else "not calibrated"
    return "; ".join(part for part in (view.name, right) if part)


# --- sensitivity, method ---------------------------------------------------------------------------------------------


def sensitivity_gist(view: SensitivityView) -> str:
    """Folded only where there is nothing to see."""
    return "" if view.sentences or view.opinion else "Not computed"


def method_view(material: Material) -> Material:
    """The section needs nothing but the size of a set and the confidence."""
    return material


def method_gist(_: Material) -> str:
    """What it tells."""
    return "What is measured, what an interval means, what it cannot see"


# --- how to repeat it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RepeatView:
    """Everything that the run was made with."""

    header: Header
    commit: str
    command: str | None
    maker_name: str
    maker: Facts
    versions: Facts
    stages: Sequence[tuple[str, Stage]]
    config: str


def repeat_view(material: Material) -> RepeatView:
    """The section of a run."""
    header = material.header
    git = header.git or {}
    changed = " (with local changes)" if git.get("dirty") else ""
    return RepeatView(
        header=header,
        commit=f"{words.clean(git['commit'], 40)}{changed}" if git.get("commit") else "",
        command=_command(header),
        maker_name="Generator" if header.generator else "Source",
        maker=flatten(header.generator or header.source or {}),
        versions=[(name, str(version)) for name, version in header.versions.items()],
        # not its own: a page that is written again would then differ from the first
        stages=[(name, done) for name, done in header.stages.items() if name != "report"],
        config=_config_text(header.config),
    )


def repeat_gist(view: RepeatView) -> str:
    """The version, the commit and the day."""
    version = view.header.versions.get("allfour")
    parts = [f"allfour {version}" if version else "", f"commit {view.commit[:10]}" if view.commit else ""]
    parts.append("command and configuration" if view.command else "configuration")
    return ", ".join(part for part in parts if part)


def _command(header: Header) -> str | None:
    """The command that repeats the run, for a configuration saved as run.yaml."""
    if header.generator:
        return "allfour audit --config run.yaml"
    location = header.source.get("location") if isinstance(header.source, dict) else None
    return f"allfour rescore {words.clean(shlex.quote(str(location)), 400)} --config run.yaml" if location else None


def _config_text(config: Any) -> str:
    if not config:
        return ""
    return _as_yaml(json.dumps(config, default=str))


@lru_cache(maxsize=64)
def _as_yaml(document: str) -> str:
    """Kept, since a run's report may be written many times by one process."""
    dumped = yaml.safe_dump(json.loads(document), sort_keys=False, allow_unicode=False, width=100)
    return "\n".join(words.clean(line, 500) for line in dumped.splitlines()[:MAX_CONFIG_LINES])
