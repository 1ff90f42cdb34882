"""Pieces that several outfits are made of: cut of a body, lapels, hands, tools."""

from __future__ import annotations

from allfour.models.generators._portrait.canvas import Canvas, Colour, rgb, shade
from allfour.models.generators._portrait.person import Figure, torso

WHITE, BLACK, GOLD = rgb("#fafafa"), rgb("#1c1c22"), rgb("#f2c230")


def body(c: Canvas, f: Figure, colour: Colour, *, neckline: float = 4.0) -> None:
    outline = torso(f, neckline=neckline)
    c.poly(outline, colour)
    for side in (-1, 1):
        x = f.x + side * (f.shoulder - 4.5)
        c.line([(x, f.shoulder_y + 8), (x - side * 0.6, 64)], shade(colour, -0.2), width=0.8)


def lapels(c: Canvas, f: Figure, coat: Colour, shirt: Colour, *, depth: float = 14.0) -> None:
    x, top, n = f.x, f.shoulder_y, f.neck
    c.poly([(x - n - 1, top - 4), (x + n + 1, top - 4), (x, top + depth)], shirt)
    for side in (-1, 1):
        c.poly(
            [(x + side * (n + 1), top - 4.4), (x + side * (n + 5), top), (x + side * 3.4, top + depth - 1),
             (x, top + depth)],
            shade(coat, 0.14),
        )  # fmt: skip


def tie(c: Canvas, f: Figure, colour: Colour) -> None:
    x, y = f.x, f.shoulder_y - 2
    c.poly([(x - 1.6, y), (x + 1.6, y), (x + 0.9, y + 2.6), (x + 2, y + 12), (x, y + 15), (x - 2, y + 12),
            (x - 0.9, y + 2.6)], colour)  # fmt: skip


def stethoscope(c: Canvas, f: Figure) -> None:
    x, y, n = f.x, f.shoulder_y, f.neck
    tube = rgb("#2b2f3a")
    c.line([(x - n - 1.6, y - 4), (x - n - 2, y + 4), (x - 1, y + 10)], tube, width=1.3)
    c.line([(x + n + 1.6, y - 4), (x + n + 2, y + 4), (x - 1, y + 10)], tube, width=1.3)
    c.line([(x - 1, y + 10), (x - 1, y + 14)], tube, width=1.3)
    c.ellipse(x - 1, y + 15.4, 2, 2, rgb("#c9ced6"))


def hand(c: Canvas, f: Figure, x: float, y: float, *, sleeve: Colour | None = None) -> None:
    if sleeve is not None:
        c.line([(x, 67), (x, y + 1.6)], sleeve, width=6.4)
    c.ellipse(x, y, 3, 2.8, f.skin)
    for k in range(3):
        c.line([(x - 2.6, y - 1 + 1.3 * k), (x - 0.4, y - 1 + 1.3 * k)], shade(f.skin, -0.28), width=0.4)


def small_head(c: Canvas, x: float, y: float, *, skin: Colour, hair: Colour, shirt: Colour) -> None:
    c.blob([(x - 7, 66), (x - 6, y + 7), (x, y + 5), (x + 6, y + 7), (x + 7, 66)], shirt)
    c.ellipse(x, y - 0.8, 5.6, 5.8, hair)
    c.ellipse(x, y + 1, 4.7, 4.9, skin)
    for side in (-1, 1):
        c.ellipse(x + side * 1.8, y + 0.6, 0.7, 0.8, rgb("#2a1e18"))
    c.arc(x, y + 2.4, 1.7, 1.2, 20, 160, rgb("#8c3a34"), width=0.6)


def open_book(c: Canvas, f: Figure, x: float, y: float, cover: Colour) -> None:
    c.poly([(x - 13, y - 6), (x, y - 4), (x + 13, y - 6), (x + 13, y + 8), (x, y + 10), (x - 13, y + 8)], cover)
    for side in (-1, 1):
        c.poly([(x, y - 3.4), (x + side * 11.6, y - 6), (x + side * 11.6, y + 6), (x, y + 8.6)], rgb("#fdfaf0"))
        for k in range(3):
            c.line([(x + side * 2, y - 0.6 + 2.6 * k), (x + side * 9.6, y - 2.2 + 2.6 * k)], rgb("#9a948a"), width=0.6)
    c.line([(x, y - 3.4), (x, y + 9)], rgb("#c9c0ae"), width=0.7)
    hand(c, f, x + 12.4, y + 4)


def laptop(c: Canvas, colour: Colour) -> None:
    c.rect(1, 48, 20, 61, colour, radius=1.2)
    c.ellipse(10.5, 54.4, 2.2, 2.2, WHITE)
    c.rect(0, 61, 23, 64, shade(colour, -0.25), radius=0.8)
