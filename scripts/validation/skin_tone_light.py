"""How much changed light alone moves the skin tone that is read: one drawn person after another, under every light.

    python -m scripts.validation.skin_tone_light

A light is a gain on linear sRGB: exposure in stops, a warm or cool cast that a camera's white balance has left, or a lamp at the side.
The deviations that it prints are `LIGHT_LAB` and `LIGHT_ANGLE` of `models/skin_tone.py`.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator

import numpy as np
from PIL import Image

from allfour.models import skin_tone
from allfour.models.detectors.base import Detection
from allfour.models.generators._portrait.attributes import SKIN_TONES, PortraitAttributes
from allfour.models.generators._portrait.draw import render
from allfour.models.generators._portrait.person import Figure, sample_figure

STOPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
CASTS = {"neutral": (1.0, 1.0, 1.0), "warm": (1.15, 1.0, 0.85), "cool": (0.87, 1.0, 1.15)}
SIDES = {"front": (1.0, 1.0), "side": (1.3, 0.5)}
SIZE = 128


def lights() -> Iterator[tuple[str, float, tuple[float, float, float], tuple[float, float]]]:
    """Name, exposure in stops, gains of the channels, and gains at the left and right edge."""
    for stops in STOPS:
        for cast, gains in CASTS.items():
            for side, edges in SIDES.items():
                yield f"{stops:+.1f} {cast} {side}", stops, gains, edges


def lit(image: Image.Image, stops: float, gains: tuple[float, float, float], edges: tuple[float, float]) -> Image.Image:
    """The picture as it would be under another light: gains act on linear values, and what is above white is cut."""
    encoded = np.asarray(image, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    across = np.linspace(*edges, image.width)[None, :, None]
    linear = np.clip(linear * 2.0**stops * np.asarray(gains) * across, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.round(encoded * 255).astype(np.uint8))


def faces(people: int) -> Iterator[tuple[str, Image.Image, Detection]]:
    """Drawn people, and where the drawing has put the face: what a detector finds would add an error of its own."""
    for tone in SKIN_TONES:
        for seed in range(people):
            attributes = PortraitAttributes(gender=("woman", "man")[seed % 2], skin_tone=tone, age="young")
            yield tone, render(attributes, seed=seed, size=SIZE), drawn_face(attributes, seed)


def figure(attributes: PortraitAttributes, seed: int) -> Figure:
    """The person that `render(attributes, seed=seed)` draws."""
    return sample_figure(attributes, random.Random(f"portrait/{seed}"))


def drawn_face(attributes: PortraitAttributes, seed: int) -> Detection:
    """The face of `render(attributes, seed=seed, size=SIZE)`, as a detector of faces would give it."""
    drawn = figure(attributes, seed)
    unit = SIZE / 64
    x, y, w = drawn.x, drawn.y, drawn.width
    points = ((x - 4.5, y - 0.5), (x + 4.5, y - 0.5), (x, y + 4), (x - 3.4, y + 8), (x + 3.4, y + 8))
    left, top, right, bottom = (round(side * unit) for side in (x - w, y - 12, x + w, y + 13))
    return Detection(
        box=(left, top, right, bottom), confidence=1.0, landmarks=tuple((px * unit, py * unit) for px, py in points)
    )


def main(people: int = 40) -> None:
    """Print the deviations, and how often a tone stays."""
    deviations: dict[str, list[float]] = {"L*": [], "a*": [], "b*": [], "angle": []}
    kept: dict[str, list[bool]] = {}
    moved: list[int] = []
    monk = {step: [step] for step in skin_tone.MONK}
    angles = {step: [step] for step in skin_tone.ANGLES}
    found = 0
    for tone, image, face in faces(people):
        found += 1
        read = {}
        for name, stops, gains, edges in lights():
            colour = skin_tone.measure(lit(image, stops, gains, edges), face)
            if colour is not None:
                read[name] = colour
        for key, values in (
            ("L*", [c.lightness for c in read.values()]),
            ("a*", [c.a for c in read.values()]),
            ("b*", [c.b for c in read.values()]),
            ("angle", [c.angle for c in read.values()]),
        ):
            deviations[key].append(statistics.pstdev(values))
        for scale, labels in (("monk", monk), ("ita", angles)):
            steps = list(labels)
            best = {}
            for name, colour in read.items():
                chances = skin_tone.probabilities(colour.lab, labels)
                best[name] = max(chances, key=chances.__getitem__)
            own = best["+0.0 neutral front"]
            kept.setdefault(f"{scale} {tone}", []).extend(step == own for step in best.values())
            if scale == "monk":
                moved += [abs(steps.index(step) - steps.index(own)) for step in best.values()]
    print(f"{found} drawn people, {len(list(lights()))} lights each")
    for key, values in deviations.items():
        print(f"{key}: standard deviation over lights, mean over people {statistics.mean(values):.1f}")
    for key, stays in kept.items():
        print(f"{key}: the step of neutral light in {100 * statistics.mean(stays):.0f}% of the lights")
    print("Monk steps moved:", {n: f"{100 * moved.count(n) / len(moved):.0f}%" for n in sorted(set(moved))})


if __name__ == "__main__":
    main()
