"""Does `audit --until` keep its word? Simulated audits with a look after every round, against a known truth.

Writes docs/validation-stopping.md; two minutes of a free core:

    python -m scripts.validate_stopping [--audits 2000] [--out docs/validation-stopping.md]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from allfour.pipeline.statistics.sequential import log_capital

ROUND, LISTED, IMAGES = 5, 320, 4
LEVEL = 0.05
POWER = 0.9


def prompt_values(kind: str, mean: float, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """One value per prompt: a set that is unanimous or not, or the share of four images of prompts that differ."""
    if kind == "unanimity":
        return (random.random(shape) < mean).astype(float)
    shares = random.beta(0.8 * mean, 0.8 * (1 - mean), shape)
    return random.binomial(IMAGES, shares) / IMAGES


def stopping_times(values: np.ndarray, line: float) -> np.ndarray:
    """Prompts after which each audit knows on which side of the line the mean lies; LISTED + 1 for never."""
    stopped = np.full(len(values), LISTED + 1)
    beyond = np.zeros(len(values), dtype=bool)
    for place, capital in enumerate(log_capital(values, line), 1):
        beyond |= capital >= -np.log(LEVEL)
        if place % ROUND == 0:
            stopped[beyond & (stopped > LISTED)] = place
    return stopped


def repeated_wilson(values: np.ndarray, line: float) -> float:
    """What looking at an ordinary interval after every round would give."""
    z = stats.norm.ppf(1 - LEVEL / 2)
    n = np.arange(1, values.shape[1] + 1)
    shares = np.cumsum(values, axis=1) / n
    apart = np.abs(shares - line) > z * np.sqrt(line * (1 - line) / n)
    return float(apart[:, ROUND - 1 :: ROUND].any(axis=1).mean())


def fixed_prompts(mean: float, line: float, power: float) -> int:
    """The fewest prompts from which on an exact binomial test of the line has the power at this truth."""
    enough, last = 0, 0
    for n in range(2, 2_000):
        counts = np.arange(n + 1)
        tail = np.minimum(stats.binom.cdf(counts, n, line), stats.binom.sf(counts - 1, n, line))
        found = stats.binom.pmf(counts, n, mean)[2 * tail <= LEVEL].sum()
        if found < power:
            last, enough = n, 0
        else:
            enough += 1
        if enough > 40:
            break
    return last + 1


def error_rows(audits: int, random: np.random.Generator) -> list[str]:
    rows = []
    for kind in ("unanimity", "share"):
        for line in (0.125, 0.3, 0.5, 0.7, 0.85):
            values = prompt_values(kind, line, (audits, LISTED), random)
            wrong = float((stopping_times(values, line) <= LISTED).mean())
            naive = f"{repeated_wilson(values, line):.3f}" if kind == "unanimity" else "-"
            rows.append(f"| {kind} | {line:.1%} | {wrong:.4f} | {naive} |")
    return rows


def saving_rows(audits: int, random: np.random.Generator) -> list[str]:
    rows = []
    for line in (0.5, 0.125):
        for mean in (0.2, 0.3, 0.4, 0.6, 0.7, 0.85, 0.95, 1.0):
            if abs(mean - line) < 0.05:
                continue
            times = stopping_times(prompt_values("unanimity", mean, (audits, LISTED), random), line)
            power = float((times <= LISTED).mean())
            listed = float(np.minimum(times, LISTED).mean())
            ninety = int(np.quantile(times, POWER, method="inverted_cdf"))
            if ninety > LISTED:
                rows.append(
                    f"| {line:.1%} | {mean:.0%} | {power:.3f} | {listed:.0f} | {1 - listed / LISTED:.0%} | - | - | - |"
                )
                continue
            until = float(np.minimum(times, ninety).mean())
            fixed = fixed_prompts(mean, line, POWER)
            rows.append(
                f"| {line:.1%} | {mean:.0%} | {power:.3f} | {listed:.0f} | {1 - listed / LISTED:.0%} | {fixed} | {until:.0f} | "
                f"{1 - until / fixed:.0%} |"
            )
    return rows


def page(audits: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    lines = [
        "# Validation: does `audit --until` keep its word?",
        "",
        f"Written by `python -m scripts.validate_stopping`. {audits:,} simulated audits per row, up to {LISTED} prompts, a look after every",
        f"round of {ROUND}; the question is on which side of a line the mean lies, `headline.low > LINE or headline.high < LINE`, at 5%.",
        "",
        "## Truth on the line: how often is it called settled, wrongly?",
        "",
        "At most 0.05 is promised, for any number of looks. Beside it, what stopping at the first ordinary (score) interval that clears the",
        "line would give. Shares: four images of prompts whose shares differ, Beta(0.8 m, 0.8 (1 - m)).",
        "",
        "| figure | line and truth | settled wrongly | with ordinary intervals |",
        "|---|---|---|---|",
        *error_rows(audits, random),
        "",
        "## Truth off the line: how much is saved?",
        "",
        f"Unanimity. `power`: settled within {LISTED} prompts. `prompts`: made on average, and what that saves of the whole list. Then the fixed",
        f"design that has power {POWER:.0%} at this very truth (exact binomial test, planned by somebody who knew the truth), and the prompts that",
        "rounds take on average if they give up at the number that gives them the same power. Images are in proportion to prompts.",
        "",
        "| line | truth | power | prompts | saved of the list | fixed design | rounds, same power | saved |",
        "|---|---|---|---|---|---|---|---|",
        *saving_rows(audits, random),
        "",
        "A fixed design is planned before the truth is known. One planned to tell 60% from 50% takes "
        f"{fixed_prompts(0.6, 0.5, POWER)} prompts, whatever",
        "the truth turns out to be.",
        "",
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
