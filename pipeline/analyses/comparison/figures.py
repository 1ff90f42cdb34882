"""The figures of one pair of runs: second less first, over the prompts that both have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.evidence import Evidence, same_calibration
from allfour.pipeline.analyses.comparison.tables import Counts, flips, label_shares, share_distance
from allfour.pipeline.run.comparison import (
    Change,
    Difference,
    DifferenceBounds,
    Equivalence,
    Move,
    Moves,
    PairSummary,
)
from allfour.pipeline.run.metrics import Prompt

_DRAWS = 9_999
_MAX_DRAWN = 3_000_000
"""Numbers drawn for one permutation test; with very many prompts there are fewer draws."""
LEVEL = 0.05
"""Of the test of equivalence, whatever the confidence of intervals is."""
_Count = Callable[[Prompt], int]


@dataclass(frozen=True, slots=True)
class Matched:
    """Two runs over the prompts that both have."""

    first: Evidence
    second: Evidence
    before: Sequence[Prompt]
    after: Sequence[Prompt]
    confidence: float
    margin: float | None = None
    """The largest difference of unanimity that counts as none."""

    @classmethod
    def of(
        cls, first: Evidence, second: Evidence, *, confidence: float, margin: float | None = None, pair_by: str = "id"
    ) -> Matched:
        """Match prompts by their ids, or by their subjects, in the order of the first run."""
        one, two = ({p.pairing(pair_by): p for p in side.run.metrics.prompts} for side in (first, second))
        ids = [key for key in one if key in two]
        return cls(first, second, [one[key] for key in ids], [two[key] for key in ids], confidence, margin)

    def read(self, attribute: str, labels: Sequence[str]) -> tuple[st.ReadImages, st.ReadImages]:
        """What was read in either run."""
        return self.first.read(self.before, attribute, labels), self.second.read(self.after, attribute, labels)

    def unasked(self, attribute: str) -> Matched:
        """Without prompts that ask for a label of an attribute; those of the headline's are in no comparison to begin with."""
        pairs = [
            pair
            for pair in zip(self.before, self.after, strict=True)
            if not any(attribute in prompt.expect for prompt in pair)
        ]
        return replace(self, before=[old for old, _ in pairs], after=[new for _, new in pairs])

    @property
    def headline(self) -> str:
        return self.first.run.metrics.headline

    @property
    def labels(self) -> tuple[str, ...]:
        return self.first.run.metrics.headline_labels

    @property
    def set_size(self) -> int:
        return self.first.run.metrics.summary.set_size

    @property
    def shared_calibration(self) -> bool:
        return same_calibration(self.first, self.second)


def summary_of(matched: Matched, changed: int) -> PairSummary:
    """Every figure of a pair, without its headline.

    Parameters
    ----------
    changed
        Prompts that differ by more than chance.
    """
    labels, size = matched.labels, matched.set_size
    sides = matched.read(matched.headline, labels)
    every = len(matched.first.run.prompts) + len(matched.second.run.prompts)
    found = st.unanimity_difference(
        *sides,
        set_size=size,
        confidence=matched.confidence,
        margin=matched.margin,
        shared_calibration=matched.shared_calibration,
        test_draws=flips(len(matched.before)),
    )
    counts = sides[0].decisions[:, : len(labels)], sides[1].decisions[:, : len(labels)]
    copies = [
        int(side.near_copies(prompts).sum())
        for side, prompts in ((matched.first, matched.before), (matched.second, matched.after))
    ]
    return PairSummary(
        prompts=len(matched.before),
        prompts_left_out=every - 2 * len(matched.before),
        set_size=size,
        unanimous=transitions(matched),
        unanimity_difference=_first_sets(matched),
        unanimity_all_images_difference=entry_of(found.measured, margin=matched.margin),
        unanimity_bounds_difference=None if found.bounds is None else DifferenceBounds(**vars(found.bounds)),
        unanimity_corrected_difference=None
        if found.corrected is None
        else entry_of(found.corrected, margin=matched.margin),
        share_difference=share_differences(counts, labels, matched.confidence),
        share_corrected_difference=_corrected_shares(matched, sides),
        unlabelled_difference=_unlabelled(matched),
        refused_difference=_withheld(matched, "refused"),
        failed_difference=_withheld(matched, "failed"),
        mean_absolute_change=absolute_change(counts),
        changed_prompts=changed,
        near_copies=copies if any(copies) else None,
    )


def entry_of(found: st.Difference, *, margin: float | None = None) -> Difference:
    """A difference as it is written."""
    at = found.interval
    beside: dict[str, Equivalence] = {}
    if margin is not None and found.equivalent is not None:
        shown = found.equivalent <= LEVEL
        beside["equivalence"] = Equivalence(margin=margin, p_value=found.equivalent, shown=shown)
    return Difference(
        value=at.value,
        low=at.low,
        high=at.high,
        method=at.method,
        p_value=found.p_value if found.prompts else None,
        prompts=found.prompts,
        test=found.test,
        first=found.first,
        second=found.second,
        **beside,
    )


def own_sets(matched: Matched) -> list[tuple[Prompt, Prompt]]:
    """Prompts with a whole first set in both runs, of which no image is a near-copy of another."""
    copied = matched.first.near_copies(matched.before, first_set=True) + matched.second.near_copies(
        matched.after, first_set=True
    )
    pairs = zip(matched.before, matched.after, copied.tolist(), strict=True)
    return [(a, b) for a, b, copies in pairs if a.evaluated and b.evaluated and not copies]


def transitions(matched: Matched) -> Moves:
    """Prompts that have a whole set in both runs, by what the set shows in either."""
    pairs = [(a.unanimous, b.unanimous) for a, b in own_sets(matched)]
    return Moves(
        prompts=len(pairs),
        first=sum(a is not None for a, _ in pairs),
        second=sum(b is not None for _, b in pairs),
        both=sum(a is not None and b is not None for a, b in pairs),
        gained=sum(a is None and b is not None for a, b in pairs),
        lost=sum(a is not None and b is None for a, b in pairs),
        turned=sum(a is not None and b is not None and a != b for a, b in pairs),
        moves=[Move(first=a, second=b, prompts=pairs.count((a, b))) for a, b in dict.fromkeys(pairs)],
    )


def _first_sets(matched: Matched) -> Difference:
    """Unanimity of the first set of each prompt, tested by McNemar."""
    pairs = own_sets(matched)
    one, two = ([pair[place].unanimous is not None for pair in pairs] for place in (0, 1))
    found = st.mean_difference(
        np.array(one, float),
        np.array(two, float),
        p_value=st.mcnemar(one, two),
        test="mcnemar",
        single=True,
        confidence=matched.confidence,
        margin=matched.margin,
    )
    return entry_of(found, margin=matched.margin)


def share_differences(counts: tuple[Counts, Counts], labels: Sequence[str], confidence: float) -> dict[str, Difference]:
    """Mean share of each label over prompts, in both runs and their difference."""
    totals = counts[0].sum(axis=1), counts[1].sum(axis=1)
    return {
        label: _rate(counts[0][:, column], counts[1][:, column], trials=totals, confidence=confidence)
        for column, label in enumerate(labels)
    }


def _rate(one: Counts, two: Counts, *, trials: tuple[Counts, Counts], confidence: float) -> Difference:
    """A difference of counts out of a prompt's images, over the prompts that have some in both runs."""
    prompts = int(((trials[0] > 0) & (trials[1] > 0)).sum())
    return entry_of(st.rate_difference(one, two, trials=trials, confidence=confidence, draws=flips(prompts)))


def _corrected_shares(matched: Matched, sides: tuple[st.ReadImages, st.ReadImages]) -> dict[str, Difference] | None:
    found = {
        label: st.corrected_difference(
            *sides,
            label=column,
            confidence=matched.confidence,
            shared_calibration=matched.shared_calibration,
            test_draws=flips(len(matched.before)),
        )
        for column, label in enumerate(matched.labels)
    }
    known = {label: entry_of(difference) for label, difference in found.items() if difference is not None}
    return known or None


def _unlabelled(matched: Matched) -> Difference | None:
    """Share of the images that a classifier read and gave no label: where it differs, so may how right the labels are."""
    return _rates(
        matched,
        lambda prompt: prompt.counts.get("ambiguous", 0) + prompt.counts.get("no_person", 0),
        lambda prompt: prompt.images - sum(prompt.counts.get(k, 0) for k in ("refused", "failed", "unreadable")),
    )


def _withheld(matched: Matched, status: str) -> Difference | None:
    """Rate of images that were refused, or that failed, of those requested."""
    return _rates(matched, lambda prompt: prompt.counts.get(status, 0), lambda prompt: prompt.images)


def _rates(matched: Matched, events: _Count, trials: _Count) -> Difference | None:
    """A rate per prompt in both runs, prompts as units; None where nothing happened in either.

    A policy decides by the prompt, so that images of one are no independent trials: what is tested is the difference of each prompt.
    """
    happened = [np.array([events(p) for p in side], dtype=np.int64) for side in (matched.before, matched.after)]
    one, two = (np.array([trials(p) for p in side], dtype=np.int64) for side in (matched.before, matched.after))
    if not ((one > 0) & (two > 0)).any() or not (happened[0].any() or happened[1].any()):
        return None
    return _rate(happened[0], happened[1], trials=(one, two), confidence=matched.confidence)


def absolute_change(counts: tuple[Counts, Counts]) -> Change:
    """How far a prompt's shares moved on average, whichever way, and what sampling alone would show.

    The mean difference is blind to moves that cancel out. Without any change the labelled images of a prompt fall to the
    two runs like cards that are dealt: the expectation under that (the floor) and the test permute them within prompts.
    """
    one, two = counts
    known = (one.sum(axis=1) > 0) & (two.sum(axis=1) > 0)
    one, two = one[known], two[known]
    if not len(one):
        return Change(value=None, floor=None, p_value=None, prompts=0)
    observed = float(share_distance(label_shares(one), label_shares(two)).mean())
    random = np.random.default_rng(0)
    draws = int(max(199, min(_DRAWS, _MAX_DRAWN // max(one.size, 1))))
    pooled, size = one + two, one.sum(axis=1)
    total = np.zeros(draws)
    for row in range(len(one)):
        dealt = random.multivariate_hypergeometric(pooled[row], int(size[row]), size=draws, method="marginals")
        total += share_distance(label_shares(dealt), label_shares(pooled[row] - dealt))
    dealt_mean = total / len(one)
    p_value = (1 + int((dealt_mean >= observed - 1e-12).sum())) / (draws + 1)
    return Change(value=observed, floor=float(dealt_mean.mean()), p_value=p_value, prompts=len(one))


def other_attributes(matched: Matched) -> dict[str, dict[str, Difference]]:
    """Shares of every further attribute that both runs have, their p-values adjusted over all labels of all of them."""
    one, two = matched.first.run.metrics, matched.second.run.metrics
    found: dict[str, dict[str, Difference]] = {}
    for name, labels in one.labels.items():
        if name == matched.headline or set(labels) != set(two.labels.get(name, ())):
            continue
        sides = matched.unasked(name).read(name, labels)
        counts = sides[0].decisions[:, : len(labels)], sides[1].decisions[:, : len(labels)]
        found[name] = share_differences(counts, labels, matched.confidence)
    return _adjusted(found)


def _adjusted(found: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, Difference]]:
    places = [(name, label) for name, entries in found.items() for label in entries]
    p_values = [found[name][label].p_value for name, label in places]
    q_values = st.benjamini_hochberg([np.nan if p is None else p for p in p_values])
    result: dict[str, dict[str, Difference]] = {name: {} for name in found}
    for (name, label), q in zip(places, q_values.tolist(), strict=True):
        result[name][label] = found[name][label].model_copy(update={"q_value": None if np.isnan(q) else q})
    return result
