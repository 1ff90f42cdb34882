"""Do `audit --until` and `--each` keep their word? Audits with a look after every round, against a known truth.

Writes docs/validation-stopping.md; two minutes of a free core:

    python -m scripts.validate_stopping [--audits 2000] [--out docs/validation-stopping.md]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from allfour.pipeline.statistics.planning import (
    Population,
    independent,
    mcnemar_power,
    nested,
    paired_power,
    shares_like,
)
from allfour.pipeline.statistics.sequential import betting_sequence, log_capital
from scripts.validation.each_designs import error_rows as error_rows_of_each
from scripts.validation.each_designs import saving_rows
from scripts.validation.stopping_designs import (
    LEVEL,
    POWER,
    even_allocation,
    fixed_power,
    fixed_prompts,
    images_until_decided,
    least_prompts,
    list_for_power,
    more_where_mixed,
    prompts_made,
    settling,
    simulated_mcnemar,
    simulated_pairs,
)

ROUND, LISTED, IMAGES = 5, 320, 4
LINES = (0.125, 0.3, 0.5, 0.7, 0.85)
WIDTHS = (0.2, 0.3)


def prompt_values(kind: str, mean: float, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """One value per prompt: a set that is unanimous or not, or the share of four images of prompts that differ."""
    if kind == "unanimity":
        return (random.random(shape) < mean).astype(float)
    shares = random.beta(0.8 * mean, 0.8 * (1 - mean), shape)
    return random.binomial(IMAGES, shares) / IMAGES


def settled_wrongly(values: np.ndarray, line: float) -> float:
    """Share of audits that at any look within the list know on which side of the line the mean lies, which is on it."""
    beyond = np.zeros(len(values), dtype=bool)
    for place, capital in enumerate(log_capital(values, line), 1):
        if place <= LISTED - LISTED % ROUND:
            beyond |= capital >= -np.log(LEVEL)
    return float(beyond.mean())


def repeated_wilson(values: np.ndarray, line: float) -> float:
    """What looking at an ordinary interval after every round would give."""
    z = stats.norm.ppf(1 - LEVEL / 2)
    n = np.arange(1, values.shape[1] + 1)
    shares = np.cumsum(values, axis=1) / n
    apart = np.abs(shares - line) > z * np.sqrt(line * (1 - line) / n)
    return float(apart[:, ROUND - 1 :: ROUND].any(axis=1).mean())


def error_rows(audits: int, random: np.random.Generator) -> list[str]:
    rows = []
    for kind in ("unanimity", "share"):
        for line in LINES:
            values = prompt_values(kind, line, (audits, LISTED), random)
            wrong = settled_wrongly(values, line)
            naive = f"{repeated_wilson(values, line):.3f}" if kind == "unanimity" else "-"
            exact = f"{settling(line, line, listed=LISTED).sum():.4f}" if kind == "unanimity" else "-"
            rows.append(f"| {kind} | {line:.1%} | {wrong:.4f} | {exact} | {naive} |")
    return rows


def width_rows(audits: int, random: np.random.Generator) -> list[str]:
    """Do the limits hold the truth where an audit stops as soon as they are narrow?"""
    rows = []
    for kind in ("unanimity", "share"):
        for mean in (0.5, 0.85):
            values = prompt_values(kind, mean, (audits, LISTED), random)
            covered = dict.fromkeys(WIDTHS, 0)
            made: dict[float, list[int]] = {width: [] for width in WIDTHS}
            for row in values:
                found = betting_sequence(row)
                for width in WIDTHS:
                    narrow = np.flatnonzero((found.high - found.low < width)[ROUND - 1 :: ROUND])
                    at = (int(narrow[0]) + 1) * ROUND - 1 if len(narrow) else LISTED - 1
                    covered[width] += bool(found.low[at] <= mean <= found.high[at])
                    made[width].append(at + 1)
            rows += [
                f"| {kind} | {mean:.0%} | {width:.0%} | {np.mean(made[width]):.0f} | {covered[width] / audits:.3f} |"
                for width in WIDTHS
            ]
    return rows


PLANNED = {0.5: ((0.1, (0.6, 0.65, 0.7, 0.8, 0.9, 1.0)), (0.2, (0.7, 0.8, 0.85, 0.9, 1.0))),
           0.125: ((0.1, (0.225, 0.275, 0.325, 0.425, 0.6, 0.85)), (0.2, (0.325, 0.425, 0.525, 0.725, 0.85)))}  # fmt: skip
"""Line -> the smallest differences that matter, and truths."""


def planned_rows() -> list[str]:
    rows = []
    for line, designs in PLANNED.items():
        for smallest, truths in designs:
            fixed = fixed_prompts(line + smallest, line)
            lists = {size: list_for_power(line, line + smallest, round_prompts=size) for size in (ROUND, 1)}
            for mean in truths:
                courses = {s: settling(line, mean, listed=n, round_prompts=s) for s, n in lists.items()}
                made = {s: prompts_made(course) for s, course in courses.items()}
                rows.append(
                    f"| {line:.1%} | {100 * smallest:.0f} points | {mean:.1%} | {fixed_power(mean, line, fixed):.3f} | "
                    f"{courses[ROUND].sum():.3f} | {fixed} | {made[ROUND]:.0f} | {1 - made[ROUND] / fixed:.0%} | "
                    f"{1 - made[1] / fixed:.0%} |"
                )
    return rows


def known_rows() -> list[str]:
    """Against a design by somebody who knew the truth: the same power, and rounds that give up where they have it."""
    rows = []
    for line in (0.5, 0.125):
        for mean in (0.2, 0.3, 0.4, 0.6, 0.7, 0.85, 0.95, 1.0):
            if abs(mean - line) < 0.08:
                continue
            fixed, least = fixed_prompts(mean, line), least_prompts(mean, line)
            saved = []
            for size in (ROUND, 1):
                listed = list_for_power(line, mean, round_prompts=size)
                saved.append(prompts_made(settling(line, mean, listed=listed, round_prompts=size)))
            rows.append(
                f"| {line:.1%} | {mean:.0%} | {fixed} | {saved[0]:.0f} | {1 - saved[0] / fixed:.0%} | {1 - saved[1] / fixed:.0%} | "
                f"{1 - max(least, 1) / fixed:.0%} |"
            )
    return rows


def allocation_rows() -> list[str]:
    rows = []
    for unanimity in (0.3, 0.6, 0.85):
        prompts = Population.of_unanimity(unanimity, set_size=IMAGES)
        basis = even_allocation(prompts, IMAGES)
        designs = {
            "every prompt 8": even_allocation(prompts, 8),
            "every prompt 16": even_allocation(prompts, 16),
            "4, and 4 more where they differ": more_where_mixed(prompts, first=4, more=4),
            "4, and 12 more where they differ": more_where_mixed(prompts, first=4, more=12),
        }
        for name, found in designs.items():
            cost = found.images * found.variance / (basis.images * basis.variance) - 1
            narrower = 1 - (found.variance / basis.variance) ** 0.5
            bias = f"{100 * found.bias:.0f} points" if found.bias else "-"
            rows.append(f"| {unanimity:.0%} | {name} | {found.images:.1f} | {cost:+.0%} | {narrower:.0%} | {bias} |")
    return rows


def plan_rows(studies: int, random: np.random.Generator) -> list[str]:
    """60% against 85%: the power that `allfour plan` computes, and that of simulated studies."""
    rows = []
    for name, change, sizes in (
        ("4 images, same prompts: McNemar", nested(0.60, 0.85), (20, 40)),
        ("4 images, other prompts: McNemar's test as if paired", independent(0.60, 0.85), (20, 74)),
    ):
        for n in sizes:
            drawn = simulated_mcnemar(change, prompts=n, studies=studies, random=random)
            rows.append(f"| {name} | {n} | {mcnemar_power(change, prompts=n):.3f} | {drawn:.3f} |")
    first = Population.of_unanimity(0.60)
    second = shares_like(first, 0.85)
    for images, sizes in ((8, (20, 23)), (16, (16, 20))):
        for n in sizes:
            planned = paired_power(first, second, prompts=n, images=images)
            drawn = simulated_pairs(first, second, prompts=n, images=images, studies=studies, random=random)
            rows.append(
                f"| {images} images, same prompts: paired t over all sets | {n} | {planned:.3f} | {drawn:.3f} |"
            )
    return rows


def plan_section(studies: int, seed: int = 1) -> list[str]:
    return [
        "## Does `allfour plan` promise what comes?",
        "",
        f"To tell a unanimity of 60% from 85% at 5% (`allfour plan --against 85%`): the power that is planned, and the share of {studies:,} simulated",
        "pairs of runs that the test tells apart. Prompts keep their rank from one run to the other; for McNemar's test 1% turn the other way.",
        "",
        "| design | prompts | planned | simulated |",
        "|---|---|---|---|",
        *plan_rows(studies, np.random.default_rng(seed)),
        "",
    ]


def decided_text() -> str:
    parts = []
    for unanimity in (0.3, 0.6, 0.85):
        prompts = Population.of_unanimity(unanimity, set_size=IMAGES)
        parts.append(
            f"{1 - images_until_decided(prompts, set_size=IMAGES) / IMAGES:.0%} at a unanimity of {unanimity:.0%}"
        )
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def each_section(audits: int, random: np.random.Generator) -> list[str]:
    return [
        "## A question of each prompt",
        "",
        "If the question is which prompts lean, and not how many do, more images of a prompt do help:",
        "`audit --each 'share.a.low > 0.5 or share.a.high < 0.5'`. Every prompt has 4 images, and gets 4 more as",
        "long as its question is open, up to a maximum; one that even the maximum could not settle is given up.",
        "Limits are those of a beta-binomial mixture at 5% divided by the number of prompts.",
        "",
        f"**Is any prompt called wrongly?** {audits:,} simulated audits per row, up to 32 images of a prompt. `wrong`: audits in which any prompt, at any",
        "look, is put on a side on which it is not; `limits`: in which those of any prompt at the end leave its share out; at most 0.05 of either is",
        "promised. `settled`: prompts that are; `images`: of a prompt, on average.",
        "",
        "| prompts | truth | wrong | limits | settled | images |",
        "|---|---|---|---|---|---|",
        *error_rows_of_each(audits, random),
        "",
        "**What is saved**, with 20 prompts of an even population: compared with `fixed` images of every prompt,",
        "with which exact binomial tests (Bonferroni over prompts) put as many prompts on their side; and compared",
        "with giving every prompt the maximum. The less prompts lean, and the higher the maximum, the more images",
        "go into prompts near the line: then a fixed number that settles as many takes no more images, and a lower",
        "`--up-to` is better value.",
        "",
        "| unanimity | up to | settled rightly | images | fixed | saved | saved beside the most |",
        "|---|---|---|---|---|---|---|",
        *saving_rows(audits, random),
        "",
    ]


def page(audits: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    lines = [
        "# Validation: do `audit --until` and `--each` keep their word?",
        "",
        f"Written by `python -m scripts.validate_stopping`. Lists of {LISTED} prompts, a look after every round of {ROUND}; the question is on",
        "which side of a line the mean lies, `headline.low > LINE or headline.high < LINE`, at 5%.",
        "",
        "## Truth on the line: how often is it called settled, wrongly?",
        "",
        f"{audits:,} simulated audits per row; at most 0.05 is promised, for any number of looks. `exactly`: a sum over all courses of an",
        "audit with a look after every prompt. Beside it, what stopping at the first ordinary (score) interval that clears the line would give.",
        "Shares: four images of prompts whose shares differ, Beta(0.8 m, 0.8 (1 - m)).",
        "",
        "| figure | line and truth | settled wrongly | exactly | with ordinary intervals |",
        "|---|---|---|---|---|",
        *error_rows(audits, random),
        "",
        "Stopped by width, `headline.width < W`: how often do the limits at the stop hold the truth? At least 0.95 is promised.",
        "",
        "| figure | truth | W | prompts | hold the truth |",
        "|---|---|---|---|---|",
        *width_rows(max(audits // 4, 1), random),
        "",
        "## Truth off the line: how much is saved?",
        "",
        "Unanimity; all figures are sums over the courses that an audit can take, and images are in proportion to prompts.",
        "",
        "**Against the fixed design of the same power.** Whoever fixes a number beforehand plans for the smallest difference that matters: so",
        f"many prompts that an exact binomial test finds it with power {POWER:.0%}. The rounds have a list that gives them the same power there.",
        "`saved, 1` looks after every prompt (`--round 1`).",
        "",
        "| line | planned for | truth | power, fixed | power, rounds | prompts, fixed | prompts, rounds | saved | saved, 1 |",
        "|---|---|---|---|---|---|---|---|---|",
        *planned_rows(),
        "",
        f"**Against somebody who knew the truth**, and planned a fixed design with power {POWER:.0%} at that very truth; the rounds give up where they have",
        "the same power. `at best`: no design whatever that calls a side wrongly in at most 2.5% each can save more (Wald 1945).",
        "",
        "| line | truth | prompts, fixed | prompts, rounds | saved | saved, 1 | at best |",
        "|---|---|---|---|---|---|---|",
        *known_rows(),
        "",
        "## More images where it is uncertain?",
        "",
        "Prompts whose first images differ could be given more of them. That does not pay while there are prompts",
        "left, since what limits the mean over prompts is the number of prompts. By the Cauchy-Schwarz inequality,",
        "images times variance is at least B n + (mean of the square root of p (1 - p)) squared, with B the",
        "variance of shares between prompts and n the images per prompt; that rises with n however images are",
        "allocated. The table is for an even population of prompts with the unanimity given and for the mean share",
        "of a label, compared with four images of every prompt. `images`: how many more for the same width.",
        "`narrower`: if the list has come to an end and there are no more prompts. `bias`: of the plain share of a",
        "prompt whose images went on because they differed; the other figures are those of the unbiased estimate",
        "(Girshick, Mosteller and Savage 1946).",
        "",
        "| unanimity | images of a prompt | on average | images, same width | narrower, same prompts | bias |",
        "|---|---|---|---|---|---|",
        *allocation_rows(),
        "",
        "For the headline it gives nothing at all: of a set whose first images differ it is known that it is not unanimous. For the same reason",
        f"its last images could be left out, which would save {decided_text()}; but the shares of its",
        "prompts, the correction of the classifier's errors and the null distributions would then rest on images that stopped because of what they",
        "showed. So every visited prompt is given its whole set, and what `--until` allocates is prompts.",
        "",
        *each_section(audits, random),
        *plan_section(audits),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("docs/validation-stopping.md"))
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments.audits), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
