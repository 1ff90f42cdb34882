"""Other views of an image that show the same: a label that changes between them depends on what does not matter."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

NUDGE = 0.04
"""Share of each side that is cut off, and by which the picture is moved."""
VIEW_NAMES = ("as it is", "mirrored", "cropped", "moved")


def views_of(image: Image.Image) -> tuple[Image.Image, ...]:
    """The image, mirrored, cropped by 4% on each side, and moved right and down by 4% with its edges repeated; in order of `VIEW_NAMES`."""
    right, down = (max(1, round(NUDGE * side)) for side in image.size)
    cropped = image
    if image.width > 2 * right and image.height > 2 * down:
        cropped = image.crop((right, down, image.width - right, image.height - down))
    padded = np.pad(np.asarray(image), ((down, 0), (right, 0), (0, 0)), mode="edge")
    moved = Image.fromarray(padded[: image.height, : image.width])
    return image, ImageOps.mirror(image), cropped, moved


def steadiness(attribute: str) -> str:
    """Name under which a classifier gives, beside its probabilities, the share of views with the first one's likeliest label."""
    return f"steadiness of {attribute}"
