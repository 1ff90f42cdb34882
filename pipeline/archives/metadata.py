"""The prompt in a picture's own file: its texts (`carriers`), read in the form of who wrote them (`dialects`).

What is found is data that anybody could have written.
"""

from __future__ import annotations

from allfour.pipeline.archives.carriers import texts_in_image
from allfour.pipeline.archives.dialects import Found, prompt_in_texts
from allfour.pipeline.archives.stealth import hidden_texts

LACKING = "none in the image's metadata"


def prompt_in_image(data: bytes) -> str | None:
    """The prompt in an image's own metadata, or None. Never raises: damaged metadata is no metadata."""
    return find_prompt(data).text


def find_prompt(data: bytes) -> Found:
    """The prompt in an image's own metadata, or what it lacks. Never raises."""
    try:
        carried = texts_in_image(data)
        found = prompt_in_texts(carried)
        if found.text is None and found.lacks is None and data.startswith(b"\x89PNG"):
            carried.texts = hidden_texts(data)
            if carried.texts:
                found = prompt_in_texts(carried)
    except Exception:
        found = Found()
    return found if found.text or found.lacks else Found(lacks=LACKING)
