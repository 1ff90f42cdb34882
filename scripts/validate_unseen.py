"""Prompts of a kind that was not drawn: do limits of unanimity over sets, corrected unanimity and differences of two runs allow for them?

Writes docs/validation-unseen.md; some minutes of a core:

    python -m scripts.validate_unseen [--audits 300] [--jobs 1] [--out docs/validation-unseen.md]
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat
from pathlib import Path
from typing import Any

import numpy as np

from scripts.validate_shares import Kept, alike, spread, two_kinds
from scripts.validation import unseen

SETS, IMAGES = (4, 16), (4, 16)
RIGHT = (0.99, 0.95, 0.85)
SIDES = ((16, 16), (4, 16))
PROMPTS = unseen.PROMPTS
SUBJECTS = (alike(0.5), alike(0.97), spread(0.3, 0.3), two_kinds(1, 0.5, 0.2))


def sets_row(number: int, audits: int) -> list[tuple[Kept, Kept]]:
    one, sets = list(product(unseen.POPULATIONS, SETS))[number]
    random = np.random.default_rng([1, number])
    return [unseen.by_sets(one, prompts=p, sets=sets, audits=audits, random=random) for p in PROMPTS]


def corrected_row(number: int, audits: int) -> list[Kept]:
    one, right, images = list(product(unseen.POPULATIONS, RIGHT, IMAGES))[number]
    random = np.random.default_rng([2, number])
    return [unseen.corrected(one, prompts=p, images=images, right=right, audits=audits, random=random) for p in PROMPTS]


def differences_row(number: int, audits: int) -> list[unseen.Apart]:
    change, images = list(product(unseen.CHANGES, SIDES))[number]
    random = np.random.default_rng([3, number])
    return [unseen.differences(change, prompts=p, images=images, audits=audits, random=random) for p in PROMPTS]


def corrected_differences_row(number: int, audits: int) -> list[Kept]:
    change, right = list(product(unseen.CHANGES, RIGHT))[number]
    random = np.random.default_rng([4, number])
    return [
        unseen.corrected_differences(change, prompts=p, images=16, right=right, audits=audits, random=random)
        for p in PROMPTS
    ]


def subjects_row(number: int, audits: int) -> list[tuple[float, float]]:
    one, each = list(product(SUBJECTS, (2, 4)))[number]
    random = np.random.default_rng([5, number])
    return [
        unseen.subjects(one, prompts=p, each=each, images=(4, 16), audits=audits, random=random) for p in PROMPTS[1:]
    ]


def page(audits: int, jobs: int = 1) -> str:
    """The page, from so many audits of a cell."""
    with contextlib.ExitStack() as stack:
        # one job needs no other process
        each: Callable[..., Any] = map if jobs == 1 else stack.enter_context(ProcessPoolExecutor(jobs)).map

        def rows(of: Callable[[int, int], list[Any]], number: int) -> list[list[Any]]:
            return list(each(of, range(number), repeat(audits)))

        sets = rows(sets_row, len(unseen.POPULATIONS) * len(SETS))
        corrected = rows(corrected_row, len(unseen.POPULATIONS) * len(RIGHT) * len(IMAGES))
        apart = rows(differences_row, len(unseen.CHANGES) * len(SIDES))
        without = rows(corrected_differences_row, len(unseen.CHANGES) * len(RIGHT))
        said = rows(subjects_row, len(SUBJECTS) * 2)
    return "\n".join(
        [
            "# Validation: prompts of a kind that was not drawn",
            "",
            f"Written by `python -m scripts.validate_unseen`. {audits:,} simulated runs or pairs of runs per cell, with two labels and sets of",
            "four. Each prompt has a share of its own, drawn as the row says; *to 1 in 10%* means that one prompt in ten shows one label alone",
            "in the second run. The mean of all such prompts should be within the 95% limits. Where cells say *a / b*, a are the limits from",
            "the spread between prompts as it was seen, and b the tool's, which count half a prompt of a kind that was not drawn at an end of",
            "the range ([method.md](method.md#mean-of-values-with-two-ends)).",
            "",
            "## Unanimity over sets",
            "",
            *_summary([pair for row in sets for pair in row]),
            "",
            *_table(("shares", "sets"), list(product(unseen.POPULATIONS, SETS)), [_pairs(row) for row in sets]),
            "",
            "## Corrected unanimity",
            "",
            "The tool's limits have no such half prompt. They reach from the least possible value at least as far as those of a perfect",
            "classifier that saw no prompt of another kind, for its number of prompts, and estimates of single prompts spread widely.",
            "",
            *_summary([(one,) for row in corrected for one in row]),
            "",
            "Cells are: how often they hold the mean (width in points).",
            "",
            *_table(
                ("shares", "read right", "images"),
                list(product(unseen.POPULATIONS, RIGHT, IMAGES)),
                [[f"{one.held:.3f} ({100 * one.width:.0f})" for one in row] for row in corrected],
            ),
            "",
            "## Differences of two runs in unanimity",
            "",
            "Over all sets of a prompt's images. Where both runs have one set of each prompt the limits are Student's.",
            "",
            *_summary([cell.unanimity for row in apart for cell in row]),
            "",
            *_equal([cell.equal for row in apart for cell in row]),
            "",
            *_apart([[cell.unanimity for cell in row] for row in apart]),
            "",
            "## Differences of two runs in the share of a label",
            "",
            *_summary([cell.share for row in apart for cell in row]),
            "",
            *_apart([[cell.share for cell in row] for row in apart]),
            "",
            "## Corrected differences in unanimity",
            "",
            "Sixteen images in either run, one calibration of 200 images of each label for both.",
            "",
            *_summary([(one,) for row in without for one in row]),
            "",
            *_table(
                ("change", "read right"),
                list(product(unseen.CHANGES, RIGHT)),
                [[f"{one.held:.3f} ({100 * one.width:.0f})" for one in row] for row in without],
            ),
            "",
            "## Subjects of several prompts with other numbers of images",
            "",
            "Two runs without a difference, one with 4 images of a prompt and one with 16: how often a study's board would say that their",
            "unanimity differs at 5%, by flips of the signs of subjects' differences / by the tail of the limits, which is the tool's there.",
            "",
            *_table(
                ("shares", "prompts each"),
                list(product(SUBJECTS, (2, 4))),
                [[f"{flips:.3f} / {ours:.3f}" for flips, ours in row] for row in said],
                [f"{p} subjects" for p in PROMPTS[1:]],
            ),
            "",
        ]
    )


def _summary(cells: Sequence[tuple[Kept, ...]]) -> list[str]:
    names = ("spread as it is seen", "the tool") if len(cells[0]) == 2 else ("the tool",)
    lines = [
        f"| limits | cells of {len(cells)} below 90% | below 92% | lowest | mean width, points |",
        "|---|---|---|---|---|",
    ]
    for k, name in enumerate(names):
        held = [cell[k].held for cell in cells]
        width = 100 * float(np.mean([cell[k].width for cell in cells]))
        lines.append(
            f"| {name} | {sum(h < 0.9 for h in held)} | {sum(h < 0.92 for h in held)} | {min(held):.3f} | {width:.1f} |"
        )
    return lines


def _equal(shown: Sequence[tuple[float, float]]) -> list[str]:
    before, ours = np.array([pair for pair in shown if not np.isnan(pair[0])]).T
    return [
        f"The test of equivalence, at a margin that is the true difference, says in up to {before.max():.0%} of pairs that it is smaller with",
        f"Student's distribution (above 7% in {(before > 0.07).sum()} of {len(before)} cells), and with the tool's in up to {ours.max():.0%} "
        f"(in {(ours > 0.07).sum()}).",
    ]


def _pairs(row: Sequence[tuple[Kept, Kept]]) -> list[str]:
    return [f"{a.held:.3f} / {b.held:.3f} ({100 * a.width:.0f} / {100 * b.width:.0f})" for a, b in row]


def _apart(rows: Sequence[Sequence[tuple[Kept, Kept]]]) -> list[str]:
    at = [(change, f"{one} and {two}") for change, (one, two) in product(unseen.CHANGES, SIDES)]
    return _table(("change", "images"), at, [_pairs(row) for row in rows])


def _table(
    names: Sequence[str], keys: Sequence[Sequence[Any]], cells: Sequence[Sequence[str]], over: Sequence[str] = ()
) -> list[str]:
    """A row per key; cells are how often limits hold the mean, widths in points in brackets."""
    over = over or [f"{p} prompts" for p in PROMPTS]
    head = [f"| {' | '.join([*names, *over])} |", "|---" * (len(names) + len(over)) + "|"]
    said = [[getattr(part, "name", str(part)) for part in key] for key in keys]
    return [*head, *(f"| {' | '.join([*key, *row])} |" for key, row in zip(said, cells, strict=True))]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--audits", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("docs/validation-unseen.md"))
    options = parser.parse_args()
    options.out.write_text(page(options.audits, options.jobs), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
