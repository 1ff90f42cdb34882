"""Shares where nearly all prompts show one label throughout: how often do the limits of the mean share hold it?

A prompt's own share is Beta(a, b) with most mass at 0 and 1, and most of it at 1. With few prompts often none of the rarer kind is drawn, all
images show one label, and nothing is known of how much prompts differ. Prints the table of docs/validation.md; a minute of a core:

    python -m scripts.validation.lopsided [--audits 2000]
"""

from __future__ import annotations

import argparse

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.intervals import wilson_limit

SETTINGS = [
    (a, b, prompts, images) for a, b in ((0.2, 0.05), (0.1, 0.01)) for prompts in (5, 10, 20) for images in (4, 16)
]
_Z = 1.959964


def check(
    a: float, b: float, *, prompts: int, images: int, audits: int, random: np.random.Generator
) -> tuple[float, float, float]:
    """Coverage of the limits, coverage were images of alike prompts taken to be independent, and how often all images are alike."""
    truth = a / (a + b)
    held = as_images = alike = 0
    for _ in range(audits):
        women = random.binomial(images, random.beta(a, b, size=prompts))
        found = st.mean_share(np.column_stack([women, images - women]))
        inside = found.low - 1e-12 <= truth <= found.high + 1e-12
        held += inside
        if women.sum() in (0, images * prompts):
            alike += 1
            limit = float(wilson_limit(1.0, images * prompts, -_Z))
            inside = limit <= truth if women.sum() else truth <= 1 - limit
        as_images += inside
    return held / audits, as_images / audits, alike / audits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--audits", type=int, default=2000)
    audits = parser.parse_args().audits
    random = np.random.default_rng(0)
    print(
        "| shares | mean | prompts | images | limits hold it | images of alike prompts as independent | all images alike |"
    )
    print("|---|---|---|---|---|---|---|")
    for a, b, prompts, images in SETTINGS:
        held, as_images, alike = check(a, b, prompts=prompts, images=images, audits=audits, random=random)
        print(
            f"| Beta({a}, {b}) | {a / (a + b):.2f} | {prompts} | {images} | {held:.3f} | {as_images:.3f} | {alike:.2f} |"
        )


if __name__ == "__main__":
    main()
