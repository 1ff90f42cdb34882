"""What names of files and folders say: which name no prompt, which pictures are no samples, and prompts in paths."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Mapping

from allfour.border import is_blank
from allfour.errors import ArchiveError

_KIND_WORDS = (
    r"(?:camera|google|saved|my) (?:[ ]|-|_) (?:roll|photos|pictures|images) | "
    r"samples? | train(?:ing)? | test(?:ing)? | val(?:id(?:ation)?)? | dev | eval(?:uation)? | inference | images? | imgs? | pictures? | "
    r"pics? | photos? | outputs? | out | results? | data(?:set)? | datasets | generated | generations? | gen | grids? | all | default | "
    r"misc | other | final | real | fake | baseline | ours | saved? | raw | png | jpe?g | webp | downloads? | uploads? | exports? | "
    r"archives? | assets? | media | static | public | screenshots? | tmp | temp | masks? | depths? | thumbnails? | thumbs? | previews? | "
    r"src | sources? | contents? | files? | folders? | galler(?:y|ies) | albums? | collections? | dcim | backups? | takeout | "
    r"bilder | fotos | im[aá]genes | descargas | t[eé]l[eé]chargements | "
    r"originals? | upscaled | txt2img | img2img | extras | text2img | t2i | i2i | stable[-_ ]?diffusion | sdxl | "
    r"sd(?:[-_ ]?(?:1[._]?[45]|2(?:[._]?[01])?|3(?:[._]?5)?))? | dall[-_ .·]?e(?:[-_ ]?[23])? | "
    r"midjourney | flux | imagen | kandinsky | pixart"
)
"""Words of folders that say what kind of files lie there, or what made them."""
_KIND = rf"(?>(?:{_KIND_WORDS})(?=[-_\ ]|\Z))"
"""One of them, whole and read in one way: `sd-15` is a word, and a word and a number, which doubles the ways with each that follows."""
_LONGEST = 1_000
"""Characters of a name that is looked at: no file system has longer ones, and a member of a tar may have a million."""
_NO_PROMPT = re.compile(
    rf"""(?:
      \d+ | (?:19|20)\d\d[-_. ]?\d\d(?:[-_. ]?\d\d)?(?:[-_ T.]\d\d[-_.:h]?\d\d(?:[-_.:m]?\d\d)?)?
    | (?:part|shard|batch|seeds?|run|split|chunk|fold|epoch|steps?|iter|version|v|set|group|data|job|grid|samples?|images?|checkpoint|ckpt|
         class|cfg|scale|guidance|rank|gpu|node|worker|process|exp|trial|round|size|res|model|method|idx|index|id|item|
         folder|album)s?[-_ .=]?\d+(?:[-_.]\d+)?
    | (?:model|method|variant)[-_ ][a-z] | (?:photos|bilder|fotos)\ (?:from|von|aus|de)\ (?:19|20)\d\d
    | \d+\s?x\s?\d+ | \d+\s?-\s?\d+
    | {_KIND} (?:[-_ ](?:{_KIND}|\d+))*
    | (?:drive-download|takeout|onedrive|wetransfer|photos|icloud\ photos)[-_ ]\d[-\dTZ_]* | icloud\ photos | wetransfer[-_].*
    | (?:new|untitled)\ folder(?:\ \(?\d+\)?)? | neuer\ ordner | nouveau\ dossier | nueva\ carpeta
    | [0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}} | [0-9a-f]{{32,64}}
    )""",
    re.IGNORECASE | re.VERBOSE,
)

_COPY = re.compile(r"(?:\s?\(\d+\)|\ -\ copy|\ copy(?:\ \d+)?)+\Z", re.IGNORECASE)
"""What systems put behind the name of a second copy."""
NAMELESS = "the folder {name!r} names no prompt (archive.prompt_from: folder takes its name for one)"


def names_no_prompt(name: str) -> bool:
    """Whether a folder's name says when, where or what kind of files, and not what was asked for, or is blank.

    >>> [names_no_prompt(name) for name in ("2023-05-01", "00012", "samples", "src", "a_nurse")]
    [True, True, True, True, False]
    """
    if len(name) > _LONGEST:
        return False
    return bool(_NO_PROMPT.fullmatch(_COPY.sub("", name.strip()))) or (name != "" and is_blank(name))


# --- pictures that are no samples ------------------------------------------------------------------------------------

_GRID = re.compile(
    r"(?:.{0,60}[-_ ])?(?:grid|contact[-_ ]?sheet|collage|montage)(?:[-_ .]?\d[-\d_ ]{0,40})?", re.IGNORECASE
)
_GRID_FOLDER = re.compile(r"(?:.{0,40}[-_ ])?grids?", re.IGNORECASE)
_DERIVED = (
    "masks?|depth(?:[-_ ]?map)?|seg(?:mentation)?|alpha|matte|canny|edges?|normals?|pose|openpose|thumb(?:nail)?s?|preview|"
    "heat[-_ ]?map|saliency|small|upscaled?|[2348]x|x[2348]|before[-_ ](?:face[-_ ]restoration|hi(?:gh)?res[-_ ]fix|colou?r[-_ ]correction)"
)
_SUFFIXED = re.compile(rf"(.+)[-_. ]({_DERIVED})", re.IGNORECASE)
_PREFIXED = re.compile(rf"({_DERIVED})[-_. ](.+)", re.IGNORECASE)
_DERIVED_FOLDER = re.compile(_DERIVED, re.IGNORECASE)

GRID_NAME = "not a sample: by its name a grid of several pictures"


def no_samples(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Pictures of a folder that were not made for its prompt, by their names, and what they are.

    A mask, a depth map or a thumbnail is one only beside the picture that it was made of.
    """
    names = list(names)
    stems = {without_ending(name).casefold() for name in names}
    found = ((name, no_sample(folder, name, stems)) for name in names)
    return {name: what for name, what in found if what is not None}


def no_sample(folder: str, name: str, stems: Container[str]) -> str | None:
    """What a picture is that was not made for its prompt, by its name; None for any other.

    Parameters
    ----------
    folder, name
        Where it lies, and its file's name.
    stems
        Names in that folder, without their endings and in lower case.
    """
    stem = without_ending(name)
    in_grids = bool(folder) and is_grid_folder(folder)
    if stem.isdecimal() and not in_grids:  # most names of most archives
        return None
    if in_grids or _GRID.fullmatch(stem):
        return GRID_NAME
    match = _SUFFIXED.fullmatch(stem)
    of, what = (match[1], match[2]) if match else ("", "")
    if not match and (match := _PREFIXED.fullmatch(stem)):
        of, what = match[2], match[1]
    return (
        f"not a sample: by its name the {what.lower()} of another picture beside it"
        if of and of.casefold() in stems
        else None
    )


@functools.lru_cache(maxsize=2048)
def is_grid_folder(folder: str) -> bool:
    """Whether a folder's name says that grids lie in it."""
    return bool(_GRID_FOLDER.fullmatch(folder.rpartition("/")[2]))


def no_sample_notes(paths: Iterable[str], of: int) -> list[str]:
    """A word on images whose names are those of grids, masks and the like, though a row says their prompt: they are read."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.replace("\\", "/").rpartition("/")
        folders.setdefault(folder, []).append(name)
    found = Counter(what for folder, names in folders.items() for what in no_samples(folder, names).values())
    return [
        f"{count:,} of {of:,} rows name a picture that is {what}; it is read, as the row says"
        for what, count in sorted(found.items())
    ]


def is_derived(name: str) -> bool:
    """Whether a file's name may be that of a mask, a depth map or the like, which another picture has beside it."""
    stem = without_ending(name)
    return bool(_SUFFIXED.fullmatch(stem) or _PREFIXED.fullmatch(stem))


NO_SAMPLE_HINT = f"(grid|contact[-_ ]?sheet|collage|montage|{_DERIVED})"
"""What names of grids, masks and the like hold, among others; for long columns."""


def may_be_no_sample(path: str) -> bool:
    """Whether a path may be that of a grid, a mask or the like; a first look, for long lists."""
    at = max(path.rfind("/"), path.rfind("\\")) + 1
    name, folder = path[at:], path[: max(0, at - 1)].replace("\\", "/")
    stem = without_ending(name)
    in_grids = bool(folder) and is_grid_folder(folder)
    if stem.isdecimal():  # most names of most archives
        return in_grids
    return in_grids or bool(_GRID.fullmatch(stem)) or is_derived(name)


def derived_folder(folder: str) -> str | None:
    """What the pictures of a folder are, where its name says that they were made of others."""
    name = folder.rpartition("/")[2]
    return f"not a sample: in a folder named {name!r}" if folder and _DERIVED_FOLDER.fullmatch(name) else None


def without_ending(name: str) -> str:
    """A file's name without its ending."""
    return name.rpartition(".")[0] or name


_NO_CAPTION = re.compile(
    r"read[-_ ]?me.*|licen[cs]e.*|.*metadata|prompts?|captions?|notes?|log.*|requirements|index|tags|classes|labels|urls?|part-\d+|about|"
    r".*(args|config|settings|params|stats|info|summary|state|scores?|results?)",
    re.IGNORECASE,
)


def may_be_caption(name: str) -> bool:
    """Whether a text file may be the caption of one image; others that lie beside images are known by their names."""
    return not _NO_CAPTION.fullmatch(without_ending(name))


# --- prompts in names ------------------------------------------------------------------------------------------------

_DALLE = re.compile(
    r"DALL.{0,2}E \d{4}-\d\d-\d\d \d\d[.:_-]\d\d[.:_-]\d\d - (.+?)(?: - Copy)?(?: \(\d+\))?", re.IGNORECASE
)
_COUNTED = re.compile(r"(?:(?:0\d+|(?!0)\d{5,})[-_ .]+)+(?=\D)")
"""Numbers before a prompt that count: they begin with a zero, or are too long for a year or a number of things. No number is both: with
two ways to read each, a name of thirty would be tried in a billion."""
_NUMBERED = re.compile(r"(.*\D)(?:\(\d+\)|\d+)")
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SERVICES = (
    re.compile(rf"Default_(?P<prompt>.+?)(?:_\d+)?(?:_{_UUID})?(?:_\d+)?"),  # Leonardo
    re.compile(rf"[^_]+_(?P<prompt>.+?)_{_UUID}(?:_[0-3])?"),  # Midjourney: who asked, and the beginning of what
    re.compile(r"Firefly[_ ](?P<prompt>.+?)[_ ]\d{3,}"),
)
_NAMELESS = re.compile(
    r"(?:ChatGPT Image .{5,40}|Gemini_Generated_Image|Copilot|Designer|ideogram|OIG\d?|download|unnamed|untitled|output|result)(?:[-_. (].*)?"
    r"|_?(?=.*\d)(?=.*[a-f])[0-9a-f-]{12,}+(?:[-_ ]?\(?\d*\)?)?",
    re.IGNORECASE,
)
"""What services call a picture whatever was asked for."""


def is_download_name(name: str) -> bool:
    """Whether a file is named as DALL-E's site names downloads: `DALL·E 2022-12-05 10.15.30 - PROMPT.png`."""
    return bool(_DALLE.fullmatch(unicodedata.normalize("NFC", without_ending(name))))


def service_prompt(name: str) -> str | None:
    """The prompt in a name of the form that a service gives its downloads: DALL-E's site, Midjourney, Leonardo, Firefly; None for others."""
    stem = unicodedata.normalize("NFC", without_ending(name))
    known = _DALLE.fullmatch(stem) or any(each.fullmatch(stem) for each in _SERVICES)
    return prompt_in_name(name) if known else None


def prompt_in_name(name: str) -> str | None:
    """The prompt in a file's name: behind the date of DALL-E's site or in the form of other services, else the name without the number at
    its end; None for a name that only counts or says where the picture is from.

    >>> [prompt_in_name(name) for name in ("a_nurse_03.png", "0001.png", "Firefly a photo of a nurse 51243.jpg")]
    ['a_nurse', None, 'a photo of a nurse']
    """
    stem = unicodedata.normalize("NFC", without_ending(name))
    if match := _DALLE.fullmatch(stem):
        return match[1].strip() or None
    if _NAMELESS.fullmatch(stem) or names_no_prompt(stem):
        return None
    if match := next((found for each in _SERVICES if (found := each.fullmatch(stem))), None):
        return match["prompt"].strip(" -_.") or None
    if match := _NUMBERED.fullmatch(stem):
        stem = match[1]
    elif match := _COUNTED.match(stem):
        stem = stem[match.end() :]
    stem = stem.strip(" -_.")
    return stem if stem and not names_no_prompt(stem) else None


def counted_name(name: str) -> str | None:
    """What parts a number that counts from the prompt in a name, such as `_` in `000_a_nurse`; None for a name without one."""
    match = re.match(r"(?:0\d+|\d{5,})([-_. ]+)(?=\D)", name)
    return match[1] if match else None


class PathPattern:
    """A pattern such as `{model}/{prompt}/{seed}`, held against the end of a path without its file's extension.

    Raises
    ------
    ArchiveError
        For a pattern without `{prompt}`, or what else is needed, with a field twice, or with two fields that nothing parts.
    """

    def __init__(self, pattern: str, *, needs: str = "prompt") -> None:
        fields = re.findall(r"\{([a-z_][a-z0-9_]*)\}", pattern)
        if needs not in fields or len(set(fields)) < len(fields) or "}{" in pattern:
            raise ArchiveError(
                f"archive.path_pattern {pattern!r} needs {{{needs}}}, each field once and something between two: such as "
                f"{{model}}/{{{needs}}}/{{seed}}"
            )
        parts = re.split(r"(\{[a-z_][a-z0-9_]*\})", unicodedata.normalize("NFC", pattern.strip("/")))
        self._expression = re.compile(
            "(?:.*/)?" + "".join(_field(part[1:-1]) if part[:1] == "{" else re.escape(part) for part in parts)
        )

    def fields(self, path: str) -> Mapping[str, str] | None:
        """What a path says by field; None where it does not match."""
        folder, slash, name = unicodedata.normalize("NFC", path).rpartition("/")
        match = self._expression.fullmatch(f"{folder}{slash}{without_ending(name)}")
        return match.groupdict() if match else None


def _field(name: str) -> str:
    """Anything within a part of a path; numbers end at the underscores that prompts have for spaces."""
    return f"(?P<{name}>[^/_ ]+)" if name in ("seed", "index") else f"(?P<{name}>[^/]+?)"
