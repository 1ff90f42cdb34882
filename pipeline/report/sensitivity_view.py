"""The section on sensitivity: the headline under other settings, and what a second classifier reads in the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allfour.files import read_regular
from allfour.pipeline.report import svg
from allfour.pipeline.report.lead import images_of_set
from allfour.pipeline.run.documents import ReportError
from allfour.pipeline.run.metrics import Metrics, SecondOpinion
from allfour.pipeline.run.record import Interval, Number
from allfour.pipeline.words import clean, grouped, interval_text, label_text, level, percent, quantity

MAX_OPEN = 6
"""A factor with more settings is folded away until the reader opens it."""
MAX_SETTINGS = 200
"""Settings of a factor listed one by one."""
COMMAND = "allfour relabel RUN --grid default"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class _Setting(_Part):
    name: str
    unanimous: int
    unanimity: Interval
    images_changed: int
    prompts_gained: int
    prompts_lost: int


class _Range(_Part):
    low: Number
    high: Number
    range: Number


class _Factor(_Range):
    name: str
    settings: list[_Setting]


class _Combined(_Range):
    settings: int


class _Sensitivity(_Range):
    """The parts of sensitivity.json that are shown."""

    confidence: float
    set_size: int
    prompts: int
    images: int
    moved_most: str | None
    baseline: _Setting
    factors: list[_Factor]
    combined: _Combined | None
    notes: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table of figures."""

    name: str
    meaning: str
    value: str
    interval: str
    figure: Markup | None


@dataclass(frozen=True, slots=True)
class FactorTable:
    """The settings of one factor."""

    name: str
    summary: str
    lines: Sequence[Line]
    folded: bool
    hidden: int
    """Settings that are not listed."""


@dataclass(frozen=True, slots=True)
class OpinionView:
    """What a second classifier reads."""

    sentence: str
    confidence: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class SensitivityView:
    """The whole section; it is always there, and says what to do where nothing was computed."""

    sentences: Sequence[str]
    confidence: str
    factors: Sequence[FactorTable]
    notes: Sequence[str]
    opinion: OpinionView | None
    stored: bool = True
    """Whether the run keeps embeddings that can be read again."""


def sensitivity_view(run_dir: Path, metrics: Metrics, *, classifier: object = None) -> SensitivityView:
    """The section of a run, from metrics.json and RUN/sensitivity.json.

    Parameters
    ----------
    classifier
        Identity, of the run's header: one without an encoder keeps no embeddings.

    Raises
    ------
    ReportError
        sensitivity.json is not as expected.
    """
    shown = None if metrics.second_opinion is None else _opinion(metrics.second_opinion)
    found = _read(run_dir, metrics)
    if found is None:
        stored = not isinstance(classifier, Mapping) or isinstance(classifier.get("encoder"), Mapping)
        return SensitivityView((), "", (), (), shown, stored)
    baseline = found.baseline.unanimity.value
    return SensitivityView(
        _sentences(found, label_text(metrics.headline), whole=images_of_set(metrics)),
        level(found.confidence),
        [_factor(factor, baseline, found.images) for factor in found.factors],
        [clean(note) for note in found.notes],
        shown,
    )


def _read(run_dir: Path, metrics: Metrics) -> _Sensitivity | None:
    """sensitivity.json where metrics.json knows of it: only then is it of the run's present scores."""
    if metrics.sensitivity is None:
        return None
    path = run_dir / "sensitivity.json"
    try:
        return _Sensitivity.model_validate_json(read_regular(path))
    except (OSError, ValidationError) as error:
        raise ReportError(f"{path}: {_first(error)}. Repeat `{COMMAND}`") from None


def _first(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    first = error.errors()[0]
    return f"at {'.'.join(str(part) for part in first['loc']) or 'the top'}: {first['msg']}"


def _span(of: _Range) -> str:
    if of.low is None or of.high is None:
        return "not known"
    return f"{percent(of.low)} to {percent(of.high)}" if of.range else f"{percent(of.low)} under each"


def _sentences(found: _Sensitivity, headline: str, *, whole: str) -> list[str]:
    settings = 1 + sum(len(factor.settings) for factor in found.factors)
    own = found.baseline.unanimity
    if own.value is None:
        return [f"No prompt has a full set of {quantity(found.set_size, 'image')}, so the headline has no value under any setting."]  # fmt: skip
    text = (
        f"As run, {whole} show one perceived {headline} for {percent(own.value)} of "
        f"{quantity(found.prompts, 'prompt')} ({level(found.confidence)} interval {interval_text(own.low, own.high)}); over {quantity(settings, 'setting')} the figure "
        f"lies between {percent(found.low)} and {percent(found.high)}, and "
    )
    moved = next((factor for factor in found.factors if factor.name == found.moved_most), None)
    text += (
        "no setting moves it." if moved is None else f"what moves it most is {_name_of(moved.name)} ({_span(moved)})."
    )
    rest = "One thing is changed at a time, from the same stored embeddings; the short line marks the headline as run."
    if found.combined is not None:
        rest += f" Wording and margin changed together, in {quantity(found.combined.settings, 'combination')}: {_span(found.combined)}."  # fmt: skip
    return [text, f"{rest} The settings were chosen by somebody, so the range is not a confidence interval and does not show which setting is right."]  # fmt: skip


def _factor(factor: _Factor, baseline: float | None, images: int) -> FactorTable:
    name = _name_of(factor.name).removeprefix("the ")
    count = len(factor.settings)
    return FactorTable(
        name[:1].upper() + name[1:],
        f"{quantity(count, 'other setting')}: {_span(factor)}",
        [_setting(setting, baseline, images) for setting in factor.settings[:MAX_SETTINGS]],
        count > MAX_OPEN,
        max(0, count - MAX_SETTINGS),
    )


def _setting(setting: _Setting, baseline: float | None, images: int) -> Line:
    meaning = f"{grouped(setting.images_changed)} of {quantity(images, 'image')} read differently"
    if setting.prompts_gained or setting.prompts_lost:
        meaning += f"; prompts unanimous only under this setting: {grouped(setting.prompts_gained)}, only as run: {grouped(setting.prompts_lost)}"
    return estimate_line(clean(setting.name, 200), meaning, setting.unanimity, () if baseline is None else (baseline,))


def estimate_line(name: str, meaning: str, at: Interval, references: Sequence[float] = ()) -> Line:
    """A line of an estimate; dashes where there is none."""
    if at.value is None:
        return Line(name, meaning, "–", "–", None)
    interval = interval_text(at.low, at.high) if at.bounded else "–"
    return Line(
        name,
        meaning,
        percent(at.value),
        interval,
        svg.interval_row(svg.Mark(at.value, at.low, at.high), references=references),
    )


def _opinion(found: SecondOpinion) -> OpinionView:
    images = found.images
    how = "other words or another head on the same encoder" if found.same_encoder else "another classifier"
    sentence = (
        f"The run {clean(found.name, 80)} reads {quantity(images.common, 'image')} of this one with {how}; "
        f"both gave a label to {grouped(images.both_decided)}. Agreement does not show who is right: two classifiers can make the "
        "same mistakes."
    )
    if found.same_encoder:
        sentence += " These two share an encoder, so that is likely: this is not an independent second opinion."
    kappa = found.kappa
    bounded = kappa.value is not None and kappa.low is not None and kappa.high is not None
    lines = [
        estimate_line(
            "Agreement", "Share of the images labelled by both to which they gave the same label.", found.agreement
        ),
        Line(
            "Cohen's kappa",
            "Agreement beyond chance: 0 as by chance, 1 everywhere.",
            "–" if kappa.value is None else f"{kappa.value:.2f}",
            f"{kappa.low:.2f} to {kappa.high:.2f}" if bounded else "–",
            None,
        ),
    ]
    sets = found.unanimity
    if sets.prompts:
        prompts = f"Over {quantity(sets.prompts, 'prompt')} whose sets both have read."
        lines.append(estimate_line("Unanimous, this run", prompts, sets.first.unanimity))
        lines.append(estimate_line("Unanimous, the other", prompts, sets.second.unanimity))
    return OpinionView(sentence, level(found.confidence), lines)


def _name_of(name: str) -> str:
    from allfour.pipeline.analyses.sensitivity_grid import FACTORS  # which few runs have

    return FACTORS.get(name, clean(name, 80))
