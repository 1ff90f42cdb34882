"""Answers of an image API that are well formed and not what was asked for: placeholders, odd spellings, images that are bombs, lies."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections.abc import Mapping
from typing import Any

from PIL import Image

from tests.hostile_images import encoded, picture, png_chunk
from tests.loopback_image_server import KEY, Fault, png

_PICTURE = png("a picture + / of noise", 24)
_CODED = base64.b64encode(_PICTURE).decode()


def _answer(data: Any, *, headers: Mapping[str, str] | None = None, **more: Any) -> Fault:
    return Fault("raw", status=200, body={"created": 1, "data": data, **more}, headers=headers or {})


def _image(data: bytes, **more: Any) -> Fault:
    return _answer([{"b64_json": base64.b64encode(data).decode(), **more}])


def _error(status: int, message: Any, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("raw", status=status, body={"error": {"message": message, "code": "x"}}, headers=named)


def _huge_png() -> bytes:
    """30,000 x 30,000 pixels, says its header."""
    head = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"IDAT", zlib.compress(bytes(90_001), 9))
        + png_chunk(b"IEND", b"")
    )


def _huge_webp() -> bytes:
    """A canvas of 16,383 x 16,383 around a small frame."""
    frame, side = encoded(picture(1), "webp")[12:], (16_382).to_bytes(3, "little")
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + bytes(4) + side + side + frame
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _oriented() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(2), "jpeg", exif=exif.tobytes())


def _animated() -> bytes:
    buffer = io.BytesIO()
    picture(3).save(buffer, "WEBP", save_all=True, append_images=[picture(4), picture(5)])
    return buffer.getvalue()


FALSE_ANSWERS: tuple[tuple[str, Fault], ...] = (
    ("a black picture", _image(encoded(Image.new("RGB", (32, 32)), "png"))),
    ("a transparent picture", _image(encoded(Image.new("RGBA", (32, 32)), "png"))),
    ("one picture for every prompt", _image(_PICTURE)),
    ("one pixel", _image(encoded(Image.new("RGB", (1, 1), "teal"), "png"))),
    ("a strip", _image(encoded(picture(6).resize((2, 400)), "png"))),
    ("turned by its EXIF", _image(_oriented())),
    ("CMYK", _image(encoded(picture(7).convert("CMYK"), "jpeg"))),
    ("moving", _image(_animated())),
    ("a GIF", _image(encoded(picture(8), "gif"))),
    ("without its tail", _image(encoded(picture(9), "jpeg")[:-2])),
    ("a page behind the picture", _image(_PICTURE + b"<script>alert(1)</script>")),
    ("a PNG of 900 million pixels", _image(_huge_png())),
    ("a WebP of 268 million pixels", _image(_huge_webp())),
    ("base64 for addresses", _answer([{"b64_json": _CODED.translate(str.maketrans("+/", "-_")).rstrip("=")}])),
    ("a list in place of base64", _answer([{"b64_json": [_CODED]}])),
    ("an image by another name", _answer([{"picture": _CODED}])),
    ("no list of images", Fault("raw", status=200, body={"images": [{"b64_json": _CODED}]})),
    ("a file of this machine", _answer([{"url": "file:///etc/passwd"}])),
    ("half an address", _answer([{"url": "http://[::1"}])),
    ("usage below zero", _answer([{"b64_json": _CODED}], usage={"total_tokens": -5, "x": {"y": 10**300}})),
    ("usage that is no number", Fault("raw", status=200, body=b'{"data": [], "usage": {"a": NaN, "b": 1e999}}')),
    ("a prompt with a page in it", _image(_PICTURE, revised_prompt="</td><script>alert(1)</script>{{7*7}}")),
    ("a prompt turned round", _image(_PICTURE, revised_prompt="\u202egnp.exe\u2066 \x1b[2J\u200b")),
    ("a prompt of megabytes", _image(_PICTURE, revised_prompt="word " * 400_000)),
    ("a prompt with the key", _image(_PICTURE, revised_prompt=f"=1+1 {KEY}")),
    ("headers that are no ASCII", _answer([{"b64_json": _CODED}], headers={"x-server": "caf\xe9"})),
    ("another model's name", _answer([{"b64_json": _CODED}], model="a-cheaper-one")),
    ("wait a time below zero", _error(429, "slow", Retry_After="-5")),
    ("wait no number", _error(429, "slow", Retry_After="nan")),
    ("wait until 2015", _error(429, "slow", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")),
    ("an error of objects", _error(400, {"a": ["b"]})),
    ("an error for the screen", _error(400, "\x1b]0;gone\x07\u202e =HYPERLINK(1)")),
    ("a redirect to nowhere", Fault("raw", status=302, body="")),
    ("a redirect to a file", Fault("raw", status=302, body="", headers={"Location": "file:///etc/passwd"})),
    ("a gzip of 64 MB", Fault("raw", status=200, body=gzip.compress(bytes(64 * 2**20), 9), headers={"Content-Encoding": "gzip"})),
    ("gzip that is none", Fault("raw", status=200, body=b"{}", headers={"Content-Encoding": "gzip"})),
)  # fmt: skip
