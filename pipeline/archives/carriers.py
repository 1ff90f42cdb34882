"""Texts that a picture's file carries, whatever they say: PNG chunks, EXIF, XMP, JPEG comments.

Read from the bytes as they are, chunk by chunk, without decoding a pixel; every size is capped. Damaged metadata is no
metadata. Who wrote a text, and whether it holds a prompt, is told in `dialects`.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from allfour.pipeline.archives.decoding import sniff_format

MAX_TEXT_BYTES = 4 * 2**20
"""Longest metadata text that is looked at; ComfyUI's graphs reach some 100 KB."""
_MAX_TEXTS_BYTES = 4 * MAX_TEXT_BYTES
"""Of all texts of a picture: a kilobyte may hold a compressed one of a megabyte, and a file any number of these."""


@dataclass(slots=True)
class Carried:
    """What a file says of its picture, by where it says so."""

    texts: dict[str, str] = field(default_factory=dict)
    """Texts by the key that a program gave them: PNG keywords; `prompt`, `workflow` and the like in front of an EXIF text."""
    comment: str | None = None
    """EXIF UserComment."""
    description: str | None = None
    """EXIF ImageDescription, or what Windows calls comment and subject."""
    program: str = ""
    """EXIF Software, PNG Software and XMP CreatorTool."""
    by_camera: bool = False
    """Whether EXIF says how the picture was exposed, or whose it is."""
    xmp_description: str | None = None
    xmp_comment: str | None = None


def texts_in_image(data: bytes) -> Carried:
    """Everything that a picture's file says in words. Never raises: damaged metadata is no metadata."""
    carried = Carried()
    try:
        kind = sniff_format(data)
        if kind == "PNG":
            carried.texts = dict(_png_texts(data))
            carried.program = carried.texts.get("Software", "")
        elif kind == "JPEG":
            comment = next((segment for marker, segment in _jpeg_segments(data) if marker == _JPEG_COMMENT), b"")
            if comment:
                carried.texts["Comment"] = comment.decode("utf-8", "replace")
        exif, xmp = _blocks(data, kind, carried.texts)
        _take_xmp(xmp, carried)
        _take_exif(exif, carried)
    except Exception:
        return carried
    return carried


_JPEG_COMMENT = 0xFE


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Keyword and text of every text chunk, compressed ones up to MAX_TEXT_BYTES; no more than _MAX_TEXTS_BYTES of them."""
    left = _MAX_TEXTS_BYTES
    for kind, chunk in _png_chunks(data):
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            continue
        keyword, found, rest = chunk.partition(b"\0")
        if not found:
            continue
        text: bytes | None = rest
        encoding = "latin-1"
        if kind == b"zTXt":
            text = _inflated(rest[1:])
        elif kind == b"iTXt":
            encoding = "utf-8"
            compressed, _, rest = rest[:1] == b"\1", rest[1:2], rest[2:]
            rest = rest.partition(b"\0")[2].partition(b"\0")[2]
            text = _inflated(rest) if compressed else rest
        if text is not None:
            if encoding == "latin-1" and kind == b"tEXt":
                encoding = (
                    "utf-8" if _is_utf8(text) else "latin-1"
                )  # many programs write UTF-8 where the format has Latin-1
            left -= len(text)
            if left < 0:
                return
            yield keyword.decode("latin-1"), text[:MAX_TEXT_BYTES].decode(encoding, "replace")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks but the picture's own data, without copying that."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind != b"IDAT" and length <= MAX_TEXT_BYTES:
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _blocks(data: bytes, kind: str | None, texts: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The raw EXIF (from its TIFF header) and XMP of a file, whose texts by key are known; empty where there is none."""
    exif = xmp = b""
    if kind == "PNG":
        for name, chunk in _png_chunks(data):
            if name == b"eXIf":
                exif = chunk
        xmp = texts.get("XML:com.adobe.xmp", "").encode()
    elif kind == "JPEG":
        for marker, segment in _jpeg_segments(data):
            if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
                exif = exif or segment[6:]
            elif marker == 0xE1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = xmp or segment[29:]
    elif kind == "WEBP":
        for name, chunk in _riff_chunks(data):
            if name == b"EXIF":
                exif = chunk.removeprefix(b"Exif\0\0")
            elif name == b"XMP ":
                xmp = chunk
    elif kind == "TIFF":
        exif = data
    elif kind == "AVIF":
        with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
            exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
            xmp = image.info.get("xmp", b"")
    return exif, xmp


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            return
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        name = data[at : at + 4]
        yield name, data[at + 8 : at + 8 + length] if name in (b"EXIF", b"XMP ") and length <= MAX_TEXT_BYTES else b""
        at += 8 + length + length % 2


_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_IMAGE_DESCRIPTION = 0x010E
_SOFTWARE = 0x0131
_COPYRIGHT = 0x8298
_DESCRIPTIVE = (0x010D, _IMAGE_DESCRIPTION, 0x010F, 0x0110, _SOFTWARE, 0x013B, 0x013C, _COPYRIGHT)
"""Document name, description, make, model, software, artist, host, copyright: where programs that have a graph to keep
put it, since every reader shows these."""
_WINDOWS = (0x9C9C, 0x9C9F)
_EXPOSURE = frozenset({0x829A, 0x829D, 0x8822, 0x8827, 0x9201, 0x9202, 0x9209, 0x920A})
"""Exposure time, aperture, program, sensitivity, shutter, aperture value, flash, focal length."""
_KEYED = re.compile(r"\s*(prompt|workflow|parameters|extra_pnginfo)\s*:\s*(?=[{\[\"])", re.IGNORECASE)


def _take_exif(exif: bytes, carried: Carried) -> None:
    if not exif.startswith((b"II*\0", b"MM\0*")):
        return
    tags: Any = Image.Exif()
    tags.load(b"Exif\0\0" + exif)
    inner = tags.get_ifd(_EXIF_IFD)
    carried.by_camera = not _EXPOSURE.isdisjoint(inner)
    comment = inner.get(_USER_COMMENT)
    carried.comment = _user_comment(comment) if isinstance(comment, bytes) else comment
    for tag in _DESCRIPTIVE:
        value = tags.get(tag)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            continue
        text = _repaired(value)[:MAX_TEXT_BYTES].strip("\0 \r\n\t")
        keyed = _KEYED.match(text)
        if keyed is not None:
            carried.texts.setdefault(keyed[1].lower(), text[keyed.end() :])
        elif text.startswith("{"):
            carried.texts.setdefault(f"exif-{tag}", text)
        elif tag == _IMAGE_DESCRIPTION:
            carried.description = text
        elif tag == _COPYRIGHT:
            carried.by_camera = carried.by_camera or bool(text)
        elif tag == _SOFTWARE:
            carried.program = f"{carried.program} {text}".strip()
    for tag in _WINDOWS:
        value = tags.get(tag)
        if carried.description is None and isinstance(value, bytes | tuple):
            carried.description = bytes(value).decode("utf-16-le", "replace").strip("\0 ") or None


def _repaired(text: str) -> str:
    """EXIF text is read as Latin-1; most programs write UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def _user_comment(value: bytes) -> str:
    """Text of an EXIF UserComment: eight bytes name its encoding."""
    code, text = value[:8], value[8 : 8 + MAX_TEXT_BYTES]
    if code.startswith(b"UNICODE"):
        return _utf16(text).strip("\0")
    if code.startswith((b"ASCII", b"\0" * 8, b"JIS")):
        return text.decode("utf-8", "replace").strip("\0")
    return value.decode("utf-8", "replace").strip("\0")


def _utf16(text: bytes) -> str:
    """UTF-16 of either order: by its mark, else by the zero bytes of a text of mostly ASCII, else by what makes sense."""
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return text.decode("utf-16", "replace")
    high, low = text[0::2].count(0), text[1::2].count(0)
    if high != low:
        return text.decode("utf-16-be" if high > low else "utf-16-le", "replace")
    orders = [text[:4096].decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    unlikely = [
        sum(unicodedata.category(char) in ("Cn", "Co", "Cs") or char == "\ufffd" for char in one) for one in orders
    ]
    return text.decode("utf-16-le" if unlikely[1] <= unlikely[0] else "utf-16-be", "replace")


_DESCRIPTION = re.compile(rb"\bdc:description\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_TAG = re.compile(rb"<[^<>]*>")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|([a-z]{2,4}));")


_CREATOR = re.compile(rb"\bxmp:CreatorTool\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def _take_xmp(xmp: bytes, carried: Carried) -> None:
    """By search, in linear time: an XML reader would be one more door for hostile documents."""
    xmp = xmp[:MAX_TEXT_BYTES]
    if b"\0" in xmp[:16]:
        xmp = _utf16(xmp).encode("utf-8", "replace")
    carried.xmp_description = _element_text(xmp, b"dc:description", _DESCRIPTION)
    carried.xmp_comment = _element_text(xmp, b"exif:UserComment", None)
    carried.program = f"{carried.program} {_element_text(xmp, b'xmp:CreatorTool', _CREATOR) or ''}".strip()


def _element_text(xmp: bytes, name: bytes, attribute: re.Pattern[bytes] | None) -> str | None:
    """Text of an element, or of the attribute that stands for it."""
    content = _element(xmp, name)
    if content is None:
        match = attribute.search(xmp) if attribute is not None else None
        content = b"" if match is None else match[1] or match[2] or b""
    item = _element(content, b"rdf:li")
    raw = _TAG.sub(b"", content if item is None else item)
    return _ENTITY.sub(_entity, raw.decode("utf-8", "replace")).strip() or None


def _element(xml: bytes, name: bytes) -> bytes | None:
    """Content of the first element of a name."""
    start = xml.find(b"<" + name)
    end = xml.find(b"</" + name, start + 1)
    opened = xml.find(b">", start + 1)
    return xml[opened + 1 : end] if 0 <= start < opened < end else None


def _entity(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name is not None:
        return _ENTITIES.get(name, match.group())
    code = int(decimal) if decimal is not None else int(hexadecimal, 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
