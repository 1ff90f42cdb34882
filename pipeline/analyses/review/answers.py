"""Files of answers to a review page (`allfour review`), read strictly: a file is read whole or not at all."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allfour.errors import InputError
from allfour.files import read_regular
from allfour.pipeline.analyses.review.sample import read_plan, scores_fingerprint
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON
from allfour.pipeline.run.folder import RunFolder

COLUMNS = ("review", "rater", "image", "label")
MAX_NAME = 60
_IN_NAMES = frozenset(" ._'’-")
MAX_FILE_BYTES = 50_000_000

Answers = dict[str, dict[str, str]]
"""Rater -> image's name in the sample -> label."""


def read_answers(run: RunFolder, files: Sequence[Path]) -> tuple[dict[str, Any], Answers]:
    """The sample that the files are about, and what they say.

    Raises
    ------
    InputError
        Anything in any file is not as the page exports it; the message names file and line. Nothing is skipped.
    """
    plan: dict[str, Any] | None = None
    names: set[str] = set()
    known: list[str] = []
    answers: Answers = {}
    seen: dict[tuple[str, str], str] = {}
    for path in files:
        for number, row in _rows(path):
            where = f"{path} line {number}"
            identity, rater, image, label = row
            if plan is None:
                plan = _plan_of(run, identity, where)
                names = {entry["image"] for entry in plan["images"]}
                known = [*plan["labels"], AMBIGUOUS, NO_PERSON, MIXED]
            if identity != plan["id"]:
                raise InputError(
                    f"{where}: belongs to review {identity[:40]!r}, the lines before to {plan['id']!r}. Import one review at a time"
                )
            _check_rater(rater, where)
            if image not in names:
                raise InputError(f"{where}: image {image[:40]!r} is not in this sample. Export the file again")
            if label not in known:
                raise InputError(f"{where}: unknown label {label[:60]!r}. Known: {', '.join(known)}")
            if (rater, image) in seen:
                raise InputError(
                    f"{where}: {rater!r} has labelled this image already, at {seen[rater, image]}. Keep one of the two lines"
                )
            seen[rater, image] = where
            answers.setdefault(rater, {})[image] = label
    if plan is None:
        raise InputError(f"{', '.join(map(str, files))}: no answers. Label at least one image, then export again")
    return plan, answers


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and values of every line after the header."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES // 1_000_000} MB, which no export is")
        content = read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no UTF-8 text (byte {error.start}). Export it again, or save it as UTF-8") from None
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise InputError(f"{path} line 1: the header must be {','.join(COLUMNS)}. Export the file again")
        for row in reader:
            if len(row) != len(COLUMNS):
                raise InputError(f"{path} line {reader.line_num}: {len(row)} values in place of {len(COLUMNS)}")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: not CSV: {error}") from None
    return rows


def _plan_of(run: RunFolder, identity: str, where: str) -> dict[str, Any]:
    safe = len(identity) == 16 and set(identity) <= set("0123456789abcdef")  # it becomes a file name
    plan = read_plan(run, identity) if safe else None
    if plan is None:
        raise InputError(f"{where}: review {identity[:40]!r} was not drawn from {run.path}. Name the run that it is of")
    if plan["scores"] != scores_fingerprint(run):
        raise InputError(
            f"{run.path}: its images were scored again after review {identity} was drawn, so the sample no longer stands for"
            " them. Draw a new one, or import into a copy of the run as it was"
        )
    return plan


def _check_rater(rater: str, where: str) -> None:
    """The page's own rule: among other things, no spreadsheet takes such a name for a formula."""
    kinds = [unicodedata.category(char)[0] for char in rater]
    fits = bool(kinds) and kinds[0] in "LN" and len(rater) <= MAX_NAME
    if not fits or any(kind not in "LMN" and char not in _IN_NAMES for char, kind in zip(rater, kinds, strict=True)):
        raise InputError(
            f"{where}: {rater[:40]!r} is no rater's name: letters, digits, spaces, dots, hyphens and apostrophes, at most {MAX_NAME}, a "
            "letter or digit first, as on the page. Change it in the file"
        )
