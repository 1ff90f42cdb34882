"""Shares over few prompts: how often do the limits of a mean share hold it, and how wide are they? And those of unanimity of all images?

Writes docs/validation-shares.md; some minutes of a core:

    python -m scripts.validate_shares [--audits 1000] [--jobs 1] [--out docs/validation-shares.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product, repeat
from pathlib import Path

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.rates import beta_binomial_limits

PROMPTS, IMAGES, SET_SIZE = (3, 5, 10, 20, 40), (4, 16), 4
Draw = Callable[[tuple[int, int], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Population:
    """Prompts' own shares of a label."""

    name: str
    mean: float
    draw: Draw


def alike(share: float) -> Population:
    return Population(f"{share:g} in every prompt", share, lambda shape, random: np.full(shape, share))


def spread(a: float, b: float) -> Population:
    return Population(f"Beta({a:g}, {b:g})", a / (a + b), lambda shape, random: random.beta(a, b, shape))


def two_kinds(most: float, other: float, rare: float) -> Population:
    return Population(
        f"{most:g}; {other:g} in {rare:.0%} of prompts",
        most * (1 - rare) + other * rare,
        lambda shape, random: np.where(random.random(shape) < rare, other, most),
    )


POPULATIONS = (
    alike(0.5),
    alike(0.95),
    alike(0.99),
    spread(15, 15),
    spread(0.5, 0.5),
    spread(3.2, 0.8),
    spread(0.8, 0.2),
    spread(0.2, 0.05),
    spread(0.1, 0.01),
    two_kinds(1, 0, 0.5),
    two_kinds(1, 0, 0.2),
    two_kinds(1, 0, 0.05),
    two_kinds(1, 0.5, 0.1),
    two_kinds(0.9, 0.3, 0.2),
    two_kinds(0.97, 0.1, 0.2),
    two_kinds(0.97, 0.1, 0.1),
)

AGREEING = (
    alike(0.5),
    alike(0.8),
    spread(15, 15),
    spread(3.2, 0.8),
    spread(0.3, 0.3),
    two_kinds(0.5, 1, 0.05),
    two_kinds(0.5, 1, 0.1),
    two_kinds(0.5, 0.97, 0.1),
    two_kinds(0.5, 1, 0.5),
    two_kinds(0.99, 0.5, 0.1),
    two_kinds(1, 0.5, 0.2),
)
AGREEING_IMAGES, AGREEING_PROMPTS = (8, 16, 64), (5, 10, 20, 40)


@dataclass(frozen=True)
class Kept:
    """Of one kind of limits: how often they hold the mean, and their mean width."""

    held: float
    width: float


def check(
    population: Population, *, prompts: int, images: int, audits: int, random: np.random.Generator
) -> tuple[Kept, Kept, Kept]:
    """Limits from the spread as it is seen, from the beta-binomial model, and those of the tool."""
    counts = np.sort(random.binomial(images, population.draw((audits, prompts), random)), axis=1)
    rows, place = np.unique(counts, axis=0, return_inverse=True)
    trials = np.full(prompts, images)
    limits = np.array([_three(row, trials) for row in rows])[place.ravel()]
    inside = (limits[..., 0] - 1e-12 <= population.mean) & (population.mean <= limits[..., 1] + 1e-12)
    widths = (limits[..., 1] - limits[..., 0]).mean(axis=0)
    seen, model, ours = (
        Kept(float(h), float(w)) for h, w in zip(inside.mean(axis=0).tolist(), widths.tolist(), strict=True)
    )
    return seen, model, ours


def _three(row: np.ndarray, trials: np.ndarray) -> list[tuple[float, float]]:
    seen = st.mean_over_prompts(row / trials, independent=float(trials.sum()))
    ours = st.mean_share(np.column_stack([row, trials - row]))
    mixed = 0 < row.sum() < trials.sum()
    model = beta_binomial_limits(row, trials, 0.95) if mixed else (ours.low, ours.high)
    return [(seen.low, seen.high), model, (ours.low, ours.high)]


def check_unanimity(
    population: Population, *, prompts: int, images: int, audits: int, random: np.random.Generator
) -> tuple[Kept, Kept]:
    """Limits of unanimity over all sets of four, from the spread as it is seen and those of the tool.

    The truth is that of a large sample of prompts.
    """
    own = population.draw((200_000, 1), random)
    truth = float((own**SET_SIZE + (1 - own) ** SET_SIZE).mean())
    counts = random.binomial(images, population.draw((audits, prompts), random))
    # which of the two labels an image has makes no difference
    rows, place = np.unique(np.sort(np.minimum(counts, images - counts), axis=1), axis=0, return_inverse=True)
    each = [st.unanimity(np.column_stack([row, images - row]), set_size=SET_SIZE) for row in rows]
    pairs = [(one.seen or one.interval, one.interval) for one in each]
    limits = np.array([[(kind.low, kind.high) for kind in pair] for pair in pairs])[place.ravel()]
    held = ((limits[..., 0] <= truth) & (truth <= limits[..., 1])).mean(axis=0)
    width = (limits[..., 1] - limits[..., 0]).mean(axis=0)
    return Kept(float(held[0]), float(width[0])), Kept(float(held[1]), float(width[1]))


def unanimity_row(number: int, audits: int) -> list[tuple[Kept, Kept]]:
    """A row of the tables on unanimity, a cell for each number of prompts; it has random numbers of its own."""
    one, images = list(product(AGREEING, AGREEING_IMAGES))[number]
    random = np.random.default_rng([1, number])
    return [
        check_unanimity(one, prompts=prompts, images=images, audits=audits, random=random)
        for prompts in AGREEING_PROMPTS
    ]


def unanimity_section(audits: int, jobs: int = 1) -> list[str]:
    """Lines of the page on unanimity over all images."""
    settings = list(product(AGREEING, AGREEING_IMAGES))
    with ProcessPoolExecutor(jobs) as pool:
        rows = list(pool.map(unanimity_row, range(len(settings)), repeat(audits)))
    found = [(one, images, row) for (one, images), row in zip(settings, rows, strict=True)]
    cells = [pair for _, _, row in found for pair in row]
    names = ("spread as it is seen", "with kinds that were not drawn: the tool")
    more = float(np.mean([100 * (pair[1].width - pair[0].width) for pair in cells]))
    narrower = sum(pair[1].width < pair[0].width for pair in cells)
    return [
        "## Unanimity over all images",
        "",
        "The truth is the mean of sum p_k^4 over all such prompts. Where most prompts are drawn evenly and a few always show",
        "one label, none of these may be drawn, and the spread between the others says nothing of them. So the limits of",
        "`unanimity_all_images` allow for half a prompt of a kind that was not drawn",
        "([method.md](method.md#mean-of-values-with-two-ends)). The first line is not concerned: it counts one set of each prompt.",
        "This rule was chosen among three (the other two: half a prompt at both ends for either limit, and the wider of the",
        "rule and the spread) on 405 settings like these, with other random numbers.",
        "",
        f"| limits | cells of {len(cells)} below 90% | below 93% | lowest |",
        "|---|---|---|---|",
        *(
            f"| {name} | {sum(p[k].held < 0.9 for p in cells)} | {sum(p[k].held < 0.93 for p in cells)} "
            f"| {min(p[k].held for p in cells):.3f} |"
            for k, name in enumerate(names)
        ),
        "",
        f"The tool's are narrower than those from the spread in {narrower} cells, and over all cells {abs(more):.1f} points "
        f"{'wider' if more > 0 else 'narrower'} on average.",
        "They are wider where prompts are nearly even: there is nothing in even images that tells whether one prompt in ten",
        "is of another kind. With q = 1 - 0.1^(1/P), none of a kind that q of prompts belong to is among P prompts in a tenth",
        "of audits. So limits that hold in 90% whatever q is have to reach 0.125 + 0.875 q for an even generator. What they",
        "reach there, over all audits with 64 images:",
        "",
        *_reach(min(audits, 200), np.random.default_rng(1)),
        "",
        "How often they hold the mean, from the spread as it is seen / the tool.",
        "",
        *table([(o, n, [f"{s.held:.3f} / {t.held:.3f}" for s, t in row]) for o, n, row in found], AGREEING_PROMPTS),
        "",
        "How wide they are, in points, likewise.",
        "",
        *table(
            [(o, n, [f"{100 * s.width:.0f} / {100 * t.width:.0f}" for s, t in row]) for o, n, row in found],
            AGREEING_PROMPTS,
        ),
        "",
    ]


def _reach(audits: int, random: np.random.Generator) -> list[str]:
    """What upper limits of an even generator have to reach, and what they do."""
    rows = []
    for prompts in AGREEING_PROMPTS:
        needed = 0.125 + 0.875 * (1 - 0.1 ** (1 / prompts))
        counts = random.binomial(64, 0.5, (audits, prompts))
        ours = np.mean([st.unanimity(np.column_stack([row, 64 - row])).interval.high for row in counts])
        rows.append(f"| {prompts} | {needed:.3f} | {ours:.3f} |")
    return ["| prompts | has to be reached | the tool's upper limit, mean |", "|---|---|---|", *rows]


def table(rows: Sequence[tuple[Population, int, Sequence[str]]], prompts: Sequence[int] = PROMPTS) -> list[str]:
    head = [f"| shares | images | {' | '.join(f'{number} prompts' for number in prompts)} |"]
    head.append("|---|---|" + "---|" * len(prompts))
    return [*head, *(f"| {one.name} | {images} | {' | '.join(cells)} |" for one, images, cells in rows)]


def page(audits: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    found = [
        (one, images, [check(one, prompts=p, images=images, audits=audits, random=random) for p in PROMPTS])
        for one in POPULATIONS
        for images in IMAGES
    ]
    cells = [three for _, _, row in found for three in row]
    low = [sum(three[k].held < 0.93 for three in cells) for k in range(3)]
    least = [min(three[k].held for three in cells) for k in range(3)]
    ratio = float(np.mean([three[2].width / three[0].width for three in cells]))
    most = max(three[2].width / three[0].width for three in cells)
    return "\n".join(
        [
            "# Validation: shares over few prompts",
            "",
            f"Written by `python -m scripts.validate_shares`. {audits:,} simulated audits per cell; each prompt has a share of its own, drawn",
            "as the row says, and every image of a prompt shows the label with that probability. The mean of all such prompts",
            "should be within the 95% limits.",
            "",
            "Where most prompts show nearly the same, the few that differ may not have been drawn, and the spread between the",
            "prompts that were is too small. So the limits of a share reach as far as those from the spread as it is seen, and",
            "as far as those of a model in which the spread is not known ([method.md](method.md#rates-over-prompts)).",
            "",
            f"| limits | cells of {len(cells)} below 93% | lowest |",
            "|---|---|---|",
            *(
                f"| {name} | {low[k]} | {least[k]:.3f} |"
                for k, name in enumerate(
                    ("spread as it is seen", "beta-binomial model alone", "the wider of both: the tool")
                )
            ),
            "",
            f"The tool's limits are {ratio - 1:.0%} wider on average than those from the spread as it is seen, and up to {most:.1f} times as wide:",
            "where all prompts show nearly one label throughout, and nothing says that no other kind exists.",
            "",
            "## How often they hold the mean",
            "",
            "From the spread as it is seen / the tool.",
            "",
            *table([(o, n, [f"{s.held:.3f} / {t.held:.3f}" for s, _, t in row]) for o, n, row in found]),
            "",
            "Below 93% are populations of two kinds alone: where none of the rarer was drawn, nothing in the images tells that",
            "there is one.",
            "",
            "## How wide they are",
            "",
            "From the spread as it is seen / the tool, in points.",
            "",
            *table([(o, n, [f"{100 * s.width:.0f} / {100 * t.width:.0f}" for s, _, t in row]) for o, n, row in found]),
            "",
        ]
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="processes, for unanimity")
    parser.add_argument("--out", type=Path, default=Path("docs/validation-shares.md"))
    options = parser.parse_args()
    further = unanimity_section(options.audits, options.jobs)
    options.out.write_text("\n".join([page(options.audits), *further]), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
