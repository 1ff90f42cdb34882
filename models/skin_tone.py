"""Skin tone from the pixels of a face: CIELAB, the individual typology angle, and the Monk scale.

It is a colour as an image shows it, under that image's light and processing. It is not a person's race or ethnicity, and two images of
one person can differ by more than two steps: see docs/classifiers.md for how much changed light alone moves it.

The skin that is measured lies between the line of the eyes and the upper lip, inside the oval of the face: without eyes, mouth, hair
above and beard below. Its colour is the median over these pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

    from allfour.models.detectors.base import Detection

VERSION = 1
"""Raised whenever the same face would get another tone: part of a classifier's identity."""

_Floats = NDArray[np.float64]

# --- colour ------------------------------------------------------------------------------------------------------------------

_TO_XYZ = np.asarray(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB -> CIE XYZ under D65 (IEC 61966-2-1)."""
_WHITE = np.asarray([0.95047, 1.0, 1.08883])
"""D65, 2 degrees."""


def lab(rgb: NDArray[np.uint8]) -> _Floats:
    """sRGB [..., 3] uint8 -> CIELAB [..., 3] under D65 (CIE 15:2004)."""
    encoded = rgb.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def typology_angle(lightness: float, b: float) -> float:
    """Individual typology angle in degrees: arctan((L* - 50) / b*) (Chardon, Cretois and Hourseau 1991, Int. J. Cosmet. Sci. 13)."""
    return math.degrees(math.atan2(lightness - 50, b))


# --- scales ------------------------------------------------------------------------------------------------------------------

MONK: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        f"monk {step}": (int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16))
        for step, colour in enumerate(
            ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420"),
            start=1,
        )
    }
)
"""The ten swatches of the Monk Skin Tone Scale (Monk 2019, published at skintone.google, CC BY 4.0)."""

ANGLES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "ita very light": (55.0, 180.0),
        "ita light": (41.0, 55.0),
        "ita intermediate": (28.0, 41.0),
        "ita tan": (10.0, 28.0),
        "ita brown": (-30.0, 10.0),
        "ita dark": (-180.0, -30.0),
    }
)
"""Classes of the angle, in degrees, from below to above (Chardon et al. 1991; Del Bino and Bernerd 2013, Br. J. Dermatol. 169)."""

SCALES = (tuple(MONK), tuple(ANGLES))

LIGHT_LAB = (10.9, 3.6, 5.5)
"""Standard deviations of L*, a* and b* of one drawn face under 30 lights (`scripts/validation/skin_tone_light.py`)."""
LIGHT_ANGLE = 16.9
"""Standard deviation, in degrees, of its angle."""


def check_labels(labels: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless the phrases of the labels are the steps of one scale, each of them once."""
    steps_given = [step for steps in labels.values() for step in steps]
    scale = next((scale for scale in SCALES if steps_given and steps_given[0] in scale), None)
    if scale is None or sorted(steps_given) != sorted(scale):
        raise ValueError(
            f"an attribute with source skin-tone must sort all steps of one scale into labels, each step once: {', '.join(SCALES[0])}; or {', '.join(SCALES[1])}. It has: {', '.join(steps_given)[:300]}"
        )


def probabilities(colour: Sequence[float], labels: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Label -> probability that a face of this colour (L*, a*, b*) would have it in average light.

    The light of an image is not known. A step of the angle has the normal probability of its interval, a swatch the normal density of
    its distance, with the deviations that changed light alone was measured to give.
    """
    steps = {step for of_label in labels.values() for step in of_label}
    weights = _angles(colour) if steps <= set(ANGLES) else _swatches(colour)
    found = {label: sum(weights[step] for step in of_label) for label, of_label in labels.items()}
    total = sum(found.values())
    return {label: value / total for label, value in found.items()}


def _angles(colour: Sequence[float]) -> dict[str, float]:
    angle = typology_angle(colour[0], colour[2])

    def below(limit: float) -> float:
        return 0.5 * math.erfc((angle - limit) / (LIGHT_ANGLE * math.sqrt(2)))

    last, first = len(ANGLES) - 1, 0
    result = {}
    for place, (step, (low, high)) in enumerate(ANGLES.items()):
        result[step] = (1.0 if place == first else below(high)) - (0.0 if place == last else below(low))
    return result


def _swatches(colour: Sequence[float]) -> dict[str, float]:
    table = lab(np.asarray(list(MONK.values()), dtype=np.uint8))
    squares = ((table - np.asarray(colour)) ** 2).sum(axis=1)  # of CIE76 differences
    # one deviation for all three: skin is redder in photographs than every swatch, and hue would decide in place of lightness
    weights = np.exp(-(squares - squares.min()) / (2 * np.mean(np.square(LIGHT_LAB))))
    return {step: float(weight) for step, weight in zip(MONK, weights, strict=True)}


# --- the skin of a face --------------------------------------------------------------------------------------------------------

_FEWEST = 60
"""Pixels of skin below which nothing is measured: a face of some 20 pixels."""
_LARGEST = 128
"""Pixels of the distance between eyes and mouth that a face is reduced to."""
_LEAST = (-2.0, 2.0)
"""a* and b* below which a colour is not one of skin: a mask, coloured light, or a picture in black and white."""


@dataclass(frozen=True, slots=True)
class SkinColour:
    """The skin of one face."""

    lightness: float
    a: float
    b: float
    """CIELAB, median over the pixels."""
    pixels: int

    @property
    def lab(self) -> tuple[float, float, float]:
        return self.lightness, self.a, self.b

    @property
    def angle(self) -> float:
        """Individual typology angle in degrees."""
        return typology_angle(self.lightness, self.b)


def measure(image: Image.Image, face: Detection) -> SkinColour | None:
    """The colour of a face's skin in an RGB image; None without landmarks, with too few pixels, or where it is no skin's."""
    if len(face.landmarks) != 5:
        return None
    left, top, right, bottom = (round(side) for side in face.box)
    box = max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)
    if box[2] - box[0] < 4 or box[3] - box[1] < 4:
        return None
    pixels = np.asarray(image.crop(box).convert("RGB"))
    step = max(1, (bottom - top) // (2 * _LARGEST))  # a large face has more pixels than a median needs
    mask = _mask(face, box)
    chosen = pixels[::step, ::step][mask[::step, ::step]]
    # what is blown out or black has lost its colour
    chosen = chosen[(chosen.min(axis=1) < 253) & (chosen.max(axis=1) > 3)]
    if len(chosen) < _FEWEST:
        return None
    found = np.median(lab(chosen), axis=0)
    if found[1] < _LEAST[0] or found[2] < _LEAST[1]:
        return None
    return SkinColour(float(found[0]), float(found[1]), float(found[2]), len(chosen))


def _mask(face: Detection, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Pixels of a box that are skin by where they lie: [height, width]."""
    points = np.asarray(face.landmarks, dtype=np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    length = max(float(np.hypot(*down)), 1.0)
    down /= length
    across = np.asarray([-down[1], down[0]]) * -1
    y, x = np.mgrid[box[1] : box[3], box[0] : box[2]] + 0.5
    dx, dy = x - eyes[0], y - eyes[1]
    # in distances from eyes to mouth: u to the side of the face's middle line, v down from the eyes
    u = (dx * across[0] + dy * across[1]) / length
    v = (dx * down[0] + dy * down[1]) / length
    centre, half = (face.box[0] + face.box[2]) / 2 - eyes[0], (face.box[2] - face.box[0]) / 2
    oval = ((dx - centre) / max(half * 0.85, 1.0)) ** 2 + ((v - 0.35) / 1.1) ** 2 < 1
    between = (v > 0.25) & (v < 0.78)
    nostrils = (np.abs(u) < 0.28) & (v > 0.55)
    return np.asarray(oval & between & ~nostrils, dtype=np.bool_)


def identity() -> dict[str, object]:
    """What decides a tone beside the detector. JSON-serialisable."""
    return {"version": VERSION, "light_lab": list(LIGHT_LAB), "light_angle": LIGHT_ANGLE}
