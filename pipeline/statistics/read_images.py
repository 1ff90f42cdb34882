"""What two runs have read in the images of the same prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts, as_whole_numbers
from allfour.pipeline.statistics.confusion import Confusion, as_decisions
from allfour.pipeline.statistics.paired import least_step
from allfour.pipeline.statistics.unanimity import subset_unanimity


@dataclass(frozen=True, eq=False)
class ReadImages:
    """What was read in one run's images of the prompts compared, in the order of the prompts.

    Raises
    ------
    ValueError
        The numbers are not whole, or the columns do not fit the confusion.
    """

    decisions: IntArray
    """Images per prompt and decision, shape (prompts, labels or more): the labels, then outcomes that an error model knows, such as
    ambiguous."""
    labels: int
    """How many of the columns are labels."""
    unread: IntArray | int = 0
    """Images per prompt that no column holds: no person, several, unreadable or missing. Shape (prompts,)."""
    confusion: Confusion | None = None
    """The calibration of this run's classifier; columns as in `decisions`."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        table = (
            as_counts(self.decisions, name="decisions")
            if self.confusion is None
            else as_decisions(self.decisions, self.confusion)
        )
        object.__setattr__(self, "decisions", table)
        object.__setattr__(self, "unread", as_whole_numbers(self.unread, name="unread", length=len(table)))

    @property
    def images(self) -> IntArray:
        """Shape (prompts,)."""
        images: IntArray = self.decisions.sum(axis=1) + self.unread
        return images

    def unanimity(self, set_size: int, *, favourable: bool = False) -> FloatArray:
        """Return per prompt how often a set of its images agrees, images without a label against it, or for it."""
        labelled = self.decisions[:, : self.labels]
        return subset_unanimity(
            labelled,
            set_size=set_size,
            unresolved=self.images - labelled.sum(axis=1),
            resolve="for" if favourable else "against",
        )

    def rows(self, chosen: npt.NDArray[np.bool_]) -> ReadImages:
        """Return the same for some of the prompts."""
        return ReadImages(self.decisions[chosen], self.labels, np.asarray(self.unread)[chosen], self.confusion)


def unanimity_step(one: ReadImages, two: ReadImages, set_size: int) -> float:
    """Return the least difference that one image more can make; where the runs hold different numbers, as large as it is anywhere."""
    values = one.unanimity(set_size), two.unanimity(set_size)
    if np.array_equal(one.images, two.images):
        return least_step(np.concatenate(values))
    return 1.0 if min(one.images.min(), two.images.min()) == set_size else max(least_step(side) for side in values)


def one_set_each(one: ReadImages, two: ReadImages, set_size: int) -> bool:
    """Whether both runs have just a set of every prompt, so that its unanimity is 0 or 1."""
    return bool((one.images == set_size).all() and (two.images == set_size).all())


def with_rest(run: ReadImages) -> IntArray:
    """Return images per prompt and label, and in one more column those without a label."""
    labelled = run.decisions[:, : run.labels]
    table: IntArray = np.column_stack([labelled, run.images - labelled.sum(axis=1)])
    return table
