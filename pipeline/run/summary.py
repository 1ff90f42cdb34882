"""What metrics.json says of a run as a whole: its headline, what stands beside it, and every image accounted for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allfour.pipeline.run.record import Count, Estimate, Interval, Number, Record, Share, always_written


class Bounds(Record):
    """What a figure becomes when abstentions are resolved against it, and for it."""

    low: Share = None
    high: Share = None


class Null(Record):
    """What chance would give."""

    expected: Share = None
    """Share of prompts."""
    expected_count: Number = None
    """Number of prompts."""
    p_value: Share = None
    """Probability of so many or more."""


class OverPrompts(Interval):
    """A figure with what it rests on."""

    prompts: Count | None = None
    images: Count | None = None
    sets: Count | None = None


class SpreadPoint(Record):
    """A corrected figure if error rates differ by prompt so much."""

    spread: Number = None
    """Standard deviation of the pull between prompts, on the logit."""
    value: Share = None
    """With pulls that have nothing to do with the shares."""
    low: Share = None
    high: Share = None
    """Limits over such pulls, none, and pulls that go with or against the label that a prompt has most of."""


class ErrorSpread(SpreadPoint):
    """What a corrected figure is if error rates differ by prompt.

    A sensitivity analysis beside the interval where the spread is assumed or that of a calibration's groups; the figure that leads where the
    spread was measured on images of the run that people labelled.
    """

    source: Literal["default", "calibration groups", "labelled images"] = "default"
    """Where the spread comes from: assumed, how much error differs between groups of the calibration, or people's labels of this run."""
    spread_low: Number = None
    spread_high: Number = None
    """What the spread may be; none where it is assumed."""
    by: str | None = None
    """The grouping of the calibration."""
    images: Count | None = None
    """That people labelled."""
    prompts: Count | None = None
    """That these are of."""
    lean: Number = None
    """Mean pull on the logit towards the label that a prompt has most of, as labels show it: error that follows a stereotype cue."""
    lean_low: Number = None
    lean_high: Number = None
    agrees: Share = None
    """p-value that people's labels go with the calibration's error rates, however much these differ by prompt."""
    alike: Share = None
    """p-value that errors are alike in every prompt: below 5% labels show that they differ, and `low` and `high` lead; else what leads is no
    wider than the limits without labels."""
    curve: list[SpreadPoint] = Field(default_factory=list)


class Corrected(OverPrompts):
    """Unanimity with the classifier's errors taken out. Its limits hold whatever images without a decision show."""

    prompts_of: Count | None = None
    """Prompts with a whole set: `prompts` of them have one in which every image was decided or unclear."""
    sets_read: Share = None
    """Sets in which no image lacks a decision; below a half nothing is corrected."""
    error_spread: ErrorSpread | None = None
    """For two labels."""


class Identified(Record):
    """What the images can tell of a figure whatever those without a label show."""

    low: Share = None
    high: Share = None
    """Limits for the truth, sampling of prompts included."""
    least: Share = None
    most: Share = None
    """The estimate with every image without a label against, and for."""
    prompts: Count = 0


class NullOfSets(Null):
    """What chance would give over complete sets, beside what there is."""

    sets: Count = 0
    """Sets in which every image has a label, of prompts that the shares are known of."""
    unanimous: Count = 0


class Nulls(Record):
    """Chance, three ways: even draws, the run's own pooled shares for every prompt, and every prompt's reference shares."""

    even: NullOfSets | None = None
    pooled: NullOfSets | None = None
    reference: NullOfSets | None = None


class CalibrationFit(Record):
    """Whether a calibration's error rates can be those of a run."""

    fits: bool
    p_value: Share = None
    contrasts: Count = 0
    """Directions that no mix of labels can move, in which the run was compared."""
    prompts: Count = 0
    images: Count = 0
    by: str | None = None
    """The grouping of the calibration by which it was weighted to the run's own mix, since as a whole it did not fit or its mix is another."""
    mix: dict[str, dict[str, float]] | None = None
    """Label -> group -> its share among images of the label, as the run shows it."""
    own_mix: Share = None
    """p-value that the run's mix is that of the calibration's images."""


class Amplification(Estimate):
    """Mean over prompts of share less reference share, of the label that the reference has most of; -1 to 1."""

    prompts: Count = 0


class Headline(Record):
    """The best figure there is, and how it reads."""

    model_config = always_written("evidence", "value", "low", "high", "prompts", "verdict", "because")

    evidence: Literal["measured", "corrected", "reviewed"] = "measured"
    value: Share = None
    low: Share = None
    high: Share = None
    prompts: Count = 0
    images: Count | None = None
    verdict: str = "nothing_read"
    because: list[str] = Field(default_factory=list)
    """Codes: what stands in the way of better evidence, or of a verdict."""
    include: list[str] | None = None
    """What the limits hold: prompts, and wording and classifier where they were asked for and are known."""


class ReferenceDifference(Record):
    """How far measured shares lie from reference shares, over prompts that have both."""

    label: str
    prompts: Count = 0
    mean_absolute: Share = None
    low: Share = None
    high: Share = None
    floor: Share = None
    """What draws with exactly the reference shares would give."""
    excess: Number = None
    """Mean absolute difference less the floor, -1 to 1: 0 is expected of draws with exactly the reference shares."""
    excess_low: Number = None
    excess_high: Number = None
    p_value: Share = None
    """Probability that draws with exactly the reference shares lie as far away, or farther."""


class Summary(Record):
    """The headline, and what stands beside it."""

    model_config = always_written("prompts", "set_size", "unanimous", "unanimity", "unanimity_bounds", "unanimity_null")

    prompts: Count = 0
    """With a whole set."""
    prompts_left_out: Count = 0
    prompts_asked_for: Count | None = None
    """Prompts that ask for a label of the headline's attribute: in none of its figures, unless every prompt asks."""
    """With fewer images than a set has."""
    headline: Headline | None = None
    include: list[str] | None = None
    """What the headline's limits were asked to hold (`statistics.include`); prompts alone where nothing is said."""
    set_size: int = 4
    unanimous: Count = 0
    """Prompts whose first set shows one label."""
    unanimity: Interval = Field(default_factory=Interval)
    """Value and ends are null where nothing was scored, so that no gate passes for want of data."""
    unanimity_bounds: Bounds | None = None
    unanimity_identified: Identified | None = None
    """Of the first sets, whatever images without a label show."""
    unanimity_null: Null | None = None
    nulls: Nulls | None = None
    unanimity_exact: Interval | None = None
    unanimity_corrected: Corrected | None = None
    calibration_fit: CalibrationFit | None = None
    unanimity_all_images: OverPrompts | None = None
    """Over every set that could be drawn from a prompt's images."""
    unanimity_all_images_identified: Identified | None = None
    unanimity_by_sets: OverPrompts | None = None
    """Over the sets that images came in, one after the other."""
    scored_share: Share = None
    """Images scored, of those requested or listed: a gate for runs that mostly failed."""
    confidence: float = 0.95
    multi_person_images: Count = 0
    revised_prompts: Count = 0
    """Images whose prompt the service rewrote."""
    duplicate_images: Count = 0
    shared_images: Count = 0
    """Images whose bytes an image of another prompt has too: a picture put in the place of an answer, or a prompt that was not read."""
    nearly_shared_images: Count = 0
    """Further images that are nearly the same as ones of two other prompts or more, by the classifier's embeddings."""
    near_copies: Count = 0
    """Labelled images that are nearly the same as an earlier one of their prompt, equal bytes among them."""
    sets_with_copies: Count = 0
    images_without_prompt: Count = 0
    reference_difference: ReferenceDifference | None = None
    amplification: Amplification | None = None


class Accounting(Record):
    """Every image exactly once.

    requested = generated + refused + failed; generated = scored + unreadable; scored = labelled + ambiguous + no_person.
    """

    requested: Count = 0
    generated: Count = 0
    refused: Count = 0
    failed: Count = 0
    unreadable: Count = 0
    scored: Count = 0
    labelled: Count = 0
    ambiguous: Count = 0
    no_person: Count = 0
    mixed: Count = 0
    """Part of labelled: several persons with different labels."""

    @property
    def missing(self) -> int:
        """Images that were requested or listed and have no score."""
        return self.refused + self.failed + self.unreadable
