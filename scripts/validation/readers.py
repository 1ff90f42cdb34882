"""Readers without labels: do the latent classes of `pipeline/statistics/latent_class.py` find planted errors, and what do shared ones do?

Three readers decide on images of prompts whose shares differ widely (Beta(0.5, 0.5), so that most prompts lean). Errors are planted, so
the truth is known. In the second half of the settings one reader repeats another on a part of the images, as two classifiers do that
were trained alike. Prints the table of docs/method.md; some minutes of a core:

    python -m scripts.validation.readers [--audits 200]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from allfour.pipeline.statistics.latent_class import latent_classes

Rates = Sequence[Sequence[Sequence[float]]]
"""[readers][labels][decisions], the last decision being none."""

PLANTED: Rates = (
    ((0.95, 0.02, 0.03), (0.06, 0.90, 0.04)),
    ((0.85, 0.10, 0.05), (0.10, 0.85, 0.05)),
    ((0.90, 0.05, 0.05), (0.15, 0.80, 0.05)),
)


def simulated_decisions(
    rates: Rates, random: np.random.Generator, *, prompts: int, images: int, shared: float = 0.0
) -> tuple[Any, Any, Any]:
    """Decisions as `latent_classes` takes them, and what each image shows.

    Parameters
    ----------
    shared
        Share of the images on which the second reader says what the first does.

    Returns
    -------
    Patterns [patterns, readers], counts [prompts, patterns], truth [prompts, images].
    """
    share = random.beta(0.5, 0.5, size=(prompts, 1))
    truth = (random.random((prompts, images)) >= share).astype(int)
    decided = []
    for rate in rates:
        edges = np.cumsum(np.asarray(rate)[truth], axis=-1)
        decided.append((random.random((prompts, images, 1)) > edges[..., :-1]).sum(axis=-1))
    decided[1] = np.where(random.random((prompts, images)) < shared, decided[0], decided[1])
    flat = np.stack(decided, axis=-1).reshape(-1, len(rates))
    patterns, number = np.unique(flat, axis=0, return_inverse=True)
    counts = np.zeros((prompts, len(patterns)), dtype=np.int64)
    np.add.at(counts, (np.repeat(np.arange(prompts), images), number.reshape(-1)), 1)
    return patterns, counts, truth


def true_errors(rates: Rates, truth: Any, *, shared: float = 0.0) -> list[float]:
    """Share of each reader's labels that are wrong, at the shares of this truth."""
    share = np.array([(truth == 0).mean(), (truth == 1).mean()])
    tables = [np.asarray(rate) for rate in rates]
    tables[1] = shared * tables[0] + (1 - shared) * tables[1]
    return [float(1 - (share * np.diagonal(table)).sum() / (share @ table[:, :-1]).sum()) for table in tables]


def check(audits: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Mean estimate, and how often the limits hold the truth, per reader and setting."""
    found = []
    for prompts, shared in ((20, 0.0), (80, 0.0), (320, 0.0), (80, 0.25), (80, 0.5)):
        errors, truths, hits = [], [], np.zeros(len(PLANTED))
        for audit in range(audits):
            patterns, counts, truth = simulated_decisions(PLANTED, random, prompts=prompts, images=4, shared=shared)
            known = true_errors(PLANTED, truth, shared=shared)
            estimate = latent_classes(patterns, counts, labels=2, draws=100, starts=5, seed=audit)
            hits += [error.low <= value <= error.high for error, value in zip(estimate.errors, known, strict=True)]
            errors.append([np.nan if error.value is None else error.value for error in estimate.errors])
            truths.append(known)
        found.append(
            {
                "prompts": prompts,
                "shared": shared,
                "truth": np.mean(truths, axis=0).tolist(),
                "estimate": np.mean(errors, axis=0).tolist(),
                "coverage": (hits / audits).tolist(),
            }
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--audits", type=int, default=200)
    options = parser.parse_args()
    print("| prompts of 4 | shared | wrong, planted | wrong, estimated | limits hold it |")
    print("|---|---|---|---|---|")
    for row in check(options.audits, np.random.default_rng(0)):
        intervals = [", ".join(f"{value:.1%}" for value in row[key]) for key in ("truth", "estimate")]
        cover = ", ".join(f"{value:.0%}" for value in row["coverage"])
        print(f"| {row['prompts']} | {row['shared']:.0%} | {intervals[0]} | {intervals[1]} | {cover} |")


if __name__ == "__main__":
    main()
