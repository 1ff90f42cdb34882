"""What the first line's interval holds besides prompts, where `statistics.include` asks for it: wording and classifier.

Both come from what was laid beside the run: the sensitivity grid, another classifier's run, the spread of error between prompts. What was
asked for and is not there is said, and adds nothing.
"""

from __future__ import annotations

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.error_spread import SPREAD_OPEN
from allfour.pipeline.run.metrics import Headline, Metrics

MAY_DIFFER = "error_may_differ_by_prompt"
"""The note, and the reason, that a corrected figure would lie elsewhere if errors differed by prompt."""
FEWEST_WORDINGS = 3
"""Settings of the grid that differ in wording, the run's own among them, below which they have no spread."""


def with_included(found: Headline, metrics: Metrics) -> Headline:
    """The headline with its limits widened by the parts that were asked for.

    People's labels have neither wording nor classifier, and stay as they are. The correction belongs to one wording, so that of a
    corrected figure no other wording is known.
    """
    asked = metrics.summary.include or []
    if found.value is None or found.low is None or found.high is None or not {*asked} - {"prompts"}:
        return found
    if found.evidence == "reviewed":
        return found.model_copy(update={"include": ["prompts"]})
    holds, because, at = ["prompts"], list(found.because), found
    for part, widen in (("wording", _by_wording), ("classifier", _by_classifier)):
        if part not in asked:
            continue
        wider = widen(at, metrics)
        if wider is None:
            bound = part == "wording" and found.evidence == "corrected"
            because.append("wording_of_calibration" if bound else f"no_{part}_spread")
        else:
            at = wider
            holds.append(part)
            because = [
                code for code in because if part != "classifier" or code not in (MAY_DIFFER, SPREAD_OPEN)
            ]  # limits hold it
    return at.model_copy(update={"include": holds, "because": because})


def _by_wording(at: Headline, metrics: Metrics) -> Headline | None:
    known = metrics.sensitivity
    if at.evidence != "measured" or known is None or known.wording_sd is None or known.wordings < FEWEST_WORDINGS:
        return None
    return _added(at, metrics, sd=known.wording_sd, degrees=known.wordings - 1)


def _by_classifier(at: Headline, metrics: Metrics) -> Headline | None:
    """Errors that differ by prompt bend a corrected figure, and their whole range is taken in; a measured one has the spread between two
    classifiers, half of whose squared difference is the variance of either."""
    if at.evidence == "corrected":
        corrected = metrics.summary.unanimity_corrected
        spread = corrected.error_spread if corrected is not None else None
        if spread is None or spread.low is None or spread.high is None or at.low is None or at.high is None:
            return None
        return at.model_copy(update={"low": min(at.low, spread.low), "high": max(at.high, spread.high)})
    opinion = metrics.second_opinion
    if opinion is None or opinion.same_encoder:
        return None
    first, second = opinion.unanimity.first.unanimity.value, opinion.unanimity.second.unanimity.value
    if first is None or second is None:
        return None
    return _added(at, metrics, sd=abs(first - second) / 2**0.5)


def _added(at: Headline, metrics: Metrics, *, sd: float, degrees: int | None = None) -> Headline:
    value, low, high = at.value or 0.0, at.low or 0.0, 1.0 if at.high is None else at.high
    ends = st.square_and_add(value, low, high, sd=sd, confidence=metrics.summary.confidence, degrees=degrees)
    return at.model_copy(update={"low": ends[0], "high": ends[1]})
