"""Headgear of each occupation, drawn on a figure."""

from __future__ import annotations

import random

from allfour.models.generators._portrait.canvas import Canvas, rgb
from allfour.models.generators._portrait.garments import BLACK, GOLD, WHITE
from allfour.models.generators._portrait.person import Figure


def nurse_cap(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 1, y - 6), (x - w, y - 14), (x, y - 18), (x + w, y - 14), (x + w + 1, y - 6), (x, y - 9)],
        rgb("#1ea59a"),
    )
    c.line([(x - w - 0.6, y - 6.6), (x, y - 9.4), (x + w + 0.6, y - 6.6)], rgb("#12786f"), width=1.4)
    c.ellipse(x, y - 13, 3, 3, WHITE)
    c.cross(x, y - 13, 2.1, 0.8, rgb("#d62f3f"))


def headset(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.arc(x, y - 2, w + 1.6, 14.4, 190, 350, BLACK, width=1.5)
    c.ellipse(x - w - 0.6, y + 1, 2.4, 3.4, BLACK)
    c.line([(x - w - 0.4, y + 3), (x - w + 1, y + 10), (x - 4, y + 11.4)], BLACK, width=1)
    c.ellipse(x - 4, y + 11.2, 1.5, 1.2, BLACK)


def glasses(c: Canvas, f: Figure, rng: random.Random) -> None:
    for side in (-1, 1):
        c.ring(f.x + side * 4.6, f.y - 0.4, 3.9, 3.5, rgb("#3a1f14"), width=0.9)
    c.line([(f.x - 0.9, f.y - 1), (f.x + 0.9, f.y - 1)], rgb("#3a1f14"), width=0.9)


def visor(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.line([(x - w - 1, y - 6.4), (x, y - 10), (x + w + 1, y - 6.4)], rgb("#1c5c35"), width=2)
    c.blob([(x - w - 1, y - 6.6), (x, y - 10.6), (x + w + 1, y - 6.6), (x + w * 0.8, y - 4.4), (x, y - 6.2),
            (x - w * 0.8, y - 4.4)], rgb("#35a864"))  # fmt: skip


def beret(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - w, y - 8), (x - w + 1, y - 14), (x + 2, y - 18.4), (x + w + 4, y - 14), (x + w + 3.4, y - 9.4), (x, y - 9)],
           rgb("#c2185b"))  # fmt: skip
    c.line([(x + 3, y - 18), (x + 4, y - 20)], rgb("#8a0f40"), width=1.1)


def kerchief(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - w - 1, y - 5), (x - w * 0.8, y - 13.6), (x, y - 16.4), (x + w * 0.8, y - 13.6), (x + w + 1, y - 5), (x, y - 9)],
           rgb("#47618c"))  # fmt: skip
    for dx, dy in ((-6, -9.6), (-2, -13), (3, -11), (7, -9)):
        c.ellipse(x + dx, y + dy, 0.9, 0.9, WHITE)


def souwester(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 4.6, y - 6), (x, y - 9.4), (x + w + 4.6, y - 6), (x + w + 1, y - 10), (x - w - 1, y - 10)],
        rgb("#d9a90c"),
    )
    c.blob([(x - w, y - 8), (x - w * 0.8, y - 15), (x, y - 18.4), (x + w * 0.8, y - 15), (x + w, y - 8), (x, y - 10)],
           rgb("#f7c816"))  # fmt: skip


def mortarboard(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.poly([(x - w, y - 7), (x - w, y - 13), (x + w, y - 13), (x + w, y - 7), (x, y - 9.6)], rgb("#241a52"))
    c.poly([(x - w - 6, y - 14), (x, y - 19), (x + w + 6, y - 14), (x, y - 9.6)], rgb("#3a2a78"))
    c.line([(x, y - 14.2), (x + w + 3, y - 12.6), (x + w + 3, y - 4)], GOLD, width=1)
    c.ellipse(x + w + 3, y - 3, 1.5, 2.3, GOLD)


def wreath(c: Canvas, f: Figure, rng: random.Random) -> None:
    for k in range(7):
        for side in (-1, 1):
            dx, dy = side * (1 + k * 1.7), -10.6 + 0.16 * k * k
            c.ellipse(f.x + dx, f.y + dy, 1.7, 1.2, rgb("#3f7a34") if k % 2 else rgb("#63a34c"))


def peaked_cap(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - w - 4, y - 13), (x - w, y - 18), (x, y - 19.6), (x + w, y - 18), (x + w + 4, y - 13), (x + w, y - 10.4),
            (x - w, y - 10.4)], WHITE)  # fmt: skip
    c.poly(
        [(x - w - 0.4, y - 11.6), (x + w + 0.4, y - 11.6), (x + w + 0.4, y - 7.6), (x - w - 0.4, y - 7.6)],
        rgb("#16244a"),
    )
    c.blob([(x - w, y - 7.8), (x + w, y - 7.8), (x + w * 0.7, y - 5.2), (x, y - 4.6), (x - w * 0.7, y - 5.2)], BLACK)
    c.ellipse(x, y - 12, 2.5, 2.5, GOLD)


def hard_hat(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 0.6, y - 8), (x - w * 0.8, y - 15.4), (x, y - 18.6), (x + w * 0.8, y - 15.4), (x + w + 0.6, y - 8)],
        WHITE,
    )
    c.rect(x - w - 2, y - 9.4, x + w + 2, y - 6.8, rgb("#dfe3e8"), radius=1.2)
    c.rect(x - 1.4, y - 18.4, x + 1.4, y - 9.4, rgb("#dfe3e8"), radius=1)


def helmet(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - 3, y - 13), (x - 6, y - 21), (x + 1, y - 24), (x + 8, y - 21), (x + 4, y - 13)], rgb("#c22126"))
    c.blob([(x - w - 1.6, y - 5), (x - w * 0.84, y - 14), (x, y - 17.4), (x + w * 0.84, y - 14), (x + w + 1.6, y - 5), (x, y - 8)],
           rgb("#b9c3cd"))  # fmt: skip
    for side in (-1, 1):
        c.poly([(x + side * (w + 1.6), y - 6), (x + side * (w + 1.8), y + 7), (x + side * (w - 2.2), y + 5),
                (x + side * (w - 1.2), y - 6)], rgb("#a6b0bb"))  # fmt: skip
    c.line([(x - w - 1, y - 5.8), (x, y - 8.8), (x + w + 1, y - 5.8)], GOLD, width=1.3)


def headphones(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.arc(x, y - 2, w + 2.4, 15, 190, 350, rgb("#f4f4f6"), width=2.2)
    for side in (-1, 1):
        c.ellipse(x + side * (w + 1), y + 0.6, 2.8, 4.4, rgb("#f4f4f6"))
        c.ellipse(x + side * (w + 1), y + 0.6, 1.5, 2.8, rgb("#e3263a"))


def top_hat(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.poly([(x - w + 1.6, y - 9), (x - w + 0.4, y - 25), (x + w - 0.4, y - 25), (x + w - 1.6, y - 9)], BLACK)
    c.rect(x - w + 1.4, y - 13.6, x + w - 1.4, y - 10, rgb("#c3162c"))
    c.ellipse(x, y - 9, w + 4.4, 2.2, rgb("#26262e"))


def head_mirror(c: Canvas, f: Figure, rng: random.Random) -> None:
    c.line([(f.x - f.width, f.y - 8), (f.x, f.y - 11), (f.x + f.width, f.y - 8)], rgb("#2d3644"), width=1.3)
    c.ellipse(f.x, f.y - 12, 3.6, 3.6, rgb("#8fa3b5"))
    c.ellipse(f.x, f.y - 12, 2.7, 2.7, rgb("#eaf3fb"))
