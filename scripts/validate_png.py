"""Whether another decoder of PNGs could stand in for Pillow: as fast as it is, with the same pixels, and refusing what Pillow refuses.

    python scripts/validate_png.py --out png.json
    pip install --target DECODERS kornia-rs pyspng; PYTHONPATH=DECODERS python scripts/validate_png.py

Whichever of kornia-rs, pyspng, imagecodecs, torchvision and OpenCV are installed. `milliseconds` are of processor time on one core, the least of
the rounds in turn, on pictures of 1024 px as in `bench_archives.py`. Then files of every colour type, depth, interlacing and chunk that is met,
and files that are cut short or damaged under right checksums of their chunks, are put to each:

- same        pixels of 8 bits a channel are Pillow's, every one
- other       pixels differ, or come in another form
- refused     it refuses what Pillow reads, so that Pillow would have to be asked
- accepted    it reads what Pillow refuses: an image would have scores with it and none without
"""

from __future__ import annotations

import argparse
import io
import itertools
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from scripts.bench_archives import picture_file
from scripts.measured import processor, put_out

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG's colour types."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PLAIN = {(2, 8): "rgb", (6, 8): "rgba"}
"""Colour type and depth of what a quick decoder would be given: nearly all pictures that models make."""
_PROFILE = b"x\0\0" + zlib.compress(b"no profile")
_CHUNKS: dict[bytes, bytes] = {
    b"gAMA": struct.pack(">I", 45455), b"sRGB": b"\0", b"pHYs": struct.pack(">IIB", 2835, 2835, 1), b"tEXt": b"a\0b", b"iCCP": _PROFILE,
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), b"eXIf": b"MM\0*\0\0\0\x08\0\0", b"cICP": b"\1\r\0\1",
    b"tIME": b"\x07\xe6\1\1\1\1\1", b"vpAg": b"12345",
}  # fmt: skip
DAMAGES = (
    "cut",
    "bit",
    "fewer rows",
    "more rows",
    "checksum of the pixels",
    "unknown filter",
    "bytes behind",
    "no end",
)

Decoder = Callable[[bytes, tuple[int, int], str], Any]
"""Of a file, its height and width, and `rgb` or `rgba`."""


def decoders() -> dict[str, Decoder]:
    """Those that are installed."""
    found: dict[str, Decoder] = {}

    def known(name: str, module: str, made: Callable[[Any], Decoder]) -> None:
        try:
            found[name] = made(import_module(module))
        except ImportError:
            return

    known("kornia-rs", "kornia_rs", lambda it: it.io.decode_image_png_u8)
    known("pyspng", "pyspng", lambda it: lambda data, size, mode: it.load(data))
    known("imagecodecs, libspng", "imagecodecs", lambda it: lambda data, size, mode: it.spng_decode(data))
    known("imagecodecs, libpng", "imagecodecs", lambda it: lambda data, size, mode: it.png_decode(data))
    known("torchvision", "torchvision.io", lambda it: lambda data, size, mode: _by_torchvision(it, data))
    known("OpenCV", "cv2", lambda it: lambda data, size, mode: _by_opencv(it, data))
    return found


def _by_torchvision(io_: Any, data: bytes) -> Any:
    import torch

    return io_.decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8)).permute(1, 2, 0).numpy()


def _by_opencv(cv2: Any, data: bytes) -> Any:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None else pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]


def by_pillow(data: bytes) -> Any:
    """Pixels; raises whatever Pillow raises."""
    image = PngImageFile(io.BytesIO(data))
    image.load()
    return np.asarray(image)


# --- files -----------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], colour: int, depth: int, stream: bytes, *, before: bytes = b"", adam7: bool = False, pieces: int = 1) -> bytes:  # fmt: skip
    """A file of a compressed stream of pixels, cut into pieces, with chunks before it."""
    width, height = size
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, adam7)
    ends = [len(stream) * number // pieces for number in range(pieces + 1)]
    body = b"".join(_chunk(b"IDAT", stream[start:stop]) for start, stop in itertools.pairwise(ends))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + before + body + _chunk(b"IEND", b"")


def rows(random: np.random.Generator, size: tuple[int, int], bits: int) -> bytes:
    """Filtered rows of noise, each by a filter of its own."""
    width, height = size
    length = -(-width * bits // 8)
    return b"".join(
        bytes([int(random.integers(0, 5))]) + random.integers(0, 256, length, dtype=np.uint8).tobytes()
        for _ in range(height)
    )


def _passes(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Sizes of Adam7's passes."""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip
        width, height = -(-(size[0] - left) // across), -(-(size[1] - top) // down)
        if width > 0 and height > 0:
            yield width, height


def whole(random: np.random.Generator, count: int) -> Iterator[tuple[str, str | None, bytes]]:
    """Kind, mode of a plain one, and file: nothing is wrong with any."""
    kinds = [(colour, depth) for colour, depths in DEPTHS.items() for depth in depths]
    extras = [b"", *(_chunk(kind, data) for kind, data in _CHUNKS.items())]
    for number in range(count):
        colour, depth = kinds[number % len(kinds)] if number % 2 else ((2, 8), (6, 8))[number // 2 % 2]
        adam7, keyed = number % 7 == 5, number % 11 == 7 and colour in (0, 2, 3)
        size = (int(random.integers(1, 70)), int(random.integers(1, 70)))
        bits = CHANNELS[colour] * depth
        raw = b"".join(rows(random, each, bits) for each in (_passes(size) if adam7 else (size,)))
        before = extras[number // 3 % len(extras)]
        before += _chunk(b"PLTE", bytes(range(256)) * 3)[: 12 + 768] if colour == 3 and depth == 8 else b""
        if colour == 3 and depth < 8:
            before += _chunk(b"PLTE", bytes(range(3 << depth)))
        if keyed:
            before += _chunk(b"tRNS", b"\x80" if colour == 3 else b"\0\1" * CHANNELS[colour])
        file = png(
            size, colour, depth, zlib.compress(raw, number % 10), before=before, adam7=adam7, pieces=1 + number % 4
        )
        mode = None if adam7 or keyed else PLAIN.get((colour, depth))
        yield f"colour type {colour}, {depth} bits{', Adam7' * adam7}{', tRNS' * keyed}", mode, file


def damaged(random: np.random.Generator, count: int) -> Iterator[tuple[str, str | None, bytes]]:
    """The same of plain files whose stream of pixels is damaged, under right checksums of the chunks."""
    for number in range(count):
        kind = DAMAGES[number % len(DAMAGES)]
        size, colour = (int(random.integers(1, 50)), int(random.integers(2, 50))), (2, 6)[number // len(DAMAGES) % 2]
        raw = rows(random, size, 8 * CHANNELS[colour])
        length = 1 + size[0] * CHANNELS[colour]
        if kind == "fewer rows":
            raw = raw[: int(random.integers(1, size[1])) * length]
        elif kind == "more rows":
            raw += rows(random, (size[0], 3), 8 * CHANNELS[colour])
        elif kind == "unknown filter":
            at = int(random.integers(0, size[1])) * length
            raw = raw[:at] + bytes([int(random.integers(5, 256))]) + raw[at + 1 :]
        stream = bytearray(zlib.compress(raw, number % 10))
        if kind == "cut":
            stream = stream[: int(random.integers(0, len(stream)))]
        elif kind == "bit":
            stream[int(random.integers(0, len(stream)))] ^= 1 << int(random.integers(0, 8))
        elif kind == "checksum of the pixels":
            stream[-1] ^= 1
        elif kind == "bytes behind":
            stream += b"behind"
        elif kind == "no end":
            stream = stream[:-4]
        yield f"damaged: {kind}", PLAIN[colour, 8], png(size, colour, 8, bytes(stream), pieces=1 + number % 3)


# --- what is found ---------------------------------------------------------------------------------------------------


def verdict(decode: Decoder, data: bytes, mode: str) -> str | None:
    """Of one file; None where both refuse it."""
    size = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    try:
        expected = by_pillow(data)
    except Exception:  # whatever a damaged file raises
        expected = None
    try:
        found = decode(data, size, mode)
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        found = None
    if expected is None or found is None:
        return None if found is None and expected is None else "refused" if found is None else "accepted"
    found = np.asarray(found)
    return "same" if found.shape == expected.shape and bool((found == expected).all()) else "other"


def parity(known: dict[str, Decoder], count: int) -> dict[str, dict[str, dict[str, int]]]:
    """Decoder -> `plain` files, `other kinds` and each damage -> verdict -> files."""
    found: dict[str, dict[str, Counter[str]]] = {name: {} for name in known}
    random = np.random.default_rng(0)
    for kind, mode, data in itertools.chain(whole(random, count), damaged(random, count)):
        group = kind if kind.startswith("damaged") else "plain" if mode is not None else "other kinds"
        for name, decode in known.items():
            said = verdict(decode, data, mode or "rgb")
            found[name].setdefault(group, Counter())[said or "refused by both"] += 1
    return {name: {group: dict(counts) for group, counts in groups.items()} for name, groups in found.items()}


def speed(known: dict[str, Decoder], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time a picture."""
    files = [picture_file(number, "png-1024") for number in range(6)]
    best: dict[str, float] = {}
    work: dict[str, Callable[[bytes], Any]] = {"Pillow": lambda data: Image.open(io.BytesIO(data)).load()}
    work |= {name: lambda data, each=each: each(data, (1024, 1024), "rgb") for name, each in known.items()}  # type: ignore[misc]
    for _ in range(rounds):
        for name, one in work.items():
            started = time.process_time()
            for data in files:
                one(data)
            best[name] = min(best.get(name, float("inf")), time.process_time() - started)
    return {name: round(1e3 * seconds / len(files), 1) for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000, help="of each: whole ones and damaged ones")
    parser.add_argument("--decoders", nargs="+", help="by name; one that ends the process is best tried alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = {name: each for name, each in decoders().items() if options.decoders is None or name in options.decoders}
    found = {
        "processor": processor(),
        "milliseconds": speed(known, options.rounds),
        "parity": parity(known, options.files),
    }
    put_out(found, options.out)


if __name__ == "__main__":
    main()
