"""How far people and the classifier agree on a sample, and people among themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from allfour.pipeline.analyses.review.estimates import Floats, Sample
from allfour.pipeline.analyses.review.sample import NO_GROUP, Population
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.statistics import Interval, agreement, wilson
from allfour.pipeline.statistics.intervals import wilson_limit

LEAST = 10
"""Below so many images (or sets, in samples of sets) of equal weight there is no kappa: its interval would hold most values."""
TOO_FEW = f"too few to say: fewer than {LEAST} images or sets, as their weights count"
ONE_SIDED = "not defined: one side said the same of every image"
_DRAWS = 2000
_METHOD = "stratified bootstrap"
_NO_KAPPA = Interval(None, -1.0, 1.0, "bootstrap")


def agreements(coded: Mapping[str, Mapping[int, int]], sample: Sample) -> dict[str, Any]:
    """How far classifier and people, and people among themselves, agree; `coded` is rater -> image row -> category."""
    population = sample.population
    people = _consensus(coded, population)
    rows = np.array(sorted(people), dtype=np.int64)
    human = np.array([people[row] for row in rows.tolist()], dtype=np.int64)
    machine = population.category[rows]
    groups = np.array(population.groups, dtype=object)[population.prompt[rows]]
    names = sorted(set(population.groups) - {NO_GROUP}) or []
    return {
        "categories": list(population.categories),
        "confusion": _table(human, machine, len(population.categories)).tolist(),
        "agreement": _weighted(rows, human, machine, sample),
        "by_group": {
            name: _weighted(rows[groups == name], human[groups == name], machine[groups == name], sample) for name in names
        },
        "by_decision": {
            name: _of_decision(human[machine == code], code, sample) for code, name in enumerate(population.categories)
            if (machine == code).any()
        },
        "by_rater": {rater: _pair(given, dict(zip(rows.tolist(), machine.tolist(), strict=True)), sample)
                     for rater, given in coded.items()},
        "between_raters": [
            {"raters": [one, other], **_pair(coded[one], coded[other], sample)} for one, other in combinations(coded, 2)
        ],
    }  # fmt: skip


def _consensus(coded: Mapping[str, Mapping[int, int]], population: Population) -> dict[int, int]:
    """What most raters said; where that is a tie, the image reads as ambiguous."""
    votes: dict[int, Counter[int]] = {}
    for given in coded.values():
        for row, category in given.items():
            votes.setdefault(row, Counter())[category] += 1
    tie = population.categories.index(AMBIGUOUS)
    result = {}
    for row, counter in votes.items():
        (best, most), *rest = counter.most_common(2)
        result[row] = tie if rest and rest[0][1] == most else best
    return result


def _table(human: NDArray[np.int64], machine: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (human, machine), 1)
    return table


def _pair(one: Mapping[int, int], other: Mapping[int, int], sample: Sample) -> dict[str, Any]:
    """Agreement on the images that both have, each counting once."""
    both = sorted(set(one) & set(other))
    if not both:
        return {"images": 0, "agreement": None, "kappa": None, "kappa_note": None}
    size = len(sample.population.categories)
    table = _table(np.array([one[r] for r in both]), np.array([other[r] for r in both]), size)
    found = agreement(table, confidence=sample.confidence)
    kappa, note = found.kappa, None
    if kappa.value is None:
        note = ONE_SIDED
    elif len(both) < LEAST:
        kappa, note = _NO_KAPPA, TOO_FEW
    else:
        kappa = _as_wide_as(found.agreement, kappa, _chance(table[None].astype(float))[0])
    return {"images": len(both), "agreement": found.agreement.to_dict(), "kappa": kappa.to_dict(), "kappa_note": note}


def _of_decision(human: NDArray[np.int64], code: int, sample: Sample) -> dict[str, Any]:
    """What people say of the sampled images with one decision. Kappa is not defined where one side is constant."""
    counts = np.bincount(human, minlength=len(sample.population.categories))
    return {
        "images": len(human),
        "people": {name: int(n) for name, n in zip(sample.population.categories, counts, strict=True) if n},
        "agreement": wilson(int(counts[code]), len(human), confidence=sample.confidence).to_dict(),
    }


def _weighted(
    rows: NDArray[np.int64], human: NDArray[np.int64], machine: NDArray[np.int64], sample: Sample
) -> dict[str, Any]:
    """Agreement and kappa for all images of the run, estimated: each sampled image stands for those of its stratum.

    Limits by a bootstrap of the units within strata, n - 1 of n drawn and weighted up (Rao and Wu 1988), since few were drawn in
    some. What was not seen cannot be drawn, so agreement has limits at least as wide as Wilson's for as many units of equal
    weight as these are worth (Kish 1965), and kappa's are at least as wide as those carried through it.
    """
    if not len(rows):
        return {"images": 0, "agreement": Interval(None, 0.0, 1.0, "bootstrap").to_dict(),
                "kappa": _NO_KAPPA.to_dict(), "kappa_note": None}  # fmt: skip
    size, units, strata = len(sample.population.categories), sample.units, sample.strata
    drawn, unit = np.unique(units.owner[rows], return_inverse=True)
    tables = np.zeros((len(drawn), size * size))
    np.add.at(tables, (unit, human * size + machine), 1.0)
    # the units that have an answer, in this group or not, are the sample of each stratum
    answered = np.bincount(strata.code[~np.isnan(sample.answers[:, 0])], minlength=len(strata.names)).clip(1)
    weight = (np.bincount(strata.code) / answered)[strata.code[drawn]]
    random = np.random.default_rng(0)
    factor = np.ones((_DRAWS, len(drawn)))
    for stratum in np.unique(strata.code[drawn]):
        inside = np.flatnonzero(strata.code[drawn] == stratum)
        if len(inside) > 1:
            n = len(inside)
            factor[:, inside] = random.multinomial(n - 1, np.full(n, 1 / n), size=_DRAWS) * (n / (n - 1))
    tables_of = (weight @ tables).reshape(1, size, size)
    (same,), (value,) = _kappa(tables_of.reshape(1, -1), size)
    spread = _kappa((factor * weight) @ tables, size)
    images = np.bincount(unit).astype(float)
    worth = float((weight * images).sum() ** 2 / (weight**2 * images**2).sum())
    z = float(special.ndtri((1 + sample.confidence) / 2))
    least, most = wilson_limit(float(same), worth, np.array([-z, z])).tolist()
    agreed = _percentile_limits(float(same), spread[0], sample.confidence)
    agreed = Interval(agreed.value, min(agreed.low, least), max(agreed.high, most), _METHOD)
    kappa, note = _NO_KAPPA, None
    if min((tables_of[0].sum(axis=axis) > 0).sum() for axis in (0, 1)) < 2:
        note = ONE_SIDED
    elif worth < LEAST:
        note = TOO_FEW
    else:
        kappa = _as_wide_as(
            agreed, _percentile_limits(float(value), spread[1], sample.confidence), _chance(tables_of)[0]
        )
    return {"images": len(rows), "agreement": agreed.to_dict(), "kappa": kappa.to_dict(), "kappa_note": note}


def _percentile_limits(value: float, drawn: Floats, confidence: float) -> Interval:
    """Percentile limits of what a bootstrap drew, which hold the value."""
    tail = (1 - confidence) / 2
    known = drawn[np.isfinite(drawn)]
    low, high = np.quantile(known, [tail, 1 - tail]).tolist() if len(known) else (value, value)
    return Interval(value, min(low, value), max(high, value), _METHOD)


def _as_wide_as(agreed: Interval, kappa: Interval, chance: float) -> Interval:
    """Kappa no surer than the agreement that it is of: those limits carried through (agreement - chance) / (1 - chance)."""
    low, high = ((limit - chance) / (1 - chance) for limit in (agreed.low, agreed.high))
    return Interval(kappa.value, max(min(kappa.low, low), -1.0), min(max(kappa.high, high), 1.0), kappa.method)


def _chance(tables: Floats) -> Floats:
    """Agreement by chance of each table, shape (tables, labels, labels)."""
    total = tables.sum(axis=(1, 2))
    return np.asarray((tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2, dtype=np.float64)


def _kappa(flat: Floats, size: int) -> tuple[Floats, Floats]:
    """Agreement and Cohen's kappa of each table of weights; nan where chance alone would agree always."""
    tables = flat.reshape(-1, size, size)
    total = tables.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = tables / total[:, None, None]
        same = np.trace(tables, axis1=1, axis2=2)
        chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
        return same, np.where(chance < 1 - 1e-12, (same - chance) / (1 - chance), np.nan)
