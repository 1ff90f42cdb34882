"""What a reader must know before quoting a difference."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc
import pyarrow.parquet as pq

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import LoadedRun
from allfour.pipeline.analyses.comparison.figures import Matched, own_sets
from allfour.pipeline.analyses.comparison.verdict import unlabelled_decide
from allfour.pipeline.run.comparison import PairSummary
from allfour.pipeline.run.folder import reading_table
from allfour.pipeline.run.identities import deciding_alike
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import level, percent, points, quantity


def remarks(matched: Matched, summary: PairSummary, *, sizes: tuple[int, int]) -> list[str]:
    """Notes on one pair, the weightiest first.

    Parameters
    ----------
    sizes
        Images per set that the runs were measured with.
    """
    return [
        *_of_precision(matched),
        *_of_sizes(matched, sizes),
        *_of_confidence(matched),
        *_of_prompts(matched, summary),
        *_of_images(matched, summary),
        *_of_coverage(matched, summary),
    ]


def _of_precision(matched: Matched) -> Iterator[str]:
    first, second = matched.first.run, matched.second.run
    if deciding_alike(first.header.classifier or {}, second.header.classifier or {}):
        yield (
            f"One of {first.name} and {second.name} was encoded in float32, the other in bfloat16 with float32 wherever that could change "
            "a decision. The decisions are the same in both."
        )


def _of_sizes(matched: Matched, sizes: tuple[int, int]) -> Iterator[str]:
    first, second = matched.first.run, matched.second.run
    if sizes[0] != sizes[1] or sizes[0] != matched.set_size:
        yield (
            f"A set has {sizes[0]} images in {first.name} and {sizes[1]} in {second.name}, and larger sets are less often unanimous. "
            f"Here both runs are counted in sets of {matched.set_size}."
        )
    if {p.images for p in matched.before} != {p.images for p in matched.after}:
        yield (
            "The runs have different numbers of images per prompt. Shares are compared prompt by prompt. Unanimity is compared by how often "
            f"{matched.set_size} images drawn from all images of a prompt agree, which does not depend on how many there are."
        )


def _of_confidence(matched: Matched) -> Iterator[str]:
    first, second = matched.first.run, matched.second.run
    own, other = first.metrics.summary.confidence, second.metrics.summary.confidence
    if own != other:
        yield (
            f"{first.name} was measured at {level(own)} confidence and {second.name} at {level(other)}. Every interval here is computed "
            f"at {level(own)}, so those in the report of {second.name} differ."
        )


def _of_prompts(matched: Matched, summary: PairSummary) -> Iterator[str]:
    if summary.prompts_left_out:
        are = "is" if summary.prompts_left_out == 1 else "are"
        yield f"{quantity(summary.prompts_left_out, 'prompt')} {are} in one run only and left out of every figure here."
    pairs = list(zip(matched.before, matched.after, strict=True))
    evaluated = sum(a.evaluated and b.evaluated for a, b in pairs)
    if lacking := summary.prompts - evaluated:
        yield (
            f"{lacking} of {quantity(summary.prompts, 'prompt')} {'lacks' if lacking == 1 else 'lack'} a whole set in one of the runs and "
            f"{'is' if lacking == 1 else 'are'} left out of every difference of unanimity."
        )
    if evaluated < 10:
        yield (
            f"Only {quantity(evaluated, 'prompt')}: that is too few to find a small difference, or to say anything about a model in general."
            if evaluated
            else "No prompt has a whole set in both runs, so their unanimity cannot be compared."
        )


def _of_images(matched: Matched, summary: PairSummary) -> Iterator[str]:
    first, second = matched.first.run, matched.second.run
    for run in (first, second):
        gone = run.metrics.accounting.missing
        if gone:
            yield (
                f"{run.name} lacks {gone} of {quantity(run.metrics.accounting.requested, 'image')}. A set that lacks an image counts as not "
                "unanimous, so missing images can look like a difference."
            )
    unclear = [_unclear(run.metrics) for run in (first, second)]
    if abs(unclear[0] - unclear[1]) > 0.05:
        yield (
            f"{percent(unclear[0])} of the images of {first.name} and {percent(unclear[1])} of those of {second.name} have no label. Part "
            "of the difference may come from how readable the images are."
        )
    bounds = summary.unanimity_bounds_difference
    if bounds is not None and unlabelled_decide(summary):
        yield (
            "Images without a label count against unanimity. Whatever they show, the difference of all sets lies between "
            f"{points(bounds.low)} and {points(bounds.high)} points ({level(first.metrics.summary.confidence)} interval), so it may be none."
        )
    if summary.near_copies:
        sets = sum(a.evaluated and b.evaluated for a, b in zip(matched.before, matched.after, strict=True)) - len(
            own_sets(matched)
        )
        left_out = (
            f" {quantity(sets, 'prompt')} whose first set holds one {'is' if sets == 1 else 'are'} left out of every difference of "
            "first sets."
            if sets
            else ""
        )
        yield (
            f"Near-copies of an earlier image of the same prompt: {summary.near_copies[0]:,} in {first.name}, {summary.near_copies[1]:,} in "
            f"{second.name}. Each picture is counted once.{left_out}"
        )
    if same := _identical_images(first, second):
        are = "is byte for byte an image" if same == 1 else "are byte for byte images"
        yield (
            f"{quantity(same, 'image')} of {second.name} {are} of {first.name}. What they show cannot differ, so the runs "
            "are not independent samples."
        )


def _of_coverage(matched: Matched, summary: PairSummary) -> Iterator[str]:
    """Where docs/validation.md found that the interval of a difference covers less often than it says."""
    labels = len(matched.labels)
    sides = matched.read(matched.headline, matched.labels)
    totals = [side.decisions[:, :labels].sum(axis=0) for side in sides]
    over_sets = summary.unanimity_all_images_difference
    found = st.comparison_coverage_warnings(
        unanimity=[over_sets.first, over_sets.second],
        other_images=[int(t.sum() - t.max()) if t.sum() else None for t in totals],
        set_size=matched.set_size,
        labels=labels,
        discriminations=[side.confusion.discrimination for side in sides if side.confusion is not None],
    )
    yield from (warning.message for warning in found)


def _identical_images(first: LoadedRun, second: LoadedRun) -> int:
    """Images of the second run whose bytes are those of an image of the first."""
    tables = [run.path / "images.parquet" for run in (first, second)]
    if not all(path.exists() for path in tables):
        return 0
    hashes = []
    for path in tables:
        with reading_table(path):
            hashes.append(pq.read_table(path, columns=["sha256"])["sha256"])
    return int(pc.sum(pc.is_in(hashes[1], value_set=hashes[0].drop_null())).as_py() or 0)


def _unclear(metrics: Metrics) -> float:
    a = metrics.accounting
    return (a.ambiguous + a.no_person) / a.scored if a.scored else 0.0
