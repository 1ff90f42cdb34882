"""Are refusals and rewriting recovered? Simulated runs with planted rates, through the estimators that measure a run.

Writes docs/validation-withheld.md:

    python -m scripts.validate_withheld [--runs 2000] [--out docs/validation-withheld.md]

Prompts differ: each has a rate of its own, from a Beta distribution around its list's mean, and what is to be covered is that mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import WordLists
from allfour.pipeline.metrics.withheld import rewriting_of

ROOT = Path(__file__).resolve().parents[1]
Limits = tuple[float, float]
Own = Callable[[float, int, np.random.Generator], np.ndarray[Any, Any]]
"""Draws a rate for each prompt around a mean."""
WORDS = WordLists(name="planted", categories={"gender": ["woman", "man"]})
SPREAD = 4.0
"""Sum of the Beta distribution's parameters: at a mean of 10%, half of the prompts are refused in less than 3% of images."""


@dataclass(frozen=True)
class Row:
    """How one setting came out."""

    name: str
    covered: float
    above: float
    """Share of runs whose interval lies below the truth."""
    below: float
    rejected: float | None
    """Share of runs in which the lists are told apart at 5%."""


def own_rates(mean: float, prompts: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """A rate for each prompt."""
    if mean in (0.0, 1.0):
        return np.full(prompts, mean)
    return random.beta(mean * SPREAD, (1 - mean) * SPREAD, size=prompts)


def all_or_none(mean: float, prompts: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """A policy that decides by the prompt."""
    return (random.random(prompts) < mean).astype(np.float64)


def alike(mean: float, prompts: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Every image by itself, whatever its prompt."""
    return np.full(prompts, mean)


def of_two_kinds(mean: float, prompts: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """A fifth of the prompts have four fifths of the events."""
    often = min(1.0, 4 * mean)
    return np.where(random.random(prompts) < 0.2, often, (mean - 0.2 * often) / 0.8)


OTHERS: dict[str, Own] = {
    "by whole prompts": all_or_none,
    "alike in every prompt": alike,
    "mostly in a fifth of prompts": of_two_kinds,
}


def refusals(
    means: tuple[float, float], prompts: int, images: int, runs: int, random: np.random.Generator
) -> Iterator[Row]:
    """Two lists of prompts with these mean rates of refusal. The test, which takes time, is looked at in a fifth of the runs."""
    found: list[Limits] = []
    rejected: list[bool] = []
    trials, member = np.full(2 * prompts, images), np.repeat([0, 1], prompts)
    for run in range(runs):
        own = np.concatenate([own_rates(mean, prompts, random) for mean in means])
        events = random.binomial(images, own)
        limits = st.rate_over_prompts(events[prompts:], trials=trials[prompts:])
        found.append((limits.low, limits.high))
        if run % 5 == 0:
            rejected.append((st.group_homogeneity(events, trials, member) or 0.0) <= 0.05)
    name = f"refused {means[0]:.0%} against {means[1]:.0%}, {prompts} prompts a list x {images}"
    yield row(name, means[1], found, float(np.mean(rejected)))


def refusals_of(kind: str, mean: float, size: tuple[int, int], runs: int, random: np.random.Generator) -> Iterator[Row]:
    """One list of so many prompts and images of each, whose prompts differ in another way."""
    (prompts, images), found = size, []
    for _ in range(runs):
        events = random.binomial(images, OTHERS[kind](mean, prompts, random))
        limits = st.rate_over_prompts(events, trials=np.full(prompts, images))
        found.append((limits.low, limits.high))
    yield row(f"refused {mean:.0%}, {kind}, {prompts} prompts x {images}", mean, found, None)


def rewriting(mean: float, prompts: int, images: int, runs: int, random: np.random.Generator) -> Iterator[Row]:
    """A service that puts a word of a list into this share of prompts, on average."""
    found: list[Limits] = []
    for _ in range(runs):
        rows = [
            (f"p{k}", "a nurse", "a woman nurse" if random.random() < rate else "a nurse, photographed")
            for k, rate in enumerate(own_rates(mean, prompts, random))
            for _ in range(images)
        ]
        measured = rewriting_of(rows, WORDS, confidence=0.95)
        assert measured is not None
        added = measured.categories["gender"].added
        assert added.low is not None and added.high is not None
        found.append((added.low, added.high))
    yield row(f"a word added to {mean:.0%}, {prompts} prompts x {images}", mean, found, None)


def row(name: str, truth: float, found: list[Limits], rejected: float | None) -> Row:
    low, high = (np.array(part) for part in zip(*found, strict=True))
    return Row(
        name,
        float(((low <= truth) & (truth <= high)).mean()),
        float((high < truth).mean()),
        float((low > truth).mean()),
        rejected,
    )


def settings(runs: int, random: np.random.Generator) -> Iterator[Callable[[], Iterator[Row]]]:
    for means in ((0.05, 0.05), (0.1, 0.1), (0.1, 0.3), (0.3, 0.3)):
        for prompts in (10, 20, 50):
            for images in (4, 16):
                yield partial(refusals, means, prompts, images, runs, random)
    for kind in OTHERS:
        for mean in (0.05, 0.1, 0.3):
            for prompts in (10, 20, 50):
                yield partial(refusals_of, kind, mean, (prompts, 4), runs, random)
    for mean in (0.1, 0.5):
        for prompts in (20, 50):
            for images in (4, 16):
                yield partial(rewriting, mean, prompts, images, runs, random)


def page(rows: list[Row], runs: int) -> str:
    lines = [
        "# Validation of refusals and rewriting",
        "",
        f"Written by `python -m scripts.validate_withheld`. {runs:,} simulated runs per line, 95% intervals; where nothing else is said each",
        f"prompt has a rate of its own (Beta with parameters that sum to {SPREAD:g}); what is to be covered is the mean of the population of prompts.",
        "Of two lists the interval is that of the second. `told apart`: share of runs (a fifth of them) in which the test between lists gives",
        "p <= 0.05; where the lists are alike it should be 5% at most.",
        "",
        "| planted | covered | interval too low | too high | told apart |",
        "|---|---|---|---|---|",
        *(
            f"| {r.name} | {r.covered:.1%} | {r.above:.1%} | {r.below:.1%} | {'' if r.rejected is None else f'{r.rejected:.1%}'} |"
            for r in rows
        ),
        "",
        f"Between 93 and 98% in {sum(0.93 <= r.covered <= 0.98 for r in rows)} of {len(rows)} lines, above in "
        f"{sum(r.covered > 0.98 for r in rows)}, below in {sum(r.covered < 0.93 for r in rows)}; the least is "
        f"{min(r.covered for r in rows):.1%}. Counts of a few images are coarse, so that limits can",
        "miss 95% either way.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "validation-withheld.md")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    rows = []
    for setting in settings(options.runs, random):
        rows += list(setting())
        print(rows[-1], flush=True)
    options.out.write_text(page(rows, options.runs), encoding="utf-8")


if __name__ == "__main__":
    main()
