"""Does `audit --each` keep its word, and what does it save? Simulated audits by the package's own rules, beside fixed numbers of images.

Courses of one prompt are counts at each look; whether it is settled, given up or goes on is read from a table that the package fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from allfour.pipeline.metrics.each_prompt import EachQuestion, parse_question
from allfour.pipeline.statistics.arrays import FloatArray
from allfour.pipeline.statistics.planning import Population
from allfour.pipeline.statistics.sequential import binomial_limits

FIRST, SET, LINE = 4, 4, 0.5
RULE = parse_question("share.a.low > 0.5 or share.a.high < 0.5")
HIGH, LOW = (" and ".join(term.text for term in way) for way in RULE.ways)
_NODES = 400


@dataclass(frozen=True)
class Courses:
    """What simulated audits did, shape (audits, prompts) each."""

    images: FloatArray
    side: FloatArray
    """1 where the share was settled above the line, -1 below, 0 not at all."""
    left_out: npt.NDArray[np.bool_]
    """Whether the limits at the end leave the share out."""


def question(prompts: int, up_to: int) -> EachQuestion:
    """Which side of a half the share is on, asked of so many prompts at once."""
    return EachQuestion(RULE, ("a", "b"), prompts, up_to)


def _table(asked: EachQuestion, requested: int) -> tuple[np.ndarray, np.ndarray]:
    """By hits after so many images: the side that is settled, and whether more are made."""
    counts = [{"a": hits, "b": requested - hits} for hits in range(requested + 1)]
    sides = [{HIGH: 1, LOW: -1, None: 0}[asked.settled(found)] for found in counts]
    return np.array(sides), np.array([asked.state(found, requested=requested) == "open" for found in counts])


def audits_of(shares: np.ndarray, asked: EachQuestion, random: np.random.Generator) -> Courses:
    """Audits of prompts with these shares: sets until each is settled, given up or has all its images."""
    hits: npt.NDArray[np.int64] = random.binomial(FIRST, shares)
    images: FloatArray = np.full(shares.shape, float(FIRST))
    side: FloatArray = np.zeros(shares.shape)
    goes_on = np.ones(shares.shape, dtype=bool)
    for requested in [*range(FIRST, asked.up_to, SET), asked.up_to]:
        sides, still = _table(asked, requested)
        at = np.minimum(hits, requested)  # of prompts that ended before, which are not looked at again
        side = np.where(goes_on, sides[at], side)
        goes_on &= still[at]
        more = min(SET, asked.up_to - requested)
        hits += goes_on * random.binomial(more, shares)
        images += goes_on * float(more)
    low, high = binomial_limits(hits, images, confidence=1 - asked.level)
    return Courses(images, side, (shares < low) | (shares > high))


def population(unanimity: float) -> FloatArray:
    """Shares of an even population of prompts, at equally likely ranks."""
    spread = Population.of_unanimity(unanimity)
    found: FloatArray = np.clip(stats.beta.ppf((np.arange(_NODES) + 0.5) / _NODES, spread.a, spread.b), 1e-9, 1 - 1e-9)
    return found


def drawn(unanimity: float, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Shares of prompts of such a population."""
    spread = Population.of_unanimity(unanimity)
    return np.clip(random.beta(spread.a, spread.b, shape), 1e-9, 1 - 1e-9)


def fixed_power(shares: np.ndarray, images: int, *, prompts: int) -> float:
    """Share of prompts that exact binomial tests with so many images each put on their side of the line (Bonferroni over prompts)."""
    hits = np.arange(images + 1)
    rejected = np.array([stats.binomtest(int(k), images, LINE).pvalue for k in hits]) <= 0.05 / prompts
    chances = stats.binom.pmf(hits, images, np.asarray(shares)[:, None])
    right = np.where(np.asarray(shares)[:, None] > LINE, hits > images * LINE, hits < images * LINE)
    return float((chances * (rejected & right)).sum(axis=1).mean())


def fixed_images(shares: np.ndarray, power: float, *, prompts: int) -> int:
    """Images of every prompt with which those tests have the power. It does not always rise with them: the fewest are given."""
    return next(images for images in range(2, 1_000) if fixed_power(shares, images, prompts=prompts) >= power)


def error_rows(audits: int, random: np.random.Generator) -> list[str]:
    """Audits with a wrong side for any prompt; the truth is on the line in all, in half, or in none."""
    rows = []
    for prompts in (5, 20, 100):
        asked = question(prompts, 32)
        on_the_line = np.full((audits, prompts), LINE)
        half = np.where(np.arange(prompts) % 2, 0.9, on_the_line)
        for name, shares in (
            ("on the line, all", on_the_line),
            ("on the line, half; the others 90%", half),
            ("45% or 55%", np.where(np.arange(prompts) % 2, 0.45, 0.55) + 0 * on_the_line),
            ("spread, unanimity 60%", drawn(0.6, (audits, prompts), random)),
        ):
            found = audits_of(shares, asked, random)
            wrong = (found.side != 0) & (found.side != np.sign(shares - LINE))
            rows.append(
                f"| {prompts} | {name} | {wrong.any(axis=1).mean():.4f} | {found.left_out.any(axis=1).mean():.4f} | "
                f"{(found.side != 0).mean():.3f} | {found.images.mean():.1f} |"
            )
    return rows


def saving_rows(audits: int, random: np.random.Generator, *, prompts: int = 20) -> list[str]:
    """Images beside giving every prompt the fixed number with the same power, and beside giving every prompt the most."""
    rows = []
    for unanimity in (0.3, 0.6, 0.85):
        ranks = population(unanimity)
        for up_to in (16, 32, 64):
            shares = drawn(unanimity, (audits, prompts), random)
            found = audits_of(shares, question(prompts, up_to), random)
            power, images = float((found.side == np.sign(shares - LINE)).mean()), float(found.images.mean())
            fixed = fixed_images(ranks, power, prompts=prompts)
            rows.append(
                f"| {unanimity:.0%} | {up_to} | {power:.3f} | {images:.1f} | {fixed} | {1 - images / fixed:.0%} | {1 - images / up_to:.0%} |"
            )
    return rows
