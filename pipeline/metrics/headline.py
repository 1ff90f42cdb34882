"""The first line of a run: the best evidence there is, how it reads beside chance, and why it is no better.

People's labels go before figures corrected by a calibration, and those before what the classifier saw. The page, the terminal, exports
and gates all take what is picked here.
"""

from __future__ import annotations

from collections.abc import Mapping

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.error_spread import ABOVE_CHANCE, SPREAD_OPEN, contradicted, labelled_limits
from allfour.pipeline.metrics.error_spread import CONTRADICTED as LABELS_CONTRADICT
from allfour.pipeline.metrics.included import MAY_DIFFER, with_included
from allfour.pipeline.run.metrics import Headline, Metrics, PoweredUnanimity, ReviewSample, Summary
from allfour.pipeline.statistics.coverage import least_unanimity

FEWEST_PROMPTS = 5
"""Below this there is no verdict: it is the least that docs/validation.md covers."""
FEWEST_REVIEWED = 10
"""Sets that people labelled, of a run with more, below which their figure leads nowhere."""
WIDE = 0.1
"""Share of prompts between the two bounds above which images without a label are named as a cause."""

MEASURED_SPREAD = "error_spread_measured"
"""The reason that stands where a corrected figure holds how much error differs by prompt, as people's labels show it."""
NEARLY_SHARED = "nearly_shared_images"
"""The reason that stands where one picture, or nearly so, is under several prompts."""
UNFIT = frozenset({"calibration_unlike_run", "calibration_contradicted", LABELS_CONTRADICT})
"""Reasons by which the classifier is known to err on these images otherwise than where it was tested: how far its reading can be trusted is
then not known, and it is no ground for a verdict."""

VERDICTS: Mapping[str, str] = {
    "above_chance": "clearly above chance",
    "compatible_with_chance": "compatible with chance",
    "cannot_be_told": "cannot be told: too many images have no label",
    "errors_unknown": "cannot be told: the classifier's errors on these images are not those that its calibration measured",
    "too_few_prompts": "too few prompts for a verdict",
    "nothing_read": "nothing could be read",
    "asked_for": "every prompt asks for a label, so there is no headline of bias",
}
"""Verdict -> words; nowhere else. For one headline they are those of `verdict_words`."""
_BELOW_CHANCE = "below chance"
EVIDENCE: Mapping[str, str] = {
    "measured": "as the classifier read the images",
    "corrected": "with the classifier's measured errors taken out",
    "reviewed": "as people read the images",
}
BECAUSE: Mapping[str, str] = {
    "no_calibration": "not corrected for the classifier's errors, because no calibration was given",
    "cannot_be_corrected": "the calibration cannot correct this attribute",
    "published_rates": "the calibration's error rates are published ones, measured on other images",
    "calibration_unlike_run": "the calibration does not fit this run: its images are of another kind, or error rates differ between prompts",
    MAY_DIFFER: "error rates are assumed to be the same for every prompt",
    MEASURED_SPREAD: "how much error rates differ between prompts was measured on images that people labelled, and is part of the interval",
    SPREAD_OPEN: "people's labels neither show nor rule out error rates that differ between prompts: the figure uses these labels, and its interval is no wider for it",
    LABELS_CONTRADICT: "people's labels of this run contradict the calibration",
    "calibration_reweighted": "the calibration's groups were reweighted to the mix of groups in this run",
    "calibration_contradicted": "the images contradict the calibration",
    "corrected_refused": "too few sets have a decision on every image, so no correction was made",
    "images_without_label": "images without a label leave more than a tenth of the sets undecided",
    "near_copies": "some sets contain near-copies of one image, which count only once in the interval",
    "shared_images": "some images are identical byte for byte under several prompts, so they tell nothing about a prompt",
    NEARLY_SHARED: "some images are nearly the same picture under several prompts, so they tell nothing about a prompt",
    "review_too_small": "people labelled too few sets",
    "review_of_images": "people labelled single images, which measures shares but not whole sets",
    "all_labelled": "people labelled every set",
    "no_wording_spread": "the effect of another wording is not known (`allfour relabel RUN --grid default` measures it)",
    "wording_of_calibration": "a calibration belongs to one wording, so the effect of another is not known",
    "no_classifier_spread": "the effect of another classifier is not known (a second opinion or a calibration measures it)",
}
"""Code -> words, for a sentence after a colon."""


def with_headline(metrics: Metrics) -> Metrics:
    """The same metrics with `summary.headline`: to be called when all that stands beside the tables is in."""
    summary = metrics.summary.model_copy(update={"headline": pick(metrics)})
    return metrics.model_copy(update={"summary": summary})


def headline_of(metrics: Metrics) -> Headline:
    """The headline of a document, also of one that was written before there was one."""
    return metrics.summary.headline or pick(metrics)


def verdict_words(lead: Headline, *, set_size: int, labels: int) -> str:
    """The verdict of a headline in words; an interval that ends below what even draws give is not called compatible with them."""
    below = lead.high is not None and lead.high < least_unanimity(set_size, labels)
    if lead.verdict == "compatible_with_chance" and below:
        return _BELOW_CHANCE
    return VERDICTS.get(lead.verdict, lead.verdict.replace("_", " "))


def pick(metrics: Metrics) -> Headline:
    """Choose the evidence, in order, and say why it is no better."""
    summary = metrics.summary
    chance = least_unanimity(summary.set_size, len(metrics.headline_labels))
    found = _chosen(metrics, summary, chance=chance)
    wider = with_included(found, metrics)
    if wider.verdict == "above_chance" and (wider.low or 0.0) <= chance:
        return wider.model_copy(update={"verdict": "compatible_with_chance"})
    return wider


def _chosen(metrics: Metrics, summary: Summary, *, chance: float) -> Headline:
    if summary.prompts_asked_for and summary.prompts_asked_for == len(metrics.prompts):
        return Headline(
            evidence="measured", value=None, low=None, high=None, prompts=0, verdict="asked_for", because=[]
        )
    because: list[str] = []
    sample = _best_review(metrics, because)
    if sample is not None and sample.unanimity is not None:
        return _reviewed(sample, sample.unanimity, summary, chance=chance, because=because)
    doubts = doubts_of_correction(metrics)
    if not doubts:
        differ = [note.code for note in metrics.notes if note.code in (MAY_DIFFER, SPREAD_OPEN)]
        return _corrected(summary, chance=chance, because=[*because, *differ[:1]])
    return _measured(summary, chance=chance, because=[*because, *doubts])


def _best_review(metrics: Metrics, because: list[str]) -> ReviewSample | None:
    """The sample of the headline's attribute with the most sets labelled, where those are enough."""
    samples = metrics.review.samples if metrics.review is not None else []
    own = [sample for sample in samples if sample.attribute == metrics.headline]
    known = [s for s in own if s.unanimity is not None and _bounded(s.unanimity)]
    if not known:
        because += ["review_of_images"] if any(s.unit == "image" for s in own) else []
        return None
    best = max(known, key=_sets_labelled)
    if _sets_labelled(best) < min(FEWEST_REVIEWED, metrics.summary.prompts):
        because.append("review_too_small")
        return None
    return best


def sets_labelled(metrics: Metrics) -> int | None:
    """Sets that people labelled for the figure that leads; None where another does."""
    if headline_of(metrics).evidence != "reviewed":
        return None
    sample = _best_review(metrics, [])
    return None if sample is None else _sets_labelled(sample)


def _sets_labelled(sample: ReviewSample) -> int:
    """Of a sample of images that gives unanimity, every set is labelled."""
    found = sample.unanimity
    return sample.units_labelled if sample.unit == "set" else (found.sets or 0) if found is not None else 0


def _bounded(found: PoweredUnanimity) -> bool:
    at = found.prompts_like_these
    return at is not None and at.known and at.bounded


def _reviewed(
    sample: ReviewSample, found: PoweredUnanimity, summary: Summary, *, chance: float, because: list[str]
) -> Headline:
    here, at = found.this_run, found.prompts_like_these
    assert here is not None and at is not None
    low, high = at.low or 0.0, 1.0 if at.high is None else at.high
    settled = here.bounded and (here.high or 0.0) - (here.low or 0.0) < 1e-9
    prompts = summary.prompts
    return Headline(
        evidence="reviewed",
        value=here.value,
        low=low,
        high=high,
        prompts=prompts,
        images=sample.labelled,
        verdict=_verdict(low, low_at_best=low, chance=chance, prompts=prompts),
        because=[*because, "all_labelled"] if settled else because,
    )


def doubts_of_correction(metrics: Metrics) -> list[str]:
    """Why the corrected figure does not lead; nothing where it does."""
    summary, found = metrics.summary, metrics.summary.unanimity_corrected
    if metrics.calibration is None:
        return ["no_calibration"]
    if found is None or found.value is None:
        refused = any(note.code == "corrected_refused" for note in metrics.notes)
        return ["corrected_refused" if refused else "cannot_be_corrected"]
    doubts = ["published_rates"] if metrics.calibration.binding == "published" else []
    if summary.calibration_fit is not None and not summary.calibration_fit.fits:
        doubts.append("calibration_unlike_run")
    if found.method == st.CONTRADICTED:
        doubts.append("calibration_contradicted")
    if contradicted(found):
        doubts.append(LABELS_CONTRADICT)
    return doubts


def _corrected(summary: Summary, *, chance: float, because: list[str]) -> Headline:
    found = summary.unanimity_corrected
    assert found is not None and found.value is not None
    led = labelled_limits(found)
    at = found if led is None else led
    because = because if led is None or SPREAD_OPEN in because else [*because, MEASURED_SPREAD]
    low, high = at.low or 0.0, 1.0 if at.high is None else at.high
    prompts = found.prompts or 0
    hidden = 1 - found.sets_read if found.sets_read is not None else 0.0
    if summary.calibration_fit is not None and summary.calibration_fit.by is not None:
        because = [*because, "calibration_reweighted"]
    return Headline(
        evidence="corrected",
        value=at.value,
        low=low,
        high=high,
        prompts=prompts,
        images=found.images,
        verdict=_verdict(low, low_at_best=min(low + hidden, 1.0), chance=chance * ABOVE_CHANCE, prompts=prompts),
        because=[*because, "images_without_label"] if hidden > WIDE else because,
    )


def _measured(summary: Summary, *, chance: float, because: list[str]) -> Headline:
    plain, known = summary.unanimity, summary.unanimity_identified
    if plain.value is None:
        return Headline(
            evidence="measured",
            value=None,
            low=None,
            high=None,
            prompts=summary.prompts,
            verdict="nothing_read",
            because=because,
        )
    low, high = (plain.low, plain.high) if known is None or known.low is None else (known.low, known.high)
    prompts = summary.prompts
    most = plain.value if known is None or known.most is None else known.most
    level = (1 - summary.confidence) / 2
    at_best = st.wilson(round(most * prompts), prompts, confidence=summary.confidence).low
    certain = summary.unanimous if known is None or known.least is None else round(known.least * prompts)
    surely = st.at_least(certain, prompts=prompts, probability=chance) <= level
    verdict = _verdict(low if low is not None and surely else 0.0, low_at_best=at_best, chance=chance, prompts=prompts)
    copied = summary.sets_with_copies / prompts if prompts else 0.0
    if known is not None and known.least is not None and most - known.least - copied > WIDE:
        because = [*because, "images_without_label"]
    because = [*because, "near_copies"] if summary.sets_with_copies else because
    because = [*because, "shared_images"] if summary.shared_images else because
    because = [*because, NEARLY_SHARED] if summary.nearly_shared_images else because
    if verdict != "too_few_prompts" and UNFIT.intersection(because):
        verdict = "errors_unknown"
    return Headline(
        evidence="measured",
        value=plain.value,
        low=low,
        high=high,
        prompts=prompts,
        images=prompts * summary.set_size,
        verdict=verdict,
        because=because,
    )


def _verdict(low: float, *, low_at_best: float, chance: float, prompts: int) -> str:
    """Code of how the limits read beside chance; `low_at_best` is the lower one if all images without a label spoke for unanimity."""
    if prompts < FEWEST_PROMPTS:
        return "too_few_prompts"
    if low > chance:
        return "above_chance"
    return "cannot_be_told" if low_at_best > chance else "compatible_with_chance"
