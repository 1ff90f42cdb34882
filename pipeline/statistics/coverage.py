"""Where an interval may not cover as often as it says, or says very little: the settings docs/validation.md found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline.statistics.confusion import Confusion
from allfour.pipeline.statistics.correction import CONTRADICTED
from allfour.pipeline.statistics.intervals import Interval

FEW_PROMPTS = 10
"""Below this, kinds of prompts that are rare are easily missed."""
SMALL_CALIBRATION = 50
"""Calibration images of a label below which its error rates are hardly known."""
WEAK_DISCRIMINATION = 0.65
"""Youden's J below which a correction multiplies noise; at 0.6 corrected unanimity covered 92.7% once (docs/validation.md)."""
HIDDEN = 0.1
"""Share of prompts hanging on images without a label above which these, and not how sets agree, make unanimity low."""
FEW_OTHER_IMAGES = 30
"""Images with another label than the commonest below which counts are too coarse for the stated coverage."""


@dataclass(frozen=True)
class CoverageWarning:
    """A reason to read an interval with care."""

    code: str
    """Short name, stable across versions."""
    message: str
    """One sentence for a reader."""


def coverage_warnings(
    *,
    prompts: int,
    set_size: int = 4,
    labels: int = 2,
    share: Interval | None = None,
    unanimity: Interval | None = None,
    first_set: Interval | None = None,
    other_images: int | None = None,
    confusion: Confusion | None = None,
    corrected_unanimity: Interval | None = None,
    corrected_prompts: int | None = None,
    fits: bool = True,
    hidden: float | None = None,
) -> list[CoverageWarning]:
    """Return what to warn about beside the intervals of a run.

    Parameters
    ----------
    prompts
        Prompts with enough images; none gives no warning.
    set_size, labels
        As in `unanimity`.
    share, unanimity
        The uncorrected estimates over all images; share is that of the commonest label. One without a value says that no
        image has a label: unanimity is then 0 for want of labels, and neither agreement nor nearness to chance.
    first_set
        Unanimity of each prompt's first set alone.
    other_images
        Labelled images with another label than the commonest; None where it is not known.
    confusion
        The calibration, if one is attached.
    corrected_unanimity
        The corrected estimate, if there is one.
    corrected_prompts
        Prompts that it rests on: fewer, where of some every set holds an image that no error rate covers.
    fits
        Whether the calibration fits the run. How low an estimate is whose calibration does not says nothing of chance.
    hidden
        Share of prompts whose unanimity depends on images without a label. Where that is more than `HIDDEN`, how low the uncorrected
        unanimity is says nothing of agreement or chance, and no such note is given.
    """
    found: list[CoverageWarning] = []
    if not prompts:
        return found  # no interval is there to be read with care

    def warn(code: str, message: str) -> None:
        found.append(CoverageWarning(code, message))

    if prompts < FEW_PROMPTS:
        warn(
            "few-prompts",
            f"Only {prompts} prompt{'' if prompts == 1 else 's'}: so few can miss rare kinds of prompts, and the true coverage of the "
            "intervals may be lower or higher than stated.",
        )
    elif corrected_prompts is not None and corrected_prompts < FEW_PROMPTS:
        warn(
            "few-prompts",
            f"The corrected figure rests on {corrected_prompts} of {prompts} prompts: so few can miss rare kinds of prompts, and the true "
            "coverage of its interval may be lower or higher than stated.",
        )
    nothing_labelled = share is not None and share.value is None
    plain = [] if nothing_labelled or (hidden or 0.0) > HIDDEN else [unanimity, first_set]
    if prompts > 1 and (alike := _alike(share, plain)) is not None:
        warn(
            "agreement",
            f"{alike}, so how much prompts differ in this is not known. The interval assumes little about it.",
        )
    elif other_images is not None and other_images < FEW_OTHER_IMAGES:
        warn(
            "rare-label",
            f"{_so_few(other_images)} {'has' if other_images < 2 else 'have'} a label other than the most common one. With fewer than "
            f"{FEW_OTHER_IMAGES}, the true coverage of the intervals may be lower or higher than stated.",
        )
    least = least_unanimity(set_size, labels)
    # a quarter below at least: over the images of one prompt, drawn without replacement, even labels stay a little below it
    below = [
        e.value for e in plain if e is not None and e.value is not None and e.value < 0.75 * least and e.high < least
    ]
    corrected = corrected_unanimity.value if corrected_unanimity is not None and fits else None
    read = [e.value for e in plain if e is not None]
    if below:
        warn(
            "below-chance",
            f"Fewer sets agree than even draws would give ({min(below):.1%}, and {least:.1%} by chance): the generator may "
            "make the images of a prompt differ on purpose"
            + ("." if hidden == 0 else ", or images have no label, which counts against their set."),
        )
    elif is_near_chance([corrected], set_size=set_size, labels=labels):
        warn(
            "near-chance",
            f"Corrected unanimity is close to {least:.3g}, the least that is possible over many images. Its estimate is skewed there, and "
            "calibration error can only raise it.",
        )
    elif is_near_chance(read, set_size=set_size, labels=labels):
        which = "Unanimity" if corrected is None else "Unanimity before the correction"
        warn(
            "near-chance",
            f"{which} is close to {least:.3g}, the least that is possible over many images. Its estimate is skewed there.",
        )
    if confusion is not None:
        fewest = int(confusion.counts.sum(axis=1).min())
        if fewest < SMALL_CALIBRATION:
            warn(
                "small-calibration",
                f"The error rates of a label rest on only {fewest} calibration image{'' if fewest == 1 else 's'}, too few to know them well.",
            )
        if confusion.discrimination < WEAK_DISCRIMINATION:
            warn(
                "weak-classifier",
                f"The classifier tells labels apart poorly (J = {confusion.discrimination:.2f}). Corrected intervals are "
                "wide, and the true coverage of those of unanimity may be a little lower than stated.",
            )
    if corrected_unanimity is not None and corrected_unanimity.method == CONTRADICTED:
        warn(
            "calibration-contradicted",
            "The images are more alike, or more even, than the calibration's error rates allow, so the calibration "
            "does not describe these images.",
        )
    return found


def comparison_coverage_warnings(
    *,
    unanimity: Sequence[float | None],
    other_images: Sequence[int | None],
    set_size: int = 4,
    labels: int = 2,
    discriminations: Sequence[float] = (),
) -> list[CoverageWarning]:
    """Return what to warn about beside the differences of two runs.

    Parameters
    ----------
    unanimity
        Of each run, over all images; None where it is not known.
    other_images
        Of each run, as in `coverage_warnings`; None where none is labelled, whose unanimity of 0 then says nothing.
    set_size, labels
        As in `unanimity`.
    discriminations
        Youden's J of the classifiers whose errors are taken out.

    Raises
    ------
    ValueError
        `unanimity` and `other_images` are of different lengths.
    """
    found = []
    labelled = [value for value, others in zip(unanimity, other_images, strict=True) if others is not None]
    if is_near_chance(labelled, set_size=set_size, labels=labels):
        found.append(
            CoverageWarning(
                "near-chance",
                f"Unanimity of one of the runs is close to {least_unanimity(set_size, labels):.3g}, the least that is "
                "possible over many images. The difference is skewed there, so the true coverage of its interval may be lower than stated.",
            )
        )
    few = [count for count in other_images if count is not None]
    if few and min(few) < FEW_OTHER_IMAGES:
        found.append(
            CoverageWarning(
                "rare-label",
                f"One of the runs has {_so_few(min(few)).lower()} with a label other than the most common one. With fewer "
                f"than {FEW_OTHER_IMAGES}, the true coverage of the interval of a difference may be lower than stated.",
            )
        )
    if discriminations and min(discriminations) < WEAK_DISCRIMINATION:
        found.append(
            CoverageWarning(
                "weak-classifier",
                f"One of the classifiers tells labels apart poorly (J = {min(discriminations):.2f}): limits of a corrected difference are wide, "
                "skewed, and may cover less often than stated.",
            )
        )
    return found


def least_unanimity(set_size: int, labels: int) -> float:
    """Return unanimity where every prompt's images are evenly of all labels: the least that it can be over many images."""
    return float(labels) ** (1 - set_size)


def is_near_chance(values: Sequence[float | None], *, set_size: int, labels: int) -> bool:
    """Return whether one of the unanimities is between half and twice the least that even draws give."""
    least = least_unanimity(set_size, labels)
    return any(least / 2 <= value < 2 * least for value in values if value is not None)


def _so_few(images: int) -> str:
    return f"Only {images} image{'' if images == 1 else 's'}" if images else "No image"


def _alike(share: Interval | None, unanimity: Sequence[Interval | None]) -> str | None:
    """In what all prompts come out alike, if in anything."""
    if share is not None and share.value in (0.0, 1.0):
        return "All prompts come out alike: every image with a label shows one and the same"
    values = {e.value for e in unanimity if e is not None} & {0.0, 1.0}
    if not values:
        return None
    return f"All prompts come out alike: {'every one is' if 1.0 in values else 'none is'} unanimous"
