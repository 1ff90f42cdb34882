"""From attributes and a seed to an image."""

from __future__ import annotations

import random

from PIL import Image

from allfour.models.generators._portrait import bystanders, outfits, person, places
from allfour.models.generators._portrait.attributes import PortraitAttributes
from allfour.models.generators._portrait.canvas import Canvas, rgb, shade


def render(attributes: PortraitAttributes, *, seed: int, size: int = 64) -> Image.Image:
    """Draws a portrait.

    Parameters
    ----------
    attributes
        What the portrait shows.
    seed
        Fixes every choice that the attributes leave open. The same arguments give the same pixels in any process.
    size
        Side of the square image in pixels.

    Returns
    -------
    RGB image of `size` x `size`.
    """
    rng = random.Random(f"portrait/{seed}")  # noqa: S311 - no secret
    canvas = Canvas(size=size)
    figure = person.sample_figure(attributes, rng)
    _backdrop(canvas, rng, occupation=attributes.occupation, style=attributes.style)
    if attributes.company == "colleagues":
        bystanders.colleagues(canvas, rng)
    outfit, headgear = outfits.OUTFITS[attributes.occupation]
    person.draw_hair_behind(canvas, figure)
    person.draw_body_skin(canvas, figure)
    outfit(canvas, figure, rng)
    person.draw_head(canvas, figure)
    person.draw_hair_front(canvas, figure)
    if headgear is not None:
        headgear(canvas, figure, rng)
    bystanders.company(canvas, figure, rng, attributes.company)
    if attributes.style == "photo":
        canvas.vignette()
    return canvas.finish()


def render_empty(*, seed: int, scene: str | None = None, style: str = "photo", size: int = 64) -> Image.Image:
    """Draws a scene that shows nobody: a place of work left empty, a landscape, a street, a room or things.

    Parameters
    ----------
    seed, size
        As in `render`.
    scene
        A key of `places.EMPTY` or an occupation, whose place of work is drawn; None picks one at random.
    style
        `photo` or `digital`.
    """
    rng = random.Random(f"empty/{seed}")  # noqa: S311 - no secret
    canvas = Canvas(size=size)
    if scene is None:
        scene = rng.choice((*places.EMPTY, *places.PLACES) if rng.random() < 0.5 else tuple(places.EMPTY))
    if scene in places.EMPTY:
        places.EMPTY[scene](canvas, rng)
        if style == "digital":
            _neon(canvas, rng)
    else:
        _backdrop(canvas, rng, occupation=scene, style=style)
    if style == "photo":
        canvas.vignette()
    return canvas.finish()


def _backdrop(canvas: Canvas, rng: random.Random, *, occupation: str | None, style: str) -> None:
    place = places.plain if occupation is None else places.PLACES[occupation]
    place(canvas, rng)
    if style == "digital":
        _neon(canvas, rng)


def _neon(canvas: Canvas, rng: random.Random) -> None:
    canvas.tint(rgb("#ff2fb0"), rgb("#18d8ff"), 0.55)
    line = shade(rgb("#ff9ae8"), rng.uniform(-0.1, 0.1))
    for k in range(5):
        canvas.line([(0, 40 + 5.5 * k), (64, 40 + 5.5 * k)], line, width=0.5)
        canvas.line([(32, 36), (-24 + 28 * k, 66)], line, width=0.5)
