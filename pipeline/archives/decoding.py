"""Bytes to RGB, safely.

What comes from an archive or an API is hostile until decoded. The rules:

- the format is told by the content, never by a file's name, and must be one of a short list;
- size and shape are checked before any pixel is decoded;
- a file that is cut short or damaged, as far as its format can tell, is refused rather than filled up with grey. Every
  prefix of a file is refused, or gives exactly the whole file's pixels. Only PNG holds checksums throughout: in the
  other formats, flipped bits inside the picture's data may decode to wrong pixels, here and in every other reader;
- whatever goes wrong is an `UnreadableImage` with a short reason, the same on every machine: no paths, no addresses.

Colours: EXIF orientation is applied; transparency is laid over white; 16-bit and float samples are scaled, not clipped;
CMYK is converted by the plain formula, Adobe's inverted form included. ICC profiles are not applied, as in open_clip's
own transform.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
    features,
)

from allfour.pipeline.archives.camera_raw import RAW, is_raw

MAX_PIXELS = 89_478_485
"""Default limit, about 9,459 x 9,459: 256 MiB of 24-bit samples, the size from which Pillow itself suspects a bomb."""

MAX_ASPECT = 100
"""Longest side to shortest. A classifier resizes the shortest side to its input, so that a strip of 1 x 100,000,
harmless as it lies, would grow to 224 x 22,400,000."""

# Pillow's own warnings (possible bomb, corrupt EXIF, palette with transparency) say nothing that is not checked here,
# and there would be one per damaged file. Installed once: `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Nor do its log lines: without a handler of the user's own, Python would write them to the screen. With one, they go there.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableImage(ValueError):  # noqa: N818  the name of the status that it becomes
    """The bytes are no image that can be read. `reason` is short, for people, and free of paths."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image as shown, and what it was."""

    image: Image.Image
    """Mode RGB, orientation applied; smaller than `width` x `height` where a reduced size was asked for."""
    width: int
    """Pixels of the original, as shown (after EXIF orientation)."""
    height: int
    format: str
    """JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF."""


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, reduce_to: int | None = None) -> Image.Image:
    """Decode an image file's bytes to RGB. See `decode_image`, which also gives the original's size and format.

    Raises
    ------
    UnreadableImage
        For whatever is wrong with the bytes.
    """
    return decode_image(data, max_pixels=max_pixels, reduce_to=reduce_to).image


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, reduce_to: int | None = None) -> DecodedImage:
    """Decode an image file's bytes to RGB, as shown.

    Parameters
    ----------
    data
        The whole file. The first frame is taken of a file that holds several.
    max_pixels
        More pixels than this are refused before anything is decoded.
    reduce_to
        The shortest side that the caller will resize to. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
        size, as long as its shortest side stays at least twice `reduce_to`; other formats are not affected.

    Raises
    ------
    UnreadableImage
        For whatever is wrong with the bytes.
    """
    kind = sniff_format(data)
    if kind in (None, "TIFF") and is_raw(data):
        raise UnreadableImage(RAW)
    if kind is None:
        raise UnreadableImage(_what_it_is(data))
    try:
        return _decode(data, kind, max_pixels=max_pixels, reduce_to=reduce_to)
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage(f"{kind}: not enough memory to decode it") from None
    except (
        Exception
    ) as error:  # for damaged files Pillow raises SyntaxError, struct.error, OverflowError, zlib.error...
        raise UnreadableImage(_reason(kind, error)) from error


def sniff_format(data: bytes) -> str | None:
    """Name of the supported format that the first bytes announce, or None."""
    head = bytes(data[:32])
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[4:8] == b"ftyp" and _avif_brand(bytes(data[:256])):
        return "AVIF"
    return None


_SUPPORTED = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def _avif_brand(head: bytes) -> bool:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
    return bool(brands & {b"avif", b"avis"})


@functools.cache
def _plugin(kind: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """The reader of one format. Called itself, not through Image.open: no other reader ever sees the bytes, and the
    limit that applies is ours, whatever another library has set in Pillow's globals."""
    if kind == "AVIF":
        if not features.check("avif"):
            raise UnreadableImage("AVIF: this Pillow is built without AVIF (pip install --upgrade pillow)")
        from PIL import AvifImagePlugin

        return AvifImagePlugin.AvifImageFile
    if kind == "TIFF":
        _silence_libtiff()
    plugins: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return plugins[kind]


def _silence_libtiff() -> None:
    """libtiff writes its complaints about a damaged file to file descriptor 2 by itself; Pillow says the same by an exception."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # a Pillow built in another way
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _decode(data: bytes, kind: str, *, max_pixels: int, reduce_to: int | None) -> DecodedImage:
    _check_complete(data, kind)
    if kind == "WEBP":  # its reader makes room for the canvas when it opens
        _check_size(_webp_size(data), max_pixels=max_pixels)
    for _ in range(3):
        # A global that other libraries like to set, at any moment. False again before, and looked at after.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        image = _plugin(kind)(io.BytesIO(data))
        _check_size(image.size, max_pixels=max_pixels)
        width, height = image.size
        if reduce_to is not None and kind == "JPEG":
            image.draft(None, (2 * reduce_to, 2 * reduce_to))
        image.load()
        if not ImageFile.LOAD_TRUNCATED_IMAGES:
            break
    else:
        raise UnreadableImage("something in this process keeps setting PIL.ImageFile.LOAD_TRUNCATED_IMAGES")
    orientation = _orientation(image)
    if kind == "TIFF":  # its reader applies the orientation while loading
        width, height = image.size
    rgb = _to_rgb(image, kind)
    rgb.info = {}
    transpose = _TRANSPOSE.get(orientation)
    if transpose is not None:
        rgb = rgb.transpose(transpose)
        if orientation >= 5:
            width, height = height, width
    return DecodedImage(image=rgb, width=width, height=height, format=kind)


def _check_size(size: tuple[int, int], *, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableImage(f"no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} x {height} pixels are over the limit of {max_pixels:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadableImage(f"{width} x {height} pixels: longer than {MAX_ASPECT} times its width")


def _check_complete(data: bytes, kind: str) -> None:
    """Refuse files without the end mark of their format: Pillow refuses missing pixels, but not a missing tail.

    In a PNG check the checksums too, which Pillow skips for the picture's data: 1% of the time to decode it.
    """
    if kind == "JPEG":
        # Inside the picture's data 0xFF is always followed by 0x00 or a restart mark, so an end mark found after its
        # start is the real one. Before it, an embedded thumbnail may hold another.
        complete = data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > _jpeg_scan_start(data)
    elif kind == "PNG":
        complete = _png_complete(data)
    elif kind == "WEBP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    else:
        return
    if not complete:
        raise UnreadableImage(f"{kind}: the file is cut short")


def _png_complete(data: bytes) -> bool:
    """Whether the chunks reach to the end mark.

    Raises
    ------
    UnreadableImage
        If the checksum of one that the picture needs is wrong.
    """
    view = memoryview(data)
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if end + 4 > len(data):
            return False
        if data[at + 4] & 0x20 == 0 and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise UnreadableImage("PNG: damaged (a checksum is wrong)")
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def _jpeg_scan_start(data: bytes) -> int:
    """Where the first scan begins; the file's length if there is none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return at
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # padding and marks without a length
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    # Broken structure: let the reader say how. A scan is where it says it is.
    found = data.find(b"\xff\xda")
    return found if found >= 0 else len(data)


def _webp_size(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise UnreadableImage("WEBP: damaged: no picture in it")


_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF (or XMP) orientation, 1 where there is none. Damaged metadata does not make a good picture unreadable."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value) if value in _TRANSPOSE else 1
    except Exception:
        return 1


def _to_rgb(image: ImageFile.ImageFile, kind: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _scaled(image).convert("RGB")
    if mode == "CMYK" and kind == "JPEG" and "adobe" not in image.info:
        # Pillow inverts every CMYK JPEG, as Adobe's programs write them. One without Adobe's mark is the plain kind.
        return ImageChops.invert(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image if mode == "RGBA" else image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    if mode in ("LAB", "HSV"):
        raise UnreadableImage(f"{kind}: colour mode {mode} is not supported")
    return image.convert("RGB")


def _scaled(image: ImageFile.ImageFile) -> Image.Image:
    """Samples of more than 8 bits to 8 bits, by the full range of their type and not by the picture's own range."""
    samples = np.asarray(image)
    if not np.isfinite(samples).all():
        raise UnreadableImage("samples that are no numbers (NaN or infinite)")
    low, high = samples.min(), samples.max()
    if image.mode.startswith("I;16"):
        top = _sample_top(image)
    elif image.mode == "F" and high <= 1:
        top = 1
    elif high <= 0xFF:
        top = 0xFF
    else:
        top = 0xFFFF
    if low < 0 or high > top:
        raise UnreadableImage(f"samples from {low:.6g} to {high:.6g}: no known scale of brightness")
    scaled = np.rint(samples.astype(np.float32) * (255.0 / top)).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):  # PNG's transparent grey
        scaled[samples == key] = 255
    return Image.fromarray(scaled)


def _sample_top(image: ImageFile.ImageFile) -> int:
    """Largest value of an integer sample. TIFF has 12-bit ones, which Pillow holds in 16."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(258, 16)
        bits = bits[0] if isinstance(bits, tuple) else bits
        if bits in (10, 12, 14):
            return int((1 << bits) - 1)
    return 0xFFFF


_NOT_AN_IMAGE: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), what)
    for pattern, what in (
        (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg|<svg)", "an SVG drawing"),
        (rb"\s*(<!doctype html|<html|<head|<body)", "an HTML page"),
        (rb"\s*<\?xml", "an XML document"),
        (rb"%PDF-", "a PDF document"),
        (rb"PK\x03\x04", "a zip archive"),
        (rb"\x1f\x8b", "a gzip archive"),
        (rb"PAR1", "a parquet file"),
        (rb"8BPS", "a Photoshop document"),
        (rb"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
        (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC picture"),
        (rb"....ftyp|\x1aE\xdf\xa3", "a video"),
        (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
        (rb"\s*[{\[]\s*[\"{\[]", "JSON text"),
        (rb"[\t\r\n -~]+\Z", "plain text"),
    )
)


def _what_it_is(data: bytes) -> str:
    if not data:
        return "empty file"
    head = bytes(data[:512])
    if not any(head) and not any(data):
        return "all bytes are zero"
    for pattern, what in _NOT_AN_IMAGE:
        if pattern.match(head):
            return f"no image: it looks like {what}"
    return f"no image in a supported format ({', '.join(_SUPPORTED)})"


def _reason(kind: str, error: Exception) -> str:
    text = str(error)
    lines = text.strip().splitlines()
    detail = lines[0] if lines else type(error).__name__
    detail = re.sub(r"<[^>]*\bat 0x[0-9a-fA-F]+>", "it", detail)
    detail = "".join(char if char.isprintable() and char.isascii() else "?" for char in detail)[:120]
    if "requires a buffer" in detail or isinstance(error.__cause__ or error, (IndexError, KeyError, EOFError)):
        return f"{kind}: damaged, or cut short, in its header"
    if "truncated" in detail.lower():
        return f"{kind}: the file is cut short"
    if "too large" in detail.lower() or "bomb" in detail.lower() or "MAX_TEXT" in text:
        return f"{kind}: refused as a decompression bomb ({detail})"
    return f"{kind}: damaged ({detail})"
