"""A run whose mix of groups is near that of its calibration: `python -m scripts.validation.near_mix`, for docs/limits.md.

Audits of 40 prompts x 16 images, six tenths of them young, under a calibration of as many grown as young people. The mix is then seldom shown
to be another, and what leads is corrected by the calibration as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from scripts.validation.evidence import (
    GROWN,
    PROMPTS,
    YOUNG,
    calibration_of,
    drawn_cells,
    measured,
    read_of,
    true_unanimity,
)

_IMAGES, _CALIBRATED = 16, 200


@dataclass(frozen=True)
class NearMix:
    """Shares of the audits, and of those that were corrected by the calibration as it is."""

    audits: int
    as_it_is: float
    """Of all audits."""
    held: float
    """The truth lies within the limits of the first line."""
    range_held: float
    """It lies within the range that the first screen gives for errors that differ by prompt."""


def near_mix(audits: int, *, young: float = 0.6, seed: int = 0) -> NearMix:
    """Simulate audits of which this share of the people is young.

    Parameters
    ----------
    audits
        How many.
    young
        Share of the young among the people of the run; half of those of the calibration are.
    seed
        Of all draws.
    """
    random, truth = np.random.default_rng(seed), true_unanimity()
    held, within = [], []
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=PROMPTS)
        women = random.random((PROMPTS, _IMAGES)) < share[:, np.newaxis]
        cells = drawn_cells(women, (1 - young) * GROWN + young * YOUNG, np.zeros(PROMPTS), random)
        tables = [
            np.stack([random.multinomial(_CALIBRATED, row) for row in own]).astype(np.int64) for own in (GROWN, YOUNG)
        ]
        members = {str(number): table for number, table in enumerate(tables)}
        read, leads = read_of(cells, GROWN.shape[1])
        found = measured(read, calibration=calibration_of(np.sum(tables, axis=0), members), leads=leads).summary
        first, corrected = found.headline, found.unanimity_corrected
        assert first is not None
        if first.evidence != "corrected" or "calibration_reweighted" in first.because or corrected is None:
            continue
        spread = corrected.error_spread
        held.append(_holds(first.low, first.high, truth))
        within.append(spread is not None and _holds(spread.low, spread.high, truth))
    return NearMix(audits, len(held) / audits, float(np.mean(held)), float(np.mean(within)))


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=500)
    found = near_mix(parser.parse_args().audits)
    print(
        f"{found.audits} audits: corrected by the calibration as it is {found.as_it_is:.1%}; of these the first line held the truth in "
        f"{found.held:.1%}, and the range for errors that differ by prompt in {found.range_held:.1%}"
    )


if __name__ == "__main__":
    main()
