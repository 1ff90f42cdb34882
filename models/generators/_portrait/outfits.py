"""Dress and tools of each occupation, drawn on a figure."""

from __future__ import annotations

import random
from collections.abc import Callable

from allfour.models.generators._portrait import headgear
from allfour.models.generators._portrait.canvas import Canvas, Point, mix, rgb, shade
from allfour.models.generators._portrait.garments import (
    BLACK,
    GOLD,
    WHITE,
    body,
    hand,
    lapels,
    laptop,
    open_book,
    small_head,
    stethoscope,
    tie,
)
from allfour.models.generators._portrait.person import Figure

Layer = Callable[[Canvas, Figure, random.Random], None]


def everyday(c: Canvas, f: Figure, rng: random.Random) -> None:
    colours = ("#3f6fb5", "#b5483f", "#4f8a5b", "#7a5a9e", "#d9a13b", "#50606e", "#2f8f95", "#c96f8e")
    body(c, f, rgb(rng.choice(colours)), neckline=rng.uniform(3, 6))


def homemaker(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#7fa8c9"))
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
    body(c, f, colour, neckline=8)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.line([(x + side * (f.neck + 1.6), y - 4), (x, y + 6.5)], rgb("#12786f"), width=1.4)
    c.rect(x + 7, y + 10, x + 13.4, y + 18, rgb("#17897f"))
    c.rect(x - 13, y + 8, x - 7.4, y + 14, WHITE)
    c.cross(x - 10.2, y + 11, 2, 0.8, rgb("#d62f3f"))
    stethoscope(c, f)


def receptionist(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#6a2346"))
    lapels(c, f, rgb("#6a2346"), rgb("#fdf3e0"), depth=12)
    c.rect(0, 54, 64, 64, rgb("#e8d2ae"))
    c.rect(0, 53, 64, 55.4, rgb("#6b3f20"))
    c.ellipse(51, 53, 6, 6, GOLD)
    c.rect(44, 53, 58, 55.6, rgb("#3a2a1a"))
    c.ellipse(51, 46.6, 1.2, 1.2, rgb("#fff6cf"))


def librarian(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#b98b3e"), neckline=5)
    x, y = f.x, f.shoulder_y
    c.poly([(x - f.neck, y - 4), (x + f.neck, y - 4), (x + 3, 66), (x - 3, 66)], rgb("#f4ead4"))
    open_book(c, f, 15, 54, rgb("#a3262a"))


def socialite(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#d02565"), neckline=9)
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
    hand(c, f, gx, gy + 3.4, sleeve=rgb("#b01a52"))


def hairdresser(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#2b2b33"), neckline=4)
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
    hand(c, f, 8, 57, sleeve=rgb("#2b2b33"))


def nanny(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#7cb7e8"), neckline=4)
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
    hand(c, f, bx + 12, by + 4)


def bookkeeper(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#e9e2d0"), neckline=3)
    lapels(c, f, rgb("#70502c"), rgb("#f7f3e8"), depth=20)
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


def stylist(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#26262c"), neckline=3)
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


def housekeeper(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#47618c"), neckline=3)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.poly([(x, y + 1.4), (x + side * (f.neck + 1.4), y - 4.6), (x + side * (f.neck + 5), y + 1), (x + side * 3, y + 5)],
               WHITE)  # fmt: skip
    c.rect(x - 7, y + 9, x + 7, 66, WHITE, radius=1.5)
    c.line([(52, 64), (52, 44)], rgb("#a8713c"), width=1.8)
    for dx, dy, colour in ((0, 0, "#ff8c1a"), (-4, 4, "#ffb347"), (4, 4, "#ffb347"), (-3, -4, "#ffc76b"), (3, -4, "#ff9f33"),
                           (0, -8, "#ffb347")):  # fmt: skip
        c.ellipse(52 + dx, 38 + dy, 4, 4.4, rgb(colour))
    hand(c, f, 52, 53, sleeve=rgb("#3c547c"))


def maestro(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, BLACK, neckline=2)
    lapels(c, f, rgb("#30303a"), WHITE, depth=22)
    x, y = f.x, f.shoulder_y - 1
    c.poly([(x, y), (x - 4.4, y - 2.4), (x - 4.4, y + 2.6)], rgb("#e8e8ee"))
    c.poly([(x, y), (x + 4.4, y - 2.4), (x + 4.4, y + 2.6)], rgb("#e8e8ee"))
    c.ellipse(x, y, 1, 1.1, rgb("#c4c4cc"))
    c.line([(53, 52), (60, 30)], WHITE, width=1.3)
    c.blob([(49, 66), (50, 53), (56, 53), (59, 66)], BLACK)
    c.rect(49.6, 53.4, 56.6, 55.4, WHITE)
    hand(c, f, 53, 51)


def skipper(c: Canvas, f: Figure, rng: random.Random) -> None:
    colour = rgb("#f7c816")
    body(c, f, colour, neckline=3)
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


def protege(c: Canvas, f: Figure, rng: random.Random) -> None:
    gown = rgb("#3a2a78")
    body(c, f, gown, neckline=7)
    x, y = f.x, f.shoulder_y
    for side in (-1, 1):
        c.line([(x + side * (f.neck + 1.4), y - 4), (x + side * 1.4, y + 9), (x + side * 1.4, 64)], GOLD, width=1.8)
    c.poly([(44, 57), (58, 43), (61.4, 46.4), (47.4, 60.4)], rgb("#fdf3d8"))
    c.line([(50.4, 50.6), (54, 54.2)], rgb("#d2303c"), width=2)
    hand(c, f, 48, 56, sleeve=rgb("#32246a"))


def philosopher(c: Canvas, f: Figure, rng: random.Random) -> None:
    cloth = rgb("#f4efe2")
    body(c, f, cloth, neckline=8)
    x, y, s = f.x, f.shoulder_y, f.shoulder
    c.poly([(x - s, y + 2), (x - f.neck - 2, y - 4), (x + 8, 66), (x - 6, 66)], rgb("#8c2f3c"))
    for k in range(3):
        c.line([(x - s + 5 + 3 * k, y + 2), (x - 5 + 4 * k, 66)], rgb("#6b1f2c"), width=0.7)
    c.rect(44, 40, 58, 60, rgb("#ecd9a8"))
    for yy in (40, 60):
        c.rect(42, yy - 1.8, 60, yy + 1.8, rgb("#c99f52"), radius=1.6)
    for k in range(5):
        c.line([(46.4, 44 + 3 * k), (55.6, 44 + 3 * k)], rgb("#6d5426"), width=0.7)
    hand(c, f, 44, 51, sleeve=rgb("#e2dac6"))


def captain(c: Canvas, f: Figure, rng: random.Random) -> None:
    navy = rgb("#16244a")
    body(c, f, navy, neckline=3)
    lapels(c, f, navy, WHITE, depth=11)
    tie(c, f, BLACK)
    x, y, s = f.x, f.shoulder_y, f.shoulder
    for side in (-1, 1):
        c.poly([(x + side * s * 0.55, y - 1.6), (x + side * s * 0.98, y + 1.6), (x + side * s * 0.98, y + 5),
                (x + side * s * 0.55, y + 1.6)], GOLD)  # fmt: skip
        for k in range(3):
            c.ellipse(x + side * 5, y + 12 + 5 * k, 1.2, 1.2, GOLD)


def architect(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#8b8f98"), neckline=2)
    lapels(c, f, rgb("#8b8f98"), BLACK, depth=24)
    x, y = f.x, f.shoulder_y
    c.rect(x - f.neck - 0.6, y - 6, x + f.neck + 0.6, y - 1, BLACK, radius=1)
    points: list[Point] = [(44, 62), (62, 62), (62, 38)]
    c.poly(points, rgb("#ff9f1c"))
    c.poly([(52, 58.6), (58.6, 58.6), (58.6, 49)], rgb("#2860b4"))
    c.poly([(2, 60), (16, 44), (19.6, 47), (5.6, 63)], WHITE)
    c.ellipse(17.8, 45.6, 2.4, 2.4, rgb("#b9d2f2"))


def financier(c: Canvas, f: Figure, rng: random.Random) -> None:
    suit = rgb("#3a4358")
    body(c, f, suit, neckline=3)
    for k in range(-5, 6):
        if abs(k) > 1:
            c.line([(f.x + 3.4 * k, f.shoulder_y + 3 + abs(k) * 0.4), (f.x + 3.4 * k, 64)], rgb("#8b96ad"), width=0.5)
    lapels(c, f, suit, WHITE)
    tie(c, f, rgb("#c8202f"))
    for k, (px, count) in enumerate(((46, 2), (54, 5), (62, 3))):
        for j in range(count):
            c.ellipse(px, 61 - 3 * j, 4.6, 2, rgb("#b8860b"))
            c.ellipse(px, 60.4 - 3 * j, 4.4, 1.6, GOLD if k != 1 else rgb("#ffd95a"))


def warrior(c: Canvas, f: Figure, rng: random.Random) -> None:
    steel = rgb("#9aa5b1")
    body(c, f, steel, neckline=3)
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
    hand(c, f, 57, 50, sleeve=rgb("#8a95a1"))


def broadcaster(c: Canvas, f: Figure, rng: random.Random) -> None:
    coat = rgb("#b9c2cc")
    body(c, f, coat, neckline=3)
    lapels(c, f, coat, rgb("#2a3a5a"), depth=13)
    c.rect(0, 57, 64, 64, rgb("#e9eef4"))
    c.rect(0, 56, 64, 58, rgb("#e3263a"))
    c.line([(50, 58), (50, 48)], rgb("#2c2f36"), width=1.6)
    c.rect(45.6, 34, 54.4, 49, rgb("#3b3f48"), radius=4)
    for k in range(4):
        c.line([(46.4, 37 + 2.6 * k), (53.6, 37 + 2.6 * k)], rgb("#a9b0ba"), width=0.7)
    c.rect(45.4, 43.6, 54.6, 45.6, rgb("#e3263a"))


def magician(c: Canvas, f: Figure, rng: random.Random) -> None:
    x, y, s = f.x, f.shoulder_y, f.shoulder
    c.poly([(x - s - 5, 66), (x - s * 0.8, y - 5), (x + s * 0.8, y - 5), (x + s + 5, 66)], rgb("#c3162c"))
    body(c, f, BLACK, neckline=2)
    lapels(c, f, BLACK, WHITE, depth=14)
    for side in (-1, 1):
        c.poly([(x, y - 1), (x + side * 4.2, y - 3.4), (x + side * 4.2, y + 1.6)], rgb("#c3162c"))
    c.line([(46, 58), (57, 40)], rgb("#d8cfff"), width=1.6)
    c.star(57.6, 36.4, 5, rgb("#fff07a"))
    hand(c, f, 47.4, 55, sleeve=rgb("#30303a"))


def doctor(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, WHITE, neckline=3)
    lapels(c, f, rgb("#dfe5ec"), rgb("#6fa8dc"), depth=17)
    x, y = f.x, f.shoulder_y
    tie(c, f, rgb("#274c77"))
    c.rect(x + 8, y + 12, x + 14.4, y + 13.2, rgb("#b9c4cf"))
    c.line([(x + 10, y + 9.4), (x + 10, y + 13)], rgb("#d62f3f"), width=1)
    stethoscope(c, f)


def daycare_worker(c: Canvas, f: Figure, rng: random.Random) -> None:
    body(c, f, rgb("#f58a3c"), neckline=4)
    x, y = f.x, f.shoulder_y
    for k, colour in enumerate(("#f7e05a", "#4a90d9", "#e8554e", "#5cb85c", "#ffffff", "#8e5bb5")):
        c.star(x - 10 + 4.4 * k, y + 6 + (k % 2) * 5, 2, rgb(colour))
    for k, (bx, by, colour) in enumerate(((50, 58, "#e8554e"), (59, 58, "#4a90d9"), (54.6, 49.6, "#f7d23a"))):
        c.rect(bx - 4.2, by - 4.2, bx + 4.2, by + 4.2, rgb(colour), radius=0.8)
        c.rect(bx - 2.4, by - 2.4, bx + 2.4, by + 2.4, mix(rgb(colour), WHITE, 0.75))
        c.ellipse(bx, by, 0.9 + 0.4 * k, 1.2, rgb(colour))
    tone = rng.choice(("#f3cfb6", "#c2926b", "#7a4d31"))
    small_head(c, 10, 50, skin=rgb(tone), hair=rgb("#2a1c14"), shirt=rgb("#5cb85c"))


def cto(c: Canvas, f: Figure, rng: random.Random) -> None:
    blazer = rgb("#5a6478")
    body(c, f, blazer, neckline=3)
    lapels(c, f, blazer, rgb("#f2f4f7"), depth=24)
    x, y = f.x, f.shoulder_y
    c.rect(x - 4, y + 1, x + 4, y + 3, rgb("#f2f4f7"))
    c.line([(x - f.neck, y - 4), (x - 1, y + 10)], rgb("#29c5f6"), width=0.9)
    c.line([(x + f.neck, y - 4), (x + 1, y + 10)], rgb("#29c5f6"), width=0.9)
    c.rect(x - 3, y + 10, x + 3, y + 18, rgb("#29c5f6"), radius=0.8)
    c.ellipse(x, y + 13, 1.5, 1.6, WHITE)
    laptop(c, rgb("#d5dae1"))


def data_scientist(c: Canvas, f: Figure, rng: random.Random) -> None:
    shirt = rgb("#b03a3a")
    body(c, f, shirt, neckline=4)
    x, y = f.x, f.shoulder_y
    for k in range(-4, 5):
        c.line([(x + 4.4 * k, y + 3 + abs(k) * 0.6), (x + 4.4 * k, 64)], rgb("#2c2c44"), width=1)
    for k in range(4):
        c.line([(x - f.shoulder + 1, y + 7 + 5 * k), (x + f.shoulder - 1, y + 7 + 5 * k)], rgb("#2c2c44"), width=1)
    for side in (-1, 1):
        c.poly([(x, y + 2), (x + side * (f.neck + 1), y - 4.6), (x + side * (f.neck + 3), y + 1)], shade(shirt, 0.15))
    laptop(c, rgb("#3d4654"))
    c.line([(5, 58), (9, 54), (12, 56), (17, 51)], rgb("#4fe3a0"), width=1.1)


OUTFITS: dict[str | None, tuple[Layer, Layer | None]] = {
    None: (everyday, None), "homemaker": (homemaker, None), "nurse": (nurse, headgear.nurse_cap),
    "receptionist": (receptionist, headgear.headset), "librarian": (librarian, headgear.glasses), "socialite": (socialite, None),
    "hairdresser": (hairdresser, None), "nanny": (nanny, None), "bookkeeper": (bookkeeper, headgear.visor),
    "stylist": (stylist, headgear.beret), "housekeeper": (housekeeper, headgear.kerchief), "maestro": (maestro, None),
    "skipper": (skipper, headgear.souwester), "protege": (protege, headgear.mortarboard), "philosopher": (philosopher, headgear.wreath),
    "captain": (captain, headgear.peaked_cap), "architect": (architect, headgear.hard_hat), "financier": (financier, None),
    "warrior": (warrior, headgear.helmet), "broadcaster": (broadcaster, headgear.headphones), "magician": (magician, headgear.top_hat),
    "doctor": (doctor, headgear.head_mirror), "daycare worker": (daycare_worker, None), "cto": (cto, None),
    "data scientist": (data_scientist, None),
}  # fmt: skip
"""Clothes with tools in the foreground, and headgear, by occupation."""
