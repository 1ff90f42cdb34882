"""Bytes that claim to be an image: decoded once, so that what stands as generated can be opened later."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES = 32 * 1024 * 1024
"""Largest file taken for one image; the largest documented size (3840x2160 PNG) stays below it."""
MAX_PIXELS = 64_000_000
"""Largest width x height decoded: small files can unfold to gigabytes."""

_SAME = 2
"""Samples this near are one colour: a lossy format may miss it by so much."""
_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class NotAnImageError(Exception):
    """The bytes are not an image that can be taken; the message says why."""


_URL_SAFE = str.maketrans("-_", "+/")


def is_data_address(url: str) -> bool:
    """Whether an address holds its content itself (RFC 2397; the scheme in any case)."""
    return url[:5].lower() == "data:"


def decode_base64(text: str) -> bytes:
    """Bytes of `text`: base64 of either alphabet (RFC 4648), with or without a `data:` prefix, line breaks and padding.

    Encoders differ in these, and an image that is spelled in another way was paid for all the same.

    Raises
    ------
    NotAnImageError
        Not base64, or longer than an image may be.
    """
    if is_data_address(text):
        head, comma, rest = text.partition(",")
        if not (comma and head.lower().endswith(";base64")):
            raise NotAnImageError("the answer's data: address is not base64")
        text = unquote(rest)
    if len(text) > MAX_IMAGE_BYTES * 4 // 3 + 4096:
        raise NotAnImageError(f"the image is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
    digits = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise NotAnImageError("the answer's b64_json is not base64") from None


@dataclass(frozen=True, slots=True)
class Checked:
    """What an image is, once all of it was decoded."""

    extension: str
    """Of a file, by the content."""
    size: tuple[int, int]
    """Width and height in pixels, as stored."""
    colour: str | None
    """Such as #000000, where the picture is that colour all over: nobody is in it."""


def check_image(data: bytes) -> Checked:
    """What the image in `data` is, after decoding all of it.

    Raises
    ------
    NotAnImageError
        Not a PNG, JPEG or WebP, cut short, damaged, or larger than the limits above.
    """
    from PIL import Image

    if not data:
        raise NotAnImageError("the image is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise NotAnImageError(f"the image is larger than {MAX_IMAGE_BYTES // 2**20} MiB")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_EXTENSIONS)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise NotAnImageError(f"{width}x{height} pixels are more than the {MAX_PIXELS:,} that are allowed")
            extension = _EXTENSIONS[image.format or ""]
            image.load()
            colour = _only_colour(image)
    except NotAnImageError:
        raise
    except Exception as error:  # Pillow's readers raise many types on hostile bytes, SyntaxError among them
        raise NotAnImageError(
            f"the bytes do not decode as PNG, JPEG or WebP ({type(error).__name__}; {len(data)} bytes, "
            f"starting {data[:8]!r})"
        ) from None
    return Checked(extension, (width, height), colour)


def _only_colour(image: Image.Image) -> str | None:
    if "A" in image.getbands() and image.getchannel("A").getextrema()[1] == 0:
        return "#ffffff, transparent"
    # Not all modes to RGB: samples of 16 bits would be clipped.
    shown = image.convert("RGBA") if image.mode == "P" else image
    found = shown.getextrema()
    bands = found if isinstance(found[0], tuple) else (found,)
    if any(high - low > _SAME for low, high in bands):
        return None
    if image.mode.startswith("I"):
        return "#" + f"{min(255, round(bands[0][0] / 257)):02x}" * 3
    return "#" + shown.crop((0, 0, 1, 1)).convert("RGB").tobytes().hex()
