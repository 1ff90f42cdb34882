"""Others in the picture beside the figure, who carry no labels."""

from __future__ import annotations

import random

from allfour.models.generators._portrait.canvas import Canvas, rgb
from allfour.models.generators._portrait.garments import small_head
from allfour.models.generators._portrait.person import Figure


def company(c: Canvas, f: Figure, rng: random.Random, kind: str) -> None:
    """Others in the picture, hinted at: they carry no labels and are drawn without the cues that labels use."""
    tones = [rng.choice((rgb("#f3cfb6"), rgb("#c2926b"), rgb("#7a4d31"))) for _ in range(2)]
    if kind == "children":
        for x, tone, shirt in ((8, tones[0], "#e8554e"), (56, tones[1], "#4a90d9")):
            small_head(c, x, 49, skin=tone, hair=rgb("#33221a"), shirt=rgb(shirt))
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
