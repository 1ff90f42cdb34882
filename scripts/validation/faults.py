"""Faults that were measured once and no other table here shows: what the first line said then, and what it says now.

People's labels that led nowhere, a corrected figure of the few prompts that abstentions left, and even draws as the only chance. Every
audit goes through `compute_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.review.estimates import Sample, by_unit, unanimity_of_sets
from allfour.pipeline.analyses.review.sample import Population, Strata, make_units
from allfour.pipeline.config import load_reference
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON
from allfour.pipeline.run.metrics import Metrics, Review
from allfour.pipeline.statistics.arrays import BoolArray, IntArray
from scripts.validation.evidence import (
    ADULTS,
    LABELS,
    calibration_of,
    drawn_cells,
    measured,
    read_of,
    true_unanimity,
)

PROMPTS, SET_SIZE = 40, 4
LABOUR = "configs/references/us-labour-2019.yaml"


@dataclass(frozen=True)
class Row:
    """One setting: how often what was said before, and what is said now, is right."""

    name: str
    audits: int
    before: str
    """What was said."""
    right_before: float
    now: str
    right: float


def rows(audits: int, random: np.random.Generator) -> Iterator[Row]:
    """Every setting."""
    yield _labelled_by_people(audits, random)
    yield _few_left(audits, random)
    yield _labour_shares(audits, random)


def _labelled_by_people(audits: int, random: np.random.Generator) -> Row:
    """A classifier that errs in one image of ten, no calibration, and people who label every set."""
    truth, before, now = true_unanimity(), [], []
    for _ in range(audits):
        women = random.random((PROMPTS, SET_SIZE)) < random.beta(0.3, 0.3, size=(PROMPTS, 1))
        read, _ = read_of(drawn_cells(women, ADULTS, np.zeros(PROMPTS), random), ADULTS.shape[1])
        found = measured(read)
        before.append(_holds(found.summary.unanimity, truth))
        top = with_headline(found.model_copy(update={"review": _every_set(found, read, women)})).summary.headline
        assert top is not None and top.evidence == "reviewed"
        now.append(_holds(top, truth))
    return Row(
        "people labelled every set", audits, "the classifier's count, its interval", _mean(before),
        "people's count leads, its interval", _mean(now),
    )  # fmt: skip


def _every_set(metrics: Metrics, read: IntArray, women: BoolArray) -> Review:
    """What `allfour review` makes of labels of all sets."""
    prompts, images = read.shape
    population = Population(
        prompt_ids=[entry.id for entry in metrics.prompts],
        groups=["one"] * prompts,
        prompt=np.repeat(np.arange(prompts), images),
        index=np.tile(np.arange(images), prompts),
        rank=np.tile(np.arange(images) + 1, prompts),
        category=read.ravel(),
        categories=(*LABELS, AMBIGUOUS, NO_PERSON, MIXED),
        labels=2,
    )
    units = make_units(population, "set", SET_SIZE)
    said = {"rater": dict(enumerate(np.where(women, 0, 1).ravel().tolist()))}
    strata = Strata(("every set",), np.zeros(len(units.prompt), dtype=np.int64), ())
    sample = Sample(population, units, strata, *by_unit(said, population, units), 0.95)
    return Review.model_validate(
        {
            "samples": [
                {
                    "unit": "set", "attribute": "gender", "labels": list(LABELS), "units": prompts, "units_labelled": prompts,
                    "labelled": read.size, "unanimity": unanimity_of_sets(sample),
                }
            ]
        }
    )  # fmt: skip


def _few_left(audits: int, random: np.random.Generator) -> Row:
    """No person is found in four of five images of prompts that do not lean far, and in one of ten of others: whole sets are those that lean."""
    truth, before, now = true_unanimity(), [], []
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=(PROMPTS, 1))
        women = random.random((PROMPTS, SET_SIZE)) < share
        cells = drawn_cells(women, ADULTS, np.zeros(PROMPTS), random)
        read, leads = read_of(cells, ADULTS.shape[1])
        hidden = random.random(read.shape) < np.where(np.abs(2 * share - 1) > 0.9, 0.1, 0.8)
        seen = np.where(hidden, 3, read)
        calibration = calibration_of(np.stack([random.multinomial(200, row) for row in ADULTS]).astype(np.int64))
        whole = ~hidden.any(axis=1)
        confusion = calibration.confusion("gender", LABELS)
        assert confusion is not None
        decisions = np.stack([np.bincount(row, minlength=3) for row in read[whole]])
        before.append(_holds(st.corrected_unanimity(decisions, confusion=confusion).interval, truth))
        now.append(_holds(measured(seen, calibration=calibration, leads=leads).summary.headline, truth))
    return Row(
        "abstentions leave the prompts that lean", audits, "corrected figure of whole sets, its interval", _mean(before),
        "refused; limits whatever the others show", _mean(now),
    )  # fmt: skip


def _labour_shares(audits: int, random: np.random.Generator) -> Row:
    """A generator with exactly the labour statistics' shares: no more uniform than they are."""
    reference = load_reference(LABOUR)
    shares = {name: of.shares["gender"]["woman"] for name, of in reference.prompts.items() if "gender" in of.shares}
    before, now = [], []
    for _ in range(audits):
        women = random.random((len(shares), SET_SIZE)) < np.array([*shares.values()])[:, np.newaxis]
        found = measured(np.where(women, 0, 1), ids=list(shares), reference=reference).summary
        assert found.nulls is not None and found.nulls.even is not None and found.nulls.reference is not None
        before.append((found.nulls.even.p_value or 0.0) > 0.05)
        now.append((found.nulls.reference.p_value or 0.0) > 0.05)
    return Row(
        f"exactly the shares of US labour statistics, {len(shares)} prompts", audits, "not beyond chance (even draws)", _mean(before),
        "not beyond the workforce itself", _mean(now),
    )  # fmt: skip


def _holds(interval: object, truth: float) -> bool:
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    return low is not None and high is not None and low <= truth <= high


def _mean(values: list[bool]) -> float:
    return float(np.mean(values))
