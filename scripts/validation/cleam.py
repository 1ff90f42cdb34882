"""CLEAM beside the corrected share: the same correction, another interval.

Teo, C. T. H., Abdollahzadeh, M., Cheung, N.-M. (2023). On Measuring Fairness in Generative Models. NeurIPS 36. Its estimate inverts the
classifier's two accuracies as Rogan and Gladen do; its interval is normal over batches of images and takes the accuracies as known.
Prompts are the batches here.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from allfour.pipeline.statistics import Confusion, corrected_share
from scripts.validation.settings import POPULATIONS, truths

PROMPTS, IMAGES, RIGHT = 20, 9, 0.9


def check_cleam(audits: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Return coverage and width of both intervals of a mean share."""
    found = []
    for population, calibrated in product(("near 0", "near 0.5", "mixed (U)"), (200, 5000)):
        truth = truths(population)["share"]
        hits, widths = np.zeros(2), np.zeros(2)
        for audit in range(audits):
            share = random.beta(*POPULATIONS[population], size=PROMPTS)
            women = random.binomial(IMAGES, share * RIGHT + (1 - share) * (1 - RIGHT))
            right = random.binomial(calibrated // 2, RIGHT, size=2)
            theirs = _cleam(women / IMAGES, right / (calibrated // 2))
            confusion = Confusion.from_rates(
                sensitivity=(int(right[0]), calibrated // 2), specificity=(int(right[1]), calibrated // 2)
            )
            table = np.column_stack([women, IMAGES - women])
            ours = corrected_share(table, confusion=confusion, draws=400, seed=audit)
            for place, (low, high) in enumerate((theirs, (ours.low, ours.high))):
                hits[place] += low <= truth <= high
                widths[place] += high - low
        found.append(
            {
                "population": population,
                "calibration": calibrated,
                "cleam": hits[0] / audits,
                "cleam_width": widths[0] / audits,
                "corrected": hits[1] / audits,
                "corrected_width": widths[1] / audits,
                "audits": audits,
            }
        )
    return found


def _cleam(batches: Any, accuracies: Any) -> tuple[float, float]:
    """Return its interval: normal limits of the mean over batches, each corrected for the accuracies."""
    mean, error = float(batches.mean()), float(batches.std(ddof=1)) / np.sqrt(len(batches))
    sensitivity, specificity = accuracies
    low, high = (
        (mean + z * error - (1 - specificity)) / (sensitivity + specificity - 1) for z in (-1.959964, 1.959964)
    )
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
