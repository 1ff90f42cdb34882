"""Which difference of a pair leads, how it reads, and why the evidence is no better. Words of every code stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import same_classifier
from allfour.pipeline.analyses.comparison.figures import LEVEL, Matched
from allfour.pipeline.metrics.calibration import UNFIT
from allfour.pipeline.metrics.headline import BECAUSE as OF_A_RUN
from allfour.pipeline.metrics.headline import FEWEST_PROMPTS
from allfour.pipeline.run.comparison import Difference, Pair, PairHeadline, PairSummary

UNLABELLED_DECIDE = "unlabelled_decide"
"""Code: limits that hold whatever images without a label show do not exclude 0, and those of the difference as it was read do."""
VERDICTS: Mapping[str, str] = {
    "more": "more often unanimous",
    "fewer": "less often unanimous",
    "equivalent": "no difference larger than the margin",
    "no_difference_shown": "no difference shown",
    "too_few_prompts": "too few prompts for a verdict",
}
"""Verdict -> words."""
BECAUSE: Mapping[str, str] = {
    **OF_A_RUN,
    "calibration_reweighted": "a calibration's groups were reweighted to the mix of groups in its run",
    "no_calibration": "without calibrations it is not known how often the classifier errs in each run, and a run that is read worse looks less unanimous",
    "one_calibration": "only one of the runs has a calibration, and a run that is read worse looks less unanimous",
    UNFIT: "the calibration kept with a run no longer belongs to its classifier",
    "other_classifiers": "the two runs were read by different classifiers or wordings, whose errors may differ",
    "unlabelled_differ": "the share of images without a label differs between the runs, so the accuracy of their labels may differ too",
    UNLABELLED_DECIDE: "images without a label count against unanimity, and depending on what they show there may be no difference",
    "near_copies": "near-copies of an image were counted once",
}
"""Code -> words, for a sentence after a colon."""
DIFFERS = 0.05
"""A p-value above this shows no difference."""


def with_verdicts(pairs: Sequence[Pair], matched: Sequence[Matched]) -> list[Pair]:
    """The same pairs with `summary.headline`; p-values of what leads are adjusted over them where there are several (Holm)."""
    found = [pick(pair.summary, runs) for pair, runs in zip(pairs, matched, strict=True)]
    tests = _adjusted([head.p_value for head in found])
    margins = _adjusted([None if (e := _leading(p.summary, h).equivalence) is None else e.p_value for p, h in zip(pairs, found, strict=True)])  # fmt: skip
    result = []
    for pair, head, p_value, p_equal in zip(pairs, found, tests, margins, strict=True):
        leading = _leading(pair.summary, head)
        update: dict[str, object] = {}
        if leading.equivalence is not None:
            equal = leading.equivalence.model_copy(
                update={"p_adjusted": p_equal, "shown": p_equal is not None and p_equal <= LEVEL}
            )
            leading = leading.model_copy(update={"equivalence": equal})
            update[head.figure] = leading
        verdict = _verdict(head, p_value, shown=leading.equivalence is not None and leading.equivalence.shown)
        update["headline"] = head.model_copy(update={"p_adjusted": p_value, "verdict": verdict})
        result.append(pair.model_copy(update={"summary": pair.summary.model_copy(update=update)}))
    return result


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    found = st.holm([np.nan if p is None else p for p in p_values]).tolist()
    return [None if np.isnan(p) else p for p in found]


def _leading(summary: PairSummary, head: PairHeadline) -> Difference:
    found: Difference = getattr(summary, head.figure)
    return found


def pick(summary: PairSummary, matched: Matched) -> PairHeadline:
    """Choose the difference that leads: corrected where both calibrations pass their checks, else as the images were read.

    Where a prompt has more images than a set, all of them are used; with one set per prompt its first, and only, one is what is counted.
    """
    doubts = doubts_of(matched)
    corrected = summary.unanimity_corrected_difference
    if not doubts and corrected is not None:
        return _headline("corrected", "unanimity_corrected_difference", corrected, _causes(summary, matched))
    if not doubts:
        doubts = ["cannot_be_corrected"]
    more = any(p.images != matched.set_size for p in (*matched.before, *matched.after))
    figure = "unanimity_all_images_difference" if more or summary.near_copies else "unanimity_difference"
    because = [*doubts, *_unequal(summary, matched), *_causes(summary, matched)]
    head = _headline("measured", figure, getattr(summary, figure), list(dict.fromkeys(because)))
    sides = matched.read(matched.headline, matched.labels)
    error = st.error_that_explains(*sides, set_size=matched.set_size)
    return head.model_copy(update={"explained_by_error": error})


def doubts_of(matched: Matched) -> list[str]:
    """Why a corrected difference cannot lead; nothing where it may."""
    one, two = matched.first, matched.second
    lacking = [side for side in (one, two) if side.calibration is None]
    found = [code for side in (one, two) for code in side.doubts if code != "no_calibration"]
    if lacking:
        found.append("no_calibration" if len(lacking) == 2 else "one_calibration")
    return list(dict.fromkeys(found))


def _headline(evidence: str, figure: str, entry: Difference, because: list[str]) -> PairHeadline:
    return PairHeadline.model_validate(
        {
            "evidence": evidence,
            "figure": figure,
            **{key: getattr(entry, key) for key in ("value", "low", "high", "p_value", "prompts")},
            "because": because,
        }
    )


def _causes(summary: PairSummary, matched: Matched) -> list[str]:
    mixed = any(side.reweighted is not None for side in (matched.first, matched.second))
    return [*(["calibration_reweighted"] if mixed else []), *(["near_copies"] if summary.near_copies else [])]


def _unequal(summary: PairSummary, matched: Matched) -> list[str]:
    """What says that the two runs may have been read with different error rates."""
    found = [] if same_classifier(matched.first.run, matched.second.run) else ["other_classifiers"]
    unlabelled = summary.unlabelled_difference
    if unlabelled is not None and unlabelled.p_value is not None and unlabelled.p_value <= DIFFERS:
        found.append("unlabelled_differ")
    if unlabelled_decide(summary):
        found.append(UNLABELLED_DECIDE)
    return found


def unlabelled_decide(summary: PairSummary) -> bool:
    """Whether what images without a label show decides over a difference that the runs seem to have."""
    read, bounds = summary.unanimity_all_images_difference, summary.unanimity_bounds_difference
    if bounds is None or bounds.low is None or bounds.high is None or read.low is None or read.high is None:
        return False
    return bounds.low <= 0 <= bounds.high and not read.low <= 0 <= read.high


def _verdict(head: PairHeadline, p_value: float | None, *, shown: bool) -> str:
    """Code of how a difference reads; a difference that is shown to be smaller than the margin asked about is called so."""
    if head.value is None or p_value is None or head.prompts < FEWEST_PROMPTS:
        return "too_few_prompts"
    if shown:
        return "equivalent"
    if p_value > DIFFERS:
        return "no_difference_shown"
    return "more" if head.value > 0 else "fewer"
