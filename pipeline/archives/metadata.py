"""Prompts that come with an image: in caption files beside it, or in the image itself.

Read from the bytes as they are, chunk by chunk, without decoding a pixel; every size is capped. What is found is data
that anybody could have written.

- PNG text chunks: `parameters` (Stable Diffusion web UIs), `prompt` (ComfyUI's graph), `Comment` (NovelAI's JSON),
  `sd-metadata` and `invokeai_metadata` (InvokeAI), `Description` and others that hold plain text.
- EXIF of JPEG, PNG, WEBP, AVIF and TIFF: UserComment (web UIs write their parameters there), ImageDescription.
- XMP dc:description.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from allfour.pipeline.archives.decoding import sniff_format

MAX_TEXT_BYTES = 4 * 2**20
"""Longest metadata text that is looked at; ComfyUI's graphs reach some 100 KB."""

_CAPTION_KEYS = ("prompt", "caption", "text", "TEXT", "description", "title")
_MAX_EXTRA_FIELDS = 64


def caption_in_file(name: str, data: bytes) -> tuple[str | None, dict[str, str]]:
    """Prompt and further fields of a caption file: text, or a JSON object with a prompt, caption or text.

    Returns:
        (None, {}) where the file holds no caption; bytes that are not UTF-8 are kept as replacement characters.
    """
    text = data.decode("utf-8-sig", "replace").strip()
    if not name.endswith(".json"):
        return text or None, {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None, {}
    if isinstance(value, str):
        return value.strip() or None, {}
    if not isinstance(value, dict):
        return None, {}
    key = next((key for key in _CAPTION_KEYS if isinstance(value.get(key), str) and value[key].strip()), None)
    if key is None:
        return None, {}
    extra = {
        str(name): field if isinstance(field, str) else json.dumps(field)
        for name, field in value.items()
        if name != key and isinstance(field, str | int | float | bool)
    }
    return value[key].strip(), dict(list(extra.items())[:_MAX_EXTRA_FIELDS])


def prompt_in_image(data: bytes) -> str | None:
    """The prompt in an image's own metadata, or None. Never raises: damaged metadata is no metadata."""
    try:
        kind = sniff_format(data)
        if kind == "PNG":
            found = _from_texts(dict(_png_texts(data)))
            if found is not None:
                return found
        exif, xmp = _blocks(data, kind)
        return _from_exif(exif) or _from_xmp(xmp)
    except Exception:
        return None


# --- what programs write ---------------------------------------------------------------------------------------------


def _from_texts(texts: dict[str, str]) -> str | None:
    if "parameters" in texts:
        return prompt_in_parameters(texts["parameters"])
    for key in ("prompt", "workflow"):
        if texts.get(key, "").lstrip().startswith("{"):
            found = prompt_in_graph(texts[key])
            if found is not None:
                return found
    for key in ("invokeai_metadata", "sd-metadata", "Comment"):
        found = _prompt_in_json(texts.get(key, ""))
        if found is not None:
            return found
    for key in ("prompt", "Prompt", "Dream", "Description", "ImageDescription", "Title", "Comment"):
        text = texts.get(key, "").strip()
        if text and not text.startswith(("{", "[")):
            return text
    return None


_SETTINGS = re.compile(r"^[ \t]*(?:Negative prompt:|Steps:[ \t]*\d+[ \t]*,)", re.IGNORECASE | re.MULTILINE)


def prompt_in_parameters(text: str) -> str | None:
    """The prompt of a web UI's `parameters`: what stands before the negative prompt and the settings.

    >>> prompt_in_parameters("a nurse, portrait\\nNegative prompt: blurry\\nSteps: 20, Sampler: Euler a, Seed: 1")
    'a nurse, portrait'
    """
    settings = _SETTINGS.search(text)
    prompt = (text[: settings.start()] if settings else text).strip()
    return prompt or None


def prompt_in_graph(text: str) -> str | None:
    """The positive prompt of a ComfyUI graph: the text that leads into a sampler's `positive` input.

    Where no sampler can be followed, the longest text of the text encoders that are nobody's negative input.
    """
    try:
        graph = json.loads(text[:MAX_TEXT_BYTES])
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict) and "class_type" in node}
    for node in nodes.values():
        positive = _inputs(node).get("positive")
        if isinstance(positive, list):
            found = _text_behind(nodes, positive, seen=set())
            if found:
                return found
    negative = {
        str(link[0]) for node in nodes.values() if isinstance(link := _inputs(node).get("negative"), list) and link
    }
    texts = [
        value.strip()
        for key, node in nodes.items()
        if key not in negative and "encode" in str(node["class_type"]).lower()
        for value in _inputs(node).values()
        if isinstance(value, str) and value.strip()
    ]
    return max(texts, key=len, default=None)


_TEXT_INPUTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "value", "positive", "conditioning")


def _inputs(node: dict[str, Any]) -> dict[str, Any]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _text_behind(nodes: dict[str, Any], link: list[Any], *, seen: set[str]) -> str | None:
    """Follow links back to a node that holds text. Each node once: a graph may be a loop."""
    key = str(link[0]) if link else ""
    if key in seen or key not in nodes or len(seen) > 200:
        return None
    seen.add(key)
    inputs = _inputs(nodes[key])
    named = [inputs[name] for name in _TEXT_INPUTS if name in inputs]
    others = [value for name, value in inputs.items() if name not in _TEXT_INPUTS and name.startswith("conditioning")]
    for value in named + others:
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, list):
            found = _text_behind(nodes, value, seen=seen)
            if found:
                return found
    return None


def _prompt_in_json(text: str) -> str | None:
    """The prompt of a JSON object such as InvokeAI and NovelAI write."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text[:MAX_TEXT_BYTES])
    except (ValueError, RecursionError):
        return None
    for holder in (value, value.get("image") if isinstance(value, dict) else None):
        if not isinstance(holder, dict):
            continue
        for key in ("positive_prompt", "prompt", "Prompt", "caption", "description"):
            found = holder.get(key)
            if isinstance(found, list) and found and isinstance(found[0], dict):
                found = found[0].get("prompt")
            if isinstance(found, str) and found.strip():
                return found.strip()
    return None


# --- where it is written ---------------------------------------------------------------------------------------------


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Keyword and text of every text chunk, compressed ones up to MAX_TEXT_BYTES."""
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


def _blocks(data: bytes, kind: str | None) -> tuple[bytes, bytes]:
    """The raw EXIF (from its TIFF header) and XMP of a file; empty where there is none."""
    exif = xmp = b""
    if kind == "PNG":
        for name, chunk in _png_chunks(data):
            if name == b"eXIf":
                exif = chunk
        xmp = dict(_png_texts(data)).get("XML:com.adobe.xmp", "").encode()
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


_IMAGE_DESCRIPTION = 0x010E
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_XP_COMMENT = 0x9C9C
_XP_SUBJECT = 0x9C9F


def _from_exif(exif: bytes) -> str | None:
    if not exif.startswith((b"II*\0", b"MM\0*")):
        return None
    tags: Any = Image.Exif()
    tags.load(b"Exif\0\0" + exif)
    comment = tags.get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    text = _user_comment(comment) if isinstance(comment, bytes) else comment
    if isinstance(text, str) and text.strip():
        if text.lstrip().startswith("{"):
            return _prompt_in_json(text) or _from_texts({"prompt": text})
        return prompt_in_parameters(text)
    description = tags.get(_IMAGE_DESCRIPTION)
    if isinstance(description, bytes):
        description = description.decode("utf-8", "replace")
    if isinstance(description, str):
        description = _repaired(description).strip("\0 \r\n\t")
        if description.startswith("{"):
            return _prompt_in_json(description)
        # Plain text, or parameters as some programs write them here.
        return prompt_in_parameters(description) if description else None
    for tag in (_XP_COMMENT, _XP_SUBJECT):
        value = tags.get(tag)
        if isinstance(value, bytes | tuple):
            text = bytes(value).decode("utf-16-le", "replace").strip("\0 ")
            if text:
                return prompt_in_parameters(text)
    return None


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
        # The byte order is the writer's; in a text of mostly ASCII the zero bytes tell it.
        high, low = text[0::2].count(0), text[1::2].count(0)
        return text.decode("utf-16-be" if high > low else "utf-16-le", "replace").strip("\0")
    if code.startswith((b"ASCII", b"\0" * 8, b"JIS")):
        return text.decode("utf-8", "replace").strip("\0")
    return value.decode("utf-8", "replace").strip("\0")


_DESCRIPTION = re.compile(rb"\bdc:description\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_TAG = re.compile(rb"<[^<>]*>")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|([a-z]{2,4}));")


def _from_xmp(xmp: bytes) -> str | None:
    """dc:description. By search, in linear time: an XML reader would be one more door for hostile documents."""
    xmp = xmp[:MAX_TEXT_BYTES]
    content = _element(xmp, b"dc:description")
    if content is None:
        match = _DESCRIPTION.search(xmp)
        content = b"" if match is None else match[1] or match[2] or b""
    item = _element(content, b"rdf:li")
    raw = _TAG.sub(b"", content if item is None else item)
    text = _ENTITY.sub(_entity, raw.decode("utf-8", "replace")).strip()
    return prompt_in_parameters(text) if text else None


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
