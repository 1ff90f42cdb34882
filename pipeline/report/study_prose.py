"""A study in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from allfour.pipeline.report.prose import DRAWN_WORLD
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.study import Board, PairOfRuns, Ranked, StudyResult
from allfour.pipeline.words import (
    clean,
    join_words,
    label_text,
    naming,
    p_value,
    percent,
    points,
    points_interval,
    quantity,
    run_name,
)

AXIS = {"generator": "models", "prompts": "prompt sets", "classifier": "classifiers"}
METHOD = (
    "Each run is one cell: a generator, a prompt set and a classifier. Runs are compared over the prompts that all of them have. "
    "Prompts are paired by subject or id, so that differences between prompts do not count. The figure that is ranked is the share of "
    "all sets that could be drawn from a prompt's images and show one perceived label, as a mean over prompts; an image without a label "
    "breaks its sets, though the interval counts it either way, and near-copies of an earlier image are left out.",
    "Two runs are compared by a permutation test over prompts, which flips the signs of their differences; where the runs have different "
    "numbers of images, it deals the images out anew. The tests are adjusted for every pair of the whole study (Holm 1979). A rank is an "
    "interval: of m runs, one that is shown to be above k others has at least rank k + 1, and one that is shown to be below k others has "
    "at most rank m - k. All these intervals hold at once with 95% (Mogstad, Romano, Shaikh and Wilhelm 2024; Klein, Wright and "
    "Wieczorek 2020), so models that are equal share a rank in 95 of 100 studies. Rank 1 shows one label throughout least often; that is a "
    "finding about variety, not a grade.",
    "Labels describe how an image reads, not who somebody is. No figure is corrected for the classifier's errors unless it is said to be "
    "corrected or reviewed. One classifier reads all runs of a board, so an error that is the same for all moves ranks less than values.",
)


def board_title(board: Board) -> str:
    """`Models, with the prompt set photo, read by clip`."""
    where = []
    for axis, words in (
        ("generator", "made by {}"),
        ("prompts", "with the prompt set {}"),
        ("classifier", "read by {}"),
    ):
        if board.fixed.get(axis):
            where.append(words.format(clean(board.fixed[axis], 60)))
    return ", ".join([AXIS[board.axis].capitalize(), *where])


def finding(board: Board, headline: str) -> str:
    """Who is lowest, who highest, and how many pairs can be told apart.

    Parameters
    ----------
    headline
        The attribute that all images of a set agree in.
    """
    low, high = board.runs[0], board.runs[-1]
    apart = sum(pair.apart for pair in board.pairs)
    ends = (
        f"{percent(low.unanimity.value)} of the sets of {_named(low)} show one perceived {label_text(headline)}, "
        f"{percent(high.unanimity.value)} of those of {_named(high)}"
    )
    if not apart:
        if low.unanimity.value == high.unanimity.value:
            return f"No difference shown: all at {percent(low.unanimity.value)} of sets, over {quantity(len(board.units), 'prompt')}."
        many = "none of them can be told from another" if len(board.runs) > 2 else "they cannot be told apart"
        return f"{ends}; over {quantity(len(board.units), 'prompt')} {many}."
    if len(board.pairs) == 1:
        return f"{ends}: a difference of {difference(board.pairs[0])}."
    return f"{ends}; {apart} of {quantity(len(board.pairs), 'pair')} can be told apart."


def _named(run: Ranked) -> str:
    return f"“{run_name(run.level, 40)}”"


def difference(pair: PairOfRuns) -> str:
    """`+12 points (+3 to +21; p = 0.01 over all pairs)`."""
    found = pair.unanimity
    p = "no test" if pair.adjusted is None else f"{p_value(pair.adjusted)} over all pairs"
    return f"{points(found.value)} points ({points_interval(found.low, found.high)}; {p})"


def alike(board: Board) -> str | None:
    """Which runs cannot be told apart."""
    groups = [group for group in board.alike if len(group) > 1]
    if not groups:
        return "Every pair can be told apart." if len(board.runs) > 2 else None
    return (
        "Cannot be told apart: " + "; ".join(join_words(run_name(level) for level in group) for group in groups) + "."
    )


def ranks(run: Ranked) -> str:
    """`2`, or `1 to 3`."""
    return str(run.rank_low) if run.rank_low == run.rank_high else f"{run.rank_low} to {run.rank_high}"


def headline(study: StudyResult) -> str:
    """The page's first line: the finding of its first board."""
    if not study.boards:
        return "The runs of this study cannot be set side by side."
    with naming(study.boards[0].levels):
        return finding(study.boards[0], study.headline)


def standfirst(study: StudyResult) -> str:
    """What was done, in a sentence."""
    done = [cell for cell in study.cells if cell.state == "done"]
    images = sum(cell.accounting.scored for cell in done if cell.accounting is not None)
    parts = [quantity(len(levels), AXIS[axis][:-1]) for axis, levels in study.axes.items() if len(levels) > 1]
    shape = join_words(parts)
    text = f"{quantity(len(done), 'run')}{f' ({shape})' if shape else ''}, {quantity(images, 'reading')} of images. "
    if study.tests:
        text += f"{quantity(study.tests, 'pair')} of runs tested together, adjusted for how many."
    return text


def notices(study: StudyResult, folder: Path) -> list[str | None]:
    """What the runs that made the images say of their world. Raises RunFolderError where a run is damaged."""
    found: list[str | None] = []
    seen: set[tuple[str, str]] = set()
    for cell in study.cells:  # the first made the images, others read them
        if cell.state == "done" and (cell.generator, cell.prompts) not in seen:
            seen.add((cell.generator, cell.prompts))
            header = read_header(folder / cell.path)
            found.append(DRAWN_WORLD if header.drawn_world else clean(header.notice) if header.notice else None)
    return found


def banners(notices: Sequence[str | None]) -> list[str]:
    """Each notice once."""
    return list(dict.fromkeys(notice for notice in notices if notice))
