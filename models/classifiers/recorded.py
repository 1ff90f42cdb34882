"""Labels that were made elsewhere (FairFace, MiVOLO, a cloud service, people who coded) as a classifier: looked up, not computed.

A record stands for a person in an image, which is named by the sha256 of its bytes or by its path. What a file may hold is said in
docs/recorded.md. Images without a record are told as unreadable: they may not vanish from a share.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from allfour.errors import ClassifierError
from allfour.models.attributes import AMBIGUOUS, NO_PERSON, PRESENCE, AttributeSet
from allfour.models.classifiers._recorded import rows_of
from allfour.models.classifiers.base import ClassifierSettings, PersonScores
from allfour.models.settings import LocalPath, on_disk

PATH_COLUMNS = ("path", "file", "filename", "image")
_UNCLEAR = frozenset({"", AMBIGUOUS, "unclear"})
_SUM_MAY_MISS = 0.01
"""By how much the probabilities of a person may miss 1: printed with two decimals, three of them do. They are scaled to it."""


class RecordedConfig(ClassifierSettings):
    """Labels or probabilities that were made elsewhere: a CSV, JSONL or parquet file, or another run's scores."""

    backend: Literal["recorded"]
    file: LocalPath
    """The records, or a run folder (or its scores.parquet), whose readings are taken over."""
    made_by: str | None = Field(default=None, max_length=200)
    """Who or what made them, for the report, such as `FairFace (Karkkainen and Joo 2021)`."""

    def measures(self) -> bool:
        return True  # whatever was recorded

    def build(self, *, attributes: AttributeSet) -> RecordedClassifier:
        return RecordedClassifier(attributes=attributes, file=Path(on_disk(self.file)), made_by=self.made_by)


@dataclass(slots=True)
class _Image:
    """The records of one image."""

    where: str
    """The row that named it first, for errors."""
    people: list[tuple[int, PersonScores]] = field(default_factory=list)
    nobody: bool = False


class RecordedClassifier:
    """`RecordedPeople`: see `allfour.models.classifiers.base`.

    Raises
    ------
    ClassifierError
        The file cannot be read, or says what cannot be.
    """

    def __init__(self, *, attributes: AttributeSet, file: Path, made_by: str | None = None) -> None:
        self._attributes, self._file, self._made_by = attributes, file, made_by
        rows, self._digest = rows_of(file)
        self._images: dict[str, _Image] = {}
        answered: set[str] = set()
        for where, row in rows:
            answered |= self._add(f"{file}: {where}", row)
        if not self._images:
            raise ClassifierError(f"{file} holds no records. docs/recorded.md shows what the file must look like")
        if unanswered := [name for name in attributes.attributes if name not in answered]:
            raise ClassifierError(
                f"{file} has no answers for {', '.join(unanswered)}. Add a column {unanswered[0]}, or columns {unanswered[0]}:{attributes.labels(unanswered[0])[0]} and so on; or ask for fewer attributes: --set attributes.file=FILE"
            )
        gated = {PRESENCE} & answered
        self._questions = (*gated, *attributes.attributes)
        self._of_path: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    @property
    def questions(self) -> tuple[str, ...]:
        return self._questions

    def identity(self) -> Mapping[str, Any]:
        return {
            "backend": "recorded",
            "made_by": self._made_by,
            "records_sha256": self._digest,
            "wording_sha256": self._attributes.wording_sha256(),
        }

    def find(self, *, sha256: str, path: str | None) -> Sequence[PersonScores] | None:
        """The persons recorded of an image, in order; None where there is no record of it.

        Raises
        ------
        ClassifierError
            A recorded path is that of two images.
        """
        found = self._images.get(f"sha256 {sha256}")
        if found is None and path is not None:
            found = self._by_path(sha256, path)
        return None if found is None else [person for _, person in sorted(found.people, key=lambda each: each[0])]

    def missing(self) -> str:
        """What is said of an image without a record."""
        return f"{self._file.name} has no record of it"

    def _by_path(self, sha256: str, path: str) -> _Image | None:
        """By the longest recorded path that ends the image's own: an archive may have been moved since."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        for start in range(len(parts)):
            name = "path " + "/".join(parts[start:])
            if name in self._images:
                with self._lock:
                    known = self._of_path.setdefault(name, sha256)
                if known != sha256:
                    raise ClassifierError(
                        f"{self._images[name].where}: {name} fits the paths of several different images. Give more of the path, or the sha256 of the bytes"
                    )
                return self._images[name]
        return None

    # --- reading records ---------------------------------------------------------------------------------------------------

    def _add(self, where: str, row: Mapping[str, Any]) -> set[str]:
        """Take in a row; the attributes that it answers."""
        number = row.get("person")
        image = self._images.setdefault(_key(where, row), _Image(where))
        probabilities = dict(self._answers(where, row))
        nobody = any(str(row.get(name, "")).strip() == NO_PERSON for name in self._attributes.attributes)
        if image.nobody or (nobody and image.people):
            raise ClassifierError(
                f"{where}: the image in {image.where} already has a record of who is in it, or that nobody is"
            )
        if nobody:
            image.nobody = True
            return set(self._attributes.attributes)
        if number in (None, ""):
            if image.people:
                raise ClassifierError(
                    f"{where}: this is the same image as in {image.where}. If it shows several people, number them in a column `person`"
                )
            number = 0
        place = _whole(where, number)
        if any(place == other for other, _ in image.people):
            raise ClassifierError(f"{where}: person {place} of the image in {image.where} appears twice")
        image.people.append((place, PersonScores(probabilities=probabilities, box=_box(where, row))))
        return set(probabilities) | {name for name in self._attributes.attributes if name in row}

    def _answers(self, where: str, row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
        for question in self._attributes.questions:
            labels = self._attributes.labels(question)
            value = row.get(question)
            if isinstance(value, Mapping):
                given = {str(label): number for label, number in value.items()}
            else:
                prefix = f"{question}:"
                given = {key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)}
            if given:
                if answer := _probabilities(where, question, labels, given):
                    yield question, answer
            elif (label := "" if value is None else str(value).strip()) not in _UNCLEAR | {NO_PERSON}:
                if label not in labels:
                    raise ClassifierError(
                        f"{where}: {question} is {label!r}, which is not one of its labels: {', '.join(labels)}. Rename it in the file, or use an attributes file with these labels"
                    )
                yield question, {each: float(each == label) for each in labels}


def _probabilities(
    where: str, question: str, labels: Sequence[str], given: Mapping[str, Any]
) -> Mapping[str, float] | None:
    """Label -> probability; None where nothing was filled in."""
    if unknown := set(given) - set(labels):
        raise ClassifierError(
            f"{where}: {question} has no label {sorted(unknown)[0]!r}; its labels are {', '.join(labels)}"
        )
    filled = {label: value for label, value in given.items() if value not in (None, "")}
    if not filled:
        return None
    numbers = {label: _number(where, f"{question}:{label}", filled.get(label, 0.0)) for label in labels}
    total = sum(numbers.values())
    if abs(total - 1) > _SUM_MAY_MISS:
        raise ClassifierError(f"{where}: the probabilities of {question} sum to {total:g}, not to 1")
    # those of a run are kept to the last bit, so that its tables come out the same
    return numbers if abs(total - 1) < 1e-5 else {label: value / total for label, value in numbers.items()}


def _number(where: str, column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1 + _SUM_MAY_MISS:
        raise ClassifierError(f"{where}: {column} is {str(value)[:40]!r}, not a probability from 0 to 1")
    return number


def _whole(where: str, value: Any) -> int:
    try:
        number = int(str(value).strip().removesuffix(".0"))
    except ValueError:
        number = -1
    if number < 0:
        raise ClassifierError(f"{where}: person is {str(value)[:40]!r}, not a whole number from 0")
    return number


def _key(where: str, row: Mapping[str, Any]) -> str:
    digest = str(row.get("sha256") or "").strip().lower()
    if digest:
        if len(digest) != hashlib.sha256().digest_size * 2 or set(digest) - set("0123456789abcdef"):
            raise ClassifierError(f"{where}: {digest[:40]!r} is not a sha256 (64 hexadecimal digits)")
        return f"sha256 {digest}"
    for column in PATH_COLUMNS:
        if path := str(row.get(column) or "").strip():
            return "path " + "/".join(PurePosixPath(path.replace("\\", "/")).parts)
    raise ClassifierError(f"{where}: no image is named. Every row needs a value in sha256 or {', '.join(PATH_COLUMNS)}")


def _box(where: str, row: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    value = row.get("box")
    if value in (None, ""):
        return None
    parts = value.strip("[]() ").replace(",", " ").split() if isinstance(value, str) else value
    try:
        left, top, right, bottom = (round(float(part)) for part in parts)
    except (TypeError, ValueError, OverflowError):
        raise ClassifierError(f"{where}: box is {str(value)[:60]!r}, not left, top, right, bottom in pixels") from None
    return left, top, right, bottom
