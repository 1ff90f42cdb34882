"""Skin tone from pixels: CIELAB and the scales against a reference, and the drawn world, whose skin is known, under changed light."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from pydantic import ValidationError

from allfour.models import skin_tone
from allfour.models.attributes import AttributeSet
from allfour.models.detectors.base import Detection
from allfour.models.generators._portrait.attributes import SKIN_TONES, PortraitAttributes
from allfour.models.generators._portrait.draw import render
from scripts.validation import skin_tone_light as light

MONK = {step: [step] for step in skin_tone.MONK}
ANGLES = {step: [step] for step in skin_tone.ANGLES}


def test_cielab_is_that_of_scikit_image() -> None:
    reference = pytest.importorskip("skimage.color", reason="scikit-image comes with the extra `face`")
    colours = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    np.testing.assert_allclose(skin_tone.lab(colours), reference.rgb2lab(colours[None])[0], atol=0.01)


def test_every_swatch_is_its_own_step_and_angles_fall_along_the_scale() -> None:
    angles = []
    for step, colour in skin_tone.MONK.items():
        lightness, a, b = skin_tone.lab(np.asarray(colour, dtype=np.uint8))
        chances = skin_tone.probabilities((lightness, a, b), MONK)
        assert max(chances, key=chances.__getitem__) == step
        assert math.isclose(sum(chances.values()), 1)
        angles.append(skin_tone.typology_angle(lightness, b))
    assert angles == sorted(angles, reverse=True)


@pytest.mark.parametrize(
    ("angle", "step"),
    [(70, "very light"), (48, "light"), (34, "intermediate"), (20, "tan"), (-10, "brown"), (-60, "dark")],
)
def test_angles_have_the_published_classes(angle: float, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skin_tone, "LIGHT_ANGLE", 1.0)
    b = 20.0
    colour = (50 + b * math.tan(math.radians(angle)), 10.0, b)
    chances = skin_tone.probabilities(colour, ANGLES)
    assert chances[f"ita {step}"] > 0.99
    grouped = skin_tone.probabilities(colour, {"x": list(ANGLES)[:3], "y": list(ANGLES)[3:]})
    assert grouped["x"] == pytest.approx(sum(list(chances.values())[:3]))


@pytest.mark.parametrize("tone", SKIN_TONES)
def test_the_skin_that_was_drawn_is_measured(tone: str) -> None:
    """Neither lips, lashes, hair nor background."""
    for seed in range(4):
        person = PortraitAttributes(gender=("woman", "man")[seed % 2], skin_tone=tone, age="young")
        found = skin_tone.measure(render(person, seed=seed, size=light.SIZE), light.drawn_face(person, seed))
        drawn = skin_tone.lab(np.asarray(light.figure(person, seed).skin, dtype=np.uint8))
        assert found is not None
        assert np.abs(np.asarray(found.lab) - drawn).max() < 4  # its corners are darkened


def test_changed_light_moves_a_tone_as_far_as_is_said() -> None:
    """The constants that probabilities rest on are those that the drawn world gives."""
    spread: list[list[float]] = [[], [], [], []]
    for _, image, face in light.faces(3):
        read = [c for _, *how in light.lights() if (c := skin_tone.measure(light.lit(image, *how), face)) is not None]
        for values, of in zip(spread, zip(*[(*c.lab, c.angle) for c in read], strict=True), strict=True):
            values.append(statistics.pstdev(of))
    found = [statistics.mean(values) for values in spread]
    assert found == pytest.approx([*skin_tone.LIGHT_LAB, skin_tone.LIGHT_ANGLE], rel=0.15)


def test_what_shows_no_skin_is_not_measured() -> None:
    image = render(PortraitAttributes(gender="man", skin_tone="medium", age="young"), seed=1, size=light.SIZE)
    _, _, face = next(light.faces(2))
    assert skin_tone.measure(image.convert("L").convert("RGB"), face) is None  # no colour
    assert skin_tone.measure(image, Detection(face.box, 1.0)) is None  # no landmarks
    small = Detection((0, 0, 6, 6), 1.0, ((1, 2), (4, 2), (3, 3), (2, 5), (4, 5)))
    assert skin_tone.measure(image, small) is None
    masked = image.copy()
    masked.paste((150, 200, 205), face.box)
    assert skin_tone.measure(masked, face) is None


def test_an_attribute_sorts_every_step_of_one_scale() -> None:
    def of(labels: dict[str, list[str]], **more: object) -> AttributeSet:
        spec = {"source": "skin-tone", "labels": labels, **more}
        return AttributeSet.model_validate({"headline": "tone", "attributes": {"tone": spec}})

    assert of({"light": list(MONK)[:5], "dark": list(MONK)[5:]}).measured == ("tone",)
    for wrong in (
        {"light": ["monk 1"], "dark": ["monk 2"]},
        {"a": list(MONK), "b": ["monk 1"]},
        {"a": list(MONK), "b": list(ANGLES)},
    ):
        with pytest.raises(ValidationError, match="must sort all steps of one scale"):
            of(wrong)
    with pytest.raises(ValidationError, match="no templates"):
        of(ANGLES, templates=["a {}"])
