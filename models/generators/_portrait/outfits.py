"""Dress, headgear and tools of each occupation, drawn on a figure."""

from __future__ import annotations

import random
from collections.abc import Callable

from allfour.models.generators._portrait.canvas import Canvas, Colour, Point, mix, rgb, shade
from allfour.models.generators._portrait.person import Figure, torso

Layer = Callable[[Canvas, Figure, random.Random], None]

WHITE, BLACK, GOLD = rgb("#fafafa"), rgb("#1c1c22"), rgb("#f2c230")


def _body(c: Canvas, f: Figure, colour: Colour, *, neckline: float = 4.0) -> None:
    outline = torso(f, neckline=neckline)
    c.poly(outline, colour)
    for side in (-1, 1):
        x = f.x + side * (f.shoulder - 4.5)
        c.line([(x, f.shoulder_y + 8), (x - side * 0.6, 64)], shade(colour, -0.2), width=0.8)


def _lapels(c: Canvas, f: Figure, coat: Colour, shirt: Colour, *, depth: float = 14.0) -> None:
    x, top, n = f.x, f.shoulder_y, f.neck
    c.poly([(x - n - 1, top - 4), (x + n + 1, top - 4), (x, top + depth)], shirt)
    for side in (-1, 1):
        c.poly(
            [(x + side * (n + 1), top - 4.4), (x + side * (n + 5), top), (x + side * 3.4, top + depth - 1),
             (x, top + depth)],
            shade(coat, 0.14),
        )  # fmt: skip


def _tie(c: Canvas, f: Figure, colour: Colour) -> None:
    x, y = f.x, f.shoulder_y - 2
    c.poly([(x - 1.6, y), (x + 1.6, y), (x + 0.9, y + 2.6), (x + 2, y + 12), (x, y + 15), (x - 2, y + 12),
            (x - 0.9, y + 2.6)], colour)  # fmt: skip


def _stethoscope(c: Canvas, f: Figure) -> None:
    x, y, n = f.x, f.shoulder_y, f.neck
    tube = rgb("#2b2f3a")
    c.line([(x - n - 1.6, y - 4), (x - n - 2, y + 4), (x - 1, y + 10)], tube, width=1.3)
    c.line([(x + n + 1.6, y - 4), (x + n + 2, y + 4), (x - 1, y + 10)], tube, width=1.3)
    c.line([(x - 1, y + 10), (x - 1, y + 14)], tube, width=1.3)
    c.ellipse(x - 1, y + 15.4, 2, 2, rgb("#c9ced6"))


def _hand(c: Canvas, f: Figure, x: float, y: float, *, sleeve: Colour | None = None) -> None:
    if sleeve is not None:
        c.line([(x, 67), (x, y + 1.6)], sleeve, width=6.4)
    c.ellipse(x, y, 3, 2.8, f.skin)
    for k in range(3):
        c.line([(x - 2.6, y - 1 + 1.3 * k), (x - 0.4, y - 1 + 1.3 * k)], shade(f.skin, -0.28), width=0.4)


def _small_head(c: Canvas, x: float, y: float, *, skin: Colour, hair: Colour, shirt: Colour) -> None:
    c.blob([(x - 7, 66), (x - 6, y + 7), (x, y + 5), (x + 6, y + 7), (x + 7, 66)], shirt)
    c.ellipse(x, y - 0.8, 5.6, 5.8, hair)
    c.ellipse(x, y + 1, 4.7, 4.9, skin)
    for side in (-1, 1):
        c.ellipse(x + side * 1.8, y + 0.6, 0.7, 0.8, rgb("#2a1e18"))
    c.arc(x, y + 2.4, 1.7, 1.2, 20, 160, rgb("#8c3a34"), width=0.6)


def everyday(c: Canvas, f: Figure, rng: random.Random) -> None:
    colours = ("#3f6fb5", "#b5483f", "#4f8a5b", "#7a5a9e", "#d9a13b", "#50606e", "#2f8f95", "#c96f8e")
    _body(c, f, rgb(rng.choice(colours)), neckline=rng.uniform(3, 6))


def homemaker(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#7fa8c9"))
    x, y = f.x, f.shoulder_y
    c.line([(x - 7, y + 7), (x - f.neck - 1, y - 4)], rgb("#e0483e"), width=1.6)
    c.line([(x + 7, y + 7), (x + f.neck + 1, y - 4)], rgb("#e0483e"), width=1.6)
    c.rect(x - 8, y + 6, x + 8, 66, rgb("#f6f1e6"), radius=1.5)
    for k in range(4):
        c.rect(x - 8, y + 7.5 + 4 * k, x + 8, y + 9 + 4 * k, rgb("#e0483e"))
    c.rect(46, 48, 63, 60, rgb("#d23f31"), radius=2)
    c.rect(44.5, 46.4, 64, 49, rgb("#8f2a20"), radius=1)
    c.ellipse(54.5, 45.4, 1.8, 1.4, rgb("#5d1b14"))
    for k in range(3):
        c.line([(49 + 5 * k, 43), (50 + 5 * k, 40), (49 + 5 * k, 37)], WHITE, width=0.9)


def nurse(c: Canvas, f: Figure, rng: random.Random) -> None:
    colour = rgb("#1ea59a")
    _body(c, f, colour, neckline=8)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.line([(x + side * (f.neck + 1.6), y - 4), (x, y + 6.5)], rgb("#12786f"), width=1.4)
    c.rect(x + 7, y + 10, x + 13.4, y + 18, rgb("#17897f"))
    c.rect(x - 13, y + 8, x - 7.4, y + 14, WHITE)
    c.cross(x - 10.2, y + 11, 2, 0.8, rgb("#d62f3f"))
    _stethoscope(c, f)


def nurse_cap(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 1, y - 6), (x - w, y - 14), (x, y - 18), (x + w, y - 14), (x + w + 1, y - 6), (x, y - 9)],
        rgb("#1ea59a"),
    )
    c.line([(x - w - 0.6, y - 6.6), (x, y - 9.4), (x + w + 0.6, y - 6.6)], rgb("#12786f"), width=1.4)
    c.ellipse(x, y - 13, 3, 3, WHITE)
    c.cross(x, y - 13, 2.1, 0.8, rgb("#d62f3f"))


def receptionist(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#6a2346"))
    _lapels(c, f, rgb("#6a2346"), rgb("#fdf3e0"), depth=12)
    c.rect(0, 54, 64, 64, rgb("#e8d2ae"))
    c.rect(0, 53, 64, 55.4, rgb("#6b3f20"))
    c.ellipse(51, 53, 6, 6, GOLD)
    c.rect(44, 53, 58, 55.6, rgb("#3a2a1a"))
    c.ellipse(51, 46.6, 1.2, 1.2, rgb("#fff6cf"))


def headset(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.arc(x, y - 2, w + 1.6, 14.4, 190, 350, BLACK, width=1.5)
    c.ellipse(x - w - 0.6, y + 1, 2.4, 3.4, BLACK)
    c.line([(x - w - 0.4, y + 3), (x - w + 1, y + 10), (x - 4, y + 11.4)], BLACK, width=1)
    c.ellipse(x - 4, y + 11.2, 1.5, 1.2, BLACK)


def librarian(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#b98b3e"), neckline=5)
    x, y = f.x, f.shoulder_y
    c.poly([(x - f.neck, y - 4), (x + f.neck, y - 4), (x + 3, 66), (x - 3, 66)], rgb("#f4ead4"))
    _open_book(c, f, 15, 54, rgb("#a3262a"))


def _open_book(c: Canvas, f: Figure, x: float, y: float, cover: Colour) -> None:
    c.poly([(x - 13, y - 6), (x, y - 4), (x + 13, y - 6), (x + 13, y + 8), (x, y + 10), (x - 13, y + 8)], cover)
    for side in (-1, 1):
        c.poly([(x, y - 3.4), (x + side * 11.6, y - 6), (x + side * 11.6, y + 6), (x, y + 8.6)], rgb("#fdfaf0"))
        for k in range(3):
            c.line([(x + side * 2, y - 0.6 + 2.6 * k), (x + side * 9.6, y - 2.2 + 2.6 * k)], rgb("#9a948a"), width=0.6)
    c.line([(x, y - 3.4), (x, y + 9)], rgb("#c9c0ae"), width=0.7)
    _hand(c, f, x + 12.4, y + 4)


def glasses(c: Canvas, f: Figure, rng: random.Random) -> None:
    for side in (-1, 1):
        c.ring(f.x + side * 4.6, f.y - 0.4, 3.9, 3.5, rgb("#3a1f14"), width=0.9)
    c.line([(f.x - 0.9, f.y - 1), (f.x + 0.9, f.y - 1)], rgb("#3a1f14"), width=0.9)


def socialite(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#d02565"), neckline=9)
    x, y = f.x, f.shoulder_y
    for k in range(22):
        c.ellipse(x + ((k * 37) % 33) - 16, y + 8 + ((k * 23) % 19), 0.7, 0.7, rgb("#ffd0e4"))
    for k in range(-4, 5):
        c.ellipse(x + k * 1.7, y + 3.6 - abs(k) * 1.5, 1.1, 1.1, WHITE)
    gx, gy = 51, 46
    c.poly([(gx - 4, gy - 9), (gx + 4, gy - 9), (gx + 1, gy), (gx - 1, gy)], rgb("#fff2b8"))
    c.poly([(gx - 3.4, gy - 6), (gx + 3.4, gy - 6), (gx + 1, gy), (gx - 1, gy)], GOLD)
    c.line([(gx, gy), (gx, gy + 8)], WHITE, width=1)
    c.rect(gx - 3.4, gy + 8, gx + 3.4, gy + 9.2, WHITE)
    _hand(c, f, gx, gy + 3.4, sleeve=rgb("#b01a52"))


def hairdresser(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#2b2b33"), neckline=4)
    x, y = f.x, f.shoulder_y
    c.rect(x - 8, y + 7, x + 8, 66, rgb("#e0447c"), radius=1)
    steel = rgb("#dfe4ea")
    c.line([(46, 32), (54, 50)], steel, width=2)
    c.line([(58, 32), (50, 50)], steel, width=2)
    c.ring(48.6, 54, 3.4, 3.8, rgb("#e0447c"), width=1.5)
    c.ring(56, 54, 3.4, 3.8, rgb("#e0447c"), width=1.5)
    c.rect(6, 38, 9, 58, rgb("#f4d35e"))
    for k in range(8):
        c.rect(9, 39 + 2.2 * k, 13, 40 + 2.2 * k, rgb("#f4d35e"))
    _hand(c, f, 8, 57, sleeve=rgb("#2b2b33"))


def nanny(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#7cb7e8"), neckline=4)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.ellipse(x + side * 3.2, y - 0.6, 3.4, 2, WHITE)
    bx, by = f.x - 3, 55.5
    c.blob([(bx - 11, by - 4), (bx, by - 6), (bx + 14, by - 3), (bx + 17, by + 5), (bx + 6, by + 10), (bx - 9, by + 8)],
           rgb("#fff7ef"))  # fmt: skip
    c.blob([(bx + 1, by - 5), (bx + 14, by - 3), (bx + 17, by + 5), (bx + 6, by + 9)], rgb("#f6c1d0"))
    baby = rng.choice((rgb("#f3cfb6"), rgb("#c2926b"), rgb("#7a4d31")))
    c.ellipse(bx - 4, by, 5, 5, baby)
    for dx in (-6, -2.6):
        c.arc(bx + dx, by - 0.4, 1.1, 0.9, 0, 180, rgb("#33231c"), width=0.6)
    c.ellipse(bx - 4.2, by + 2.4, 1, 0.7, rgb("#b8524c"))
    _hand(c, f, bx + 12, by + 4)


def bookkeeper(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#e9e2d0"), neckline=3)
    _lapels(c, f, rgb("#70502c"), rgb("#f7f3e8"), depth=20)
    x, y = f.x, f.shoulder_y
    c.poly([(x - 12, y + 2), (x - 4, y + 18), (x - 4, 66), (x - 14, 66)], rgb("#70502c"))
    c.poly([(x + 12, y + 2), (x + 4, y + 18), (x + 4, 66), (x + 14, 66)], rgb("#70502c"))
    c.rect(2, 50, 30, 64, rgb("#fbf7ea"))
    for k in range(5):
        c.line([(2, 52.6 + 2.6 * k), (30, 52.6 + 2.6 * k)], rgb("#7fa3c4"), width=0.5)
    for at in (12, 20, 25):
        c.line([(at, 50), (at, 64)], rgb("#d0605a"), width=0.6)
    c.rect(44, 44, 60, 64, rgb("#33363d"), radius=1.4)
    c.rect(46, 46, 58, 50, rgb("#b9e08c"))
    for row in range(4):
        for column in range(3):
            c.rect(46.2 + 4.2 * column, 52 + 3 * row, 49.2 + 4.2 * column, 54 + 3 * row, rgb("#e7e7ea"))


def visor(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.line([(x - w - 1, y - 6.4), (x, y - 10), (x + w + 1, y - 6.4)], rgb("#1c5c35"), width=2)
    c.blob([(x - w - 1, y - 6.6), (x, y - 10.6), (x + w + 1, y - 6.6), (x + w * 0.8, y - 4.4), (x, y - 6.2),
            (x - w * 0.8, y - 4.4)], rgb("#35a864"))  # fmt: skip


def stylist(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#26262c"), neckline=3)
    x, y, n = f.x, f.shoulder_y, f.neck
    tape = rgb("#ffe14d")
    for side, low in ((-1, 20), (1, 15)):
        c.line(
            [(x + side * (n + 1.4), y - 4.4), (x + side * (n + 3), y + 4), (x + side * (n + 2.4), y + low)],
            tape,
            width=2.6,
        )
        for k in range(5):
            c.line([(x + side * (n + 2.2), y + 1 + 3 * k), (x + side * (n + 3.8), y + 1 + 3 * k)], BLACK, width=0.5)
    c.line([(52, 39), (52, 35), (54, 33.4)], rgb("#3a3a40"), width=0.9)
    c.poly([(52, 38), (61, 43), (43, 43)], rgb("#c48a4a"))
    c.poly([(46, 43), (58, 43), (60, 64), (44, 64)], rgb("#ff5da2"))
    c.poly([(50, 43), (54, 43), (52, 47)], shade(rgb("#ff5da2"), -0.3))


def beret(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - w, y - 8), (x - w + 1, y - 14), (x + 2, y - 18.4), (x + w + 4, y - 14), (x + w + 3.4, y - 9.4), (x, y - 9)],
           rgb("#c2185b"))  # fmt: skip
    c.line([(x + 3, y - 18), (x + 4, y - 20)], rgb("#8a0f40"), width=1.1)


def housekeeper(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#47618c"), neckline=3)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.poly([(x, y + 1.4), (x + side * (f.neck + 1.4), y - 4.6), (x + side * (f.neck + 5), y + 1), (x + side * 3, y + 5)],
               WHITE)  # fmt: skip
    c.rect(x - 7, y + 9, x + 7, 66, WHITE, radius=1.5)
    c.line([(52, 64), (52, 44)], rgb("#a8713c"), width=1.8)
    for dx, dy, colour in ((0, 0, "#ff8c1a"), (-4, 4, "#ffb347"), (4, 4, "#ffb347"), (-3, -4, "#ffc76b"), (3, -4, "#ff9f33"),
                           (0, -8, "#ffb347")):  # fmt: skip
        c.ellipse(52 + dx, 38 + dy, 4, 4.4, rgb(colour))
    _hand(c, f, 52, 53, sleeve=rgb("#3c547c"))


def kerchief(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - w - 1, y - 5), (x - w * 0.8, y - 13.6), (x, y - 16.4), (x + w * 0.8, y - 13.6), (x + w + 1, y - 5), (x, y - 9)],
           rgb("#47618c"))  # fmt: skip
    for dx, dy in ((-6, -9.6), (-2, -13), (3, -11), (7, -9)):
        c.ellipse(x + dx, y + dy, 0.9, 0.9, WHITE)


def maestro(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, BLACK, neckline=2)
    _lapels(c, f, rgb("#30303a"), WHITE, depth=22)
    x, y = f.x, f.shoulder_y - 1
    c.poly([(x, y), (x - 4.4, y - 2.4), (x - 4.4, y + 2.6)], rgb("#e8e8ee"))
    c.poly([(x, y), (x + 4.4, y - 2.4), (x + 4.4, y + 2.6)], rgb("#e8e8ee"))
    c.ellipse(x, y, 1, 1.1, rgb("#c4c4cc"))
    c.line([(53, 52), (60, 30)], WHITE, width=1.3)
    c.blob([(49, 66), (50, 53), (56, 53), (59, 66)], BLACK)
    c.rect(49.6, 53.4, 56.6, 55.4, WHITE)
    _hand(c, f, 53, 51)


def skipper(c: Canvas, f: Figure, rng: random.Random) -> None:
    colour = rgb("#f7c816")
    _body(c, f, colour, neckline=3)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.poly([(x, y + 2), (x + side * (f.neck + 1), y - 5.4), (x + side * (f.neck + 5.4), y - 1), (x + side * 3, y + 6)],
               rgb("#d9a90c"))  # fmt: skip
    c.line([(x, y + 3), (x, 64)], rgb("#b58a06"), width=0.9)
    wx, wy, wood = 51, 54, rgb("#7b4a22")
    for dx, dy in ((0, 11), (11, 0), (7.8, 7.8), (7.8, -7.8)):
        c.line([(wx - dx, wy - dy), (wx + dx, wy + dy)], wood, width=1.5)
    c.ring(wx, wy, 8.4, 8.4, wood, width=2.4)
    c.ellipse(wx, wy, 2.2, 2.2, GOLD)


def souwester(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 4.6, y - 6), (x, y - 9.4), (x + w + 4.6, y - 6), (x + w + 1, y - 10), (x - w - 1, y - 10)],
        rgb("#d9a90c"),
    )
    c.blob([(x - w, y - 8), (x - w * 0.8, y - 15), (x, y - 18.4), (x + w * 0.8, y - 15), (x + w, y - 8), (x, y - 10)],
           rgb("#f7c816"))  # fmt: skip


def protege(c: Canvas, f: Figure, rng: random.Random) -> None:
    gown = rgb("#3a2a78")
    _body(c, f, gown, neckline=7)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.line([(x + side * (f.neck + 1.4), y - 4), (x + side * 1.4, y + 9), (x + side * 1.4, 64)], GOLD, width=1.8)
    c.poly([(44, 57), (58, 43), (61.4, 46.4), (47.4, 60.4)], rgb("#fdf3d8"))
    c.line([(50.4, 50.6), (54, 54.2)], rgb("#d2303c"), width=2)
    _hand(c, f, 48, 56, sleeve=rgb("#32246a"))


def mortarboard(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.poly([(x - w, y - 7), (x - w, y - 13), (x + w, y - 13), (x + w, y - 7), (x, y - 9.6)], rgb("#241a52"))
    c.poly([(x - w - 6, y - 14), (x, y - 19), (x + w + 6, y - 14), (x, y - 9.6)], rgb("#3a2a78"))
    c.line([(x, y - 14.2), (x + w + 3, y - 12.6), (x + w + 3, y - 4)], GOLD, width=1)
    c.ellipse(x + w + 3, y - 3, 1.5, 2.3, GOLD)


def philosopher(c: Canvas, f: Figure, rng: random.Random) -> None:
    cloth = rgb("#f4efe2")
    _body(c, f, cloth, neckline=8)
    x, y, s = f.x, f.shoulder_y, f.shoulder
    c.poly([(x - s, y + 2), (x - f.neck - 2, y - 4), (x + 8, 66), (x - 6, 66)], rgb("#8c2f3c"))
    for k in range(3):
        c.line([(x - s + 5 + 3 * k, y + 2), (x - 5 + 4 * k, 66)], rgb("#6b1f2c"), width=0.7)
    c.rect(44, 40, 58, 60, rgb("#ecd9a8"))
    for yy in (40, 60):
        c.rect(42, yy - 1.8, 60, yy + 1.8, rgb("#c99f52"), radius=1.6)
    for k in range(5):
        c.line([(46.4, 44 + 3 * k), (55.6, 44 + 3 * k)], rgb("#6d5426"), width=0.7)
    _hand(c, f, 44, 51, sleeve=rgb("#e2dac6"))


def wreath(c: Canvas, f: Figure, rng: random.Random) -> None:
    for k in range(7):
        for side in (-1, 1):
            dx, dy = side * (1 + k * 1.7), -10.6 + 0.16 * k * k
            c.ellipse(f.x + dx, f.y + dy, 1.7, 1.2, rgb("#3f7a34") if k % 2 else rgb("#63a34c"))


def captain(c: Canvas, f: Figure, rng: random.Random) -> None:
    navy = rgb("#16244a")
    _body(c, f, navy, neckline=3)
    _lapels(c, f, navy, WHITE, depth=11)
    _tie(c, f, BLACK)
    x, y, s = f.x, f.shoulder_y, f.shoulder
    for side in (-1, 1):
        c.poly([(x + side * s * 0.55, y - 1.6), (x + side * s * 0.98, y + 1.6), (x + side * s * 0.98, y + 5),
                (x + side * s * 0.55, y + 1.6)], GOLD)  # fmt: skip
        for k in range(3):
            c.ellipse(x + side * 5, y + 12 + 5 * k, 1.2, 1.2, GOLD)


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


def architect(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#8b8f98"), neckline=2)
    _lapels(c, f, rgb("#8b8f98"), BLACK, depth=24)
    x, y = f.x, f.shoulder_y
    c.rect(x - f.neck - 0.6, y - 6, x + f.neck + 0.6, y - 1, BLACK, radius=1)
    points: list[Point] = [(44, 62), (62, 62), (62, 38)]
    c.poly(points, rgb("#ff9f1c"))
    c.poly([(52, 58.6), (58.6, 58.6), (58.6, 49)], rgb("#2860b4"))
    c.poly([(2, 60), (16, 44), (19.6, 47), (5.6, 63)], WHITE)
    c.ellipse(17.8, 45.6, 2.4, 2.4, rgb("#b9d2f2"))


def hard_hat(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob(
        [(x - w - 0.6, y - 8), (x - w * 0.8, y - 15.4), (x, y - 18.6), (x + w * 0.8, y - 15.4), (x + w + 0.6, y - 8)],
        WHITE,
    )
    c.rect(x - w - 2, y - 9.4, x + w + 2, y - 6.8, rgb("#dfe3e8"), radius=1.2)
    c.rect(x - 1.4, y - 18.4, x + 1.4, y - 9.4, rgb("#dfe3e8"), radius=1)


def financier(c: Canvas, f: Figure, rng: random.Random) -> None:
    suit = rgb("#3a4358")
    _body(c, f, suit, neckline=3)
    for k in range(-5, 6):
        if abs(k) > 1:
            c.line([(f.x + 3.4 * k, f.shoulder_y + 3 + abs(k) * 0.4), (f.x + 3.4 * k, 64)], rgb("#8b96ad"), width=0.5)
    _lapels(c, f, suit, WHITE)
    _tie(c, f, rgb("#c8202f"))
    for k, (px, count) in enumerate(((46, 2), (54, 5), (62, 3))):
        for j in range(count):
            c.ellipse(px, 61 - 3 * j, 4.6, 2, rgb("#b8860b"))
            c.ellipse(px, 60.4 - 3 * j, 4.4, 1.6, GOLD if k != 1 else rgb("#ffd95a"))


def warrior(c: Canvas, f: Figure, rng: random.Random) -> None:
    steel = rgb("#9aa5b1")
    _body(c, f, steel, neckline=3)
    x, y, s = f.x, f.shoulder_y, f.shoulder
    for side in (-1, 1):
        c.ellipse(x + side * s * 0.84, y + 4, 6.4, 5.4, rgb("#b9c3cd"))
        c.arc(x + side * s * 0.84, y + 4, 6.4, 5.4, 0, 360, rgb("#5d6772"), width=0.8)
        c.arc(x + side * 4.8, y + 10, 5, 4.6, 0, 180, rgb("#5d6772"), width=1)
    c.rect(x - 7, y + 17, x + 7, y + 19.4, rgb("#7a4a22"))
    c.ellipse(11, 55, 11, 11, rgb("#8e1f24"))
    c.ring(11, 55, 11, 11, GOLD, width=1.8)
    c.ellipse(11, 55, 3, 3, GOLD)
    c.line([(57, 66), (57, 16)], rgb("#6b4423"), width=1.8)
    c.poly([(57, 5), (60.4, 13), (57, 19), (53.6, 13)], rgb("#dfe6ec"))
    _hand(c, f, 57, 50, sleeve=rgb("#8a95a1"))


def helmet(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.blob([(x - 3, y - 13), (x - 6, y - 21), (x + 1, y - 24), (x + 8, y - 21), (x + 4, y - 13)], rgb("#c22126"))
    c.blob([(x - w - 1.6, y - 5), (x - w * 0.84, y - 14), (x, y - 17.4), (x + w * 0.84, y - 14), (x + w + 1.6, y - 5), (x, y - 8)],
           rgb("#b9c3cd"))  # fmt: skip
    for side in (-1, 1):
        c.poly([(x + side * (w + 1.6), y - 6), (x + side * (w + 1.8), y + 7), (x + side * (w - 2.2), y + 5),
                (x + side * (w - 1.2), y - 6)], rgb("#a6b0bb"))  # fmt: skip
    c.line([(x - w - 1, y - 5.8), (x, y - 8.8), (x + w + 1, y - 5.8)], GOLD, width=1.3)


def broadcaster(c: Canvas, f: Figure, rng: random.Random) -> None:
    coat = rgb("#b9c2cc")
    _body(c, f, coat, neckline=3)
    _lapels(c, f, coat, rgb("#2a3a5a"), depth=13)
    c.rect(0, 57, 64, 64, rgb("#e9eef4"))
    c.rect(0, 56, 64, 58, rgb("#e3263a"))
    c.line([(50, 58), (50, 48)], rgb("#2c2f36"), width=1.6)
    c.rect(45.6, 34, 54.4, 49, rgb("#3b3f48"), radius=4)
    for k in range(4):
        c.line([(46.4, 37 + 2.6 * k), (53.6, 37 + 2.6 * k)], rgb("#a9b0ba"), width=0.7)
    c.rect(45.4, 43.6, 54.6, 45.6, rgb("#e3263a"))


def headphones(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.arc(x, y - 2, w + 2.4, 15, 190, 350, rgb("#f4f4f6"), width=2.2)
    for side in (-1, 1):
        c.ellipse(x + side * (w + 1), y + 0.6, 2.8, 4.4, rgb("#f4f4f6"))
        c.ellipse(x + side * (w + 1), y + 0.6, 1.5, 2.8, rgb("#e3263a"))


def magician(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, s = f.x, f.shoulder_y, f.shoulder
    c.poly([(x - s - 5, 66), (x - s * 0.8, y - 5), (x + s * 0.8, y - 5), (x + s + 5, 66)], rgb("#c3162c"))
    _body(c, f, BLACK, neckline=2)
    _lapels(c, f, BLACK, WHITE, depth=14)
    for side in (-1, 1):
        c.poly([(x, y - 1), (x + side * 4.2, y - 3.4), (x + side * 4.2, y + 1.6)], rgb("#c3162c"))
    c.line([(46, 58), (57, 40)], rgb("#d8cfff"), width=1.6)
    c.star(57.6, 36.4, 5, rgb("#fff07a"))
    _hand(c, f, 47.4, 55, sleeve=rgb("#30303a"))


def top_hat(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, w = f.x, f.y, f.width
    c.poly([(x - w + 1.6, y - 9), (x - w + 0.4, y - 25), (x + w - 0.4, y - 25), (x + w - 1.6, y - 9)], BLACK)
    c.rect(x - w + 1.4, y - 13.6, x + w - 1.4, y - 10, rgb("#c3162c"))
    c.ellipse(x, y - 9, w + 4.4, 2.2, rgb("#26262e"))


def doctor(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, WHITE, neckline=3)
    _lapels(c, f, rgb("#dfe5ec"), rgb("#6fa8dc"), depth=17)
    x, y = f.x, f.shoulder_y
    _tie(c, f, rgb("#274c77"))
    c.rect(x + 8, y + 12, x + 14.4, y + 13.2, rgb("#b9c4cf"))
    c.line([(x + 10, y + 9.4), (x + 10, y + 13)], rgb("#d62f3f"), width=1)
    _stethoscope(c, f)


def head_mirror(c: Canvas, f: Figure, rng: random.Random) -> None:
    c.line([(f.x - f.width, f.y - 8), (f.x, f.y - 11), (f.x + f.width, f.y - 8)], rgb("#2d3644"), width=1.3)
    c.ellipse(f.x, f.y - 12, 3.6, 3.6, rgb("#8fa3b5"))
    c.ellipse(f.x, f.y - 12, 2.7, 2.7, rgb("#eaf3fb"))


def daycare_worker(c: Canvas, f: Figure, rng: random.Random) -> None:
    _body(c, f, rgb("#f58a3c"), neckline=4)
    x, y = f.x, f.shoulder_y
    for k, colour in enumerate(("#f7e05a", "#4a90d9", "#e8554e", "#5cb85c", "#ffffff", "#8e5bb5")):
        c.star(x - 10 + 4.4 * k, y + 6 + (k % 2) * 5, 2, rgb(colour))
    for k, (bx, by, colour) in enumerate(((50, 58, "#e8554e"), (59, 58, "#4a90d9"), (54.6, 49.6, "#f7d23a"))):
        c.rect(bx - 4.2, by - 4.2, bx + 4.2, by + 4.2, rgb(colour), radius=0.8)
        c.rect(bx - 2.4, by - 2.4, bx + 2.4, by + 2.4, mix(rgb(colour), WHITE, 0.75))
        c.ellipse(bx, by, 0.9 + 0.4 * k, 1.2, rgb(colour))
    tone = rng.choice(("#f3cfb6", "#c2926b", "#7a4d31"))
    _small_head(c, 10, 50, skin=rgb(tone), hair=rgb("#2a1c14"), shirt=rgb("#5cb85c"))


def cto(c: Canvas, f: Figure, rng: random.Random) -> None:
    blazer = rgb("#5a6478")
    _body(c, f, blazer, neckline=3)
    _lapels(c, f, blazer, rgb("#f2f4f7"), depth=24)
    x, y = f.x, f.shoulder_y
    c.rect(x - 4, y + 1, x + 4, y + 3, rgb("#f2f4f7"))
    c.line([(x - f.neck, y - 4), (x - 1, y + 10)], rgb("#29c5f6"), width=0.9)
    c.line([(x + f.neck, y - 4), (x + 1, y + 10)], rgb("#29c5f6"), width=0.9)
    c.rect(x - 3, y + 10, x + 3, y + 18, rgb("#29c5f6"), radius=0.8)
    c.ellipse(x, y + 13, 1.5, 1.6, WHITE)
    _laptop(c, rgb("#d5dae1"))


def _laptop(c: Canvas, colour: Colour) -> None:
    c.rect(1, 48, 20, 61, colour, radius=1.2)
    c.ellipse(10.5, 54.4, 2.2, 2.2, WHITE)
    c.rect(0, 61, 23, 64, shade(colour, -0.25), radius=0.8)


def data_scientist(c: Canvas, f: Figure, rng: random.Random) -> None:
    shirt = rgb("#b03a3a")
    _body(c, f, shirt, neckline=4)
    x, y = f.x, f.shoulder_y
    for k in range(-4, 5):
        c.line([(x + 4.4 * k, y + 3 + abs(k) * 0.6), (x + 4.4 * k, 64)], rgb("#2c2c44"), width=1)
    for k in range(4):
        c.line([(x - f.shoulder + 1, y + 7 + 5 * k), (x + f.shoulder - 1, y + 7 + 5 * k)], rgb("#2c2c44"), width=1)
    for side in (-1, 1):
        c.poly([(x, y + 2), (x + side * (f.neck + 1), y - 4.6), (x + side * (f.neck + 3), y + 1)], shade(shirt, 0.15))
    _laptop(c, rgb("#3d4654"))
    c.line([(5, 58), (9, 54), (12, 56), (17, 51)], rgb("#4fe3a0"), width=1.1)


OUTFITS: dict[str | None, tuple[Layer, Layer | None]] = {
    None: (everyday, None), "homemaker": (homemaker, None), "nurse": (nurse, nurse_cap),
    "receptionist": (receptionist, headset), "librarian": (librarian, glasses), "socialite": (socialite, None),
    "hairdresser": (hairdresser, None), "nanny": (nanny, None), "bookkeeper": (bookkeeper, visor),
    "stylist": (stylist, beret), "housekeeper": (housekeeper, kerchief), "maestro": (maestro, None),
    "skipper": (skipper, souwester), "protege": (protege, mortarboard), "philosopher": (philosopher, wreath),
    "captain": (captain, peaked_cap), "architect": (architect, hard_hat), "financier": (financier, None),
    "warrior": (warrior, helmet), "broadcaster": (broadcaster, headphones), "magician": (magician, top_hat),
    "doctor": (doctor, head_mirror), "daycare worker": (daycare_worker, None), "cto": (cto, None),
    "data scientist": (data_scientist, None),
}  # fmt: skip
"""Clothes with tools in the foreground, and headgear, by occupation."""


def company(c: Canvas, f: Figure, rng: random.Random, kind: str) -> None:
    """Others in the picture, hinted at: they carry no labels and are drawn without the cues that labels use."""
    tones = [rng.choice((rgb("#f3cfb6"), rgb("#c2926b"), rgb("#7a4d31"))) for _ in range(2)]
    if kind == "children":
        for x, tone, shirt in ((8, tones[0], "#e8554e"), (56, tones[1], "#4a90d9")):
            _small_head(c, x, 49, skin=tone, hair=rgb("#33221a"), shirt=rgb(shirt))
    elif kind == "patient":
        c.rect(0, 55, 64, 64, rgb("#f4f8fb"))
        c.rect(0, 54, 64, 56, rgb("#8fb8d8"))
        c.ellipse(9, 54, 8, 5, rgb("#ffffff"))
        c.ellipse(9, 52, 4.6, 4.6, rgb("#4a3a30"))
        c.ellipse(10.4, 53, 4, 4.2, tones[0])
        c.blob([(16, 66), (20, 54), (44, 53), (66, 56), (66, 66)], rgb("#a9cfe8"))


def colleagues(c: Canvas, rng: random.Random) -> None:
    """Two people seen from behind at their desks, behind the main figure."""
    for x in (7.5, 56.5):
        c.blob([(x - 9, 66), (x - 8, 43), (x, 40), (x + 8, 43), (x + 9, 66)], rgb("#7b8794"))
        c.ellipse(x, 35, 5.6, 6.4, rgb("#4a4440"))
        c.rect(x - 8, 52, x + 8, 62, rgb("#39424e"), radius=1)
        c.rect(x - 7, 53, x + 7, 61, rgb("#8fd0ff"))
