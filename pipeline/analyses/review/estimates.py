"""Shares and unanimity as people see them, from a sample: estimates that need no trust in the classifier.

docs/review.md says what each number is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.pipeline.analyses.review.sample import Population, Strata, Units, make_units
from allfour.pipeline.statistics import Interval, PoweredEstimate, mean_over_prompts, powered_mean, wilson
from allfour.pipeline.statistics.roots import root_between

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """A run's units with what people said of the drawn ones."""

    population: Population
    units: Units
    strata: Strata
    answers: Floats
    """[units, categories] share of the unit's images that people read so, mean over the raters; nan where not labelled."""
    unanimous: Floats
    """[units, labels] 1 where people read every image of the unit as that label, mean over the raters; nan likewise."""
    confidence: float


def by_unit(
    coded: Mapping[str, Mapping[int, int]], population: Population, units: Units
) -> tuple[Floats, Floats]:  # fmt: skip
    """A unit counts for a rater who labelled all of it that can be seen; raters weigh the same."""
    number, categories, labels = len(units.prompt), len(population.categories), population.labels
    total, ones, raters = np.zeros((number, categories)), np.zeros((number, labels)), np.zeros(number)
    for given in coded.values():
        counts = np.zeros((number, categories))
        for row, category in given.items():
            counts[units.owner[row], category] += 1
        whole = (counts.sum(axis=1) == units.visible) & (units.visible > 0)
        total[whole] += counts[whole] / units.size
        ones[whole] += counts[whole, :labels] == units.size
        raters[whole] += 1
    # nothing of it can be seen, so it is known without a label: no image of it shows any, and it cannot be unanimous
    raters[units.visible == 0] = 1
    with np.errstate(invalid="ignore"):
        return total / np.where(raters, raters, np.nan)[:, None], ones / np.where(raters, raters, np.nan)[:, None]


def estimates(sample: Sample) -> dict[str, Any]:
    """Prediction-powered shares, outcomes and unanimity; None with a note while a stratum has no label."""
    units, population = sample.units, sample.population
    known = ~np.isnan(sample.answers[:, 0])
    empty = [
        name for code, name in enumerate(sample.strata.names) if not known[sample.strata.code == code].any()
    ]  # fmt: skip
    if empty:
        unlabelled = (
            f"no estimate yet: nothing is labelled of {len(empty)} of {len(sample.strata.names)} strata, such as {empty[0]!r}."
            " Label on, and import again"
        )
        return {"shares": None, "outcomes": None, "unanimity": None, "note": unlabelled}
    labels = population.categories[: population.labels]
    shares = {label: powered_ratio(sample, column) for column, label in enumerate(labels)}
    outcomes: dict[str, Any] | None = None
    unanimity: dict[str, Any] | None = None
    note: str | None = None
    if units.kind == "image":
        outcomes = {
            name: powered_share(sample, units.predicted[:, column], sample.answers[:, column])
            for column, name in enumerate(population.categories)
        }
        note = "for unanimity, label whole sets: allfour review RUN --whole-sets"
    else:
        unanimity = unanimity_of_sets(sample)
    return {"shares": shares, "outcomes": outcomes, "unanimity": unanimity, "note": note}


def of_labelled_sets(coded: Mapping[str, Mapping[int, int]], population: Population, *, set_size: int, confidence: float) -> dict[str, Any] | None:  # fmt: skip
    """Unanimity where single images were sampled and every set of the run happens to be labelled; else None.

    A sample of images tells of sets only where it is all of them: a set that was labelled by chance has fewer images to differ in.
    """
    units = make_units(population, "set", set_size)
    if not len(units.prompt):
        return None
    in_sets = units.owner >= 0
    coded = {rater: {r: c for r, c in given.items() if in_sets[r]} for rater, given in coded.items()}
    text, unanimous = by_unit(coded, population, units)
    if np.isnan(text[:, 0]).any():
        return None
    strata = Strata(("every set",), np.zeros(len(units.prompt), dtype=np.int64), ())
    sample = Sample(population, units, strata, text, unanimous, confidence)
    return {**unanimity_of_sets(sample), "sets": len(units.prompt)}


def unanimity_of_sets(sample: Sample) -> dict[str, Any]:
    """Unanimity, and its part by label, of a sample whose units are sets."""
    labels = sample.population.labels
    predicted = (sample.units.predicted[:, :labels] == 1).astype(float)
    found = powered_share(sample, predicted.sum(axis=1), sample.unanimous.sum(axis=1))
    found["by_label"] = {
        label: powered_share(sample, predicted[:, column], sample.unanimous[:, column])
        for column, label in enumerate(sample.population.categories[:labels])
    }
    return found


def _powered(sample: Sample, guess: Floats, truth: Floats, *, prompts: bool) -> PoweredEstimate:
    return powered_mean(
        guess.clip(0, 1),
        truth.clip(0, 1),
        strata=sample.strata.code,
        prompts=sample.units.prompt if prompts else None,
        confidence=sample.confidence,
    )


def powered_share(sample: Sample, guess: Floats, truth: Floats) -> dict[str, Any]:
    """Mean over units of what people read, given the classifier's `guess` for all and `truth` (nan if unlabelled), shape (units,)."""
    these, like_these = (_powered(sample, guess, truth, prompts=prompts) for prompts in (False, True))
    yes_or_no = sample.units.kind == "set"  # a prompt's only set is unanimous or not
    beyond = at_least_binomial(sample, like_these.interval, always=yes_or_no)
    if yes_or_no and not np.isnan(truth).any():  # nothing is left of the classifier: the sets are a count as any other
        beyond = mean_over_prompts(truth.clip(0, 1), confidence=sample.confidence)
    return {
        "this_run": these.interval.to_dict(),
        "prompts_like_these": beyond.to_dict(),
        "labels_only": these.labels_only.to_dict(),
        "classifier": these.predictions_only,
        "power": these.power,
    }


def powered_ratio(sample: Sample, column: int) -> dict[str, Any]:
    """Share of a label among the images that have one: a ratio of two unknown means.

    With z(r) = 1 for an image of the label, 0 for one of another, r for one without, the share is the r at which the mean of z
    is r. The interval is every r that the interval of that mean holds (a Fieller set): no approximation of the ratio is needed.
    """
    labels = sample.population.labels

    def z(shares: Floats, r: float) -> Floats:
        return np.asarray(shares[:, column] + r * (1 - shares[:, :labels].sum(axis=1)), dtype=np.float64)

    def at(r: float, prompts: bool) -> Interval:
        return _powered(sample, z(sample.units.predicted, r), z(sample.answers, r), prompts=prompts).interval

    known = ~np.isnan(sample.answers[:, 0])
    nothing = not sample.answers[known, :labels].any()
    guessed = sample.units.predicted[:, :labels].sum()
    result: dict[str, Any] = {
        "classifier": float(sample.units.predicted[:, column].sum() / guessed) if guessed else None
    }
    for name, prompts in (("this_run", False), ("prompts_like_these", True)):
        if nothing:
            result[name] = Interval(None, 0.0, 1.0, "prediction-powered").to_dict()
            continue
        interval = partial(at, prompts=prompts)
        value = _fixed_point(interval, "value", 0.0, 1.0)
        low = _fixed_point(interval, "low", 0.0, value)
        high = _fixed_point(interval, "high", value, 1.0)
        found = Interval(value, low, high, "prediction-powered")
        result[name] = (at_least_binomial(sample, found) if prompts else found).to_dict()
    return result


def at_least_binomial(sample: Sample, found: Interval, *, always: bool = False) -> Interval:
    """No surer of other prompts than so many of these prompts can make, even where all is labelled and all agree."""
    if found.value is None or not (always or found.low == found.high):
        return found
    prompts = len(np.unique(sample.units.prompt))
    floor = wilson(round(found.value * prompts), prompts, confidence=sample.confidence)
    return Interval(found.value, min(found.low, floor.low), max(found.high, floor.high), found.method)


def _fixed_point(f: Callable[[float], Interval], part: str, low: float, high: float) -> float:
    """The r whose f(r).part is r, where that falls short of r ever more; the nearer end where there is none."""

    def above(r: float) -> float:
        return float(getattr(f(r), part)) - r

    if above(low) <= 0:
        return low
    if above(high) >= 0:
        return high
    return root_between(above, low, high, xtol=1e-9)
