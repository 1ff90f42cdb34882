"""The figure: a head-and-shoulders drawing from attributes.

Presentation is drawn from many weak cues, each sampled on its own given the label (hair style, jaw, brows, lashes, lips,
earrings, facial hair, neck and shoulder width). No single one decides, as in life; together they nearly always do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from allfour.models.generators._portrait.attributes import PortraitAttributes
from allfour.models.generators._portrait.canvas import Canvas, Colour, Point, luminance, mix, rgb, shade

SKIN = {
    "light": (rgb("#f9e0d2"), rgb("#f3d0b8"), rgb("#eac0a0")),
    "medium": (rgb("#cc9b74"), rgb("#bd8a61"), rgb("#ab7850")),
    "dark": (rgb("#7c4e31"), rgb("#673f28"), rgb("#53321f")),
}
HAIR = {
    "light": (rgb("#2b211c"), rgb("#4e3323"), rgb("#7a4f2c"), rgb("#d0a050"), rgb("#a24a24")),
    "medium": (rgb("#1f1815"), rgb("#3b271c"), rgb("#5c3a24"), rgb("#2b211c")),
    "dark": (rgb("#15100e"), rgb("#241914"), rgb("#38241a"), rgb("#1b1513")),
}
SILVER = (rgb("#e4e4e6"), rgb("#cfd0d4"), rgb("#bcbec4"))
LIPSTICK = (rgb("#c2283a"), rgb("#b0305c"), rgb("#d4485a"), rgb("#98203c"))
IRIS = (rgb("#3a2618"), rgb("#2c3a52"), rgb("#3d4a2c"), rgb("#241a14"))
JEWEL = (rgb("#f2c94c"), rgb("#e8e8f0"), rgb("#58c0c8"), rgb("#e05a7a"))

WOMAN_HAIR = (("long", 34), ("bob", 20), ("bun", 14), ("curly", 14), ("short", 7), ("ponytail", 8), ("crop", 3))
MAN_HAIR = (("short", 36), ("crop", 24), ("side", 20), ("curly", 6), ("long", 4), ("receding", 8), ("bob", 2))
MAN_HAIR_ELDERLY = (
    ("short", 28),
    ("crop", 14),
    ("side", 18),
    ("receding", 24),
    ("bald", 11),
    ("long", 3),
    ("curly", 2),
)


def weighted(rng: random.Random, options: tuple[tuple[str, int], ...]) -> str:
    """One name, drawn with its weight."""
    mark = rng.random() * sum(weight for _, weight in options)
    for name, weight in options:
        mark -= weight
        if mark < 0:
            return name
    return options[-1][0]


@dataclass(frozen=True, slots=True)
class Figure:
    """Geometry and colours of one figure, settled before anything is drawn."""

    x: float
    y: float
    """Centre of the face, in canvas units."""
    width: float
    """Half the face's width at the cheeks."""
    jaw: float
    """Width of the jaw as a share of the cheeks."""
    neck: float
    shoulder: float
    """Half widths."""
    skin: Colour
    hair: Colour
    grey: Colour | None
    """Colour of greying strands, where there are some."""
    hair_style: str
    brow: float
    lashes: bool
    lips: Colour
    lip_fullness: float
    earrings: Colour | None
    beard: str
    glasses: bool
    iris: Colour
    smile: float
    lines: int
    """How many kinds of age lines: 0, 1 or 2."""

    @property
    def shoulder_y(self) -> float:
        return self.y + 18.5


def sample_figure(attributes: PortraitAttributes, rng: random.Random) -> Figure:
    """Draws every cue from its distribution given the labels."""
    woman = attributes.gender == "woman"
    elderly, middle = attributes.age == "elderly", attributes.age == "middle-aged"
    skin = shade(rng.choice(SKIN[attributes.skin_tone]), rng.uniform(-0.05, 0.04))
    pigment = rng.choice(HAIR[attributes.skin_tone])
    silver = rng.choice(SILVER)
    if elderly:
        hair = silver if rng.random() < 0.94 else mix(pigment, silver, 0.6)
    else:
        hair = mix(pigment, silver, rng.uniform(0.12, 0.34)) if middle else pigment
    grey = mix(hair, silver, 0.75) if middle and rng.random() < 0.92 else None
    options = WOMAN_HAIR if woman else (MAN_HAIR_ELDERLY if elderly else MAN_HAIR)
    style = weighted(rng, options)
    beard = "none"
    if not woman and rng.random() < 0.62:
        beard = weighted(rng, (("full", 45), ("goatee", 20), ("moustache", 20), ("stubble", 15)))
    lipstick = woman and rng.random() < (0.6 if elderly else 0.78)
    natural = mix(shade(skin, -0.24), rgb("#a04038"), 0.3)
    glasses_chance = 0.42 if elderly else 0.16
    return Figure(
        x=32 + rng.uniform(-1.2, 1.2),
        y=27 + rng.uniform(-0.8, 0.8),
        width=rng.gauss(10.2 if woman else 10.8, 0.3),
        jaw=rng.gauss(0.68 if woman else 0.86, 0.045),
        neck=rng.gauss(3.9 if woman else 5.6, 0.35),
        shoulder=rng.gauss(17.6 if woman else 21.6, 0.9),
        skin=skin,
        hair=hair,
        grey=grey,
        hair_style=style,
        brow=max(0.5, rng.gauss(0.75 if woman else 1.35, 0.16)),
        lashes=rng.random() < (0.82 if woman else 0.06),
        lips=rng.choice(LIPSTICK) if lipstick else natural,
        lip_fullness=max(0.6, rng.gauss(1.45 if woman else 0.95, 0.16)),
        earrings=rng.choice(JEWEL) if rng.random() < (0.6 if woman else 0.04) else None,
        beard=beard,
        glasses=rng.random() < glasses_chance,
        iris=rng.choice(IRIS),
        smile=rng.uniform(0.2, 1.0),
        lines=2 if elderly else (1 if middle else 0),
    )


def _mirrored(x: float, right: list[Point]) -> list[Point]:
    """Closed outline from its right half, listed from top to bottom."""
    return right + [(2 * x - px, py) for px, py in reversed(right)]


def draw_hair_behind(c: Canvas, f: Figure) -> None:
    """The part of the hair that falls behind the neck and shoulders."""
    x, y, w = f.x, f.y, f.width
    dark = shade(f.hair, -0.14)
    if f.hair_style == "long":
        half = [(x + 4, y - 15), (x + w + 2, y - 8), (x + w + 3.4, y + 4), (x + w + 4, y + 16), (x + w + 1, y + 26)]
        c.blob(_mirrored(x, [*half, (x + 3, y + 25)]), dark)
    elif f.hair_style == "bob":
        half = [
            (x + 4, y - 15),
            (x + w + 2.4, y - 8),
            (x + w + 3.6, y + 3),
            (x + w + 3.4, y + 10),
            (x + w - 3, y + 12.5),
        ]
        c.blob(_mirrored(x, half), dark)
    elif f.hair_style == "bun":
        c.ellipse(x, y - 17, 5.2, 4.6, dark)
        c.ellipse(x, y - 17.6, 4, 3.2, f.hair)
    elif f.hair_style == "ponytail":
        c.blob(
            [(x + 6, y - 12), (x + w + 5, y - 7), (x + w + 6.5, y + 6), (x + w + 3.5, y + 18), (x + w, y + 10),
             (x + w, y - 2)],
            dark,
        )  # fmt: skip
    elif f.hair_style == "curly":
        for dx, dy in ((-12, -4), (12, -4), (-12.4, 3), (12.4, 3), (-11, 9), (11, 9), (-9, -11), (9, -11), (0, -14)):
            c.ellipse(x + dx, y + dy, 5, 5, dark)


def draw_body_skin(c: Canvas, f: Figure) -> None:
    """Neck and the skin that a neckline shows."""
    x, y = f.x, f.y
    under = shade(f.skin, -0.16)
    c.blob(
        [(x - f.neck, y + 6), (x + f.neck, y + 6), (x + f.neck, y + 16), (x + f.neck + 4, y + 21), (x, y + 28),
         (x - f.neck - 4, y + 21), (x - f.neck, y + 16)],
        f.skin,
    )  # fmt: skip
    c.ellipse(x, y + 11, f.neck, 3.6, under)


def torso(f: Figure, *, neckline: float) -> list[Point]:
    """Outline of the clothed body; `neckline` is how deep the opening at the neck is, in units."""
    x, top, s, n = f.x, f.shoulder_y, f.shoulder, f.neck
    half = [(x, top - 2 + neckline), (x + n + 1.2, top - 4.2), (x + s * 0.62, top - 1), (x + s * 0.93, top + 3)]
    half += [(x + s + 1, top + 10), (x + s + 2, 66)]
    return half + [(2 * x - px, py) for px, py in reversed(half[1:])]


def draw_head(c: Canvas, f: Figure) -> None:
    """Face with its features, without hair."""
    x, y, w = f.x, f.y, f.width
    ink = shade(f.skin, -0.34)
    for side in (-1, 1):
        c.ellipse(x + side * w, y + 1, 1.9, 2.9, shade(f.skin, -0.08))
    c.blob(
        _mirrored(
            x,
            [(x + w * 0.45, y - 12.4), (x + w * 0.9, y - 8), (x + w, y - 1), (x + w * (0.5 + f.jaw * 0.5), y + 5),
             (x + w * f.jaw * 0.86, y + 9.4), (x + w * f.jaw * 0.46, y + 12.6)],
        ),
        f.skin,
    )  # fmt: skip
    for side in (-1, 1):
        c.ellipse(x + side * w * 0.56, y + 4.6, 2.4, 1.6, mix(f.skin, rgb("#e0605a"), 0.14))
    _draw_beard(c, f)
    _draw_age_lines(c, f, ink)
    c.line([(x + 0.6, y - 0.5), (x + 1.5, y + 4), (x - 0.8, y + 4.3)], ink, width=0.7)
    _draw_mouth(c, f)
    _draw_eyes(c, f)
    if f.earrings is not None:
        for side in (-1, 1):
            c.ellipse(x + side * (w + 0.6), y + 5.4, 1.3, 1.7, f.earrings)


def _draw_eyes(c: Canvas, f: Figure) -> None:
    x, y = f.x, f.y
    brow = mix(f.hair, rgb("#8c8c90"), 0.25) if f.lines == 2 else shade(f.hair, -0.2)
    if abs(luminance(brow) - luminance(f.skin)) < 28:
        brow = shade(f.skin, -0.5)
    for side in (-1, 1):
        ex = x + side * 4.5
        c.ellipse(ex, y - 0.6, 2.1, 1.4, (250, 250, 248))
        c.ellipse(ex, y - 0.5, 1.15, 1.3, f.iris)
        if f.lashes:
            c.arc(ex, y - 0.4, 2.4, 1.9, 185, 355, rgb("#140e0c"), width=0.9)
            c.line([(ex + side * 1.8, y - 1.3), (ex + side * 3.2, y - 2.5)], rgb("#140e0c"), width=0.8)
        c.line([(ex - side * 2.1, y - 3.8), (ex + side * 0.6, y - 4.7), (ex + side * 2.6, y - 3.9)], brow, width=f.brow)
        if f.glasses:
            c.ring(ex, y - 0.5, 3.7, 3.2, rgb("#26262c"), width=0.7)
    if f.glasses:
        c.line([(x - 1, y - 1), (x + 1, y - 1)], rgb("#26262c"), width=0.7)


def _draw_mouth(c: Canvas, f: Figure) -> None:
    x, y, full = f.x, f.y + 8, f.lip_fullness
    curve = 0.3 + f.smile * 0.9
    c.blob(
        [(x - 3.4, y - curve * 0.5), (x - 1, y - full * 0.7), (x + 1, y - full * 0.7), (x + 3.4, y - curve * 0.5),
         (x + 1.6, y + full * 0.7 + curve * 0.4), (x - 1.6, y + full * 0.7 + curve * 0.4)],
        f.lips,
    )  # fmt: skip
    c.line([(x - 3, y - curve * 0.3), (x, y + curve * 0.45), (x + 3, y - curve * 0.3)], shade(f.lips, -0.35), width=0.5)


def _draw_beard(c: Canvas, f: Figure) -> None:
    x, y, w = f.x, f.y, f.width
    colour = shade(f.hair, -0.1)
    if abs(luminance(colour) - luminance(f.skin)) < 26:
        colour = shade(f.skin, -0.45)
    if f.beard == "stubble":
        colour = mix(f.skin, colour, 0.38)
    if f.beard in ("full", "stubble"):
        c.blob(
            _mirrored(
                x,
                [(x + 1.5, y + 5.6), (x + w * 0.62, y + 5.4), (x + w * 0.97, y + 0.5), (x + w * 0.94, y + 6.5),
                 (x + w * f.jaw * 0.92, y + 10.4), (x + w * f.jaw * 0.5, y + 13.9)],
            ),
            colour,
        )  # fmt: skip
    elif f.beard == "goatee":
        c.blob(_mirrored(x, [(x + 2, y + 5.4), (x + 4.4, y + 7), (x + 4.2, y + 11.4), (x + 1.6, y + 14)]), colour)
    elif f.beard == "moustache":
        c.blob(_mirrored(x, [(x + 1, y + 4.9), (x + 4.6, y + 6), (x + 5.2, y + 8), (x + 2, y + 7)]), colour)


def _draw_age_lines(c: Canvas, f: Figure, ink: Colour) -> None:
    x, y, w = f.x, f.y, f.width
    if f.lines == 0:
        return
    strong = f.lines == 2
    line = mix(f.skin, ink, 0.95 if strong else 0.7)
    for side in (-1, 1):
        c.line([(x + side * 3.2, y + 3.8), (x + side * 5, y + 6.4), (x + side * 5.1, y + 8.6)], line, width=0.75)
        c.line([(x + side * 2.6, y + 2.1), (x + side * 5.8, y + 1.9)], line, width=0.6)
        if strong:
            c.line([(x + side * w * 0.72, y + 3.4), (x + side * w * 0.6, y + 8)], line, width=0.6)
            c.line([(x + side * 7.4, y - 1.6), (x + side * 9, y - 2.4)], line, width=0.6)
    if strong:
        c.line([(x - 4.8, y - 6.6), (x, y - 7), (x + 4.8, y - 6.6)], line, width=0.7)
        c.line([(x - 4, y - 8.4), (x, y - 8.8), (x + 4, y - 8.4)], line, width=0.6)


def draw_hair_front(c: Canvas, f: Figure) -> None:
    """The hair that frames the face."""
    x, y, w, style = f.x, f.y, f.width, f.hair_style
    lit = shade(f.hair, 0.1)
    if style == "bald":
        for side in (-1, 1):
            c.ellipse(x + side * (w - 0.2), y - 2, 1.6, 4, f.hair)
        return
    if style == "receding":
        for side in (-1, 1):
            c.blob(
                [(x + side * w * 0.98, y + 2.6), (x + side * (w + 1.4), y - 4), (x + side * w * 0.7, y - 12.6),
                 (x + side * 2, y - 14), (x + side * w * 0.55, y - 10), (x + side * w * 0.84, y - 5)],
                f.hair,
            )  # fmt: skip
        return
    if style == "curly":
        for dx, dy in ((-8.6, -8), (-5, -11.5), (0, -12.6), (5, -11.5), (8.6, -8), (-10.4, -3.4), (10.4, -3.4)):
            c.ellipse(x + dx, y + dy, 3.9, 3.7, f.hair)
        for dx, dy in ((-6, -11.5), (2, -13), (8, -9)):
            c.ellipse(x + dx, y + dy, 1.6, 1.4, lit)
    else:
        rise = {"crop": 13.6, "short": 15.2, "side": 15.6}.get(style, 15.0)
        drop = {"crop": -3.0, "short": -0.6, "side": -1.0, "bun": -1.0, "ponytail": 0.0}.get(style, 6.0)
        part = -0.5 if style == "side" else (0.35 if style in ("long", "bob") else 0.0)
        outer = [(x - w - 0.8, y + drop), (x - w - 1.3, y - 5), (x - w * 0.75, y - rise + 3), (x, y - rise)]
        outer += [(x + w * 0.75, y - rise + 3), (x + w + 1.3, y - 5), (x + w + 0.8, y + drop)]
        inner = [(x + w * 0.86, y - 4.5), (x + w * 0.62, y - 8), (x + w * part, y - 9.8), (x - w * 0.62, y - 8)]
        c.blob([*outer, *inner, (x - w * 0.86, y - 4.5)], f.hair)
        c.arc(x - 1, y - 6, w * 0.72, rise - 8, 200, 290, lit, width=1.2)
        if style in ("long", "bob"):
            end = y + (17 if style == "long" else 9)
            for side in (-1, 1):
                c.blob(
                    [(x + side * w * 0.9, y - 5), (x + side * (w + 1.8), y - 4), (x + side * (w + 3), y + 5),
                     (x + side * (w + 2.6), end), (x + side * (w - 0.6), end - 1), (x + side * (w - 0.2), y + 4)],
                    f.hair,
                )  # fmt: skip
    if f.grey is not None:
        for side in (-1, 1):
            c.blob(
                [(x + side * (w - 0.7), y - 0.4), (x + side * (w + 0.9), y - 4), (x + side * w * 0.78, y - 10.4),
                 (x + side * w * 0.74, y - 7.5)],
                f.grey,
            )  # fmt: skip
