"""Who wrote a picture's metadata, and what of it is the prompt.

Every program has a form of its own, and a text is read in the form of the program that wrote it. What no known program
writes (JSON of another kind, a camera's or an editor's words) holds no prompt; negative prompts never enter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allfour.border import read_json
from allfour.pipeline.archives.carriers import Carried
from allfour.pipeline.archives.comfy import UNFOLLOWED, is_graph, is_workflow, prompt_in_graph

MAX_JSON_CHARS = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """What a picture's metadata says of its prompt."""

    text: str | None = None
    lacks: str | None = None
    """Why there is no prompt, where there is something that might have held one."""


NOTHING = Found()


def prompt_in_texts(carried: Carried) -> Found:
    """The prompt in what a file says, by the first writer that it shows to be of."""
    texts = carried.texts
    for found in (
        _web_ui(texts),
        _comfy(texts),
        _invokeai(texts),
        _novelai(texts),
        _keyed_json(texts),
        _exif_comment(carried),
        _draw_things(carried),
        _easy_diffusion(texts),
        _described(carried),
        _settings_anywhere(texts),
    ):
        if found.text or found.lacks:
            return found
    return NOTHING


# --- Stable Diffusion web UIs ----------------------------------------------------------------------------------------

_SETTINGS = re.compile(r"^[ \t]*Steps:[ \t]*\d+[ \t]*(?=,)", re.IGNORECASE | re.MULTILINE)
_INLINE_SETTINGS = re.compile(
    r"(?<!\S)Steps:[ \t]{0,4}\d{1,6}[ \t]{0,4},[ \t]{0,4}(?:Sampler|Schedule type|CFG scale|Seed|Size|Model|Guidance Scale)"
    r"[ \t]{0,4}:"
)
_PAIR = re.compile(r",[ \t]{0,4}[A-Z][\w .+-]{0,40}:[ \t]{0,4}\S", re.IGNORECASE)
_NEGATIVE_LINE = re.compile(r"^[ \t]*Negative(?:[ \t_-]prompt)?:", re.IGNORECASE | re.MULTILINE)
_NEGATIVE = re.compile(r"(?<!\S)Negative prompt:", re.IGNORECASE)


def prompt_in_parameters(text: str) -> str | None:
    """The prompt of a web UI's `parameters`: what stands before the negative prompt and the settings.

    The settings are the last `Steps: 20, Sampler: ...`, on a line of their own or not: a prompt may hold such a line too.

    >>> prompt_in_parameters("a nurse, portrait\\nNegative prompt: blurry\\nSteps: 20, Sampler: Euler a, Seed: 1")
    'a nurse, portrait'
    """
    end = _settings_start(text)
    negative = _NEGATIVE_LINE.search(text, 0, end) or _NEGATIVE.search(text, 0, end)
    if negative is not None:
        end = negative.start()
    return text[:end].strip() or None


def has_settings(text: str) -> bool:
    """Whether a text ends as a web UI's `parameters` do."""
    return _settings_start(text) < len(text) or _NEGATIVE_LINE.search(text) is not None


def _settings_start(text: str) -> int:
    """Where the settings begin; the text's length where there are none."""
    start = len(text)
    for match in _SETTINGS.finditer(text):
        line_end = text.find("\n", match.end())
        if _PAIR.search(text, match.end(), min(match.end() + 400, line_end if line_end >= 0 else len(text))):
            start = match.start()
    for match in _INLINE_SETTINGS.finditer(text):
        if start == len(text) or match.start() > start:
            start = match.start()
    return start


def _web_ui(texts: Mapping[str, str]) -> Found:
    text = texts.get("parameters")
    if text is None:
        return NOTHING
    if _is_json(text):
        return _of_json(text)
    return Found(_plain(prompt_in_parameters(text) or ""))


def _settings_anywhere(texts: Mapping[str, str]) -> Found:
    """The prompt of a text that ends in a web UI's settings, under whatever key a program put it."""
    for key in sorted(texts):
        if not _is_json(texts[key]) and _settings_start(texts[key]) < len(texts[key]):
            return Found(_plain(prompt_in_parameters(texts[key]) or ""))
    return NOTHING


# --- ComfyUI ---------------------------------------------------------------------------------------------------------


def _comfy(texts: Mapping[str, str]) -> Found:
    for key in ("prompt", "workflow"):
        text = texts.get(key, "")
        if not text.lstrip().startswith("{"):
            continue
        value = _loaded(text)
        if is_graph(value):
            found = prompt_in_graph(text, texts.get("workflow"))
            return Found(found) if found else Found(lacks=UNFOLLOWED)
        if is_workflow(value):
            found = prompt_in_graph(text)
            return Found(found) if found else Found(lacks=UNFOLLOWED)
        if key == "prompt" and value is None and '"class_type"' in text:
            return Found(lacks=UNFOLLOWED)
    return NOTHING


# --- InvokeAI --------------------------------------------------------------------------------------------------------

_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_SWITCH = re.compile(r" --?(?:[A-Za-z]{1,2}(?=[ =\d.]|[a-z_]|$)|[a-z_]{3,}(?=[ =]|$))")


def _invokeai(texts: Mapping[str, str]) -> Found:
    for key in ("invokeai_metadata", "sd-metadata"):
        if texts.get(key):
            found = _of_json(texts[key])
            if found.text:
                return Found(without_brackets(found.text)) if key == "sd-metadata" else found
    dream = texts.get("Dream", "").strip()
    return Found(without_brackets(_dreamt(dream)) if dream and not _is_json(dream) else None)


def _dreamt(line: str) -> str:
    """The prompt of a command line such as `"a nurse" -s 50 -S 3000`, with quotation marks or without."""
    if line.startswith('"'):
        end = line.find('" -', 1)
        if end < 0:
            end = line.rfind('"')
        if end > 0:
            return line[1:end].replace('\\"', '"')
    switch = _SWITCH.search(line)
    return (line[: switch.start()] if switch else line).strip()


def without_brackets(text: str) -> str | None:
    """A prompt of InvokeAI before version 3, which has its negative words in brackets.

    >>> without_brackets("a photo of a nurse [blurry, ugly]")
    'a photo of a nurse'
    """
    if "[" not in text:
        return text.strip() or None
    parts = [part.strip(" ") for part in _BRACKETS.split(text)]
    return " ".join(part for part in parts if part.strip(" ,")).strip(" ,") or None


# --- NovelAI ---------------------------------------------------------------------------------------------------------


def _novelai(texts: Mapping[str, str]) -> Found:
    comment = _loaded(texts.get("Comment", ""))
    by_it = "novelai" in (texts.get("Software", "") + texts.get("Title", "")).lower() or (
        isinstance(comment, dict) and "uc" in comment and "steps" in comment
    )
    if not by_it:
        return NOTHING
    if isinstance(comment, dict) and isinstance(comment.get("prompt"), str) and comment["prompt"].strip():
        return Found(comment["prompt"].strip())
    return Found(_plain(texts.get("Description", "")))


# --- JSON of a known writer ------------------------------------------------------------------------------------------


def _keyed_json(texts: Mapping[str, str]) -> Found:
    """JSON under keys that several programs use, told by what it holds."""
    lacks: Found = NOTHING
    for key in ("Comment", "comment", "UserComment", "sui_image_params", "extra_pnginfo", *sorted(texts)):
        text = texts.get(key, "")
        if (key.startswith("exif-") or key[:1].islower() or key in ("Comment", "UserComment")) and _is_json(text):
            found = _of_json(text)
            if found.text:
                return found
            lacks = found if found.lacks else lacks
    return lacks


def _of_json(text: str) -> Found:
    """The prompt of a JSON text, by the keys of the program that writes it; none for any other JSON."""
    value = _loaded(text)
    if is_graph(value) or is_workflow(value):
        found = prompt_in_graph(text)
        return Found(found) if found else Found(lacks=UNFOLLOWED)
    if not isinstance(value, dict):
        return NOTHING
    if isinstance(value.get("Comment"), str):  # NovelAI's texts, in a file that has no place for them one by one
        keyed = _novelai({key: field for key, field in value.items() if isinstance(field, str)})
        if keyed.text:
            return keyed
    for key in ("prompt", "workflow"):  # a graph inside an object, as objects or as text
        inner = value.get(key)
        inner = _loaded(inner) if isinstance(inner, str) and inner.lstrip().startswith("{") else inner
        if is_graph(inner) or is_workflow(inner):
            found = prompt_in_graph(json.dumps(inner), json.dumps(value.get("workflow")))
            return Found(found) if found else Found(lacks=UNFOLLOWED)
    return Found(_prompt_of(value))


def _prompt_of(value: Mapping[str, Any]) -> str | None:
    for holder in (value.get("sui_image_params"), value, value.get("image"), value.get("meta")):
        if not isinstance(holder, Mapping):
            continue
        for key in ("positive_prompt", "prompt", "Prompt", "positive_conditioning", "PositivePrompt"):
            found = holder.get(key)
            if isinstance(found, list) and found and isinstance(found[0], Mapping):  # InvokeAI 2
                parts = [part.get("prompt") for part in found if isinstance(part, Mapping)]
                found = ", ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
            if isinstance(found, str) and found.strip() and not _is_json(found):
                return found.strip()
        if isinstance(holder.get("c"), str) and "uc" in holder and holder["c"].strip():  # Draw Things
            return str(holder["c"]).strip()
    return None


# --- EXIF and XMP ----------------------------------------------------------------------------------------------------


def _exif_comment(carried: Carried) -> Found:
    text = (carried.comment or "").strip()
    if not text:
        return NOTHING
    if _is_json(text):
        return _of_json(text)
    keyed = re.match(r"(?:prompt|workflow|parameters)\s{0,4}:\s{0,4}(?=\{)", text, re.IGNORECASE)
    if keyed:
        return _of_json(text[keyed.end() :])
    if has_settings(text):
        return Found(prompt_in_parameters(text))
    return NOTHING if _by_other(carried) else Found(_plain(text))


def _draw_things(carried: Carried) -> Found:
    if carried.xmp_comment and _is_json(carried.xmp_comment):
        found = _of_json(carried.xmp_comment)
        if found.text or found.lacks:
            return found
    if carried.xmp_description and "draw things" in carried.program.lower():
        text = prompt_in_parameters(carried.xmp_description) or ""
        lines = text.split("\n")
        first = next((at for at, line in enumerate(lines) if at and line.startswith("-")), len(lines))
        return Found("\n".join(lines[:first]).strip() or None)
    return NOTHING


def _easy_diffusion(texts: Mapping[str, str]) -> Found:
    for key in ("prompt", "Prompt"):
        text = texts.get(key, "").strip()
        if text and not _is_json(text):
            return Found(_plain(text))
    return NOTHING


def _described(carried: Carried) -> Found:
    """Plain words of a description, where it is no camera's and no editor's."""
    for text in (
        carried.texts.get("Description"),
        carried.texts.get("ImageDescription"),
        carried.description,
        carried.xmp_description,
    ):
        text = (text or "").strip()  # noqa: PLW2901
        if not text:
            continue
        if _is_json(text):
            found = _of_json(text)
            if found.text or found.lacks:
                return found
            continue
        if has_settings(text):
            return Found(prompt_in_parameters(text))
        if not _by_other(carried) and (plain := _plain(text)):
            return Found(plain)
    return NOTHING


_EDITORS = re.compile(
    r"photoshop|lightroom|gimp|affinity|capture one|snapseed|picasa|acdsee|irfanview|paint|darktable|rawtherapee|imagemagick|"
    r"imageready|canva|figma|illustrator|digital camera|camera|windows|android|iphone|\bios\b|mac ?os|microsoft|google|"
    r"screenshot|gnome|kde|spectacle|pixelmator|luminar|dxo|nikon|canon|sony|olympus|fujifilm|panasonic|samsung|huawei|"
    r"matplotlib|inkscape|scanner|epson|vuescan|\bver\.? ?\d|^v?\d+(\.\d+)+$",
    re.IGNORECASE,
)
"""Programs and devices that make no pictures from prompts."""


def _by_other(carried: Carried) -> bool:
    return carried.by_camera or bool(_EDITORS.search(carried.program))


# --- plain words -----------------------------------------------------------------------------------------------------

_JOB = re.compile(r"\s?Job ID:\s?[0-9a-fA-F-]{8,40}\s*\Z")
_BOILERPLATE = re.compile(
    r"""(?:
    (?:created|made|generated|edited|exported|produced|processed|optimi[sz]ed|compressed|converted|resized|drawn|captured|
       rendered|scanned|taken|shot|saved|downloaded)\s(?:with|by|in|using|from|on|via|for)\b.{0,120}
    | screen\s?shot\b.{0,60} | .{0,40}\bdigital\scamera\b.{0,20} | dcim\b.{0,40} | exif_?jpeg\b.{0,40} | sony\sdsc
    | (?:ai|novelai)[- ]generated\s(?:image|picture) | creator:.{0,120} | (?:copyright|\(c\)|©).{0,200} | lead\stechnologies.{0,80}
    | cr[eé]+ateur:.{0,80} | apple\s?mark.{0,20} | intel\(r\)\sjpeg.{0,60} | file\swritten\sby.{0,80} | charset\s?=.{0,60}
    | (?:bing\s)?image\screator\b.{0,60} | (?:ai|artificial\sintelligence)\b.{0,20}\b(?:generated|art|image|artwork)\s*
    | (?:digital\s)?(?:art|artwork|photo|image|picture|photograph)\s(?:by|from|credit|courtesy)\b.{0,120} | stability\sai
    | (?:https?|ftp|file)://\S* | www\.\S* | \S{1,120}\.(?:psd|png|jpe?g|webp|gif|tiff?|xcf|ai|svg|bmp|heic|raw|dng|cr2|nef)
    | (?:untitled|unnamed|default|image|picture|photo|description|caption|title|none|null|nan|n/?a|unknown|test|img|user\scomment)
    | (?:img|dsc|dscn|dscf|pict|p|pxl|mvimg|vid)_?\d[\w~-]{2,40}
    | (?:oppo|hisilicon|hdr|fbmd|vid:|mod:|cof|charset|binary|ascii|unicode|filter\w*:|\*).{0,400}
    | [\d\s.:,;/_-]+ | [0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12} | [0-9a-f]{16,64}
    | adobe\b.{0,60} | gd-jpeg\b.{0,80} | lavc\d.{0,40} | software:.{0,80}
    )\s*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""What cameras, editors and web sites write where a prompt might stand, as the whole of a text."""


def _plain(text: str) -> str | None:
    """Words that nothing speaks against; None for JSON, boilerplate and nothing at all."""
    text = _JOB.sub("", text.strip("\0 \t\r\n")).strip()
    if not text or _is_json(text) or '"class_type"' in text or "<x:xmpmeta" in text:
        return None
    if len(text) <= 500 and _BOILERPLATE.fullmatch(text):
        return None
    parts = re.match(
        r"Include in Image: (.*?)(?:; Exclude from Image:|; Model:|\Z)", text, re.DOTALL
    )  # Mochi Diffusion
    return parts[1].strip() if parts else text


def _is_json(text: str) -> bool:
    """Whether a text is, or begins as, JSON: braces of other kinds stand in prompts too."""
    text = text.strip()
    if not text.startswith(("{", "[")):
        return False
    return text[1:].lstrip()[:1] in ('"', "{", "[", "]", "}") or _loaded(text) is not None


def _loaded(text: str) -> Any:
    if len(text) > MAX_JSON_CHARS:
        return None
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None
