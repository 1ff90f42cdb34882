"""A calibration of some people, a run of others: real readings of images, dealt out to simulated audits.

Two sources. The drawn world: portraits by the sandbox's renderer, in which the error is planted by age, since the young are blurred. And
photographs, where a folder with UTKFace's names and a CLIP that reads them are given. Every audit calibrates on images drawn from one pool
and runs on images drawn from another; decisions, leads and calibration files are the tool's own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import EmbeddingClassifier
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.generators.base import Generated, GenerationRequest, image_seed
from allfour.models.generators.portrait_renderer import PortraitRenderer
from allfour.pipeline.analyses.calibration import Judged, lead_counts
from allfour.pipeline.analyses.labelled_images import open_labelled
from allfour.pipeline.config import load_attributes
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.scoring.decisions import decide
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from scripts.validation.evidence import DECISIONS, LABELS, measured, true_unanimity

PROMPTS, IMAGES, CALIBRATED = 40, 16, 200
DRAWN = [("grown, drawn", "grown, drawn"), ("grown, drawn", "young, blurred")]
BLUR = 2.2
"""Radius, in pixels of 64, by which the young of the drawn world are blurred: what makes the classifier err by age."""


@dataclass(frozen=True)
class Pool:
    """Images of one kind of people, as a classifier read them."""

    truth: IntArray
    """[N] position in LABELS."""
    decision: IntArray
    """[N] position in DECISIONS."""
    probabilities: FloatArray
    """[N, 2]."""

    def draw(self, wanted: IntArray, random: np.random.Generator) -> IntArray:
        """Return images of the wanted true labels, with replacement."""
        chosen = np.empty(wanted.shape, dtype=np.int64)
        for label in range(len(LABELS)):
            own = np.flatnonzero(self.truth == label)
            chosen[wanted == label] = random.choice(own, int((wanted == label).sum()))
        return chosen

    def described(self) -> tuple[float, float]:
        """Return the share without a label, and the error among the others."""
        labelled = self.decision < len(LABELS)
        return float(1 - labelled.mean()), float((self.decision != self.truth)[labelled].mean())


def pool_of(images: list[Image.Image], truth: list[int], classifier: EmbeddingClassifier) -> Pool:
    """Read images by the classifier's words for gender, with the margin of its attributes and no presence gate."""
    prepared = [classifier.prepare(image) for image in images]
    parts = [classifier.encode(np.stack(prepared[at : at + 32])) for at in range(0, len(prepared), 32)]
    table = classifier.probabilities(np.concatenate(parts))["gender"]
    decided = decide(table, LABELS, margin=classifier.attributes.attributes["gender"].margin)
    code = np.where(decided.code < 0, len(LABELS), decided.code).astype(np.int64)
    return Pool(np.array(truth), code, np.asarray(table, dtype=np.float64))


def photographs(folder: Path, clip: Path) -> Mapping[str, Pool]:
    """Return a pool per race group of a folder with UTKFace's names."""
    attributes = load_attributes("configs/attributes/perceived.yaml")
    classifier = ClipClassifier(attributes=attributes, model=None, pretrained=str(clip), device="cpu")
    found: dict[str, tuple[list[Image.Image], list[int]]] = {}
    for item in open_labelled(folder, attributes).images:
        images, truth = found.setdefault(item.truth["race"], ([], []))
        images.append(Image.open(item.path).convert("RGB"))
        truth.append(LABELS.index(item.truth["gender"]))
    return {name: pool_of(*own, classifier) for name, own in sorted(found.items())}


def drawn(number: int) -> Mapping[str, Pool]:
    """Return pools of the drawn world: the middle-aged and elderly as they are, the young blurred."""
    attributes: AttributeSet = load_attributes("configs/attributes/sandbox.yaml")
    classifier = ClipClassifier(attributes=attributes, model=None, pretrained="models/sandbox/clip", device="cpu")
    found: dict[str, tuple[list[Image.Image], list[int]]] = {"grown, drawn": ([], []), "young, blurred": ([], [])}
    ids = ((age, index) for index in range(number) for age in ("young", "middle-aged"))
    requests = (
        GenerationRequest(age, index, f"a photo of a {age} person", image_seed(7, age, index)) for age, index in ids
    )
    for outcome in PortraitRenderer(planted={"prompts": {}}).generate(requests):
        assert isinstance(outcome, Generated) and outcome.truth is not None
        image = Image.open(io.BytesIO(outcome.data)).convert("RGB")
        young = outcome.truth["age"] == "young"
        images, truth = found["young, blurred" if young else "grown, drawn"]
        images.append(image.filter(ImageFilter.GaussianBlur(BLUR)) if young else image)
        truth.append(LABELS.index(outcome.truth["gender"]))
    return {name: pool_of(*own, classifier) for name, own in found.items()}


@dataclass(frozen=True)
class Row:
    """A calibration of one pool and runs of another."""

    calibrated_on: str
    run_on: str
    audits: int
    refused: float
    """Share of audits in which the calibration is said not to fit: its size where the two are one, else its power."""
    corrected: float
    """Mean of the corrected figure, which stood as the answer before it was tested."""
    covered_before: float
    """By the corrected figure, whatever the test says."""
    wrong_now: float
    """Share of audits in which a corrected figure leads whose interval leaves out the truth."""
    truth: float


def rows(pools: Mapping[str, Pool], pairs: list[tuple[str, str]], audits: int, random: np.random.Generator) -> Iterator[Row]:  # fmt: skip
    """Simulate every pair, calibration first; those of two pools two fifths as often, since power needs no such precision as size."""
    for one, other in pairs:
        yield _row(one, other, pools, audits if one == other else audits * 2 // 5, random)


def _row(one: str, other: str, pools: Mapping[str, Pool], audits: int, random: np.random.Generator) -> Row:
    truth = true_unanimity()
    refused, values, before, wrong = [], [], [], []
    for _ in range(audits):
        calibration = calibrated(pools[one], random)
        share = random.beta(0.3, 0.3, size=(PROMPTS, 1))
        wanted = np.where(random.random((PROMPTS, IMAGES)) < share, 0, 1)
        chosen = pools[other].draw(wanted, random)
        top = measured(
            pools[other].decision[chosen], calibration=calibration, leads=_leads(pools[other].probabilities[chosen])
        ).summary
        found = top.unanimity_corrected
        known = found is not None and found.value is not None
        holds = found is not None and known and (found.low or 0.0) <= truth <= (found.high or 0.0)
        refused.append(top.calibration_fit is not None and not top.calibration_fit.fits)
        values += [found.value] if found is not None and found.value is not None else []
        before.append(holds)
        wrong.append(top.headline is not None and top.headline.evidence == "corrected" and not holds)
    shares = [float(np.mean(part)) for part in (refused, values or [np.nan], before, wrong)]
    return Row(one, other, audits, shares[0], shares[1], shares[2], shares[3], truth)


def calibrated(pool: Pool, random: np.random.Generator) -> Calibration:
    """Return a calibration on images of the pool, half of either label, as `allfour calibrate` writes one."""
    chosen = pool.draw(np.repeat([0, 1], CALIBRATED // 2), random)
    judged = Judged(
        [LABELS[t] for t in pool.truth[chosen]],
        [DECISIONS[d] for d in pool.decision[chosen]],
        pool.probabilities[chosen],
        list(range(CALIBRATED)),
    )
    counts = {label: dict.fromkeys(DECISIONS[:3], 0) for label in LABELS}
    for label, decided in zip(judged.truth, judged.decision, strict=True):
        counts[label][decided] += 1
    entry = {"labels": list(LABELS), "confusion": counts}
    entry |= lead_counts(judged, np.ones(CALIBRATED, dtype=bool), LABELS)
    binding = {"kind": "exact"}
    return Calibration(
        {"created": "", "binding": binding, "dataset": {}, "confidence": 0.95, "attributes": {"gender": entry}}
    )


def _leads(probabilities: FloatArray) -> FloatArray:
    ordered = np.sort(np.clip(probabilities, 1e-12, 1.0), axis=-1)
    found: FloatArray = np.log(ordered[..., -1]) - np.log(ordered[..., -2])
    return found
