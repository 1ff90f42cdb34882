"""Who is together in one image: scenes with several people, counted and compared within the image. docs/method.md has the formulas.

A group scene is an image in which two or more people were found, or any image of a prompt that asks for several. People are found only
where a detector was asked, a judge named each of them, or records have a row for each; without that a group is read as a whole, how many
it shows is not known, and nothing is said of its inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.accounting import AccountingError
from allfour.pipeline.metrics.asked_for import unasked
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, PEOPLE, SEVERAL, UNREADABLE
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.labels import image_label
from allfour.pipeline.run.metrics import GroupScenes, Persons, Scenes
from allfour.pipeline.run.record import Interval, Note
from allfour.pipeline.run.tables import connect

Composition = tuple[int, ...]
"""People found in an image, and how many of them were decided as each label, in the labels' order."""


@dataclass(frozen=True, slots=True)
class SceneTally:
    """Where people were counted, and which prompts ask for several."""

    asked: frozenset[str] = frozenset()
    """Ids of prompts that ask for several people."""
    compositions: Mapping[str, Mapping[Composition, int]] = field(default_factory=dict)
    """Prompt id -> composition -> images. Images in which nobody was found are not in it."""

    @property
    def several(self) -> bool:
        """Whether any image has more than one person."""
        return any(one[0] >= 2 for images in self.compositions.values() for one in images)


def tally_scenes(run: RunFolder, *, headline: str, labels: Sequence[str], located: bool = True) -> SceneTally:
    """Count people per image over a run's tables.

    Parameters
    ----------
    headline
        The attribute that people are compared by.
    labels
        Its labels.
    located
        Whether a person is a row with a box; else every row that is of somebody is one, as of a reader that names people and no places.
    """
    place = "AND box IS NOT NULL " if located else ""
    counts = [f"c{number}" for number in range(len(labels))]
    decided = ", ".join(f"count(*) FILTER (decision = ?) AS {name}" for name in counts)
    with connect(run) as connection:
        asked = connection.execute(
            "SELECT DISTINCT prompt_id FROM images WHERE extra[?] = ?", [PEOPLE, SEVERAL]
        ).fetchall()
        rows = connection.execute(
            f'WITH scenes AS (SELECT prompt_id, "index", count(*) AS people, {decided} FROM scores'  # noqa: S608 (names made here)
            f" WHERE attribute = ? {place}AND decision NOT IN (?, ?) GROUP BY ALL)"
            f" SELECT prompt_id, people, {', '.join(counts)}, count(*) AS images FROM scenes GROUP BY ALL ORDER BY ALL",
            [*labels, headline, NO_PERSON, UNREADABLE],
        ).fetchall()
    compositions: dict[str, dict[Composition, int]] = {}
    for prompt_id, *composition, images in rows:
        compositions.setdefault(prompt_id, {})[tuple(composition)] = images
    return SceneTally(asked=frozenset(row[0] for row in asked), compositions=compositions)


def scenes_of_run(
    run: RunFolder, prompts: Sequence[PromptTally], *, headline: str, labels: Sequence[str], confidence: float
) -> GroupScenes | None:
    """`group_scenes` over a run's tables; the detector is the one that its header names.

    A prompt that asks for a label of the headline is in no group scene, by the rule of `unasked`.
    """
    header = run.header()
    classifier = header.classifier or {}
    detector = detector_of(classifier)
    tally = tally_scenes(run, headline=headline, labels=labels)
    if classifier.get("backend") in _NAMES_PEOPLE and not tally.several:
        tally = tally_scenes(run, headline=headline, labels=labels, located=False)
    if classifier.get("backend") == "recorded" and not tally.several:
        detector = None  # records of whole images, as far as anybody can tell
    return group_scenes(
        tally,
        unasked([prompt for prompt in prompts if prompt.prompted], header.asked or {}, headline),
        headline=headline,
        labels=labels,
        detector=detector,
        confidence=confidence,
    )


_NAMES_PEOPLE = {"judge": ("the judge", "model"), "recorded": ("the records of", "made_by")}
"""Backends that give a row for each person without a detector: how they are called, and the key of their name in the identity."""


def detector_of(classifier: Mapping[str, Any]) -> str | None:
    """Who tells people apart, by a classifier's identity: a detector, or a reader that names each of them; None where nobody does."""
    if (named := _NAMES_PEOPLE.get(str(classifier.get("backend")))) is not None:
        return f"{named[0]} {classifier.get(named[1]) or 'somebody'}"
    known = (classifier.get("encoder") or {}).get("people") or classifier
    detector = known.get("detector")
    if isinstance(detector, Mapping):
        detector = detector.get("detector")
    return str(detector) if detector else None


def within_image_diversity(counts: Sequence[int]) -> float | None:
    """The probability that two different people of an image, taken at random, were decided as different labels.

    1 - sum of n_k (n_k - 1) / (n (n - 1)), the unbiased form of the Gini-Simpson index (Simpson 1949, Nature 163, 688): for people
    drawn independently its expectation is 1 - sum of p_k^2 however many there are, 1 - 1 / K for an even draw.

    Parameters
    ----------
    counts
        People of the image by label, those without a label left out.

    Returns
    -------
    None for fewer than two people.

    Examples
    --------
    >>> within_image_diversity([2, 2]), within_image_diversity([3, 0]), within_image_diversity([1, 0])
    (0.6666666666666667, 0.0, None)
    """
    people = sum(counts)
    if people < 2:
        return None
    return 1 - sum(n * (n - 1) for n in counts) / (people * (people - 1))


def scene_label(composition: Composition, labels: Sequence[str]) -> str:
    """An image's label from its people: the one that all share, `mixed` where two differ, `ambiguous` where only some are decided."""
    people, *counts = composition
    found = [label for label, count in zip(labels, counts, strict=True) if count]
    return image_label([*found, *([AMBIGUOUS] if sum(counts) < people or not found else [])])


def group_scenes(
    scenes: SceneTally,
    prompts: Sequence[PromptTally],
    *,
    headline: str,
    labels: Sequence[str],
    detector: str | None,
    confidence: float = 0.95,
) -> GroupScenes | None:
    """The key `group_scenes` of metrics.json; None where no prompt asks for several people and no image shows them.

    Raises
    ------
    AccountingError
        An image of a scene was lost or counted twice.
    """
    found = []
    for prompt in prompts:
        compositions = scenes.compositions.get(prompt.id, {})
        if prompt.id in scenes.asked or any(c[0] >= 2 for c in compositions):
            found.append(_Scenes(prompt, prompt.id in scenes.asked, compositions, headline, labels))
    if not found:
        return None
    return GroupScenes(
        attribute=headline,
        detector=detector,
        even_diversity=1 - 1 / len(labels),
        asked=_summary([one for one in found if one.asked], labels, detector, confidence),
        other=_summary([one for one in found if not one.asked], labels, detector, confidence),
        prompts=[one.entry(labels, detector, confidence) for one in found],
    )


class _Scenes:
    """The group scenes of one prompt."""

    def __init__(
        self,
        prompt: PromptTally,
        asked: bool,
        compositions: Mapping[Composition, int],
        headline: str,
        labels: Sequence[str],
    ) -> None:
        self.prompt, self.asked = prompt, asked
        self.several = {c: images for c, images in compositions.items() if c[0] >= 2}
        self.one = sum(images for c, images in compositions.items() if c[0] == 1)
        read = {key: n for key, n in prompt.labels.get(headline, {}).items() if key != UNREADABLE}
        self.images = sum(read.values())
        self.counted = sum(self.several.values())
        self.labels: Counter[str] = Counter()
        self.people: Counter[str] = Counter()
        for composition, images in self.several.items():
            self.labels[scene_label(composition, labels)] += images
            people, *counts = composition
            self.people.update({label: n * images for label, n in zip(labels, counts, strict=True)})
            self.people[AMBIGUOUS] += (people - sum(counts)) * images
        self.rest = {key: n - self.labels[key] for key, n in read.items()}
        left = sum(self.rest.values())
        if min(self.rest.values(), default=0) < 0 or left != self.images - self.counted or left < self.one:
            raise AccountingError(
                f"the group scenes of {prompt.id} do not add up: {self.labels} of {read}. Please report this with the run folder"
            )

    def values(self, of: Any) -> list[float]:
        """One value per image with several people for which there is one."""
        pairs = ((of(composition[1:]), images) for composition, images in self.several.items())
        return [value for value, images in pairs if value is not None for _ in range(images)]

    def entry(self, labels: Sequence[str], detector: str | None, confidence: float) -> Scenes:
        whole = {key: n for key, n in self.rest.items() if n}
        if detector is None:
            return Scenes(id=self.prompt.id, asked=self.asked, images=self.images, counted=None, read_whole=whole)
        total = sum(self.labels[key] for key in (*labels, MIXED))
        return Scenes(
            id=self.prompt.id,
            asked=self.asked,
            images=self.images,
            counted=self.counted,
            one_person=self.one,
            nobody=self.images - self.counted - self.one,
            read_whole=whole,
            persons=_persons([self]),
            counts={key: self.labels[key] for key in (*labels, MIXED, AMBIGUOUS)},
            share={
                key: Interval.of(st.wilson(self.labels[key], total, confidence=confidence)) for key in (*labels, MIXED)
            },
            people={key: self.people[key] for key in (*labels, AMBIGUOUS)},
            people_share={label: _mean(self.values(_share(number)), confidence) for number, label in enumerate(labels)},
            diversity=_mean(self.values(within_image_diversity), confidence),
        )


def _share(number: int) -> Any:
    return lambda counts: counts[number] / sum(counts) if sum(counts) else None


def _mean(values: Sequence[float], confidence: float) -> Interval:
    """Mean over the images of one prompt, which are its independent draws; people of one image are not."""
    return Interval.of(st.mean_over_prompts(values, confidence=confidence))


def _persons(scenes: Sequence[_Scenes]) -> Persons:
    """People per image, over images with several."""
    sizes = sorted(
        size for one in scenes for c, images in one.several.items() for size in [c[0]] * images
    )  # fmt: skip
    if not sizes:
        return Persons(total=0, median=None, least=None, most=None)
    middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    return Persons(total=sum(sizes), median=middle, least=sizes[0], most=sizes[-1])


def _summary(
    scenes: Sequence[_Scenes], labels: Sequence[str], detector: str | None, confidence: float
) -> Scenes | None:
    """The same over several prompts, each with the weight one and with intervals over prompts."""
    if not scenes:
        return None
    images = sum(one.images for one in scenes)
    if detector is None:
        return Scenes(prompts=len(scenes), images=images, counted=None)
    sums = sum((one.labels for one in scenes), Counter[str]())
    people = sum((one.people for one in scenes), Counter[str]())
    keys = (*labels, MIXED)
    table = np.array([[one.labels[key] for key in keys] for one in scenes], dtype=np.int64)
    inside = {label: [one.values(_share(number)) for one in scenes] for number, label in enumerate(labels)}
    return Scenes(
        prompts=len(scenes),
        images=images,
        counted=sum(one.counted for one in scenes),
        one_person=sum(one.one for one in scenes),
        nobody=sum(one.images - one.counted - one.one for one in scenes),
        persons=_persons(scenes),
        counts={key: sums[key] for key in (*keys, AMBIGUOUS)},
        share={
            key: Interval.of(st.mean_share(table, label=place, confidence=confidence)) for place, key in enumerate(keys)
        },
        people={key: people[key] for key in (*labels, AMBIGUOUS)},
        people_share={label: _over_prompts(values, confidence) for label, values in inside.items()},
        diversity=_over_prompts([one.values(within_image_diversity) for one in scenes], confidence),
    )


def _over_prompts(values: Sequence[Sequence[float]], confidence: float) -> Interval:
    """Mean over prompts of the mean over images; the people of an image count for one observation, not for as many as they are."""
    known = [found for found in values if found]
    images = float(sum(len(found) for found in known))
    return Interval.of(
        st.mean_over_prompts(
            [sum(found) / len(found) for found in known], independent=images or None, confidence=confidence
        )
    )


def scene_notes(found: GroupScenes | None) -> list[Note]:
    """What a reader must know before quoting a number about groups."""
    asked = found.asked if found is not None else None
    if found is None or asked is None:
        return []
    prompts = "1 prompt asks" if asked.prompts == 1 else f"{asked.prompts:,} prompts ask"
    if found.detector is None:
        text = (
            f"{prompts} for several people, but people were not counted: each image has one label for the whole picture, even where the people in "
            "it differ. Set a detector, such as classifier.people.detector: centerface, or a reader that has a row for each person."
        )
        return [Note(code="nobody_counted", text=text, about="group_scenes")]
    few = asked.one_person + asked.nobody
    if few > asked.images / 4:
        text = (
            f"{prompts} for several people, but in {few:,} of {asked.images:,} images fewer than two were found. These images are read as a "
            "whole and left out of the figures about who is shown together."
        )
        return [Note(code="few_people_found", text=text, about="group_scenes")]
    return []
