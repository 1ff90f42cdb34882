"""Backgrounds: where each occupation is at work, everyday backdrops, and scenes that show nobody."""

from __future__ import annotations

import random
from collections.abc import Callable

from allfour.models.generators._portrait.canvas import Canvas, Colour, mix, rgb, shade

Place = Callable[[Canvas, random.Random], None]

BRIGHT = tuple(rgb(h) for h in ("#d9534f", "#f0ad4e", "#5cb85c", "#5bc0de", "#3f6fb5", "#8e5bb5", "#e58fb0"))
PLAIN = tuple(rgb(h) for h in ("#b9c9d6", "#c9d6c0", "#ddd0bd", "#d8c4cc", "#c4c4d8", "#a9bdbd", "#d9d9d9"))


def _wall(c: Canvas, code: str, rng: random.Random) -> Colour:
    colour = shade(rgb(code), rng.uniform(-0.06, 0.06))
    c.gradient(shade(colour, 0.12), shade(colour, -0.1))
    return colour


def plain(c: Canvas, rng: random.Random) -> None:
    colour = rng.choice(PLAIN)
    c.gradient(shade(colour, 0.2), shade(colour, -0.15))


def kitchen(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#f3dfb4", rng)
    c.rect(3, 5, 17, 20, rgb("#ffffff"))
    c.rect(4.5, 6.5, 15.5, 18.5, rgb("#a8dcf4"))
    c.rect(9.4, 6, 10.6, 19, rgb("#ffffff"))
    c.rect(46, 15, 64, 16.6, rgb("#8a5a34"))
    for k, colour in enumerate(("#c0392b", "#2e86ab", "#e9a23b")):
        c.rect(47.5 + 5.6 * k, 9.5, 51.5 + 5.6 * k, 15, rgb(colour), radius=0.8)
    c.rect(0, 44, 64, 64, rgb("#cfa06a"))
    c.rect(0, 44, 64, 46, rgb("#e9e2d5"))


def clinic(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#cdeee9", rng)
    c.line([(54, 4), (54, 58)], rgb("#8b9aa0"), width=1.2)
    c.line([(49, 5), (59, 5)], rgb("#8b9aa0"), width=1.2)
    c.rect(49.5, 7, 55, 17, rgb("#f7fdff"), radius=1.4)
    c.rect(49.5, 12, 55, 17, rgb("#7cc4dd"), radius=1.4)
    c.rect(2, 6, 15, 15, rgb("#ffffff"), radius=1)
    c.line([(3, 11), (6, 11), (7.4, 7.5), (9, 14), (10.4, 11), (14, 11)], rgb("#d83a4a"), width=1)


def surgery(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#b7cfe8", rng)
    c.rect(3, 5, 16, 24, rgb("#16202c"), radius=0.8)
    c.line([(9.5, 7), (9.5, 22)], rgb("#cfe3f0"), width=1.2)
    for k in range(4):
        c.arc(9.5, 10 + 3.4 * k, 4, 2, 200, 340, rgb("#9fbdd2"), width=0.9)
    c.rect(48, 6, 61, 19, rgb("#ffffff"), radius=1)
    c.cross(54.5, 12.5, 4.4, 1.5, rgb("#d62f3f"))


def front_desk(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#c58f62", rng)
    for row in range(4):
        for column in range(8):
            x, y = 4 + column * 8, 4 + row * 9
            c.rect(x - 3, y - 2.6, x + 3, y + 4.4, rgb("#7d4d2c"))
            if (row * 3 + column * 5) % 4:
                c.ellipse(x, y, 1.2, 1.2, rgb("#f4d35e"))
                c.rect(x - 0.4, y, x + 0.4, y + 3.6, rgb("#f4d35e"))


def library(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#5a3a22"), rgb("#43290f"))
    for row in range(4):
        y = 1 + row * 15.5
        x = 0.5
        while x < 64:
            wide = rng.uniform(2.2, 3.8)
            tall = rng.uniform(9.4, 12.8)
            c.rect(x, y + 13 - tall, x + wide - 0.4, y + 13, shade(rng.choice(BRIGHT), rng.uniform(-0.35, 0.0)))
            x += wide
        c.rect(0, y + 13, 64, y + 14.6, rgb("#8b5e34"))


def gala(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#4a1d52"), rgb("#8d2f6c"))
    for _ in range(16):
        colour = mix(rng.choice((rgb("#ffd86b"), rgb("#ff9ecb"), rgb("#fff3c9"))), rgb("#6a2560"), 0.3)
        r = rng.uniform(1.2, 3)
        c.ellipse(rng.uniform(0, 64), rng.uniform(2, 42), r, r, colour)
    c.line([(12, 0), (12, 6)], rgb("#ffd86b"), width=0.8)
    c.poly([(4, 6), (20, 6), (15, 14), (9, 14)], rgb("#ffe9a8"))


def salon(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#f2a7bd", rng)
    c.rect(6, 1, 58, 46, rgb("#ffffff"), radius=4)
    c.rect(8, 3, 56, 44, rgb("#bfe3ec"), radius=3)
    c.poly([(12, 36), (30, 6), (36, 6), (18, 36)], rgb("#d8f1f6"))
    for y in (8, 20, 32):
        for x in (3.4, 60.6):
            c.ellipse(x, y, 2.4, 2.4, rgb("#fff2a8"))


def nursery(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#f9eaa2", rng)
    c.line([(8, 0), (8, 8)], rgb("#8e6b4a"), width=0.7)
    c.line([(1, 8), (16, 8)], rgb("#8e6b4a"), width=0.9)
    for x, colour in ((2, "#e8748c"), (8, "#5aa9d6"), (15, "#7bc47f")):
        c.line([(x, 8), (x, 12)], rgb("#8e6b4a"), width=0.5)
        c.star(x, 14, 3, rgb(colour))
    c.rect(48, 24, 64, 48, rgb("#ffffff"))
    for k in range(4):
        c.rect(49 + 4 * k, 26, 51 + 4 * k, 48, rgb("#bcdff2"))
    c.ellipse(55, 12, 4.6, 4.6, rgb("#f6b8c8"))


def counting_house(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#8ea36b", rng)
    for row in range(3):
        y = 2 + row * 15
        for k in range(11):
            colour = ("#f2efe4", "#c9503c", "#f2efe4", "#36618e")[(k + row) % 4]
            c.rect(1 + 6 * k, y, 5.8 + 6 * k, y + 11, rgb(colour))
            c.ellipse(3.4 + 6 * k, y + 8, 1, 1, rgb("#55563f"))
        c.rect(0, y + 11, 64, y + 13, rgb("#5b4a2c"))


def dress_rail(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#f4f0ec", rng)
    c.line([(0, 7), (64, 7)], rgb("#3a3a40"), width=1.2)
    for k in range(8):
        x, colour = 4 + 8 * k, BRIGHT[(k + rng.randrange(7)) % 7]
        c.arc(x, 7, 1.4, 1.6, 90, 330, rgb("#3a3a40"), width=0.6)
        c.poly([(x - 1, 9), (x + 1, 9), (x + 3.6, 13), (x + 3, 36), (x - 3, 36), (x - 3.6, 13)], colour)


def bedroom(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#c3b8e0", rng)
    c.rect(0, 30, 64, 52, rgb("#7a5440"), radius=3)
    c.rect(2, 36, 64, 64, rgb("#ffffff"))
    for x in (12, 52):
        c.blob([(x - 9, 33), (x + 9, 33), (x + 9.6, 41), (x - 9.6, 41)], rgb("#f2f6ff"))
    c.rect(3, 6, 14, 20, rgb("#ffffff"))
    c.rect(4.4, 7.4, 12.6, 18.6, rgb("#ffd9a0"))


def concert_hall(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#a11f2c"), rgb("#6b101b"))
    for k in range(8):
        c.rect(8 * k, 0, 8 * k + 3.4, 64, rgb("#8a1622"))
    for x, y in ((7, 14), (55, 10), (57, 27), (9, 31)):
        c.ellipse(x, y, 2.4, 1.8, rgb("#ffe3a0"))
        c.line([(x + 2, y), (x + 2, y - 8), (x + 5, y - 6.5)], rgb("#ffe3a0"), width=0.9)


def sailing(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#a9dcf8"), rgb("#d8f0fb"))
    c.rect(0, 34, 64, 64, rgb("#1f6fa8"))
    for row in range(4):
        for k in range(6):
            c.arc(4 + 12 * k + 6 * (row % 2), 39 + 6.5 * row, 6, 2.4, 20, 160, rgb("#7fc0e6"), width=1)
    x = rng.uniform(7, 11)
    c.line([(x, 6), (x, 34)], rgb("#6b4a2c"), width=1)
    c.poly([(x + 1, 7), (x + 1, 29), (x + 12, 29)], rgb("#ffffff"))
    c.poly([(x - 8, 30), (x + 13, 30), (x + 9, 36), (x - 5, 36)], rgb("#c0392b"))


def lecture_room(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#f2c572", rng)
    c.rect(2, 3, 62, 40, rgb("#8a5a2e"))
    c.rect(4, 5, 60, 38, rgb("#2f6b4f"))
    c.line([(8, 12), (17, 12)], rgb("#e8f0e8"), width=1)
    c.line([(8, 17), (15, 17)], rgb("#e8f0e8"), width=1)
    c.star(53, 13, 4.4, rgb("#ffe066"))
    c.star(53, 27, 3, rgb("#ffe066"))


def temple(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#8fb6dd"), rgb("#e9d9b8"))
    c.poly([(0, 9), (32, 0), (64, 9)], rgb("#efe8d6"))
    c.rect(0, 9, 64, 13, rgb("#dcd2ba"))
    for x in (5, 19, 45, 59):
        c.rect(x - 4, 13, x + 4, 64, rgb("#efe8d6"))
        for dx in (-2, 0.4):
            c.rect(x + dx, 14, x + dx + 1, 64, rgb("#cbbf9f"))
        c.rect(x - 5, 13, x + 5, 15.6, rgb("#e4dac2"))


def bridge(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#5fa8d8"), rgb("#cdeafa"))
    c.rect(0, 26, 64, 38, rgb("#2a6d9c"))
    c.rect(0, 36, 64, 64, rgb("#5b6770"))
    for x in (0, 20.5, 41, 62):
        c.rect(x, 0, x + 2.4, 38, rgb("#e9edf0"))
    c.rect(0, 0, 64, 3, rgb("#e9edf0"))
    c.rect(0, 36, 64, 38.4, rgb("#e9edf0"))
    for x in (5, 57):
        c.ellipse(x, 44, 4, 4, rgb("#1e252a"))
        c.line([(x, 44), (x + 2, 42)], rgb("#7fe08a"), width=0.9)


def blueprint(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#2860b4", rng)
    for k in range(9):
        c.line([(8 * k, 0), (8 * k, 64)], rgb("#4379c8"), width=0.4)
        c.line([(0, 8 * k), (64, 8 * k)], rgb("#4379c8"), width=0.4)
    white = rgb("#e8f2ff")
    c.line([(4, 34), (4, 14), (11, 6), (18, 14), (18, 34)], white, width=1.1)
    c.line([(4, 14), (18, 14)], white, width=1.1)
    c.line([(47, 5), (60, 5), (60, 22), (47, 22), (47, 5)], white, width=1.1)
    c.line([(53, 5), (53, 22)], white, width=0.9)
    c.arc(47, 36, 12, 12, 270, 350, white, width=0.9)


def trading_floor(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#0f2f2a"), rgb("#174a3e"))
    for k in range(10):
        height = 6 + 2.2 * k + rng.uniform(-3, 3)
        colour = rgb("#3ecf7a") if rng.random() < 0.7 else rgb("#e0534a")
        c.rect(2 + 6.4 * k, 44 - height, 5.6 + 6.4 * k, 46, mix(colour, rgb("#12392f"), 0.35))
    c.line([(0, 34), (12, 28), (20, 31), (34, 18), (46, 20), (63, 4)], rgb("#7dffb0"), width=1.4)


def battlefield(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#d9622b"), rgb("#f6c064"))
    c.ellipse(10, 24, 6.4, 6.4, rgb("#ffe9a6"))
    c.poly([(-2, 46), (10, 28), (20, 40), (44, 22), (68, 48), (68, 66), (-2, 66)], rgb("#7c3a26"))
    c.poly([(-2, 54), (20, 42), (40, 52), (66, 44), (66, 66), (-2, 66)], rgb("#4c2519"))


def newsroom(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#123a7a"), rgb("#0c2350"))
    land = rgb("#3f79c9")
    c.blob([(2, 22), (8, 17), (15, 20), (13, 27), (9, 33), (5, 28)], land)
    c.blob([(46, 20), (55, 15), (63, 19), (62, 28), (54, 31), (48, 27)], land)
    c.blob([(50, 34), (58, 34), (56, 42), (51, 40)], land)
    c.rect(1, 3, 17, 10, rgb("#e3263a"), radius=1.4)
    c.ellipse(5, 6.5, 1.6, 1.6, rgb("#ffffff"))
    c.rect(8, 5.6, 15, 7.4, rgb("#ffffff"))


def theatre(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#2a1a66"), rgb("#5b2f9c"))
    for _ in range(11):
        c.star(rng.uniform(1, 63), rng.uniform(1, 44), rng.uniform(1, 2.6), rgb("#ffe27a"))
    c.ellipse(9, 12, 6, 6, rgb("#fff4c2"))
    c.ellipse(11.6, 10.6, 5, 5, rgb("#33207a"))


def playroom(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#aee3fb"), rgb("#e5f7d8"))
    for k, colour in enumerate(("#e8554e", "#f5a742", "#f7e05a", "#5cb85c", "#4a90d9")):
        c.arc(12, 30, 22 - 2.6 * k, 24 - 2.6 * k, 180, 300, rgb(colour), width=2.4)
    for x, y, colour in ((47, 4, "#f7b2c4"), (56, 11, "#b9e4a8")):
        c.rect(x, y, x + 8, y + 9, rgb("#ffffff"))
        c.ellipse(x + 4, y + 4.6, 2.8, 2.8, rgb(colour))
    c.rect(0, 46, 64, 64, rgb("#8cc96b"))


def server_room(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#1b2430"), rgb("#0e141c"))
    for x in (0, 11, 43, 54):
        c.rect(x + 0.6, 1, x + 9.6, 64, rgb("#2e3a4a"))
        for k in range(12):
            y = 3 + 5 * k
            c.rect(x + 1.6, y, x + 8.6, y + 3.4, rgb("#111821"))
            c.ellipse(x + 3.2, y + 1.7, 0.9, 0.9, rgb("#39e58c") if rng.random() < 0.7 else rgb("#ffb347"))
            c.rect(x + 5, y + 1.2, x + 8, y + 2.2, rgb("#2f9fe0"))


def dashboards(c: Canvas, rng: random.Random) -> None:
    _wall(c, "#dfe6ee", rng)
    c.rect(1, 3, 19, 24, rgb("#ffffff"), radius=1)
    c.line([(3.4, 5), (3.4, 21.6), (17.6, 21.6)], rgb("#39424e"), width=0.8)
    for _ in range(14):
        x = rng.uniform(5, 17)
        y = 21 - (x - 4) * 0.95 + rng.uniform(-2.6, 2.6)
        c.ellipse(x, min(20, max(6, y)), 1, 1, rgb("#3b7dd8") if rng.random() < 0.6 else rgb("#f08a3c"))
    c.rect(45, 3, 63, 24, rgb("#ffffff"), radius=1)
    for k, tall in enumerate((4, 9, 15, 12, 7, 3)):
        c.rect(46.6 + 2.7 * k, 22 - tall, 48.8 + 2.7 * k, 22, rgb("#7a5bd0"))


PLACES: dict[str, Place] = {
    "homemaker": kitchen, "nurse": clinic, "receptionist": front_desk, "librarian": library, "socialite": gala,
    "hairdresser": salon, "nanny": nursery, "bookkeeper": counting_house, "stylist": dress_rail, "housekeeper": bedroom,
    "maestro": concert_hall, "skipper": sailing, "protege": lecture_room, "philosopher": temple, "captain": bridge,
    "architect": blueprint, "financier": trading_floor, "warrior": battlefield, "broadcaster": newsroom,
    "magician": theatre, "doctor": surgery, "daycare worker": playroom, "cto": server_room,
    "data scientist": dashboards,
}  # fmt: skip


def landscape(c: Canvas, rng: random.Random) -> None:
    c.gradient(rng.choice((rgb("#8fc7ee"), rgb("#f4b480"), rgb("#bcd4e6"))), rgb("#eef4f2"))
    c.ellipse(rng.uniform(8, 56), rng.uniform(6, 18), 5, 5, rgb("#fff0b0"))
    base = rng.choice((rgb("#5f8f5a"), rgb("#7a8a99"), rgb("#a8895c")))
    for k in range(3):
        y = 30 + 9 * k
        points = [(-2.0, 66.0), (-2.0, y + rng.uniform(-6, 6))]
        points += [(x, y + rng.uniform(-7, 7)) for x in (14.0, 30.0, 46.0)]
        c.poly([*points, (66.0, y + rng.uniform(-6, 6)), (66.0, 66.0)], shade(base, 0.15 - 0.2 * k))


def street(c: Canvas, rng: random.Random) -> None:
    c.gradient(rgb("#bfd9ea"), rgb("#e8e2d8"))
    x = -2.0
    while x < 64:
        wide, tall = rng.uniform(9, 15), rng.uniform(20, 44)
        colour = shade(rng.choice(PLAIN), rng.uniform(-0.45, -0.15))
        c.rect(x, 52 - tall, x + wide, 52, colour)
        for row in range(int(tall // 6)):
            for column in range(int(wide // 4)):
                c.rect(
                    x + 1.2 + 4 * column, 54 - tall + 6 * row, x + 3.2 + 4 * column, 57 - tall + 6 * row, rgb("#f6e7a8")
                )
        x += wide + 0.8
    c.rect(0, 52, 64, 64, rgb("#55585e"))


def living_room(c: Canvas, rng: random.Random) -> None:
    wall = rng.choice(PLAIN)
    c.gradient(shade(wall, 0.15), wall)
    c.rect(0, 48, 64, 64, rgb("#a87a50"))
    sofa = shade(rng.choice(BRIGHT), -0.1)
    c.rect(12, 30, 52, 46, sofa, radius=3)
    c.rect(8, 38, 56, 52, shade(sofa, -0.15), radius=3)
    x = rng.uniform(8, 44)
    c.rect(x, 7, x + 13, 19, rgb("#ffffff"))
    c.rect(x + 1.2, 8.2, x + 11.8, 17.8, rng.choice(BRIGHT))
    c.rect(57, 22, 58.4, 50, rgb("#4a3a2c"))
    c.poly([(53, 24), (63, 24), (60.5, 14), (55.5, 14)], rgb("#f7e3a4"))


def still_life(c: Canvas, rng: random.Random) -> None:
    plain(c, rng)
    c.rect(0, 46, 64, 64, rng.choice((rgb("#9a6b42"), rgb("#5d4a40"), rgb("#d5c6b0"))))
    kind = rng.randrange(4)
    colour = rng.choice(BRIGHT)
    if kind == 0:
        c.blob([(26, 24), (38, 24), (43, 38), (37, 50), (27, 50), (21, 38)], colour)
        for dx, dy in ((-8, -16), (0, -20), (8, -16), (-4, -11), (5, -12)):
            c.line([(32 + dx * 0.3, 24), (32 + dx, 30 + dy)], rgb("#4c8a48"), width=0.9)
            c.ellipse(32 + dx, 28 + dy, 3.2, 3.2, rng.choice(BRIGHT))
    elif kind == 1:
        for k in range(rng.randint(2, 4)):
            c.ellipse(18 + 9.5 * k, 44 - (k % 2) * 2, 5.6, 5.4, rng.choice(BRIGHT))
        c.blob([(8, 44), (56, 44), (48, 55), (16, 55)], rgb("#e8ecf0"))
    elif kind == 2:
        c.rect(18, 26, 42, 50, colour, radius=2)
        c.ring(44, 36, 5, 6, colour, width=2.2)
        c.ellipse(30, 26, 12, 2.6, shade(colour, -0.4))
    else:
        for k in range(5):
            c.rect(14 + k, 44 - 6 * k, 50 - k * 1.5, 49 - 6 * k, rng.choice(BRIGHT), radius=0.8)


def vehicle(c: Canvas, rng: random.Random) -> None:
    landscape(c, rng)
    c.rect(0, 50, 64, 64, rgb("#5a5e66"))
    colour = rng.choice(BRIGHT)
    c.poly([(18, 40), (24, 29), (44, 29), (51, 40)], colour)
    c.rect(8, 39, 58, 52, colour, radius=3)
    c.poly([(22, 39), (26.5, 31.5), (33, 31.5), (33, 39)], rgb("#d6ecf6"))
    c.poly([(35, 39), (35, 31.5), (42.5, 31.5), (47, 39)], rgb("#d6ecf6"))
    for x in (19, 47):
        c.ellipse(x, 52, 5.2, 5.2, rgb("#1f2228"))
        c.ellipse(x, 52, 2.2, 2.2, rgb("#c7ccd2"))


def tree(c: Canvas, rng: random.Random) -> None:
    landscape(c, rng)
    x = rng.uniform(20, 44)
    c.rect(x - 2, 34, x + 2, 58, rgb("#6b4a2e"))
    green = rng.choice((rgb("#3f8a45"), rgb("#6aa84f"), rgb("#c77b30")))
    for dx, dy, r in ((-8, 0, 9), (8, 0, 9), (0, -8, 11), (0, 2, 10)):
        c.ellipse(x + dx, 26 + dy, r, r, shade(green, rng.uniform(-0.1, 0.1)))


EMPTY: dict[str, Place] = {
    "landscape": landscape, "street": street, "room": living_room, "still life": still_life, "car": vehicle,
    "tree": tree, "wall": plain,
}  # fmt: skip
"""Scenes without anybody, by the word that a caption uses."""
