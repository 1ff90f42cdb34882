"""A small antialiased vector canvas over Pillow, in units that do not depend on the output size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

UNITS = 64.0
"""Side of the drawing in canvas units: a unit is one pixel at the default output size."""

Colour = tuple[int, int, int]
Point = tuple[float, float]


def rgb(code: str) -> Colour:
    """`"#f0a040"` as three integers."""
    return (int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` of `second`, linear in sRGB values."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def shade(colour: Colour, amount: float) -> Colour:
    """Darker for a negative amount, lighter for a positive one, in [-1, 1]."""
    return mix(colour, (255, 255, 255) if amount > 0 else (0, 0, 0), abs(amount))


def luminance(colour: Colour) -> float:
    """Rough perceived brightness in [0, 255]."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def smooth(points: Sequence[Point], steps: int = 5) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    out: list[Point] = []
    count = len(points)
    for i in range(count):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (points[(i + k - 1) % count] for k in range(4))
        for step in range(steps):
            t = step / steps
            a, b, c, d = -t + 2 * t * t - t**3, 2 - 5 * t * t + 3 * t**3, t + 4 * t * t - 3 * t**3, t**3 - t * t
            out.append(((a * x0 + b * x1 + c * x2 + d * x3) / 2, (a * y0 + b * y1 + c * y2 + d * y3) / 2))
    return out


@lru_cache(maxsize=8)
def _ramp(side: int) -> Image.Image:
    column = np.linspace(0, 255, side).astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None], side, axis=1))


@lru_cache(maxsize=8)
def _vignette(side: int) -> Image.Image:
    axis = np.linspace(-1, 1, side)
    radius = np.hypot(axis[:, None], axis[None, :])
    return Image.fromarray((np.clip(radius - 0.72, 0, 1) * 150).astype(np.uint8))


class Canvas:
    """A square image drawn oversampled and reduced once at the end."""

    def __init__(self, *, size: int) -> None:
        self.size = size
        self._factor = 4 if size <= 96 else 2
        self._side = size * self._factor
        self._scale = self._side / UNITS
        self._image = Image.new("RGB", (self._side, self._side))
        self._draw = ImageDraw.Draw(self._image)

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fills the canvas from `top` to `bottom`."""
        upper, lower = (Image.new("RGB", self._image.size, c) for c in (top, bottom))
        self._image.paste(Image.composite(lower, upper, _ramp(self._side)))

    def rect(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, *, radius: float = 0.0) -> None:
        s = self._scale
        box = (min(x0, x1) * s, min(y0, y1) * s, max(x0, x1) * s, max(y0, y1) * s)
        if radius:
            self._draw.rounded_rectangle(box, radius=radius * s, fill=fill)
        else:
            self._draw.rectangle(box, fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        s = self._scale
        self._draw.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, colour: Colour, *, width: float) -> None:
        s = self._scale
        box = ((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s)
        self._draw.ellipse(box, outline=colour, width=max(1, round(width * s)))

    def arc(  # noqa: PLR0917 - the five numbers of an ellipse and the colour stand first in every shape
        self, x: float, y: float, rx: float, ry: float, start: float, end: float, colour: Colour, *, width: float
    ) -> None:
        """Part of an ellipse's outline; angles in degrees, clockwise from three o'clock."""
        s = self._scale
        box = ((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s)
        self._draw.arc(box, start, end, fill=colour, width=max(1, round(width * s)))

    def poly(self, points: Sequence[Point], fill: Colour) -> None:
        s = self._scale
        self._draw.polygon([(x * s, y * s) for x, y in points], fill=fill)

    def blob(self, points: Sequence[Point], fill: Colour) -> None:
        """A closed smooth shape through the points."""
        self.poly(smooth(points), fill)

    def line(self, points: Sequence[Point], colour: Colour, *, width: float) -> None:
        s = self._scale
        self._draw.line([(x * s, y * s) for x, y in points], fill=colour, width=max(1, round(width * s)), joint="curve")

    def star(self, x: float, y: float, radius: float, fill: Colour) -> None:
        points = []
        for k in range(10):
            r = radius if k % 2 == 0 else radius * 0.42
            angle = math.pi * (k / 5 - 0.5)
            points.append((x + r * math.cos(angle), y + r * math.sin(angle)))
        self.poly(points, fill)

    def cross(self, x: float, y: float, arm: float, thickness: float, fill: Colour) -> None:
        self.rect(x - arm, y - thickness, x + arm, y + thickness, fill)
        self.rect(x - thickness, y - arm, x + thickness, y + arm, fill)

    def tint(self, top: Colour, bottom: Colour, share: float) -> None:
        """Blends what is drawn so far with a gradient."""
        upper, lower = (Image.new("RGB", self._image.size, c) for c in (top, bottom))
        overlay = Image.composite(lower, upper, _ramp(self._side))
        self._image.paste(Image.blend(self._image, overlay, share))

    def vignette(self) -> None:
        """Darkens the corners as a lens does."""
        self._image.paste((18, 16, 22), (0, 0), _vignette(self._side))

    def finish(self) -> Image.Image:
        """The image at its output size."""
        return self._image.reduce(self._factor)
