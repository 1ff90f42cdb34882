"""Texts hidden in a picture's pixels: the lowest bit of every alpha (or colour) value, column by column.

NovelAI writes its metadata so, and an extension of the Stable Diffusion web UI does: a mark of 15 letters, the length in
bits, the text. Whether the mark is there is told from the first column alone, without decoding the picture.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

from allfour.border import read_json
from allfour.pipeline.archives.decoding import MAX_PIXELS

_MARK_BITS = 120
_LENGTH_BITS = 32
_LOOKED_AT = 24
"""Bits of the mark that are looked for before a picture is decoded: one picture in sixteen million has them by chance."""
_MAX_TEXT = 4 * 2**20
_RGB, _RGBA = 2, 6


def hidden_texts(data: bytes) -> dict[str, str]:
    """Texts by their keys that are hidden in a PNG's pixels; empty where there are none, or they are damaged.

    A text without a key, as web UIs hide it, is `parameters`.
    """
    head = data[:33]
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    depth, colour, interlaced = head[24], head[25], head[28]
    if depth != 8 or colour not in (_RGB, _RGBA) or not 0 < width * height <= MAX_PIXELS:
        return {}
    channels = 4 if colour == _RGBA else 3
    if not interlaced and not _may_be_marked(_first_column(data, width, height, channels)):
        return {}
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        bits = (np.asarray(image) & 1).swapaxes(0, 1)  # column by column
    for values in ([bits[..., 3].ravel()] if channels == 4 else []) + [bits[..., :3].ravel()]:
        text = _unhidden(values)
        if text is not None:
            return _keyed(text)
    return {}


def _may_be_marked(column: np.ndarray) -> bool:
    """Whether the bits of the first column begin as a mark: the bits of `stealth_pngcomp` and its kin."""
    ways = [column[:, 3]] if column.shape[1] == 4 else []
    ways.append(column[:, :3].ravel())
    for values in ways:
        bits = (values & 1)[:_MARK_BITS]
        start = np.packbits(bits[: len(bits) // 8 * 8]).tobytes()
        if start and b"stealth_"[: len(start)] == start[:8]:
            return True
    return False


def _first_column(data: bytes, width: int, height: int, channels: int) -> np.ndarray:
    """The first pixel of the first rows: a row's filter makes it from the pixel above it alone."""
    rows = min(height, _LOOKED_AT if channels == 4 else _LOOKED_AT // 3)
    stride = 1 + width * channels
    packed = zlib.decompressobj()
    raw = bytearray()
    at = 8
    while at + 12 <= len(data) and len(raw) < rows * stride:
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            raw += packed.decompress(data[at + 8 : at + 8 + length], rows * stride - len(raw))
        at += 12 + length
    column = np.zeros((len(raw) // stride, channels), np.uint8)
    above = np.zeros(channels, np.int64)
    for row in range(len(column)):
        kind = raw[row * stride]
        value = np.frombuffer(raw, np.uint8, channels, row * stride + 1).astype(np.int64)
        if kind in (2, 4):  # up; and Paeth, whose predictor is the pixel above where there is none to the left
            value = value + above
        elif kind == 3:
            value = value + above // 2
        above = value & 0xFF
        column[row] = above
    return column


def _unhidden(bits: np.ndarray) -> str | None:
    mark = np.packbits(bits[:_MARK_BITS]).tobytes()
    if mark not in (b"stealth_pnginfo", b"stealth_pngcomp", b"stealth_rgbinfo", b"stealth_rgbcomp"):
        return None
    start = _MARK_BITS + _LENGTH_BITS
    length = int.from_bytes(np.packbits(bits[_MARK_BITS:start]).tobytes(), "big")
    if length > len(bits) - start:
        return None
    content = np.packbits(bits[start : start + length]).tobytes()
    if mark.endswith(b"comp"):
        content = zlib.decompressobj(31).decompress(content, _MAX_TEXT)
    return content[:_MAX_TEXT].decode("utf-8", "replace")


def _keyed(text: str) -> dict[str, str]:
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return {"parameters": text}
    if not isinstance(value, dict):
        return {}
    texts = {str(key): item for key, item in value.items() if isinstance(item, str)}
    # The object is the picture's metadata, key by key; or, of a program that hides its one text, that text.
    return texts if {"Comment", "Description", "Software", "parameters"} & texts.keys() else {"parameters": text}
