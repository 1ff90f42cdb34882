"""Labelled image sets, for calibration: where the images are and what people said they show."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from allfour.errors import InputError
from allfour.files import read_regular
from allfour.models.attributes import AttributeSet, age_bins
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS

_UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+(\.\w+)*")
_UTKFACE_GENDER = ("man", "woman")
_UTKFACE_RACE = ("White", "Black", "Asian", "Indian", "other")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "woman": ("female", "f", "women"),
    "man": ("male", "m", "men"),
    "Latino": ("Latino_Hispanic", "Latino Hispanic", "Hispanic"),
    "Southeast Asian": ("SE Asian",),
    "Indian": ("South Asian",),
}
_PATH_COLUMNS = ("path", "file", "image", "filename", "file_name")
_IDENTITY_COLUMNS = ("identity", "subject", "person_id")


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with what people say it shows."""

    path: Path
    truth: Mapping[str, str]
    """Attribute -> the data set's own word for it."""
    identity: str | None = None
    """Who it shows, as a number or name, where the data set says: images of one person must not be split over folds."""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A data set for calibration."""

    location: str
    layout: str
    """utkface, csv or folders."""
    images: tuple[LabelledImage, ...]

    def items(self) -> Iterator[ArchiveItem]:
        """Every image as an item to score; index is the position in `images`."""
        for index, image in enumerate(self.images):
            ref = ArchivedImage(prompt_id="calibration", prompt="", index=index, path=str(image.path))
            try:
                yield ArchiveItem(ref, read_regular(image.path), single=True)
            except OSError as error:
                yield ArchiveItem(ref, None, f"cannot be read: {error.strerror}")


def open_labelled(location: Path, attributes: AttributeSet) -> LabelledSet:
    """A CSV (FairFace's or any with a path column), a folder of UTKFace names, or a folder per class.

    Raises
    ------
    InputError
        It is none of these.
    """
    if location.is_file():
        return _from_csv(location)
    if not location.is_dir():
        raise InputError(
            f"{location}: no such file or folder, looked for at {location.absolute()}; name a folder of labelled images or a CSV"
        )
    files = sorted(p for p in location.rglob("*") if p.is_file() and p.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS)
    if not files:
        raise InputError(f"{location}: holds no images")
    named = [_UTKFACE_NAME.fullmatch(p.name) for p in files]
    if sum(m is not None for m in named) > len(files) / 2:
        images = tuple(
            LabelledImage(p, {"age": m[1], "gender": _UTKFACE_GENDER[int(m[2])], "race": _UTKFACE_RACE[int(m[3])]})
            for p, m in zip(files, named, strict=True)
            if m is not None
        )
        return LabelledSet(str(location), "utkface", images)
    return _from_folders(location, files, attributes)


def _from_folders(location: Path, files: list[Path], attributes: AttributeSet) -> LabelledSet:
    classes = sorted({p.parent.name for p in files})
    for name in attributes.attributes:
        mapping = truth_mapping(name, attributes)
        if all(mapping(c) is not None for c in classes):
            return LabelledSet(str(location), "folders", tuple(LabelledImage(p, {name: p.parent.name}) for p in files))
    known = "; ".join(f"{name}: {', '.join(attributes.labels(name))}" for name in attributes.attributes)
    raise InputError(
        f"{location}: neither UTKFace names (age_gender_race_time.jpg) nor a folder per class: its folders are "
        f"{', '.join(classes[:12])}, and the attributes' labels are {known}"
    )


def _from_csv(path: Path) -> LabelledSet:
    try:
        reader = csv.DictReader(io.StringIO(read_regular(path).decode("utf-8-sig"), newline=""))
        columns = reader.fieldnames or []
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV that can be read: {error}") from None
    where = next((c for c in _PATH_COLUMNS if c in columns), None)
    if where is None:
        close = difflib.get_close_matches("path", columns, n=1)
        raise InputError(
            f"{path}: needs a column of image paths, one of {', '.join(_PATH_COLUMNS)}; it has {', '.join(columns) or 'none'}"
            + (f". Did you mean {close[0]!r}? Rename it to path" if close else "")
        )
    who = next((c for c in _IDENTITY_COLUMNS if c in columns), None)
    truths = [c for c in columns if c not in (where, who)]
    if not rows or not truths:
        raise InputError(f"{path}: has no rows, or no column with labels beside {where!r}")
    return LabelledSet(
        str(path),
        "csv",
        tuple(
            LabelledImage(
                path.parent / row[where], {c: row[c].strip() for c in truths if row[c]}, row[who] if who else None
            )
            for row in rows
            if row[where]
        ),
    )


def truth_mapping(attribute: str, attributes: AttributeSet) -> Callable[[str], str | None]:
    """A function from a data set's word to the label of an attribute that it means; None where it means none.

    Case, `_` and a few customary synonyms (Male, Latino_Hispanic) are forgiven; a number of years falls into the label whose
    range holds it.
    """
    labels = attributes.labels(attribute)
    known = {_plain(word): label for label in labels for word in (label, *_ALIASES.get(label, ()))}
    try:
        years = age_bins(labels)
    except ValueError:
        years = None

    def label_of(word: str) -> str | None:
        if (found := known.get(_plain(word))) is not None:
            return found
        age = whole_number(word)
        return years(age) if years is not None and age is not None else None

    return label_of


def whole_number(word: str) -> int | None:
    """The number that a word of a data set writes in decimal digits; None where it is none, or beyond any age or year."""
    return int(word) if word.isdecimal() and len(word) <= 18 else None


def _plain(word: str) -> str:
    return re.sub(r"[\s_]+", " ", word).strip().casefold()
