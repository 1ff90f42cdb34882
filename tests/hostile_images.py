"""Files that archives really hold and files that somebody made to hurt: for tests of whatever reads images.

Everything is made here from seeds; nothing is random between runs.
"""

from __future__ import annotations

import functools
import io
import os
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpeg": ("jpg", "JPEG", {"quality": 90}),
    "jpeg-progressive": ("jpg", "JPEG", {"quality": 80, "progressive": True}),
    "png": ("png", "PNG", {}),
    "webp": ("webp", "WEBP", {"quality": 80}),
    "webp-lossless": ("webp", "WEBP", {"lossless": True}),
    "gif": ("gif", "GIF", {}),
    "bmp": ("bmp", "BMP", {}),
    "tiff": ("tif", "TIFF", {}),
    "tiff-deflate": ("tif", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "avif": ("avif", "AVIF", {"quality": 80}),
}
"""Name -> (file extension, Pillow's format, options to save with)."""


def picture(seed: int = 0, *, width: int = 48, height: int = 32) -> Image.Image:
    """A smooth RGB picture that differs with the seed."""
    grid = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    """An image as a file of one of FORMATS."""
    _, name, defaults = FORMATS[kind]
    buffer = io.BytesIO()
    image.save(buffer, name, **{**defaults, **options})
    return buffer.getvalue()


@functools.cache
def good_file(seed: int, kind: str = "jpeg") -> bytes:
    return encoded(picture(seed), kind)


# --- bombs -----------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(
    *, width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG with the header that is asked for, whatever its data hold."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def zeros(megabytes: int) -> bytes:
    """Zlib data that expands to so many megabytes of zeros: one that is packed once, as often as it is asked for."""
    packer = zlib.compressobj(9, wbits=-15)
    one = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15).flush()
    adler = megabytes * 2**20 % 65_521 << 16 | 1
    return b"\x78\xda" + one * megabytes + last + struct.pack(">I", adler)


@functools.cache
def bombs() -> dict[str, bytes]:
    """Small files that ask for much. Each must be an error, quickly and in little memory."""
    small = png_file(width=8, height=8, data=bytes(8 * 25))
    at = small.index(b"IDAT") - 4
    text = zeros(32)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    real = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zeros(108)) + png_chunk(b"IEND", b"")
    jpeg = bytearray(good_file(0, "jpeg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    gif = bytearray(good_file(0, "gif"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    bmp = bytearray(good_file(0, "bmp"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x
    return {
        "png-header.png": png_file(width=2**31 - 1, height=2**31 - 1),
        "png-real.png": real,
        "png-ztxt.png": small[:at] + png_chunk(b"zTXt", b"parameters\0\0" + text) + small[at:],
        "png-itxt.png": small[:at] + png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + text) + small[at:],
        "png-strip.png": png_file(width=1, height=100_000, data=bytes(4) * 100_000),
        "jpeg-header.jpg": bytes(jpeg),
        "gif-header.gif": bytes(gif),
        "bmp-header.bmp": bytes(bmp),
        "webp-canvas.webp": webp,
        "tiff-header.tif": tiff_file(width=100_000, height=100_000),
        "tiff-strip.tif": tiff_file(width=2**31, height=1),
    }


def tiff_file(*, width: int, height: int) -> bytes:
    """A TIFF whose header states a size that its data do not have."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 200),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 4),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(300, b"\0")


# --- damage ----------------------------------------------------------------------------------------------------------

NOT_IMAGES: dict[str, bytes] = {
    "empty.png": b"",
    "zeros.jpg": bytes(4_000),
    "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "drawing.png": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "text.webp": b"this is only text\n",
    "object.png": b'{"error": "rate limited"}',
    "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "archive.gif": b"PK\x03\x04" + bytes(60),
    "noise.bmp": bytes(random.Random(1).randrange(256) for _ in range(500)),
    "magic-only.png": b"\x89PNG\r\n\x1a\n",
    "magic-only.jpg": b"\xff\xd8\xff",
    "magic-only.gif": b"GIF89a",
    "magic-only.webp": b"RIFF\x04\0\0\0WEBP",
    "magic-only.tif": b"II*\0\x08\0\0\0",
    "magic-only.avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "zero-wide.png": png_file(width=0, height=10),
}


@dataclass(frozen=True, slots=True)
class DamagedFile:
    name: str
    data: bytes
    readable: bool | None
    """False: must be refused. True: a good image under a wrong name. None: its format cannot tell, either is right."""


def damaged_files(count: int, *, seed: int = 0) -> Iterator[DamagedFile]:
    """So many damaged files: cut short, bits flipped, wrong extension, no image at all, bombs."""
    rng = random.Random(seed)
    kinds = [kind for kind in FORMATS if kind != "avif"]
    sources = {kind: [good_file(number, kind) for number in range(3)] for kind in kinds}
    others = [*NOT_IMAGES.items(), *bombs().items()]
    for number in range(count):
        kind = rng.choice(kinds)
        ext = FORMATS[kind][0]
        data = rng.choice(sources[kind])
        what = number % 4
        if what == 0:
            cut = data[: rng.randrange(1, max(2, len(data) * 9 // 10))]
            yield DamagedFile(f"cut-{number}.{ext}", cut, False)
        elif what == 1:
            flipped = bytearray(data)
            for _ in range(rng.randrange(1, 8)):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            yield DamagedFile(f"flipped-{number}.{ext}", bytes(flipped), None)
        elif what == 2:
            wrong = rng.choice([other for other in ("jpg", "png", "webp", "gif") if other != ext])
            yield DamagedFile(f"wrong-extension-{number}.{wrong}", data, True)
        else:
            name, data = others[number // 4 % len(others)]
            stem, _, ext = name.rpartition(".")
            yield DamagedFile(f"{stem}-{number}.{ext}", data, False)


HOSTILE_NAMES: tuple[bytes, ...] = (
    b"new\nline",
    b"tab\tand\rreturn",
    b"caf\xe9-latin1",
    "right-\u202eot-left".encode(),
    "\u200fmark".encode(),
    b"-rf",
    b"--help",
    b"<img src=x onerror=alert(1)>",
    b"$(touch pwned)`touch pwned`",
    b"quote\"'quote",
    b"back\\slash",
    b"dots..?*[x]{1..3}",
    b"C:colon",
    "e\u0301 and \u00e9".encode(),
    "\U0001f469\u200d\U0001f52c".encode(),
    b"\x1b[31mred",
    b"percent%20%s%n",
    b"=cmd()|x",
    b"a" * 251,
)
"""Names of folders (and stems of files) as bytes, at most 251 of them: 255 with `.png`, the most that is allowed."""


def write_hostile_names(root: Path, data: bytes) -> list[bytes]:
    """A folder for every hostile name, with one image of that name in it. Returns the names that this disk accepts."""
    written = []
    for name in HOSTILE_NAMES:
        folder = os.path.join(os.fsencode(root), name)  # noqa: PTH118
        try:
            os.mkdir(folder)  # noqa: PTH102
            with open(os.path.join(folder, name + b".png"), "wb") as file:  # noqa: PTH118, PTH123
                file.write(data)
        except OSError:
            continue
        written.append(name)
    return written


def write_mixed_archive(root: Path, *, good: int, damaged: int, prompts: int = 8, seed: int = 0) -> dict[str, int]:
    """A folder archive of good images with damaged ones among them: PROMPT/NAME.

    Returns:
        How many files were written of each kind: good, damaged (must be refused), readable, undecided.
    """
    counts = {"good": good, "damaged": 0, "readable": 0, "undecided": 0}
    for number in range(good):
        folder = root / f"prompt_{number % prompts}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"good-{number}.jpg").write_bytes(good_file(number % 50, "jpeg"))
    for number, file in enumerate(damaged_files(damaged, seed=seed)):
        folder = root / f"prompt_{number % prompts}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.data)
        counts["undecided" if file.readable is None else "readable" if file.readable else "damaged"] += 1
    return counts
